// How the page writes times, names and texts.

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const withYear = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const timeOf = (unixS) => clock.format(unixS * 1000);
export const wholeTime = (unixS) => whole.format(unixS * 1000);
export const dayKey = (unixS) => new Date(unixS * 1000).toDateString();

/** "Today", "Yesterday", or the date. */
export function dayOf(unixS, nowMs = Date.now()) {
  const key = dayKey(unixS);
  if (key === dayKey(nowMs / 1000)) return "Today";
  const yesterday = new Date(nowMs);
  yesterday.setDate(yesterday.getDate() - 1);
  if (key === yesterday.toDateString()) return "Yesterday";
  const date = new Date(unixS * 1000);
  return (date.getFullYear() === new Date(nowMs).getFullYear() ? weekday : withYear).format(date);
}

export function initialsOf(name) {
  const words = name.trim().split(/[\s._-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words.slice(0, 1);
  return letters.map((word) => [...word][0]).join("").toUpperCase();
}

/** A hue for a name, the same everywhere. */
export function hueOf(name) {
  let hash = 2_166_136_261;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 16_777_619) >>> 0; // FNV-1
  return (hash % 24) * 15;
}

/** 1 person, 2 people. */
export const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** Put text into an element: as text, with its addresses as links. */
export function setText(element, text) {
  element.replaceChildren();
  let end = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']*[^\s<>"'.,;:!?)\]]/gu)) {
    if (!URL.canParse(match[0])) continue;
    const link = document.createElement("a");
    link.href = match[0];
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = match[0];
    element.append(text.slice(end, match.index), link);
    end = match.index + match[0].length;
  }
  element.append(text.slice(end));
}

/** An id that no other message has; also where `crypto.randomUUID` is not, outside of https and localhost. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An element with a class, and text. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** The round picture of a person. */
export function avatar(name, element = make("span", "avatar")) {
  element.textContent = initialsOf(name);
  element.style.setProperty("--hue", hueOf(name));
  element.setAttribute("aria-hidden", "true");
  return element;
}
