// The chat page: who we are, the rooms, and the one that is shown. How it speaks is in wireroom.js and protocol.py.

import { Client, RequestError } from "./wireroom.js";
import { Conversation } from "./page_conversation.js";
import { avatar, counted, make, newId } from "./page_format.js";
import { openMenu } from "./page_menu.js";
import { Timeline } from "./page_timeline.js";

const PAGE = 50; // messages of history at a time
const FILL_MAX = 400; // if more are missing, the conversation is loaded anew from its end
const JOINED_MAX = 40; // rooms that we hear; of others we only know how much is unread
const TYPING_MS = 4_000; // how long somebody who types is shown as doing so, unless they say it again
const LIST_MS = 30_000; // between two looks at the list of rooms

const $ = (id) => document.getElementById(id);
const url = (path) => new URL(path, document.baseURI);

let me = null; // {id, name}
let client = null;
let current = null; // the conversation that is shown
const conversations = new Map(); // by key
let strangers = []; // rooms that we have not joined, as the server lists them

// -- who we are -----------------------------------------------------------------------------

const KEY = "wireroom-chat";

/** What is kept of a log-in: in this tab, or on this device if that was wanted. */
const kept = {
  get() {
    try {
      return JSON.parse(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY));
    } catch {
      return null;
    }
  },
  set(value, isLasting) {
    (isLasting ? localStorage : sessionStorage).setItem(KEY, JSON.stringify(value));
  },
  clear() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** The token, while it is good for some time. */
function token() {
  const login = kept.get();
  return login !== null && login.expires_at * 1000 > Date.now() + 5_000 ? login.token : null;
}

function showEntrance(text) {
  $("chat").hidden = true;
  $("entrance").hidden = false;
  if (text) $("entrance-text").textContent = text;
  if (me) $("name").value = me.name;
  $("password").value = "";
  $($("name").value ? "password" : "name").focus();
}

$("log-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const action = event.submitter?.value ?? "log_in";
  const problem = $("entrance-problem");
  const buttons = $("log-in").querySelectorAll("button");
  problem.textContent = "";
  for (const button of buttons) button.disabled = true;
  const accounts = new Client(url("accounts"), { attemptsMax: 1 });
  try {
    accounts.connect();
    const data = { name: $("name").value.trim(), password: $("password").value };
    const login = await accounts.request(action, data);
    if (me !== null && me.id !== login.account.id) forgetAll();
    kept.set(login, $("stay").checked);
    enter(login.account);
  } catch (error) {
    problem.textContent = error.code === "closed" ? "The server cannot be reached. Try again soon." : sentence(error.message);
    $("password").focus();
  } finally {
    accounts.close();
    for (const button of buttons) button.disabled = false;
  }
});

$("log-out").addEventListener("click", () => {
  kept.clear();
  client?.close();
  forgetAll();
  me = null;
  showEntrance("You are logged out.");
});

function forgetAll() {
  client?.close();
  client = null;
  current = null;
  conversations.clear();
  strangers = [];
}

function enter(account) {
  me = account;
  $("entrance").hidden = true;
  $("chat").hidden = false;
  $("me").textContent = me.name;
  avatar(me.name, $("me-avatar"));
  if (client === null) startClient();
  else client.connect();
}

// -- the connection -------------------------------------------------------------------------

function startClient() {
  client = new Client(url("chat"), { token, probe: "list_rooms", silenceMs: 20_000 });
  client.addEventListener("state", ({ detail }) => connectionChanged(detail));
  client.on("chat_message", (message) => heard(message, conversations.get(message.room)));
  client.on("direct_message", (message) => heard(message, directOf(message)));
  client.on("message_changed", (message) => {
    const conversation = conversations.get(message.room);
    if (conversation && conversation.put(message) !== "ignored") changed(conversation);
  });
  client.on("presence", presenceChanged);
  client.on("typing", typingChanged);
  client.on("system_notification", ({ room, text }) => {
    if (current?.key === room) toast(sentence(text));
  });
  client.on("kicked", (kicked) => wasKicked(kicked));
  client.on("messages_missed", ({ room }) => reload(conversations.get(room)));
  client.on("error", (error) => toast(sentence(error.message)));
  client.connect();
}

let countdown = null;

function connectionChanged(state) {
  clearInterval(countdown);
  const notice = $("notice");
  notice.dataset.state = state.name;
  const button = $("notice-button");
  button.hidden = true;
  if (state.name === "open") {
    if (!notice.hidden && !state.isFirst) say("Connected again.");
    notice.hidden = true;
    void refreshRooms();
    for (const conversation of conversations.values()) {
      if (conversation.isDirect) void reload(conversation);
    }
    return;
  }
  if (state.name === "stopped") {
    stopped(state);
    return;
  }
  if (state.name === "waiting") {
    const isRestart = state.code === 1012;
    const what = isRestart ? "The server restarts." : "The connection is lost.";
    if (notice.hidden) say(`${what} Trying to connect again.`);
    const count = () => {
      const seconds = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
      $("notice-text").textContent = `${what} Trying again ${seconds > 0 ? `in ${seconds} s` : "now"} …`;
    };
    count();
    countdown = setInterval(count, 250);
    notice.hidden = false;
    button.hidden = false;
    button.textContent = "Try now";
    button.onclick = () => client.retry();
  } else if (!notice.hidden || state.attempt > 1) {
    $("notice-text").textContent = "Connecting …";
    notice.hidden = false;
  }
}

function stopped(state) {
  if (state.isOwn && state.code === 1000) return;
  if (state.code === 4401) {
    kept.clear();
    showEntrance("Please log in again.");
    return;
  }
  const texts = {
    4001: "You have opened the chat elsewhere.",
    1008: `The server has closed the connection: ${state.reason || "its rules were not kept"}.`,
  };
  const text = texts[state.code] ?? `The connection has ended (${state.code} ${state.reason}).`;
  $("notice-text").textContent = text;
  $("notice").hidden = false;
  const button = $("notice-button");
  button.hidden = false;
  button.textContent = state.code === 4001 ? "Use it here" : "Connect again";
  button.onclick = () => client.connect();
  say(text);
}

/** Told to who listens rather than looks. */
function say(text) {
  $("status").textContent = text;
}

let toastTimer = null;

/** Told to both, for some seconds. */
function toast(text) {
  say(text);
  clearTimeout(toastTimer);
  const typing = $("typing");
  typing.textContent = text;
  typing.classList.add("toast");
  toastTimer = setTimeout(() => {
    typing.classList.remove("toast");
    showTyping();
  }, 6_000);
}

// -- rooms ----------------------------------------------------------------------------------

/** What rooms there are, and what is unread where we do not hear it ourselves. */
async function refreshRooms() {
  const rooms = [];
  try {
    for (let after = "", more = true; more && rooms.length < 1000; after = rooms.at(-1)?.name) {
      const page = await client.request("list_rooms", { after }, { isQueued: false });
      rooms.push(...page.rooms);
      more = page.more && page.rooms.length > 0;
    }
  } catch {
    return; // there is no connection, or a new one asks again
  }
  strangers = [];
  for (const entry of rooms) {
    if (entry.direct === null || entry.direct === undefined) listed(entry);
    else listedDirect(entry);
  }
  showRooms();
  if (current === null) {
    const first = [...conversations.values()].find((each) => each.isMember) ?? null;
    if (first !== null) open(first, { isByUser: false });
    else if (strangers.length > 0) void join((strangers.find((each) => each.name === "lobby") ?? strangers[0]).name);
  }
}

function listed(entry) {
  const known = conversations.get(entry.name);
  if (known !== undefined) known.connectedCount = entry.members;
  if (!entry.is_joined && !known?.isMember) {
    strangers.push(entry);
    return;
  }
  const conversation = known ?? conversationOf(entry.name, { title: entry.name });
  conversation.connectedCount = entry.members;
  if (conversation.isMember && client.room(entry.name).state === "joined") return; // we hear it ourselves
  conversation.isMember = true;
  conversation.lastOffset = Math.max(conversation.lastOffset, entry.last_offset);
  conversation.readOffset = conversation.lastOffset - entry.unread;
  const joined = [...conversations.values()].filter((each) => each.isHeard).length;
  if (!conversation.isHeard && joined < JOINED_MAX) enterRoom(conversation).catch(() => {});
}

function listedDirect(entry) {
  const conversation = conversationOf(entry.name, { title: entry.direct, isDirect: true });
  if (entry.last_offset < conversation.lastOffset) return;
  conversation.lastOffset = entry.last_offset;
  conversation.readOffset = Math.max(conversation.readOffset, entry.last_offset - entry.unread);
}

function conversationOf(key, fields) {
  let conversation = conversations.get(key);
  if (conversation === undefined) {
    conversation = new Conversation({ key, ...fields });
    conversations.set(key, conversation);
  }
  return conversation;
}

/** The key of a conversation that has no message yet; no room has such a name. */
const keyOfBegun = (name) => `@to ${name}`;
const isBegun = (conversation) => conversation.key === keyOfBegun(conversation.title);

/** The conversation with the other one of a direct message. */
function directOf(message) {
  const title = message.sender_id === me.id ? message.to : message.sender;
  const begun = conversations.get(keyOfBegun(title));
  if (begun !== undefined) {
    conversations.delete(begun.key);
    begun.key = message.room;
    begun.addPage([], false);
    conversations.set(begun.key, begun);
  }
  return conversationOf(message.room, { title, isDirect: true });
}

/** Hear a room, now and after every reconnect. */
async function enterRoom(conversation) {
  const room = client.room(conversation.key);
  if (!conversation.isHeard) {
    conversation.isHeard = true;
    room.addEventListener("joined", ({ detail }) => entered(conversation, detail.reply));
    room.addEventListener("lost", () => void reload(conversation));
    room.addEventListener("refused", ({ detail }) => {
      toast(sentence(detail.message));
      gone(conversation);
    });
  }
  return room.join();
}

function entered(conversation, reply) {
  conversation.isMember = true;
  conversation.members = new Map(reply.members.map(({ id, name }) => [id, name]));
  conversation.typing.clear();
  conversation.mayModerate = reply.may_moderate;
  conversation.slowModeS = reply.slow_mode_s ?? 0;
  conversation.readOffset = Math.max(conversation.readOffset, reply.read_offset);
  conversation.lastOffset = Math.max(conversation.lastOffset, reply.last_offset);
  if (conversation.isMissingSome) void fill(conversation);
  changed(conversation);
  if (conversation === current) showFacts();
}

/** Become a member of a room, and show it. */
async function join(name) {
  const conversation = conversationOf(name, { title: name });
  strangers = strangers.filter((each) => each.name !== name);
  open(conversation);
  try {
    await enterRoom(conversation);
  } catch (error) {
    if (error.code !== "closed") toast(sentence(error.message));
  }
}

async function leave(conversation) {
  const room = client.room(conversation.key);
  gone(conversation);
  try {
    await room.leave();
  } catch {
    // we were not in it any more
  }
  void refreshRooms();
}

/** A room is ours no more. */
function gone(conversation) {
  conversation.isMember = false;
  conversations.delete(conversation.key);
  if (current === conversation) {
    const next = [...conversations.values()].find((each) => each.isMember) ?? null;
    if (next !== null) open(next, { isByUser: false });
    else close();
  }
  showRooms();
}

function wasKicked({ room, text, is_banned: isBanned }) {
  const conversation = conversations.get(room);
  if (conversation === undefined) return;
  client.room(room).leave().catch(() => {});
  gone(conversation);
  toast(`${room}: ${sentence(text)}${isBanned ? "" : " You may join again."}`);
  void refreshRooms();
}

function showRooms() {
  const all = [...conversations.values()];
  const byTitle = (a, b) => a.title.localeCompare(b.title);
  const joined = all.filter((each) => !each.isDirect && each.isMember).sort(byTitle);
  const direct = all.filter((each) => each.isDirect).sort(byTitle);
  fillList($("joined-rooms"), joined.map((each) => [each, () => entryOf(each)]));
  fillList($("direct-rooms"), direct.map((each) => [each, () => entryOf(each)]));
  fillList($("other-rooms"), strangers.map((each) => [each.name, () => strangerEntry(each)]));
  $("no-direct").hidden = direct.length > 0;
  $("others").hidden = strangers.length === 0;
  const unread = all.reduce((sum, each) => sum + (each === current ? 0 : each.unread), 0);
  document.title = `${unread ? `(${unread}) ` : ""}${current ? `${current.title} · ` : ""}Wireroom chat`;
}

/** Replace a list's items, and leave the focus on the one that has it. */
function fillList(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items.map(([, build]) => build()));
  if (focused !== null) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function entryOf(conversation) {
  const item = make("li");
  const button = make("button", "room");
  button.type = "button";
  button.dataset.key = conversation.key;
  if (conversation === current) button.setAttribute("aria-current", "true");
  if (conversation.isDirect) button.append(avatar(conversation.title));
  else button.append(mark());
  button.append(make("span", "label", conversation.title));
  if (conversation.unread > 0) {
    button.classList.add("unread");
    const badge = make("span", "badge", conversation.unread > 99 ? "99+" : String(conversation.unread));
    badge.setAttribute("aria-label", counted(conversation.unread, "unread message", "unread messages"));
    button.append(badge);
  }
  button.addEventListener("click", () => open(conversation));
  item.append(button);
  return item;
}

function strangerEntry(entry) {
  const item = make("li");
  const button = make("button", "room");
  button.type = "button";
  button.dataset.key = entry.name;
  button.append(mark(), make("span", "label", entry.name));
  if (entry.members > 0) button.append(make("span", "count", `${entry.members} here`));
  button.addEventListener("click", () => void join(entry.name));
  item.append(button);
  return item;
}

function mark() {
  const hash = make("span", "hash", "#");
  hash.setAttribute("aria-hidden", "true");
  return hash;
}

$("new-room").addEventListener("click", async () => {
  await ask({ title: "Make a room", label: "Name", yes: "Make it" }, async (name) => {
    const room = await client.request("create_room", { room: name });
    await join(room.name);
  });
});

// -- the conversation that is shown ---------------------------------------------------------

const timeline = new Timeline($("timeline"), $("scroller"), {
  me: () => me,
  focusComposer: () => $("text").focus(),
  actionsFor: messageActions,
  save: (message, text) => change("edit_message", { room: message.room, offset: message.offset, text }),
  retry: transmit,
  discard: (pending) => {
    pending.conversation.pending.delete(pending.client_id);
    changed(pending.conversation);
  },
});

function open(conversation, { isByUser = true } = {}) {
  stopTyping();
  if (current !== null) current.draft = $("text").value;
  current = conversation;
  if (isByUser) $("chat").dataset.view = "room";
  $("room-name").textContent = conversation.title;
  $("room").dataset.direct = conversation.isDirect;
  $("text").value = conversation.draft;
  $("text").placeholder = `Write to ${conversation.title}`;
  fitText();
  timeline.show(conversation);
  showBeginning();
  markRead();
  showFacts();
  showRooms();
  showTyping();
  if (!conversation.isLoaded) void loadOlder();
  if (isByUser && matchMedia("(min-width: 45rem)").matches) $("text").focus();
  else if (isByUser) $("room-name").focus();
}

/** No conversation is shown. */
function close() {
  current = null;
  $("room-name").textContent = "";
  $("timeline").replaceChildren();
  $("members").replaceChildren();
  $("room-facts").textContent = "";
  $("chat").dataset.view = "rooms";
}

function showFacts() {
  if (current === null) return;
  const facts = [];
  if (current.isDirect) facts.push("Direct messages");
  else facts.push(`${current.members.size || current.connectedCount || 0} here`);
  if (current.slowModeS > 0) facts.push(`slow mode: ${current.slowModeS} s`);
  if (current.mayModerate) facts.push("you moderate");
  $("room-facts").textContent = facts.join(" · ");
  const members = [...current.members].sort(([, a], [, b]) => a.localeCompare(b));
  fillList($("members"), members.map(([id, name]) => [id, () => memberEntry(id, name)]));
}

let isRendering = false;

/** A conversation is not what it was: show that, once for all that has come together. */
function changed(conversation) {
  if (isRendering) return;
  isRendering = true;
  queueMicrotask(() => {
    isRendering = false;
    if (current !== null && me !== null) {
      timeline.render();
      showBeginning();
      markRead();
    }
    showRooms();
  });
}

function showBeginning() {
  const isNew = isBegun(current);
  const text = !current.isLoaded && !isNew ? "Loading …" : current.hasAll || isNew ? `This is the beginning of ${current.isDirect ? "your messages with " : ""}${current.title}.` : "";
  $("beginning").textContent = text;
}

let isLoading = false;

/** A page of what was said before. */
async function loadOlder() {
  const conversation = current;
  if (conversation === null || isBegun(conversation)) return;
  if (isLoading || conversation.hasAll) return;
  isLoading = true;
  $("scroller").setAttribute("aria-busy", "true");
  try {
    if (!conversation.isDirect) await enterRoom(conversation);
    const wanted = { room: conversation.key, before: conversation.before, limit: PAGE };
    const page = await client.request("history", wanted, { resend: true });
    const isFirst = !conversation.isLoaded;
    conversation.addPage(page.messages, page.more);
    if (conversation === current && isFirst) timeline.show(conversation);
    if (conversation.isMissingSome) void fill(conversation);
    changed(conversation);
  } catch (error) {
    if (conversation === current && error instanceof RequestError && error.code !== "closed") {
      $("beginning").textContent = `What was said cannot be loaded: ${error.message}`;
    }
  } finally {
    isLoading = false;
    $("scroller").removeAttribute("aria-busy");
    if (current !== null && current !== conversation && !current.isLoaded) void loadOlder();
  }
}

/** What was said since, and is not here. */
async function fill(conversation) {
  if (conversation.isFilling) return;
  conversation.isFilling = true;
  try {
    while (conversation.isMissingSome) {
      if (conversation.lastOffset - conversation.upTo > FILL_MAX) {
        conversation.forget();
        if (conversation === current) await loadOlder();
        break;
      }
      const before = conversation.upTo;
      const wanted = { room: conversation.key, after: before, limit: 100 };
      const page = await client.request("history", wanted, { resend: true });
      conversation.addPage(page.messages, true);
      if (conversation.upTo === before) break; // there is no more after all
    }
  } catch {
    // the connection has gone: the next one looks again
  } finally {
    conversation.isFilling = false;
    changed(conversation);
  }
}

/** Something was missed, changes of older messages perhaps: look at the newest again, and fill up from there. */
async function reload(conversation) {
  if (!conversation?.isLoaded || isBegun(conversation)) return;
  try {
    const page = await client.request("history", { room: conversation.key, limit: 100 }, { resend: true });
    for (const message of page.messages) conversation.put(message);
  } catch {
    return;
  }
  if (conversation.isMissingSome) await fill(conversation);
  changed(conversation);
}

function heard(message, conversation) {
  if (conversation === undefined) return;
  const isAtEnd = timeline.isAtEnd;
  const what = conversation.put(message);
  conversation.typing.delete(message.sender);
  if (what === "ignored") return;
  if (message.sender_id === me.id) conversation.readOffset = Math.max(conversation.readOffset, message.offset);
  else if (what === "new") {
    tell(message, conversation);
    if (conversation === current && !isAtEnd) $("to-newest").hidden = false;
  }
  if (conversation.isMissingSome) void fill(conversation);
  changed(conversation);
  if (conversation === current) showTyping();
}

/** For who listens. */
function tell(message, conversation) {
  const log = $("heard");
  const where = conversation === current ? "" : ` in ${conversation.title}`;
  log.append(make("p", "", `${message.sender}${where}: ${message.text}`));
  while (log.childElementCount > 20) log.firstElementChild.remove();
}

let markTimer = null;

/** What is seen is read; the server is told so once in a while. */
function markRead() {
  if (current === null || !current.isLoaded || document.hidden || !timeline.isAtEnd) return;
  $("to-newest").hidden = true;
  if (current.readOffset >= current.upTo) return;
  current.readOffset = current.upTo;
  const conversation = current;
  markTimer ??= setTimeout(() => {
    markTimer = null;
    const mark = { room: conversation.key, offset: conversation.readOffset };
    client?.request("mark_read", mark, { isQueued: false }).catch(() => {});
  }, 500);
}

$("scroller").addEventListener("scroll", () => {
  if (current === null) return;
  if ($("scroller").scrollTop < 300 && current.isLoaded) void loadOlder();
  if (timeline.isAtEnd) {
    markRead();
    showRooms();
  }
}, { passive: true });
$("to-newest").addEventListener("click", () => {
  timeline.toEnd();
  markRead();
  $("text").focus();
});
document.addEventListener("visibilitychange", () => {
  markRead();
  showRooms();
});
$("back").addEventListener("click", () => {
  $("chat").dataset.view = "rooms";
  (document.querySelector("#rooms [aria-current]") ?? $("new-room")).focus();
});

// -- writing --------------------------------------------------------------------------------

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || current === null) return;
  const pending = {
    conversation: current,
    client_id: newId(),
    text,
    sender: me.name,
    sender_id: me.id,
    created_at: Date.now() / 1000,
  };
  current.pending.set(pending.client_id, pending);
  $("text").value = "";
  fitText();
  stopTyping();
  timeline.forgetNew();
  transmit(pending);
  timeline.render();
  timeline.toEnd();
});

/** Send a message, again if need be: by its client_id the server knows whether it has it. */
async function transmit(pending) {
  const { conversation, client_id, text } = pending;
  pending.problem = null;
  pending.state = client.isOpen ? "Sending …" : "Waiting for the connection …";
  changed(conversation);
  const options = { resend: true, timeoutMs: 120_000 };
  try {
    const stored = conversation.isDirect
      ? await client.request("direct_message", { to: conversation.title, text, client_id }, options)
      : await client.request("chat_message", { room: conversation.key, text, client_id }, options);
    heard(stored, conversation.isDirect ? directOf({ ...stored, to: conversation.title }) : conversation);
  } catch (error) {
    if (!conversation.pending.has(client_id)) return; // it was heard already
    pending.problem = sentence(error.code === "closed" ? "the connection has ended" : error.message);
    say(`Not sent: ${pending.problem}`);
    changed(conversation);
  }
}

async function change(type, data) {
  try {
    const stored = await client.request(type, data, { resend: true });
    if (stored?.offset === undefined) return;
    const conversation = conversations.get(stored.room);
    if (conversation?.put(stored) === "changed") changed(conversation);
  } catch (error) {
    toast(sentence(error.message));
  }
}

function fitText() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 180)}px`;
}

let typingSince = 0;

$("text").addEventListener("input", () => {
  fitText();
  if (current === null || current.isDirect) return;
  if (!$("text").value) stopTyping();
  else if (Date.now() - typingSince > TYPING_MS / 2) {
    typingSince = Date.now();
    client.send("typing", { room: current.key, is_typing: true }, { isQueued: false });
  }
});
$("text").addEventListener("blur", () => stopTyping());
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("compose").requestSubmit();
  } else if (event.key === "ArrowUp" && !$("text").value && current !== null) {
    const own = current.sorted().filter((each) => each.sender_id === me.id && each.deleted_at == null).at(-1);
    if (own) {
      event.preventDefault();
      timeline.edit(own.offset);
    }
  }
});

function stopTyping() {
  if (typingSince === 0) return;
  typingSince = 0;
  if (current !== null) client?.send("typing", { room: current.key, is_typing: false }, { isQueued: false });
}

function typingChanged({ room, name, is_typing: isTyping }) {
  const conversation = conversations.get(room);
  if (conversation === undefined || name === me.name) return;
  clearTimeout(conversation.typing.get(name));
  conversation.typing.delete(name);
  if (isTyping) {
    const timer = setTimeout(() => {
      conversation.typing.delete(name);
      showTyping();
    }, TYPING_MS);
    conversation.typing.set(name, timer);
  }
  showTyping();
}

function showTyping() {
  const element = $("typing");
  if (element.classList.contains("toast")) return;
  const names = current === null ? [] : [...current.typing.keys()];
  const texts = {
    0: "",
    1: `${names[0]} is writing …`,
    2: `${names[0]} and ${names[1]} are writing …`,
  };
  element.textContent = texts[names.length] ?? `${names.length} people are writing …`;
}

function presenceChanged({ room, joined, left }) {
  const conversation = conversations.get(room);
  if (conversation === undefined) return;
  for (const { id, name } of joined) conversation.members.set(id, name);
  for (const { id, name } of left) {
    conversation.members.delete(id);
    conversation.typing.delete(name);
  }
  conversation.connectedCount = conversation.members.size;
  if (conversation === current) {
    showFacts();
    showTyping();
  }
}

// -- people and moderation ------------------------------------------------------------------

function memberEntry(id, name) {
  const item = make("li");
  const button = make("button", "person");
  button.type = "button";
  button.dataset.key = String(id);
  button.append(avatar(name), make("span", "label", id === me.id ? `${name} (you)` : name));
  if (id === me.id) {
    button.disabled = true;
  } else {
    button.setAttribute("aria-haspopup", "menu");
    button.addEventListener("click", () => openMenu(button, name, personActions(name)));
  }
  item.append(button);
  return item;
}

function personActions(name) {
  const items = [{ label: `Write to ${name}`, act: () => openDirect(name) }];
  if (current?.mayModerate) items.push(null, ...moderationOf(current.key, name));
  return items;
}

function openDirect(name) {
  const known = [...conversations.values()].find((each) => each.isDirect && each.title === name);
  open(known ?? conversationOf(keyOfBegun(name), { title: name, isDirect: true }));
}

function moderationOf(room, name) {
  const moderate = (type, fields = {}) => () => void change(type, { room, name, ...fields });
  return [
    { label: "Mute for 5 minutes", act: moderate("mute", { seconds: 300 }) },
    { label: "Mute for an hour", act: moderate("mute", { seconds: 3600 }) },
    { label: "Let write again", act: moderate("unmute") },
    null,
    { label: "Kick out", act: moderate("kick"), isDangerous: true },
    {
      label: "Ban …",
      isDangerous: true,
      act: () => ask(
        { title: `Ban ${name}?`, text: `${name} leaves ${room} and cannot come back until you lift the ban.`, yes: "Ban" },
        () => client.request("ban", { room, name }),
      ),
    },
  ];
}

function messageActions(message) {
  const isOwn = message.sender_id === me.id;
  const items = [
    { label: "Copy text", act: () => void navigator.clipboard?.writeText(message.text) },
  ];
  if (isOwn) items.push({ label: "Edit", act: () => timeline.edit(message.offset) });
  else if (!current.isDirect) items.push({ label: `Write to ${message.sender}`, act: () => openDirect(message.sender) });
  if (isOwn || current.mayModerate) {
    items.push({
      label: "Delete …",
      isDangerous: true,
      act: () => ask(
        { title: "Delete this message?", text: "Everybody will see that a message was deleted.", yes: "Delete" },
        () => client.request("delete_message", { room: message.room, offset: message.offset }),
      ),
    });
  }
  if (!isOwn && current.mayModerate && !current.isDirect) items.push(null, ...moderationOf(message.room, message.sender));
  return items;
}

$("room-menu").addEventListener("click", () => {
  if (current === null) return;
  const conversation = current;
  const items = [];
  if (conversation.mayModerate) {
    for (const seconds of [0, 5, 30]) {
      if (seconds === conversation.slowModeS) continue;
      const label = seconds === 0 ? "End slow mode" : `Slow mode: ${seconds} seconds`;
      items.push({ label, act: () => void slowMode(conversation, seconds) });
    }
    items.push({
      label: "Lift a ban …",
      act: () => ask({ title: "Lift a ban", label: "Name", yes: "Lift it" }, (name) =>
        client.request("unban", { room: conversation.key, name })),
    });
    items.push(null);
  }
  if (conversation.isDirect) items.push({ label: "Nothing to do here", act: () => {} });
  else items.push({ label: "Leave this room", act: () => void leave(conversation), isDangerous: true });
  openMenu($("room-menu"), "Room", items);
});

async function slowMode(conversation, seconds) {
  try {
    await client.request("slow_mode", { room: conversation.key, seconds });
    conversation.slowModeS = seconds;
    showFacts();
  } catch (error) {
    toast(sentence(error.message));
  }
}

$("show-people").addEventListener("click", () => {
  const isShown = $("chat").classList.toggle("with-people");
  $("show-people").setAttribute("aria-expanded", String(isShown));
});

// -- questions ------------------------------------------------------------------------------

/** Ask for a text, or for a yes; `act` is tried until it succeeds or is given up. */
function ask({ title, text = "", label = null, yes }, act) {
  const dialog = $("ask");
  const input = $("ask-input");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-field").hidden = label === null;
  $("ask-label").textContent = label ?? "";
  $("ask-yes").textContent = yes;
  $("ask-problem").textContent = "";
  input.value = "";
  input.required = label !== null;
  const form = dialog.querySelector("form");
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      await act(input.value.trim());
      dialog.close();
    } catch (error) {
      $("ask-problem").textContent = sentence(error.message);
    }
  };
  dialog.showModal();
  (label === null ? $("ask-no") : input).focus();
}

$("ask-no").addEventListener("click", () => $("ask").close());

/** What a server says, as a sentence. */
function sentence(text = "") {
  const trimmed = text.trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/u.test(trimmed) ? "" : ".");
}

// -- the beginning --------------------------------------------------------------------------

setInterval(() => {
  if (client?.isOpen && !document.hidden) void refreshRooms();
}, LIST_MS);

const login = kept.get();
if (login !== null && token() !== null) enter(login.account);
else showEntrance();
