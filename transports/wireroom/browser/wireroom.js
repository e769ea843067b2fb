// Wireroom's client for browsers, and for any JavaScript with a WebSocket: one module, no build step.
//
//     import { Client } from "./wireroom.js";
//
//     const client = new Client("/chat", { token: async () => sessionStorage.token });
//     client.on("chat_message", (message) => show(message));
//     client.connect();
//     const lobby = client.room("lobby");
//     await lobby.join();
//     await client.request("chat_message", { room: "lobby", text: "hello", client_id: id }, { resend: true });
//
// It keeps one connection, comes again when that is lost, brings its rooms back with what was missed, and sends
// again what may be sent again. The types, with what each option means, are in wireroom.d.ts; docs/browser.md tells
// the rest. Times are in milliseconds, as everywhere in JavaScript.

/** Close codes after which coming again would end the same way: see docs/browser.md. */
export const STOP_CODES = Object.freeze([1000, 1002, 1003, 1007, 1008, 1009, 1010, 4001, 4401, 4403]);

/** Close codes of a server that is about to be back: restart (1012), try again later (1013), a token that ended. */
export const SOON_CODES = Object.freeze([1012, 1013, 4419]);

/** Codes of error replies to a join that may go better later. */
export const JOIN_RETRY_CODES = Object.freeze([
  "store_away",
  "store_busy",
  "store_slow",
  "rate_limited",
  "handler_failed",
]);

const DEFAULTS = {
  subprotocols: [],
  token: null,
  initialDelayMs: 500,
  maxDelayMs: 30_000,
  minDelayMs: 100,
  factor: 2,
  resetAfterMs: 10_000,
  soonMs: 2_000,
  attemptsMax: Infinity,
  stopCodes: STOP_CODES,
  soonCodes: SOON_CODES,
  joinRetryCodes: JOIN_RETRY_CODES,
  openTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  silenceMs: 30_000,
  probe: null,
  queueMessagesMax: 1_000,
  queueCharactersMax: 1_048_576,
  bufferedBytesMax: 1_048_576,
  earlyMessagesMax: 1_000,
  refreshBeforeMs: 60_000,
  typeKey: "type",
  requestKey: "request_id",
  dataKey: null,
  joinType: "join_room",
  leaveType: "leave_room",
  WebSocket: undefined,
  setTimeout: undefined,
  clearTimeout: undefined,
  random: Math.random,
  now: Date.now,
};

const FAILED_MS = 50; // for a close to follow an error
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one would be due at once

/** Why a request failed: the server's own code, or one of ours: see the class's types. */
export class RequestError extends Error {
  constructor(code, message, { field, requestType } = {}) {
    super(message);
    this.name = "RequestError";
    this.code = code;
    this.field = field;
    this.requestType = requestType;
  }
}

/** Functions by name; one that throws keeps none of the others from being called. */
class Listeners {
  #byName = new Map();

  add(name, listener) {
    const entry = { listener };
    const entries = this.#byName.get(name) ?? [];
    this.#byName.set(name, [...entries, entry]);
    return () => {
      const rest = (this.#byName.get(name) ?? []).filter((each) => each !== entry);
      if (rest.length) this.#byName.set(name, rest);
      else this.#byName.delete(name);
    };
  }

  call(name, ...values) {
    for (const { listener } of this.#byName.get(name) ?? []) {
      try {
        listener(...values);
      } catch (error) {
        report(error);
      }
    }
  }
}

function report(error) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else console.error(error);
}

/** A URL for a WebSocket; relative to the page, where there is one. Raises TypeError. */
function absolute(given) {
  const url = new URL(given, globalThis.location?.href);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  url.hash = "";
  return url.href;
}

/** A connection that lasts: what it is made of comes and goes. */
export class Client extends EventTarget {
  #url;
  #options;
  #setTimeout;
  #clearTimeout;
  #listeners = new Listeners();
  #answerers = new Map();
  #rooms = new Map();
  #state = Object.freeze({ name: "idle" });
  #socket = null;
  #generation = 0; // of sockets: what an older one still says does not count
  #attempts = 0; // in a row, without a connection that lasted
  #cameSoon = false; // and so not again, before a connection lasts
  #lastRequestId = 0;
  #waiting = []; // to be sent, oldest first
  #sent = new Map(); // requests by id that wait for their reply
  #heldCharacters = 0; // of both
  #token = null;
  #timers = new Map(); // by what they are for
  #openedAt = 0;
  #heardAt = 0;
  #heardCount = 0; // of messages
  #wasOpen = false;
  #globals = null;

  constructor(url, options = {}) {
    super();
    for (const name of Object.keys(options)) {
      if (!(name in DEFAULTS)) throw new TypeError(`there is no option ${JSON.stringify(name)}`);
    }
    this.#url = typeof url === "function" ? url : absolute(url);
    this.#options = { ...DEFAULTS, ...options };
    this.#setTimeout = options.setTimeout ?? globalThis.setTimeout.bind(globalThis);
    this.#clearTimeout = options.clearTimeout ?? globalThis.clearTimeout.bind(globalThis);
  }

  /** What the connection does now; another object whenever that changes. */
  get state() {
    return this.#state;
  }

  get isOpen() {
    return this.#state.name === "open";
  }

  /** How many messages wait to be sent, and requests for their reply. */
  get pending() {
    return { waiting: this.#waiting.length, unanswered: this.#sent.size };
  }

  // -- the connection -----------------------------------------------------------------------

  /** Connect, and stay so; again after `close` or a stop. What is connected or about to be is left so. */
  connect() {
    const { name } = this.#state;
    if (name !== "idle" && name !== "stopped") return;
    this.#attempts = 0;
    this.#cameSoon = false;
    this.#listenToGlobals();
    this.#open();
  }

  /** Do not wait for the next attempt. */
  retry() {
    if (this.#state.name === "waiting") this.#open();
  }

  /** End. Requests without a reply fail with the code "closed", and rooms are forgotten at the server. */
  close(code = 1000, reason = "") {
    if (this.#state.name === "idle" || this.#state.name === "stopped") return;
    this.#abandon(code, reason);
    this.#stop({ name: "stopped", code, reason, isOwn: true });
  }

  #open() {
    this.#abandon();
    const generation = this.#generation;
    const attempt = ++this.#attempts;
    this.#enter({ name: "connecting", attempt });
    if (generation !== this.#generation) return; // a listener has closed it
    this.#after("open", this.#options.openTimeoutMs, () => {
      this.#abandon();
      this.#lost(1006, "no connection in time");
    });
    this.#prepare().then(
      (prepared) => {
        if (generation === this.#generation && prepared) this.#openSocket(generation, prepared);
      },
      (error) => {
        if (generation !== this.#generation) return;
        this.#abandon();
        this.#lost(1006, String(error?.message ?? error));
      },
    );
  }

  /** The URL and token for an attempt; null if there is none, and there will be none. */
  async #prepare() {
    const { token } = this.#options;
    const generation = this.#generation;
    this.#token = token === null ? null : await token();
    if (generation !== this.#generation) return null;
    if (token !== null && !this.#token) {
      this.#abandon();
      this.#stop({ name: "stopped", code: 4401, reason: "there is no token", isOwn: true });
      return null;
    }
    return typeof this.#url === "function" ? absolute(await this.#url()) : this.#url;
  }

  #openSocket(generation, href) {
    const WebSocketClass = this.#options.WebSocket ?? globalThis.WebSocket;
    let socket;
    try {
      socket = new WebSocketClass(href, this.#options.subprotocols);
    } catch (error) {
      this.#abandon();
      this.#stop({ name: "stopped", code: 1006, reason: String(error?.message ?? error), isOwn: true });
      return;
    }
    this.#socket = socket;
    const current = (handle) => (event) => {
      if (generation === this.#generation) handle(event);
    };
    socket.addEventListener("open", current(() => this.#opened()));
    socket.addEventListener("message", current((event) => this.#received(event.data)));
    socket.addEventListener("close", current((event) => {
      this.#abandon();
      this.#lost(event.code, event.reason);
    }));
    // A close follows at once, but not in Node 20, if no connection was made.
    socket.addEventListener("error", current(() => {
      if (this.#state.name !== "connecting") return;
      this.#after("open", FAILED_MS, () => {
        this.#abandon();
        this.#lost(1006, "no connection");
      });
    }));
  }

  #opened() {
    this.#heard();
    if (this.#token === null) {
      this.#ready();
    } else {
      const generation = this.#generation;
      this.#enter({ name: "authenticating", attempt: this.#attempts });
      if (generation === this.#generation) this.#authenticate();
    }
  }

  #ready() {
    this.#cancel("open");
    this.#openedAt = this.#options.now();
    const isFirst = !this.#wasOpen;
    this.#wasOpen = true;
    this.#enter({ name: "open", isFirst });
    if (!this.isOpen) return;
    for (const room of this.#rooms.values()) room._connected(); // before what is said in them
    this.#flush();
  }

  #authenticated(message) {
    const { now, refreshBeforeMs } = this.#options;
    const endsInMs = 1000 * message.expires_at - now();
    if (Number.isFinite(endsInMs) && endsInMs > 0) {
      this.#after("refresh", Math.max(endsInMs - refreshBeforeMs, endsInMs / 2), () => this.#refresh());
    }
    if (this.#state.name === "authenticating") this.#ready();
  }

  /** A new token before the old one ends; without one the server closes with 4419, and we come again. */
  async #refresh() {
    const generation = this.#generation;
    let token;
    try {
      token = await this.#options.token();
    } catch {
      return;
    }
    if (generation !== this.#generation || !token || token === this.#token) return;
    this.#token = token;
    this.#authenticate();
  }

  #authenticate() {
    this.#socket.send(this.#packed("authenticate", { token: this.#token }));
  }

  /** Forget the socket, and let it end by itself. */
  #abandon(code, reason) {
    const socket = this.#socket;
    this.#generation++;
    this.#socket = null;
    for (const purpose of ["open", "refresh", "retry", "probe"]) this.#cancel(purpose);
    if (socket === null || socket.readyState > 1) return;
    try {
      if (code === undefined) socket.close();
      else socket.close(code, reason);
    } catch (error) {
      report(error); // a code or reason that cannot be
      socket.close();
    }
  }

  /** The connection is gone, or none was made: come again, or stop. */
  #lost(code, reason) {
    const { now, resetAfterMs, stopCodes, soonCodes, attemptsMax } = this.#options;
    if (this.#state.name === "open" && now() - this.#openedAt >= resetAfterMs) {
      this.#attempts = 0;
      this.#cameSoon = false;
    }
    this.#disconnected();
    if (stopCodes.includes(code)) {
      this.#stop({ name: "stopped", code, reason, isOwn: false });
      return;
    }
    if (this.#attempts >= attemptsMax) {
      this.#stop({ name: "stopped", code, reason: reason || "too many attempts", isOwn: true });
      return;
    }
    const isSoon = soonCodes.includes(code) && !this.#cameSoon;
    this.#cameSoon ||= isSoon;
    const delayMs = isSoon ? this.#options.random() * this.#options.soonMs : this.#delayMs();
    this.#enter({
      name: "waiting",
      code,
      reason,
      attempt: this.#attempts + 1,
      delayMs,
      retryAt: now() + delayMs,
    });
    if (this.#state.name === "waiting") this.#after("retry", delayMs, () => this.#open());
  }

  /** A random part of a pause that grows, so that the clients of a server do not come at once. */
  #delayMs() {
    const { initialDelayMs, minDelayMs, maxDelayMs, factor, random } = this.#options;
    const longest = Math.min(initialDelayMs * factor ** Math.max(0, this.#attempts - 1), maxDelayMs);
    return Math.max(minDelayMs, random() * longest);
  }

  /** What was sent and not answered is sent again, if it may be; the rest fails. */
  #disconnected() {
    const again = [];
    const failed = [];
    for (const entry of this.#sent.values()) (entry.resend ? again : failed).push(entry);
    this.#sent.clear();
    this.#waiting = [...again, ...this.#waiting];
    for (const room of this.#rooms.values()) room._disconnected();
    for (const entry of failed) {
      this.#settle(entry, new RequestError("connection_lost", "the connection was lost before the reply"));
    }
  }

  #stop(state) {
    const entries = [...this.#sent.values(), ...this.#waiting];
    this.#sent.clear();
    this.#waiting = [];
    this.#globals?.();
    this.#globals = null;
    const error = () => new RequestError("closed", state.reason || `the connection has ended (${state.code})`);
    for (const room of this.#rooms.values()) room._stopped(error());
    for (const entry of entries) this.#settle(entry, error());
    this.#enter(state);
  }

  #enter(state) {
    this.#state = Object.freeze(state);
    this.dispatchEvent(new CustomEvent("state", { detail: this.#state }));
  }

  /** A browser that is online again need not wait. */
  #listenToGlobals() {
    const target = globalThis;
    if (this.#globals !== null || typeof target.addEventListener !== "function") return;
    const online = () => this.retry();
    const visible = () => {
      if (target.document?.visibilityState !== "visible") return;
      this.retry();
      this.#probeNow(); // a phone that slept may have lost its connection without being told
    };
    target.addEventListener("online", online);
    target.document?.addEventListener("visibilitychange", visible);
    this.#globals = () => {
      target.removeEventListener("online", online);
      target.document?.removeEventListener("visibilitychange", visible);
    };
  }

  // -- signs of life ------------------------------------------------------------------------

  /** Browsers show no Pings to their pages: so after a silence something is asked, and has to be answered. */
  #heard() {
    this.#heardAt = this.#options.now();
    this.#heardCount++;
    if (this.#options.probe !== null && !this.#timers.has("probe")) this.#watch(this.#options.silenceMs);
  }

  #watch(delayMs) {
    this.#after("probe", delayMs, () => {
      const silentMs = this.#options.now() - this.#heardAt;
      const { silenceMs } = this.#options;
      if (silentMs < silenceMs) this.#watch(silenceMs - silentMs);
      else this.#probeNow();
    });
  }

  #probeNow() {
    const { probe } = this.#options;
    if (probe === null || !this.isOpen) return;
    const generation = this.#generation;
    const { type, ...data } = typeof probe === "string" ? { type: probe } : probe;
    const heardCount = this.#heardCount;
    this.#cancel("probe");
    this.request(type, data, { isQueued: false }).catch(() => {
      // An error reply is an answer too.
      if (generation !== this.#generation || heardCount !== this.#heardCount) return;
      this.#abandon();
      this.#lost(1006, "the server does not answer");
    });
  }

  // -- messages -----------------------------------------------------------------------------

  /** Call `listener` with each message of a type; "*" for all of them. Returns what ends that. */
  on(type, listener) {
    return this.#listeners.add(type, listener);
  }

  /** Answer the server's requests of a type with what `answerer` returns. */
  answer(type, answerer) {
    this.#answerers.set(type, answerer);
  }

  /** Send a message that has no reply. False if it is neither sent nor queued. */
  send(type, data = {}, { isQueued = true } = {}) {
    const entry = { text: this.#packed(type, data), type, id: null };
    if (this.#state.name === "stopped") return false;
    return this.#enqueue(entry, isQueued) === null;
  }

  /** The reply to a message. Rejects with `RequestError`. */
  request(type, data = {}, options = {}) {
    return new Promise((resolve, reject) => this.#begin(type, data, options, resolve, reject));
  }

  #begin(type, data, options, resolve, reject) {
    const { timeoutMs = this.#options.requestTimeoutMs, resend = false, isQueued = true, signal } = options;
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const id = ++this.#lastRequestId;
    const entry = { text: this.#packed(type, data, id), type, id, resend, resolve, reject };
    const problem =
      this.#state.name === "stopped"
        ? new RequestError("closed", "the connection has ended", { requestType: type })
        : this.#enqueue(entry, isQueued);
    if (problem !== null) {
      reject(problem);
      return;
    }
    if (timeoutMs !== Infinity) {
      entry.timer = this.#setTimeout(() => {
        this.#forget(entry);
        this.#settle(entry, new RequestError("timeout", `no reply within ${timeoutMs} ms`));
      }, Math.min(timeoutMs, LONGEST_TIMER_MS));
    }
    if (signal) {
      entry.signal = signal;
      entry.aborted = () => {
        this.#forget(entry);
        this.#settle(entry, signal.reason);
      };
      signal.addEventListener("abort", entry.aborted, { once: true });
    }
  }

  #packed(type, data, id = null) {
    const { typeKey, requestKey } = this.#options;
    const message = { [typeKey]: type, ...this.#wrapped(data) };
    if (id !== null) message[requestKey] = id;
    return JSON.stringify(message);
  }

  #wrapped(data) {
    const { dataKey } = this.#options;
    return dataKey === null ? data : { [dataKey]: data };
  }

  #canTransmit() {
    return this.isOpen && this.#socket.bufferedAmount <= this.#options.bufferedBytesMax;
  }

  /** Send an entry, or keep it for later; an error if neither is possible. */
  #enqueue(entry, isQueued) {
    const { queueMessagesMax, queueCharactersMax } = this.#options;
    if (isQueued) {
      const isFull =
        this.#waiting.length + this.#sent.size >= queueMessagesMax ||
        this.#heldCharacters + entry.text.length > queueCharactersMax;
      if (isFull) {
        return new RequestError("queue_full", "too much waits to be sent", { requestType: entry.type });
      }
    } else if (!this.#canTransmit()) {
      return new RequestError("not_connected", "there is no connection", { requestType: entry.type });
    }
    this.#heldCharacters += entry.text.length;
    if (!isQueued || (this.#waiting.length === 0 && this.#canTransmit())) {
      this.#transmitEntry(entry);
    } else {
      this.#waiting.push(entry);
      if (this.isOpen) this.#flushLater();
    }
    return null;
  }

  #flush() {
    while (this.#waiting.length > 0 && this.#canTransmit()) {
      this.#transmitEntry(this.#waiting.shift());
    }
    if (this.#waiting.length > 0 && this.isOpen) this.#flushLater();
  }

  /** The socket takes bytes, but tells nobody when it has room again. */
  #flushLater() {
    if (!this.#timers.has("flush")) this.#after("flush", 50, () => this.#flush());
  }

  #transmitEntry(entry) {
    if (entry.id === null) this.#heldCharacters -= entry.text.length;
    else this.#sent.set(entry.id, entry);
    this.#socket.send(entry.text);
  }

  #transmit(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #forget(entry) {
    this.#sent.delete(entry.id);
    const index = this.#waiting.indexOf(entry);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  /** The end of an entry that is neither waiting nor sent any more. */
  #settle(entry, error, data) {
    this.#heldCharacters -= entry.text.length;
    if (entry.timer !== undefined) this.#clearTimeout(entry.timer);
    entry.signal?.removeEventListener("abort", entry.aborted);
    if (error === null) {
      entry.resolve?.(data);
    } else {
      if (error instanceof RequestError) error.requestType = entry.type;
      entry.reject?.(error);
    }
  }

  #received(text) {
    this.#heard();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = undefined; // binary, or no JSON
    }
    if (message === null || typeof message !== "object" || Array.isArray(message)) {
      this.dispatchEvent(new CustomEvent("unreadable", { detail: text }));
      return;
    }
    const { typeKey, requestKey } = this.#options;
    const type = message[typeKey];
    const id = message[requestKey];
    if (id !== undefined && id !== null && (type === "reply" || type === "error")) {
      this.#replied(type, id, message);
    } else if (type === "authenticated" && this.#token !== null) {
      this.#authenticated(this.#unwrapped(message));
      this._deliver(message);
    } else if (id !== undefined && id !== null && this.#answerers.has(type)) {
      this.#answer(type, id, message);
    } else {
      const room = this.#rooms.get(message.position?.room);
      if (room === undefined || room._accepts(message)) this._deliver(message);
    }
  }

  #unwrapped(message) {
    const { dataKey } = this.#options;
    return dataKey === null ? message : (message[dataKey] ?? {});
  }

  #replied(type, id, message) {
    const entry = this.#sent.get(id);
    if (entry === undefined) return; // it came too late
    this.#sent.delete(id);
    if (type === "error") {
      this.#settle(entry, new RequestError(message.code ?? "error", message.message ?? "", message));
    } else {
      this.#settle(entry, null, message[this.#options.dataKey ?? "data"]);
    }
  }

  async #answer(type, id, message) {
    const { typeKey, requestKey, dataKey } = this.#options;
    const generation = this.#generation;
    let reply;
    try {
      const data = await this.#answerers.get(type)(this.#unwrapped(message), message);
      reply = { [typeKey]: "reply", [requestKey]: id, [dataKey ?? "data"]: data ?? null };
    } catch (error) {
      const { code = "handler_failed", message: text = String(error) } = error ?? {};
      reply = { [typeKey]: "error", code, message: text, [requestKey]: id };
    }
    if (generation === this.#generation) this.#transmit(reply);
  }

  /** To the listeners of the client, then of its room. For `Room`. */
  _deliver(message) {
    const type = message[this.#options.typeKey];
    this.#listeners.call(type, message);
    this.#listeners.call("*", message);
    const name = message.position?.room ?? this.#unwrapped(message).room;
    this.#rooms.get(name)?._deliver(type, message);
  }

  // -- rooms --------------------------------------------------------------------------------

  /** The room of a name, always the same object. */
  room(name) {
    let room = this.#rooms.get(name);
    if (room === undefined) {
      room = new Room(this, name, {
        options: this.#options,
        after: (delayMs, act) => this.#after(`room ${name}`, delayMs, act),
        cancel: () => this.#cancel(`room ${name}`),
        begin: (...values) => this.#begin(...values),
      });
      this.#rooms.set(name, room);
    }
    return room;
  }

  /** All rooms that were asked for by `room`. */
  get rooms() {
    return [...this.#rooms.values()];
  }

  // -- timers -------------------------------------------------------------------------------

  #after(purpose, delayMs, act) {
    this.#cancel(purpose);
    if (delayMs === Infinity) return;
    const timer = this.#setTimeout(() => {
      this.#timers.delete(purpose);
      act();
    }, Math.min(delayMs, LONGEST_TIMER_MS));
    this.#timers.set(purpose, timer);
  }

  #cancel(purpose) {
    if (!this.#timers.has(purpose)) return;
    this.#clearTimeout(this.#timers.get(purpose));
    this.#timers.delete(purpose);
  }
}

/** A room that is joined again by itself, with what was missed: each message once, in order, or a "lost" event. */
export class Room extends EventTarget {
  #client;
  #name;
  #tools;
  #listeners = new Listeners();
  #state = "left";
  #fields = {};
  #position = null;
  #early = []; // messages that came before the reply to a join says what they are
  #joins = 0; // requests: the reply to an older one does not count
  #retries = 0;
  #wasJoined = false;
  #promise = null; // of the application's join: {promise, resolve, reject}

  constructor(client, name, tools) {
    super();
    this.#client = client;
    this.#name = name;
    this.#tools = tools;
  }

  get name() {
    return this.#name;
  }

  /** "left", "joining" (also: to be joined once there is a connection) or "joined". */
  get state() {
    return this.#state;
  }

  /** Of the last message that was delivered, {offset, epoch}; null before the first join. */
  get position() {
    return this.#position;
  }

  /** Set it before `join`, for what an earlier page has seen. */
  set position(position) {
    if (this.#state !== "left") throw new Error("the room is joined: its position is its own");
    this.#position = position;
  }

  /** Call `listener` with each message of a type in this room; "*" for all. Returns what ends that. */
  on(type, listener) {
    return this.#listeners.add(type, listener);
  }

  /** Join, now and after every reconnect. The reply's data; rejects with `RequestError` if it is refused. */
  join(fields = {}) {
    if (this.#state !== "left") return this.#promise?.promise ?? Promise.resolve(undefined);
    this.#fields = fields;
    this.#promise = deferred();
    const { promise } = this.#promise;
    this.#state = "joining";
    if (this.#client.isOpen) this.#ask();
    return promise;
  }

  /** Leave, and stay out. The position is forgotten, for history is another's business then. */
  async leave() {
    if (this.#state === "left") return;
    this.#leave();
    this.#promise?.reject(new RequestError("left", "the room was left"));
    this.#promise = null;
    const { name } = this.#client.state;
    if (name === "idle" || name === "stopped") return;
    await this.#client.request(this.#tools.options.leaveType, { room: this.#name }, { resend: true });
  }

  #leave() {
    this.#state = "left";
    this.#position = null;
    this.#wasJoined = false;
    this.#early = [];
    this.#joins++;
    this.#tools.cancel();
  }

  /** Ask to be let in, with what we know. */
  #ask() {
    const number = ++this.#joins;
    const { joinType } = this.#tools.options;
    this.#state = "joining";
    this.#early = [];
    const fields = { ...this.#fields, room: this.#name, position: this.#position };
    // Not by a promise: messages may follow the reply at once, and come after it here too.
    const ifCurrent = (act) => (value) => {
      if (number === this.#joins) act(value);
    };
    const joined = ifCurrent((reply) => this.#joined(reply));
    const refused = ifCurrent((error) => this.#refused(error));
    this.#tools.begin(joinType, fields, { isQueued: false }, joined, refused);
  }

  #joined(reply) {
    const isRejoin = this.#wasJoined || this.#position !== null;
    this.#wasJoined = true;
    const recovered = reply?.recovered !== false;
    const { room, ...newest } = reply?.position ?? {};
    this.#state = "joined";
    this.#retries = 0;
    // What was missed may still be on its way, so a position that could be recovered from remains ours.
    const isKept = recovered && this.#position !== null && this.#position.epoch === newest.epoch;
    if (!isKept) this.#position = newest.offset === undefined ? null : newest;
    const promise = this.#promise;
    this.#promise = null;
    promise?.resolve(reply);
    if (isRejoin && !isKept) this.#lose("not_recovered");
    this.#dispatch("joined", { reply, recovered, isRejoin });
    const early = this.#early;
    this.#early = [];
    for (const message of early) {
      if (this._accepts(message)) this.#client._deliver(message);
    }
  }

  #refused(error) {
    const { joinRetryCodes } = this.#tools.options;
    const isOurs = error.code === "timeout" || error.code === "not_connected";
    if (isOurs || joinRetryCodes.includes(error.code)) {
      const { initialDelayMs, maxDelayMs, factor, random } = this.#tools.options;
      const longest = Math.min(initialDelayMs * factor ** this.#retries++, maxDelayMs);
      this.#tools.after(longest * (0.5 + 0.5 * random()), () => {
        if (this.#state === "joining" && this.#client.isOpen) this.#ask();
      });
      return;
    }
    this.#leave();
    const promise = this.#promise;
    this.#promise = null;
    promise?.reject(error);
    this.#dispatch("refused", error);
  }

  #lose(reason) {
    this.#dispatch("lost", { reason, position: this.#position });
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // -- what the client says -----------------------------------------------------------------

  _connected() {
    if (this.#state !== "left") this.#ask();
  }

  _disconnected() {
    this.#tools.cancel();
    if (this.#state === "joined") this.#state = "joining";
    this.#joins++;
    this.#early = [];
  }

  _stopped(error) {
    const promise = this.#promise;
    this.#promise = null;
    this.#joins++;
    if (this.#state !== "left") this.#state = promise === null ? "joining" : "left";
    promise?.reject(error);
  }

  /** Whether a message that has a position here is new; it is then the last that we have. */
  _accepts(message) {
    const { offset, epoch } = message.position;
    if (this.#state === "left") return false; // sent before the server knew
    const known = this.#position;
    const isNext = known !== null && epoch === known.epoch && offset === known.offset + 1;
    if (this.#state === "joining" && !isNext) {
      if (known !== null && epoch === known.epoch && offset <= known.offset) return false;
      this.#early.push(message);
      if (this.#early.length > this.#tools.options.earlyMessagesMax) this.#early.shift();
      return false;
    }
    if (known !== null && epoch === known.epoch && offset <= known.offset) return false;
    this.#position = { offset, epoch };
    if (known !== null && !isNext) this.#lose(epoch === known.epoch ? "gap" : "epoch");
    return true;
  }

  _deliver(type, message) {
    this.#listeners.call(type, message);
    this.#listeners.call("*", message);
  }
}

function deferred() {
  let resolve;
  let reject;
  const promise = new Promise((...both) => [resolve, reject] = both);
  promise.catch(() => {}); // an application that does not wait for it is told by the "refused" event
  return { promise, resolve, reject };
}
