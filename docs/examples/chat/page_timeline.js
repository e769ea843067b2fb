// A conversation's messages as a list: what is shown follows the conversation, element by element.

import { avatar, dayKey, dayOf, make, setText, timeOf, wholeTime } from "./page_format.js";
import { openMenu } from "./page_menu.js";

const TOGETHER_S = 300; // messages of one person so close together are shown as one block
const BOTTOM_PX = 48; // so near to the end is at the end

export class Timeline {
  #list;
  #scroller;
  #options;
  #conversation = null;
  #elements = new Map(); // by key: {element, content}
  #newAfter = null; // the offset that the line "New" stands after
  #editing = null; // an offset

  /** `actionsFor(message)` gives a menu's items, `save(message, text)` changes a message, `retry` and `discard` are for
   * messages that could not be sent, `me()` is our account. */
  constructor(list, scroller, options) {
    this.#list = list;
    this.#scroller = scroller;
    this.#options = options;
    list.addEventListener("keydown", (event) => this.#keyDown(event));
    scroller.addEventListener("keydown", (event) => {
      if (event.target === scroller && event.key === "ArrowUp" && this.#focusLast()) event.preventDefault();
    });
  }

  get isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < BOTTOM_PX;
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Show another conversation, from its end, or from its first unread message. */
  show(conversation) {
    this.#conversation = conversation;
    this.#editing = null;
    this.#elements.clear();
    this.#list.replaceChildren();
    this.#newAfter = conversation.unread > 0 ? conversation.readOffset : null;
    this.render();
    const line = this.#elements.get("new")?.element;
    if (line) line.scrollIntoView({ block: "center" });
    else this.toEnd();
  }

  /** The line "New" has done its duty. */
  forgetNew() {
    this.#newAfter = null;
  }

  edit(offset) {
    const before = this.#editing;
    this.#editing = offset;
    for (const each of [before, offset]) {
      const known = this.#elements.get(`m${each}`);
      if (known) known.content = null; // to be made anew
    }
    this.render();
    if (offset === null && before !== null) this.#options.focusComposer();
  }

  /** Make the list what the conversation is, and keep what is looked at where it is. */
  render() {
    const isAtEnd = this.isAtEnd;
    const anchor = isAtEnd ? null : this.#firstVisible();
    const top = anchor?.getBoundingClientRect().top;
    const wanted = this.#items();
    const keys = new Set(wanted.map((item) => item.key));
    for (const [key, { element }] of this.#elements) {
      if (keys.has(key)) continue;
      element.remove();
      this.#elements.delete(key);
    }
    let at = this.#list.firstElementChild;
    for (const item of wanted) {
      const known = this.#elements.get(item.key);
      let element = known?.element;
      if (known === undefined || known.content !== item.content || known.isFirst !== item.isFirst) {
        const fresh = item.build();
        if (element) {
          const hadFocus = element.contains(document.activeElement);
          if (at === element) at = fresh;
          element.replaceWith(fresh);
          if (hadFocus && item.content.offset !== this.#editing) fresh.focus();
        }
        element = fresh;
        this.#elements.set(item.key, { element, content: item.content, isFirst: item.isFirst });
      }
      if (at === element) at = at.nextElementSibling;
      else this.#list.insertBefore(element, at);
    }
    if (isAtEnd) this.toEnd();
    else if (anchor !== null) {
      // It may have been made anew.
      const { element } = this.#elements.get(`m${anchor.dataset.offset}`) ?? {};
      if (element) this.#scroller.scrollTop += element.getBoundingClientRect().top - top;
    }
    if (this.#editing !== null) this.#list.querySelector(".editor textarea")?.focus();
  }

  #items() {
    const conversation = this.#conversation;
    const items = [];
    let previous = null;
    for (const message of conversation.sorted()) {
      const day = dayKey(message.created_at);
      if (previous === null || dayKey(previous.created_at) !== day) {
        const text = dayOf(message.created_at);
        items.push({ key: `d${day}`, content: text, build: () => divider("day", text) });
        previous = null;
      }
      if (this.#newAfter !== null && message.offset > this.#newAfter && !items.some(({ key }) => key === "new")) {
        if (message.sender_id === this.#options.me().id) this.#newAfter = message.offset;
        else items.push({ key: "new", content: "new", build: () => divider("new", "New") });
      }
      const isFirst =
        previous === null ||
        previous.sender_id !== message.sender_id ||
        message.created_at - previous.created_at > TOGETHER_S ||
        items.at(-1).key === "new";
      items.push({
        key: `m${message.offset}`,
        content: message,
        isFirst,
        build: () => this.#message(message, isFirst),
      });
      previous = message;
    }
    for (const pending of conversation.pending.values()) {
      items.push({
        key: `p${pending.client_id}`,
        content: pending.problem ?? pending.state,
        build: () => this.#pending(pending),
      });
    }
    return items;
  }

  #message(message, isFirst) {
    const element = this.#frame(message, isFirst);
    const isDeleted = message.deleted_at != null;
    element.classList.toggle("deleted", isDeleted);
    if (message.offset === this.#editing && !isDeleted) {
      element.append(this.#editor(message));
      return element;
    }
    const text = make("p", "text");
    if (isDeleted) text.textContent = "This message was deleted.";
    else setText(text, message.text);
    if (message.edited_at != null && !isDeleted) {
      const edited = make("span", "edited", "edited");
      edited.title = wholeTime(message.edited_at);
      text.append(" ", edited);
    }
    element.append(text);
    if (!isDeleted) {
      const more = make("button", "icon more");
      more.type = "button";
      more.tabIndex = -1;
      more.setAttribute("aria-haspopup", "menu");
      more.setAttribute("aria-label", `Actions for ${message.sender}’s message of ${timeOf(message.created_at)}`);
      more.textContent = "⋯";
      more.addEventListener("click", () => {
        openMenu(more, "Message", this.#options.actionsFor(message));
      });
      element.append(more);
    }
    return element;
  }

  #frame(message, isFirst) {
    const element = make("li", isFirst ? "message first" : "message");
    element.tabIndex = -1;
    if (message.offset) element.dataset.offset = message.offset;
    const time = make("time", "", timeOf(message.created_at));
    time.dateTime = new Date(message.created_at * 1000).toISOString();
    time.title = wholeTime(message.created_at);
    if (isFirst) {
      const head = make("div", "head");
      head.append(make("span", "name", message.sender), time);
      element.append(avatar(message.sender), head);
    } else {
      element.append(make("span", "unseen", `${message.sender}: `), time);
    }
    return element;
  }

  #pending(pending) {
    const element = this.#frame(pending, true);
    element.classList.add("pending");
    const text = make("p", "text");
    setText(text, pending.text);
    element.append(text);
    const state = make("p", "state");
    state.append(pending.problem ? `Not sent: ${pending.problem} ` : pending.state);
    if (pending.problem) {
      element.classList.add("failed");
      for (const [label, act] of [["Try again", this.#options.retry], ["Discard", this.#options.discard]]) {
        const button = make("button", "link", label);
        button.type = "button";
        button.addEventListener("click", () => act(pending));
        state.append(button, " ");
      }
    }
    element.append(state);
    return element;
  }

  #editor(message) {
    const form = make("form", "editor");
    const text = make("textarea");
    text.value = message.text;
    text.maxLength = 4000;
    text.rows = Math.min(8, message.text.split("\n").length);
    text.setAttribute("aria-label", "Edit the message");
    const hint = make("p", "hint", "Enter saves, Escape cancels.");
    const save = make("button", "primary small", "Save");
    const cancel = make("button", "small", "Cancel");
    cancel.type = "button";
    cancel.addEventListener("click", () => this.edit(null));
    form.append(text, save, cancel, hint);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const changed = text.value.trim();
      if (changed && changed !== message.text) this.#options.save(message, changed);
      this.edit(null);
    });
    text.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.edit(null);
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    return form;
  }

  // -- by keyboard --------------------------------------------------------------------------

  #keyDown(event) {
    const message = event.target.closest(".message");
    if (message === null || event.target !== message) return;
    const all = [...this.#list.querySelectorAll(".message")];
    const index = all.indexOf(message);
    const to = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (to >= all.length) this.#options.focusComposer();
      else all[Math.max(0, to)].focus();
    } else if (event.key === "Enter" || event.key === "ContextMenu" || event.key === " ") {
      event.preventDefault();
      message.querySelector(".more")?.click();
    } else if (event.key === "Escape") {
      this.#options.focusComposer();
    }
  }

  #focusLast() {
    const last = [...this.#list.querySelectorAll(".message")].at(-1);
    last?.focus();
    return last !== undefined;
  }

  #firstVisible() {
    const top = this.#scroller.getBoundingClientRect().top;
    const messages = [...this.#list.querySelectorAll("[data-offset]")]; // dividers may move to others
    return messages.find((each) => each.getBoundingClientRect().bottom > top + 8) ?? null;
  }
}

function divider(kind, text) {
  const element = make("li", `divider ${kind}`);
  element.append(make("span", "", text));
  return element;
}
