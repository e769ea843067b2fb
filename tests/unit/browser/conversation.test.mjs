// The chat page's conversations: each message once, and what is missing shows.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { beforeEach, test } from "node:test";

// By its text: the example's folder says nowhere that its scripts are modules.
const file = new URL("../../../docs/examples/chat/page_conversation.js", import.meta.url);
const source = (await readFile(file)).toString("base64");
const { Conversation } = await import(`data:text/javascript;base64,${source}`);

let conversation;

beforeEach(() => {
  conversation = new Conversation({ key: "lobby", title: "lobby" });
  conversation.isMember = true;
});

const message = (offset, fields = {}) => ({ offset, client_id: `c${offset}`, text: `t${offset}`, ...fields });
const page = (from, to) => Array.from({ length: from - to + 1 }, (_, n) => message(from - n));
const offsets = () => conversation.sorted().map((each) => each.offset);

test("a page, an older one, and live messages after it", () => {
  conversation.addPage(page(20, 11), true);
  assert.deepEqual([conversation.oldest, conversation.upTo, conversation.hasAll], [11, 20, false]);
  assert.equal(conversation.put(message(21)), "new");
  conversation.addPage(page(10, 1), false);
  assert.equal(conversation.hasAll, true);
  assert.deepEqual(offsets(), Array.from({ length: 21 }, (_, n) => n + 1));
  assert.equal(conversation.isMissingSome, false);
});

test("a message that comes twice is one, and an older state of it is none", () => {
  conversation.addPage(page(2, 1), false);
  assert.equal(conversation.put(message(3)), "new");
  assert.equal(conversation.put(message(3)), "changed");
  assert.equal(conversation.put(message(3, { text: "x", edited_at: 5 })), "changed");
  assert.equal(conversation.put(message(3)), "ignored");
  assert.equal(conversation.put(message(3, { text: "", deleted_at: 6, edited_at: 5 })), "changed");
  assert.equal(conversation.put(message(3, { text: "y", edited_at: 7 })), "ignored");
  assert.deepEqual(offsets(), [1, 2, 3]);
});

test("a gap shows, and ends when it is filled, in whichever order", () => {
  conversation.addPage(page(5, 1), false);
  conversation.put(message(8));
  assert.deepEqual([conversation.upTo, conversation.isMissingSome], [5, true]);
  conversation.put(message(6));
  assert.equal(conversation.upTo, 6);
  conversation.addPage([message(8), message(7)], true);
  assert.deepEqual([conversation.upTo, conversation.isMissingSome], [8, false]);
  assert.deepEqual(offsets(), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("a page that does not connect replaces what is here", () => {
  conversation.addPage(page(5, 1), false);
  assert.equal(conversation.addPage(page(50, 41), true), false);
  assert.deepEqual([conversation.oldest, conversation.upTo, conversation.hasAll], [41, 50, false]);
});

test("an empty room is loaded, and its first message is no gap", () => {
  conversation.addPage([], false);
  assert.deepEqual([conversation.isLoaded, conversation.hasAll], [true, true]);
  assert.equal(conversation.put(message(1)), "new");
  assert.deepEqual([conversation.upTo, conversation.isMissingSome], [1, false]);
});

test("what is not loaded is counted, and not kept", () => {
  assert.equal(conversation.put(message(7)), "new");
  assert.deepEqual([conversation.unread, offsets()], [7, []]);
  assert.equal(conversation.put(message(6)), "ignored");
  conversation.addPage(page(7, 3), true);
  assert.equal(conversation.put(message(2, { edited_at: 1 })), "ignored");
  conversation.readOffset = 5;
  assert.equal(conversation.unread, 2);
});

test("own messages wait until they are stored, whoever says so first", () => {
  conversation.addPage([], false);
  conversation.pending.set("c1", {});
  conversation.put(message(1));
  assert.equal(conversation.pending.size, 0);
});
