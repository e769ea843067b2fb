// A world in virtual time for wireroom.js: timers, sockets, chance and the clock are the test's.

import assert from "node:assert/strict";

import { Client } from "../../../transports/wireroom/browser/wireroom.js";

/** Its requests may fail before the test looks at them. */
export class QuietClient extends Client {
  request(...values) {
    const promise = super.request(...values);
    promise.catch(() => {});
    return promise;
  }
}

/** Lets all promises that can settle do so. */
export const settle = () => new Promise((done) => setImmediate(done));

export class World {
  now = 1_700_000_000_000;
  chance = 1; // what random() gives
  sockets = [];
  #timers = new Map();
  #lastTimer = 0;

  /** Options for a Client. */
  get options() {
    const world = this;
    return {
      WebSocket: class extends FakeSocket {
        constructor(url, protocols) {
          super(url, protocols);
          world.sockets.push(this);
        }
      },
      setTimeout: (act, delayMs) => {
        assert.ok(delayMs >= 0 && delayMs < 2 ** 31, `a timer of ${delayMs} ms`);
        this.#timers.set(++this.#lastTimer, { at: this.now + delayMs, act });
        return this.#lastTimer;
      },
      clearTimeout: (timer) => this.#timers.delete(timer),
      random: () => this.chance,
      now: () => this.now,
    };
  }

  get timers() {
    return this.#timers.size;
  }

  /** The newest socket. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** Time passes; timers act in their order, each at its time. */
  async advance(ms) {
    const until = this.now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      const [timer, { at, act }] = due;
      this.#timers.delete(timer);
      this.now = Math.max(this.now, at);
      act();
      await settle();
    }
    this.now = until;
  }
}

class FakeSocket extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closedWith = null;

  constructor(url, protocols) {
    super();
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    assert.equal(this.readyState, 1, "sent on a socket that is not open");
    this.sent.push(JSON.parse(text));
  }

  close(...closedWith) {
    this.closedWith = closedWith;
    this.readyState = 2;
  }

  /** What was sent since the last call. */
  take() {
    return this.sent.splice(0);
  }

  // -- what the server does

  async opens() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
    await settle();
  }

  async says(...messages) {
    for (const message of messages) {
      const data = typeof message === "object" && !(message instanceof ArrayBuffer) ? JSON.stringify(message) : message;
      this.dispatchEvent(Object.assign(new Event("message"), { data }));
    }
    await settle();
  }

  async ends(code = 1006, reason = "") {
    this.readyState = 3;
    this.dispatchEvent(new Event("error"));
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
    await settle();
  }
}

/** How a promise ended up, or "pending". */
export async function outcome(promise) {
  await settle();
  const pending = Symbol();
  try {
    const value = await Promise.race([promise, Promise.resolve(pending)]);
    return value === pending ? "pending" : { value };
  } catch (error) {
    return error.code ?? error;
  }
}
