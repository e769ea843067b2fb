// Messages, requests, replies, and the queue that outlives a connection.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { RequestError } from "../../../transports/wireroom/browser/wireroom.js";
import { QuietClient, World, outcome, settle } from "./world.mjs";

let world;

beforeEach(() => {
  world = new World();
});

async function open(options = {}) {
  const client = new QuietClient("ws://example.org/chat", { ...world.options, ...options });
  client.connect();
  await settle();
  await world.socket.opens();
  return client;
}

async function reconnect() {
  await world.socket.ends(1012);
  await world.advance(2_000);
  await world.socket.opens();
}

test("a request has an id, and its reply's data is the result", async () => {
  const client = await open();
  const sum = client.request("sum", { a: 1, b: 2 });
  const other = client.request("nothing");
  assert.deepEqual(world.socket.take(), [
    { type: "sum", a: 1, b: 2, request_id: 1 },
    { type: "nothing", request_id: 2 },
  ]);
  await world.socket.says({ type: "reply", request_id: 2, data: null }, { type: "reply", request_id: 1, data: 3 });
  assert.deepEqual(await outcome(sum), { value: 3 });
  assert.deepEqual(await outcome(other), { value: null });
  assert.deepEqual(client.pending, { waiting: 0, unanswered: 0 });
  assert.equal(world.timers, 0);
});

test("an error reply rejects with what it says", async () => {
  const client = await open();
  const sum = client.request("sum", { a: "x" });
  await world.socket.says({ type: "error", code: "invalid_data", message: "Expected `int`", field: "a", request_id: 1 });
  const error = await sum.catch((each) => each);
  assert.ok(error instanceof RequestError);
  assert.deepEqual(
    [error.code, error.message, error.field, error.requestType],
    ["invalid_data", "Expected `int`", "a", "sum"],
  );
});

test("without a reply it fails in time, and a late reply is nobody's", async () => {
  const client = await open();
  const short = client.request("a", {}, { timeoutMs: 10 });
  const long = client.request("b");
  const endless = client.request("c", {}, { timeoutMs: Infinity });
  await world.advance(10);
  assert.equal(await outcome(short), "timeout");
  await world.socket.says({ type: "reply", request_id: 1, data: 1 });
  await world.advance(14_990);
  assert.equal(await outcome(long), "timeout");
  await world.advance(10 ** 9);
  assert.equal(await outcome(endless), "pending");
  assert.equal(client.pending.unanswered, 1);
});

test("a signal ends it with its reason", async () => {
  const client = await open();
  const controller = new AbortController();
  const sum = client.request("sum", {}, { signal: controller.signal });
  controller.abort("enough");
  assert.equal(await outcome(sum), "enough");
  assert.equal(world.timers, 0);
  assert.equal(await outcome(client.request("sum", {}, { signal: controller.signal })), "enough");
  assert.equal(world.socket.take().length, 1);
});

test("what waits is sent in order once there is a connection", async () => {
  const client = new QuietClient("ws://example.org/chat", world.options);
  client.send("first", { n: 1 });
  const second = client.request("second");
  client.connect();
  await settle();
  client.send("third");
  await world.socket.opens();
  assert.deepEqual(world.socket.take().map((each) => each.type), ["first", "second", "third"]);
  await world.socket.says({ type: "reply", request_id: 1, data: 2 });
  assert.deepEqual(await outcome(second), { value: 2 });
});

test("a lost connection: what may be sent again is, before what waited, the rest fails", async () => {
  const client = await open();
  const safe = client.request("a", {}, { resend: true });
  const unsafe = client.request("b");
  const alsoSafe = client.request("c", {}, { resend: true });
  await world.socket.ends();
  assert.equal(await outcome(unsafe), "connection_lost");
  const fresh = client.request("d");
  await world.advance(500);
  await world.socket.opens();
  assert.deepEqual(world.socket.take().map((each) => [each.type, each.request_id]), [["a", 1], ["c", 3], ["d", 4]]);
  await world.socket.says(...[1, 3, 4].map((id) => ({ type: "reply", request_id: id, data: id })));
  assert.deepEqual(await Promise.all([safe, alsoSafe, fresh]), [1, 3, 4]);
});

test("what is sent again comes before what waited for the socket", async () => {
  const client = await open();
  client.request("a", {}, { resend: true });
  world.socket.bufferedAmount = 2 ** 21;
  client.send("b");
  await world.socket.ends();
  await world.advance(500);
  await world.socket.opens();
  assert.deepEqual(world.socket.take().map((each) => each.type), ["a", "b"]);
});

test("what is sent again still fails in time", async () => {
  const client = await open();
  const safe = client.request("a", {}, { resend: true, timeoutMs: 3_000 });
  await reconnect();
  assert.equal(world.socket.take().length, 1);
  await world.advance(1_000);
  assert.equal(await outcome(safe), "timeout");
  await reconnect();
  assert.deepEqual(world.socket.take(), []);
});

test("what is not to be queued fails, or is told to have been dropped", async () => {
  const client = new QuietClient("ws://example.org/chat", world.options);
  assert.equal(client.send("typing", {}, { isQueued: false }), false);
  assert.equal(await outcome(client.request("now", {}, { isQueued: false })), "not_connected");
  assert.deepEqual(client.pending, { waiting: 0, unanswered: 0 });
});

test("the queue is bounded in messages, and is usable again after", async () => {
  const client = await open({ queueMessagesMax: 3 });
  const answered = client.request("a", {}, { resend: true });
  await world.socket.ends();
  assert.equal(client.send("b"), true);
  assert.equal(client.send("c"), true);
  assert.equal(client.send("d"), false);
  assert.equal(await outcome(client.request("e")), "queue_full");
  await world.advance(500);
  await world.socket.opens();
  assert.deepEqual(world.socket.take().map((each) => each.type), ["a", "b", "c"]);
  await world.socket.says({ type: "reply", request_id: 1, data: 0 });
  assert.deepEqual(await outcome(answered), { value: 0 });
  for (let n = 0; n < 10; n++) assert.equal(client.send("f"), true);
});

test("the queue is bounded in characters", async () => {
  const client = await open({ queueCharactersMax: 100 });
  await world.socket.ends();
  assert.equal(client.send("a", { text: "x".repeat(50) }), true);
  assert.equal(client.send("b", { text: "x".repeat(50) }), false);
  await world.advance(500);
  await world.socket.opens();
  assert.equal(client.send("b", { text: "x".repeat(50) }), true);
  const requests = [1, 2].map(() => client.request("c", { text: "x".repeat(40) }));
  assert.equal(await outcome(requests[1]), "queue_full");
  await world.advance(15_000);
  assert.equal(await outcome(requests[0]), "timeout");
  assert.equal(await outcome(client.request("c", { text: "x".repeat(40) })), "pending");
});

test("messages wait while the socket has too much to send", async () => {
  const client = await open();
  world.socket.bufferedAmount = 2 ** 21;
  client.send("a");
  await world.advance(500);
  client.send("b");
  assert.deepEqual(world.socket.take(), []);
  world.socket.bufferedAmount = 0;
  client.send("c");
  await world.advance(50);
  assert.deepEqual(world.socket.take().map((each) => each.type), ["a", "b", "c"]);
});

test("a stop fails all that waits, and all that comes", async () => {
  const client = await open();
  const sent = client.request("a", {}, { resend: true });
  await world.socket.ends();
  const waiting = client.request("b");
  client.close();
  assert.deepEqual([await outcome(sent), await outcome(waiting)], ["closed", "closed"]);
  assert.equal(await outcome(client.request("c")), "closed");
  assert.equal(client.send("d"), false);
  assert.deepEqual(client.pending, { waiting: 0, unanswered: 0 });
});

test("listeners get their type, in order, until they are taken off; one that throws harms none", async () => {
  const client = await open();
  const heard = [];
  const reported = [];
  const before = globalThis.reportError;
  globalThis.reportError = (error) => reported.push(error.message);
  const off = client.on("news", () => {
    heard.push("first");
    throw new Error("oh");
  });
  client.on("news", ({ n }) => heard.push(n));
  client.on("*", ({ type }) => heard.push(type));
  await world.socket.says({ type: "news", n: 1 }, { type: "error", code: "rate_limited", message: "slowly" });
  off();
  await world.socket.says({ type: "news", n: 2 });
  globalThis.reportError = before;
  assert.deepEqual(heard, ["first", 1, "news", "error", 2, "news"]);
  assert.deepEqual(reported, ["oh"]);
});

test("what is no JSON object is told of, and harms nothing", async () => {
  const client = await open();
  const unreadable = [];
  client.addEventListener("unreadable", ({ detail }) => unreadable.push(detail));
  const binary = new ArrayBuffer(1);
  await world.socket.says("{", "[]", "null", "1", binary, { type: 5 }, {}, { type: "x", position: null });
  await world.socket.says({ type: "y", position: { room: {}, offset: "z" } });
  assert.deepEqual(unreadable, ["{", "[]", "null", "1", binary]);
  assert.equal(client.isOpen, true);
});

test("the server's requests are answered", async () => {
  const client = await open();
  client.answer("version", async () => ({ version: 7 }));
  client.answer("fail", () => {
    throw Object.assign(new Error("cannot"), { code: "not_now" });
  });
  client.answer("void", () => {});
  await world.socket.says(
    { type: "version", request_id: "a" },
    { type: "fail", request_id: 0 },
    { type: "void", request_id: "c" },
  );
  assert.deepEqual(world.socket.take().sort((a, b) => String(a.request_id).localeCompare(b.request_id)), [
    { type: "error", code: "not_now", message: "cannot", request_id: 0 },
    { type: "reply", request_id: "a", data: { version: 7 } },
    { type: "reply", request_id: "c", data: null },
  ]);
});

test("an answer to an earlier connection is not given to the next", async () => {
  const client = await open();
  let answer;
  client.answer("slow", () => new Promise((resolve) => (answer = resolve)));
  await world.socket.says({ type: "slow", request_id: 1 });
  await reconnect();
  answer("too late");
  await settle();
  assert.deepEqual(world.socket.take(), []);
});

test("other keys, and data under one of its own, as an app's parser may have it", async () => {
  const client = await open({ typeKey: "cmd", dataKey: "payload", requestKey: "id" });
  const sum = client.request("sum", { a: 1 });
  assert.deepEqual(world.socket.take(), [{ cmd: "sum", payload: { a: 1 }, id: 1 }]);
  await world.socket.says({ cmd: "reply", id: 1, payload: 3 });
  assert.deepEqual(await outcome(sum), { value: 3 });
  const bad = client.request("sum");
  await world.socket.says({ cmd: "error", code: "no", message: "no", id: 2 });
  assert.equal(await outcome(bad), "no");
});
