// The connection: pauses, close codes, tokens, signs of life.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Client, SOON_CODES, STOP_CODES } from "../../../transports/wireroom/browser/wireroom.js";
import { World, outcome, settle } from "./world.mjs";

let world;
let states;

beforeEach(() => {
  world = new World();
  states = [];
});

function start(options = {}, url = "http://example.org/chat") {
  const client = new Client(url, { ...world.options, ...options });
  client.addEventListener("state", ({ detail }) => states.push(detail.name));
  client.connect();
  return client;
}

async function open(options) {
  const client = start(options);
  await settle();
  await world.socket.opens();
  return client;
}

test("connects once, by a URL for WebSockets", async () => {
  const client = start({ subprotocols: ["v1"] }, "https://example.org/chat#part");
  client.connect();
  await settle();
  assert.equal(world.sockets.length, 1);
  assert.equal(world.socket.url, "wss://example.org/chat");
  assert.deepEqual(world.socket.protocols, ["v1"]);
  await world.socket.opens();
  assert.deepEqual(states, ["connecting", "open"]);
  assert.equal(client.isOpen, true);
});

test("a URL may be a function's, asked before each attempt", async () => {
  let count = 0;
  start({}, async () => `ws://example.org/${++count}`);
  await settle();
  await world.socket.ends();
  await world.advance(30_000);
  assert.deepEqual(world.sockets.map((each) => each.url).slice(0, 2), ["ws://example.org/1", "ws://example.org/2"]);
});

test("what cannot be is refused at once", () => {
  assert.throws(() => new Client("/no/page"), TypeError);
  assert.throws(() => new Client("ws://example.org", { maxDelay: 1 }), /no option "maxDelay"/);
});

test("pauses double up to the longest, and are a random part of that", async () => {
  const client = start();
  const pauses = [];
  for (let attempt = 0; attempt < 9; attempt++) {
    await settle();
    await world.socket.ends();
    pauses.push(client.state.delayMs);
    assert.equal(client.state.retryAt, world.now + client.state.delayMs);
    await world.advance(client.state.delayMs);
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
  assert.equal(world.sockets.length, 10);
  world.chance = 0.25;
  await world.socket.ends();
  assert.equal(client.state.delayMs, 7500);
  world.chance = 0;
  await world.advance(7500);
  await world.socket.ends();
  assert.equal(client.state.delayMs, 100);
});

test("only a connection that lasted makes the pause short again", async () => {
  const client = await open();
  await world.advance(9_999);
  await world.socket.ends();
  await world.advance(500);
  await world.socket.opens();
  await world.advance(9_999);
  await world.socket.ends();
  assert.equal(client.state.delayMs, 1000);
  await world.advance(1000);
  await world.socket.opens();
  await world.advance(10_000);
  await world.socket.ends();
  assert.equal(client.state.delayMs, 500);
});

for (const code of STOP_CODES) {
  test(`${code} stops it for good, until connect`, async () => {
    const client = await open();
    await world.socket.ends(code, "so it is");
    assert.deepEqual(client.state, { name: "stopped", code, reason: "so it is", isOwn: false });
    assert.equal(world.timers, 0);
    await world.advance(10 ** 8);
    assert.equal(world.sockets.length, 1);
    client.connect();
    await settle();
    assert.equal(world.sockets.length, 2);
  });
}

for (const code of SOON_CODES) {
  test(`${code} comes again soon, but only once`, async () => {
    const client = await open();
    await world.advance(60_000);
    world.chance = 0.5;
    await world.socket.ends(code);
    assert.equal(client.state.delayMs, 1000);
    await world.advance(1000);
    await world.socket.opens();
    await world.socket.ends(code);
    assert.equal(client.state.delayMs, 250, "half of the first pause");
  });
}

test("which codes stop it is a setting", async () => {
  const client = await open({ stopCodes: [1011] });
  await world.socket.ends(1008);
  assert.equal(client.state.name, "waiting");
  await world.advance(1000);
  await world.socket.opens();
  await world.socket.ends(1011);
  assert.equal(client.state.name, "stopped");
});

test("it gives up after as many attempts as it may make", async () => {
  const client = start({ attemptsMax: 3 });
  for (let attempt = 0; attempt < 3; attempt++) {
    await settle();
    await world.socket.ends();
    await world.advance(60_000);
  }
  assert.equal(client.state.name, "stopped");
  assert.equal(world.sockets.length, 3);
});

test("retry does not wait, and does nothing else", async () => {
  const client = start();
  client.retry();
  await settle();
  await world.socket.ends();
  client.retry();
  client.retry();
  await settle();
  assert.equal(world.sockets.length, 2);
  await world.advance(500);
  assert.equal(world.sockets.length, 2);
});

test("close closes, stops, and hears nothing more", async () => {
  const client = await open();
  const heard = [];
  client.on("*", (message) => heard.push(message));
  client.close(1000, "enough");
  assert.deepEqual(world.socket.closedWith, [1000, "enough"]);
  assert.deepEqual(client.state, { name: "stopped", code: 1000, reason: "enough", isOwn: true });
  await world.socket.says({ type: "late" });
  await world.socket.ends(1000);
  assert.deepEqual(heard, []);
  assert.deepEqual(states, ["connecting", "open", "stopped"]);
  assert.equal(world.timers, 0);
});

for (const name of ["connecting", "authenticating", "open", "waiting"]) {
  test(`a listener may close it when it is ${name}`, async () => {
    const client = new Client("ws://example.org", { ...world.options, token: () => "t" });
    client.room("r").join().catch(() => {});
    client.addEventListener("state", ({ detail }) => {
      if (detail.name === name) client.close();
    });
    client.connect();
    await settle();
    if (name !== "connecting") {
      await world.socket.opens();
      if (name !== "authenticating") await world.socket.says({ type: "authenticated", expires_at: 2e9 });
      if (name === "waiting") await world.socket.ends();
    }
    assert.equal(client.state.name, "stopped");
    const count = world.sockets.length;
    await world.advance(10 ** 7);
    assert.equal(world.sockets.length, count);
    assert.equal(world.timers, 0);
  });
}

test("an attempt that does not open in time is given up", async () => {
  const client = start();
  await world.advance(9_999);
  assert.equal(client.state.name, "connecting");
  await world.advance(1);
  assert.equal(client.state.name, "waiting");
  assert.deepEqual(world.socket.closedWith, []);
  await world.sockets[0].opens(); // too late, and no longer of interest
  assert.equal(client.state.name, "waiting");
});

test("a failure that no close follows is one too", async () => {
  const client = start();
  await settle();
  world.socket.dispatchEvent(new Event("error"));
  await world.advance(50);
  assert.equal(client.state.name, "waiting");
  assert.equal(client.state.code, 1006);
});

test("a WebSocket that cannot be made stops it", async () => {
  const client = start({
    WebSocket: class {
      constructor() {
        throw new SyntaxError("not a subprotocol");
      }
    },
  });
  await settle();
  assert.equal(client.state.name, "stopped");
  assert.match(client.state.reason, /not a subprotocol/);
});

// -- tokens

const authenticated = (world, seconds) => ({ type: "authenticated", subject: "ann", expires_at: world.now / 1000 + seconds });

test("the token is the first message, and nothing goes before it is accepted", async () => {
  const client = start({ token: async () => "abc" });
  client.send("hello");
  await settle();
  await world.socket.opens();
  assert.deepEqual(world.socket.take(), [{ type: "authenticate", token: "abc" }]);
  assert.equal(client.isOpen, false);
  await world.socket.says(authenticated(world, 3600));
  assert.deepEqual(world.socket.take(), [{ type: "hello" }]);
  assert.deepEqual(states, ["connecting", "authenticating", "open"]);
});

test("each attempt asks for a token, and 4419 is followed by another", async () => {
  let count = 0;
  const client = start({ token: () => `token ${++count}` });
  await settle();
  await world.socket.opens();
  await world.socket.says(authenticated(world, 3600));
  await world.socket.ends(4419);
  await world.advance(2000);
  await world.socket.opens();
  assert.deepEqual(world.socket.take(), [{ type: "authenticate", token: "token 2" }]);
  assert.equal(client.state.name, "authenticating");
});

test("no token stops it; a source that fails is asked again", async () => {
  const client = start({ token: () => null });
  await settle();
  assert.deepEqual(client.state, { name: "stopped", code: 4401, reason: "there is no token", isOwn: true });
  const answers = [() => { throw new Error("offline"); }, () => "abc"];
  const other = start({ token: async () => answers.shift()() });
  await settle();
  assert.equal(other.state.name, "waiting");
  assert.equal(other.state.reason, "offline");
  await world.advance(500);
  assert.equal(world.sockets.length, 1);
});

test("a server that does not authenticate in time is given up", async () => {
  const client = start({ token: () => "abc" });
  await settle();
  await world.socket.opens();
  await world.advance(10_000);
  assert.equal(client.state.name, "waiting");
});

test("a new token is sent before the old one ends, on the same connection", async () => {
  let count = 0;
  const client = start({ token: () => `token ${++count}` });
  await settle();
  await world.socket.opens();
  await world.socket.says(authenticated(world, 600));
  world.socket.take();
  await world.advance(539_999);
  assert.deepEqual(world.socket.take(), []);
  await world.advance(1);
  assert.deepEqual(world.socket.take(), [{ type: "authenticate", token: "token 2" }]);
  await world.socket.says(authenticated(world, 10));
  await world.advance(5_000);
  assert.deepEqual(world.socket.take(), [{ type: "authenticate", token: "token 3" }]);
  assert.equal(client.isOpen, true);
  assert.equal(world.sockets.length, 1);
});

test("the same token is not sent twice on a connection", async () => {
  start({ token: () => "same" });
  await settle();
  await world.socket.opens();
  await world.socket.says(authenticated(world, 600));
  world.socket.take();
  await world.advance(600_000);
  assert.deepEqual(world.socket.take(), []);
});

// -- signs of life

test("after a silence it asks, and any answer will do", async () => {
  const client = await open({ probe: { type: "ping", quick: true } });
  await world.advance(30_000);
  assert.deepEqual(world.socket.take(), [{ type: "ping", quick: true, request_id: 1 }]);
  await world.socket.says({ type: "error", code: "unknown_type", message: "", request_id: 1 });
  await world.advance(29_999);
  await world.socket.says({ type: "news" });
  await world.advance(29_999);
  assert.deepEqual(world.socket.take(), []);
  await world.advance(1);
  assert.equal(world.socket.take().length, 1);
  assert.equal(client.isOpen, true);
});

test("without an answer the connection is given up", async () => {
  const client = await open({ probe: "ping" });
  await world.advance(44_999);
  assert.equal(client.isOpen, true);
  await world.advance(1);
  assert.equal(client.state.name, "waiting");
  assert.equal(client.state.reason, "the server does not answer");
  assert.deepEqual(world.sockets[0].closedWith, []);
});

test("a socket that takes no bytes is given up by a silence", async () => {
  const client = await open({ probe: "ping" });
  world.socket.bufferedAmount = 10 ** 9;
  await world.advance(30_000);
  assert.equal(client.state.name, "waiting");
});

test("without a probe, silence is fine", async () => {
  const client = await open();
  await world.advance(10 ** 8);
  assert.equal(client.isOpen, true);
  assert.equal(await outcome(Promise.resolve(1)).then((each) => each.value), 1);
});
