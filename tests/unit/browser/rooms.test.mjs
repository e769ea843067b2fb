// Rooms: each message once and in order through lost connections, or a "lost" event.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { QuietClient, World, outcome, settle } from "./world.mjs";

let world;
let client;
let room;
let events;

beforeEach(async () => {
  world = new World();
  client = new QuietClient("ws://example.org/chat", world.options);
  room = client.room("lobby");
  events = [];
  room.on("said", ({ position }) => events.push(position.offset));
  for (const name of ["joined", "lost", "refused"]) {
    room.addEventListener(name, ({ detail }) => {
      if (name === "lost") events.push(`lost: ${detail.reason}`);
      else if (name === "refused") events.push(`refused: ${detail.code}`);
      else events.push(detail.isRejoin ? `rejoined ${detail.recovered}` : "joined");
    });
  }
  client.connect();
  await settle();
  await world.socket.opens();
});

const said = (offset, epoch = "e1", name = "lobby") => ({ type: "said", position: { room: name, offset, epoch } });

/** The server answers the join that was asked for last. */
async function admits({ offset, epoch = "e1", recovered = true, before = [], after = [] }) {
  const request = world.socket.take().filter((each) => each.type === "join_room").at(-1);
  const data = { room: "lobby", recovered, position: { offset, epoch }, topic: "tea" };
  await world.socket.says(...before, { type: "reply", request_id: request.request_id, data }, ...after);
  return request;
}

async function reconnect(code = 1006) {
  await world.socket.ends(code);
  client.retry();
  await settle();
  await world.socket.opens();
}

test("a new joiner says no position, and begins at the newest", async () => {
  const join = room.join({ password: "x" });
  assert.equal(room.state, "joining");
  assert.equal(room.join(), join, "asked for once");
  const request = await admits({ offset: 7, after: [said(8)] });
  assert.deepEqual(request, { type: "join_room", password: "x", room: "lobby", position: null, request_id: 1 });
  assert.equal((await join).topic, "tea");
  assert.equal(room.state, "joined");
  assert.deepEqual(room.position, { offset: 8, epoch: "e1" });
  assert.deepEqual(events, ["joined", 8]);
});

test("live messages that come before the reply wait for it", async () => {
  room.join();
  await admits({ offset: 7, before: [said(7), said(8), said(9)], after: [said(10)] });
  assert.deepEqual(events, ["joined", 8, 9, 10]);
});

test("joined again after a cut, with the last position; missed messages before or after the reply", async () => {
  room.join();
  await admits({ offset: 7, after: [said(8)] });
  await reconnect();
  assert.equal(room.state, "joining");
  const request = await admits({ offset: 12, before: [said(9), said(10)], after: [said(11), said(12), said(13)] });
  assert.deepEqual(request.position, { offset: 8, epoch: "e1" });
  assert.deepEqual(events, ["joined", 8, 9, 10, "rejoined true", 11, 12, 13]);
});

test("a cut in the middle of what was missed loses nothing", async () => {
  room.join();
  await admits({ offset: 0 });
  await reconnect();
  await admits({ offset: 4, after: [said(1), said(2)] });
  await reconnect();
  const request = await admits({ offset: 5, before: [said(3)], after: [said(4), said(5)] });
  assert.deepEqual(request.position, { offset: 2, epoch: "e1" });
  assert.deepEqual(events, ["joined", "rejoined true", 1, 2, 3, "rejoined true", 4, 5]);
});

test("a cut before anything was received recovers too", async () => {
  room.join();
  await admits({ offset: 7 });
  await reconnect();
  const request = await admits({ offset: 9, after: [said(8), said(9)] });
  assert.deepEqual(request.position, { offset: 7, epoch: "e1" });
  assert.deepEqual(events, ["joined", "rejoined true", 8, 9]);
});

test("duplicates are dropped, for the client's listeners too", async () => {
  const all = [];
  client.on("said", ({ position }) => all.push(position.offset));
  room.join();
  await admits({ offset: 0, after: [said(1), said(1), said(2), said(1), said(2), said(3)] });
  assert.deepEqual(events, ["joined", 1, 2, 3]);
  assert.deepEqual(all, [1, 2, 3]);
});

test("what could not be recovered is told, and then it goes on", async () => {
  room.join();
  await admits({ offset: 3 });
  await reconnect();
  await admits({ offset: 90, recovered: false, before: [said(91)], after: [said(92)] });
  assert.deepEqual(events, ["joined", "lost: not_recovered", "rejoined false", 91, 92]);
});

test("another epoch is another history", async () => {
  room.join();
  await admits({ offset: 3 });
  await reconnect();
  await admits({ offset: 0, epoch: "e2", recovered: false, before: [said(1, "e2")], after: [said(2, "e2")] });
  assert.deepEqual(events, ["joined", "lost: not_recovered", "rejoined false", 1, 2]);
  await world.socket.says(said(1, "e3"), said(2, "e3"));
  assert.deepEqual(events.slice(5), ["lost: epoch", 1, 2]);
});

test("a gap is told", async () => {
  room.join();
  await admits({ offset: 0, after: [said(1), said(4), said(5)] });
  assert.deepEqual(events, ["joined", 1, "lost: gap", 4, 5]);
});

test("a room without history: a rejoin may have missed something", async () => {
  room.join();
  const first = world.socket.take()[0];
  await world.socket.says({ type: "reply", request_id: first.request_id, data: { room: "lobby" } });
  await reconnect();
  const again = world.socket.take()[0];
  await world.socket.says({ type: "reply", request_id: again.request_id, data: { room: "lobby" } });
  assert.deepEqual(events, ["joined", "lost: not_recovered", "rejoined true"]);
});

test("an earlier page's position is recovered from", async () => {
  room.position = { offset: 5, epoch: "e1" };
  room.join();
  const request = await admits({ offset: 6, after: [said(6)] });
  assert.deepEqual(request.position, { offset: 5, epoch: "e1" });
  assert.deepEqual(events, ["rejoined true", 6]);
  assert.throws(() => { room.position = null; }, /its position is its own/);
});

test("rooms are joined before what is said in them is sent again", async () => {
  room.join();
  await admits({ offset: 0 });
  client.request("say", { text: "a" }, { resend: true });
  await world.socket.ends();
  client.send("typing");
  await world.advance(500);
  await world.socket.opens();
  assert.deepEqual(world.socket.take().map((each) => each.type), ["join_room", "say", "typing"]);
});

test("a room asked for while there is no connection is joined when there is one", async () => {
  await world.socket.ends();
  const join = room.join();
  await world.advance(500);
  await world.socket.opens();
  await world.socket.ends();
  assert.equal(await outcome(join), "pending");
  await world.advance(1_000);
  await world.socket.opens();
  await admits({ offset: 0 });
  assert.equal((await join).topic, "tea");
});

test("who is refused is told, and does not come again", async () => {
  const join = room.join();
  const [request] = world.socket.take();
  await world.socket.says({ type: "error", code: "banned", message: "no", request_id: request.request_id });
  assert.equal(await outcome(join), "banned");
  assert.equal(room.state, "left");
  await reconnect();
  assert.deepEqual(world.socket.take(), []);
  assert.deepEqual(events, ["refused: banned"]);
});

test("a server that cannot admit for now is asked again, at growing intervals", async () => {
  const join = room.join();
  for (const pause of [500, 1000, 2000]) {
    const [{ request_id }] = world.socket.take();
    await world.socket.says({ type: "error", code: "store_away", message: "", request_id });
    await world.advance(pause - 1);
    assert.deepEqual(world.socket.take(), []);
    await world.advance(1);
  }
  await admits({ offset: 0 });
  assert.equal((await join).topic, "tea");
});

test("a join without a reply is asked again", async () => {
  room.join();
  world.socket.take();
  await world.advance(15_500);
  await admits({ offset: 0 });
  assert.deepEqual(events, ["joined"]);
});

test("a room that was left is left: late messages and replies do not count", async () => {
  const join = room.join();
  const [request] = world.socket.take();
  const left = room.leave();
  assert.equal(await outcome(join), "left");
  assert.deepEqual(world.socket.take(), [{ type: "leave_room", room: "lobby", request_id: 2 }]);
  const data = { room: "lobby", recovered: true, position: { offset: 0, epoch: "e1" } };
  await world.socket.says(
    { type: "reply", request_id: request.request_id, data },
    said(1),
    { type: "reply", request_id: 2, data: null },
  );
  await left;
  assert.equal(room.state, "left");
  await reconnect();
  assert.deepEqual(world.socket.take(), []);
  assert.deepEqual(events, []);
  room.join();
  await admits({ offset: 9 });
  assert.deepEqual(events, ["joined"]);
  room.leave();
  room.join();
  assert.equal((await admits({ offset: 12 })).position, null);
});

test("a join that is to be tried again is asked once by the next connection", async () => {
  room.join();
  const [{ request_id }] = world.socket.take();
  await world.socket.says({ type: "error", code: "store_away", message: "", request_id });
  await reconnect();
  await world.advance(5_000);
  assert.equal(world.socket.take().length, 1);
});

test("too many messages before the reply are a gap", async () => {
  const other = new QuietClient("ws://example.org/chat", { ...world.options, earlyMessagesMax: 2 });
  const lobby = other.room("lobby");
  const heard = [];
  lobby.on("said", ({ position }) => heard.push(position.offset));
  lobby.addEventListener("lost", ({ detail }) => heard.push(detail.reason));
  other.connect();
  await settle();
  await world.socket.opens();
  lobby.join();
  await admits({ offset: 1, before: [said(2), said(3), said(4), said(5)] });
  assert.deepEqual(heard, ["gap", 4, 5]);
});

test("a stop ends a join that waits, and keeps a room that was joined", async () => {
  room.join();
  await admits({ offset: 4 });
  const attic = client.room("attic").join();
  await world.socket.ends();
  client.close();
  assert.equal(await outcome(attic), "closed");
  assert.deepEqual([room.state, client.room("attic").state], ["joining", "left"]);
  const closing = ({ detail }) => detail.name === "open" && client.close();
  client.addEventListener("state", closing);
  client.connect();
  await settle();
  await world.socket.opens();
  client.removeEventListener("state", closing);
  client.connect();
  await settle();
  await world.socket.opens();
  client.close(); // with a join on its way
  client.connect();
  await settle();
  await world.socket.opens();
  assert.deepEqual((await admits({ offset: 4 })).position, { offset: 4, epoch: "e1" });
  assert.deepEqual(events, ["joined", "rejoined true"]);
});

test("rooms do not mix", async () => {
  const attic = client.room("attic");
  const heard = [];
  attic.on("*", ({ type }) => heard.push(type));
  room.join();
  await admits({ offset: 0, after: [said(1, "e1", "attic"), { type: "typing", room: "attic" }, said(1)] });
  assert.deepEqual(events, ["joined", 1]);
  assert.deepEqual(heard, ["typing"], "it is not joined, so it takes no part in its stream");
});

test("closed and connected anew, rooms come back with their positions", async () => {
  room.join();
  await admits({ offset: 4 });
  client.close();
  client.connect();
  await settle();
  await world.socket.opens();
  const request = await admits({ offset: 5, after: [said(5)] });
  assert.deepEqual(request.position, { offset: 4, epoch: "e1" });
  assert.deepEqual(events, ["joined", "rejoined true", 5]);
});

test("however connections are cut, each message comes once and in order", async () => {
  // A small server: its sessions die at random places in what they are sent.
  let seed = 7;
  const random = (n) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n;
  let newest = 0;
  const queue = []; // what the session is still to be sent
  const admit = () => {
    const request = world.socket.take().find((each) => each.type === "join_room");
    const position = { offset: newest, epoch: "e1" };
    queue.length = 0;
    for (let offset = request.position.offset + 1; offset <= newest; offset++) queue.push(said(offset));
    const data = { room: "lobby", recovered: true, position };
    queue.splice(random(queue.length + 1), 0, { type: "reply", request_id: request.request_id, data });
  };
  room.join();
  await admits({ offset: 0 });
  for (let round = 0; round < 300; round++) {
    for (let n = random(5); n > 0; n--) queue.push(said(++newest));
    await world.socket.says(...queue.splice(0, random(queue.length + 1)));
    if (random(3) > 0) continue;
    await reconnect(1012);
    admit();
  }
  await world.socket.says(...queue);
  const offsets = events.filter((each) => typeof each === "number");
  assert.ok(newest > 400);
  assert.deepEqual(offsets, Array.from({ length: newest }, (_, n) => n + 1));
  assert.ok(events.filter((each) => each === "rejoined true").length > 30);
  assert.deepEqual(events.filter((each) => String(each).startsWith("lost")), []);
});
