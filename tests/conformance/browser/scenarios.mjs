// What wireroom.js does with a real server (browser_app.py): the same in Node and in Chromium.

/** Resolves with what `listen` is given once `matches`. */
function until(target, name, matches = () => true) {
  return new Promise((resolve) => {
    target.addEventListener(name, function listener({ detail }) {
      if (!matches(detail)) return;
      target.removeEventListener(name, listener);
      resolve(detail);
    });
  });
}

const isOpen = (state) => state.name === "open";
const isStopped = (state) => state.name === "stopped";
const QUICK = { initialDelayMs: 20, minDelayMs: 1, soonMs: 20 };

function equal(actual, expected, what = "") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} expected ${b}, got ${a}`);
}

async function codeOf(promise) {
  try {
    await promise;
    return "it succeeded";
  } catch (error) {
    return error.code ?? String(error);
  }
}

/** A room's texts as they come, and a promise for when there are `count`. */
function collect(room) {
  const texts = [];
  let wanted = Infinity;
  let done = () => {};
  room.on("said", ({ text }) => {
    texts.push(text);
    if (texts.length >= wanted) done();
  });
  const have = (count) => new Promise((resolve) => {
    [wanted, done] = [count, resolve];
    if (texts.length >= count) resolve();
  });
  return { texts, have };
}

export function scenarios(Client, base) {
  const clients = [];
  const open = async (path, options = {}) => {
    const client = new Client(new URL(path, base), { ...QUICK, ...options });
    clients.push(client);
    const opened = until(client, "state", isOpen);
    client.connect();
    await opened;
    return client;
  };
  const all = {
    async "requests, replies and errors"() {
      const client = await open("talk");
      equal(await client.request("add", { a: 2, b: 3 }), 5);
      equal(await Promise.all([1, 2, 3].map((a) => client.request("add", { a, b: 1 }))), [2, 3, 4]);
      const error = await client.request("add", { a: "x", b: 1 }).catch((each) => each);
      equal([error.code, error.field], ["invalid_data", "a"]);
      equal(await codeOf(client.request("nothing")), "unknown_type");
      equal(await codeOf(client.request("silence", {}, { timeoutMs: 50 })), "timeout");
    },

    async "the server asks, and is answered"() {
      const client = await open("talk");
      client.answer("your_name", ({ formal }) => (formal ? "Ms Ann" : "Ann"));
      equal(await client.request("ask_me", { formal: true }), "Ms Ann");
    },

    async "closed with 1012, it comes again; with 4001, it does not"() {
      const client = await open("talk");
      const again = until(client, "state", isOpen);
      client.send("end", { code: 1012 });
      equal((await again).isFirst, false);
      equal(await client.request("add", { a: 1, b: 1 }), 2);
      const stopped = until(client, "state", isStopped);
      client.send("end", { code: 4001 });
      equal((await stopped).code, 4001);
    },

    async "a token goes first, and a wrong one stops it"() {
      const { token } = await (await open("talk")).request("token", { seconds: 60 });
      const client = await open("gated", { token: async () => token });
      equal(await client.request("who"), "ann");
      const other = new Client(new URL("gated", base), { ...QUICK, token: () => "wrong" });
      clients.push(other);
      const stopped = until(other, "state", isStopped);
      other.connect();
      equal((await stopped).code, 4401);
    },

    async "a token that ends is replaced, and nothing is lost"() {
      const talk = await open("talk");
      let count = 0;
      const source = async () => {
        count++;
        return (await talk.request("token", { seconds: 60 })).token;
      };
      // By its clock, which is fast, a token ends in 3 s.
      const now = () => Date.now() + 57_000;
      const client = await open("gated", { token: source, refreshBeforeMs: 2_000, now });
      const states = [];
      client.addEventListener("state", ({ detail }) => states.push(detail.name));
      const counted = await new Promise((done) => client.on("authenticated", () => done(count)));
      equal(await client.request("who"), "ann");
      equal([counted, states], [2, []]);
    },

    async "a cut: what others said meanwhile comes once and in order"() {
      const [ann, bob] = [await open("talk"), await open("talk")];
      const name = `room ${Math.random()}`;
      const room = bob.room(name);
      const heard = collect(room);
      await room.join();
      await ann.room(name).join();
      await ann.request("say", { room: name, text: "1" });
      for (let round = 0; round < 5; round++) {
        const rejoined = until(room, "joined");
        bob.send("end", { code: 1012 });
        await until(bob, "state", (state) => state.name === "waiting");
        for (const n of [2, 3, 4]) await ann.request("say", { room: name, text: String(3 * round + n) });
        equal((await rejoined).recovered, true);
      }
      await ann.request("say", { room: name, text: "17" });
      await heard.have(17);
      equal(heard.texts, Array.from({ length: 17 }, (_, n) => String(n + 1)));
    },

    async "a cut that the history does not reach over is told"() {
      const ann = await open("talk");
      const bob = await open("talk", { soonMs: 2_000, random: () => 1 }); // away for so long
      const name = `room ${Math.random()}`;
      const room = bob.room(name);
      const heard = collect(room);
      await room.join();
      await ann.room(name).join();
      const lost = until(room, "lost");
      bob.send("end", { code: 1012 });
      await until(bob, "state", (state) => state.name === "waiting");
      await Promise.all(Array.from({ length: 20 }, (_, n) => ann.request("say", { room: name, text: String(n) })));
      equal((await lost).reason, "not_recovered");
      await ann.request("say", { room: name, text: "after" });
      await heard.have(1);
      equal(heard.texts, ["after"]);
    },

    async "what was not answered is sent again, and done once"() {
      const client = await open("talk");
      const id = String(Math.random());
      const counts = [
        client.request("count_then_end", { id }, { resend: true }),
        client.request("add", { a: 1, b: 1 }, { resend: true }),
      ];
      equal(await Promise.all(counts), [1, 2]);
      equal(await codeOf(client.request("count_then_end", { id: `${id} again` })), "connection_lost");
    },

    async "what is said while there is no connection is said later, in order"() {
      const client = await open("talk");
      const name = `room ${Math.random()}`;
      const room = client.room(name);
      const heard = collect(room);
      await room.join();
      client.send("end", { code: 1012 });
      await until(client, "state", (state) => state.name === "waiting");
      for (let n = 0; n < 10; n++) client.send("say", { room: name, text: String(n) });
      await heard.have(10);
      equal(heard.texts, Array.from({ length: 10 }, (_, n) => String(n)));
    },

    async "a server that is away is waited for"() {
      const client = new Client("ws://127.0.0.1:1/nothing", { ...QUICK, attemptsMax: 4 });
      clients.push(client);
      const stopped = until(client, "state", isStopped);
      client.connect();
      equal((await stopped).code, 1006);
    },
  };
  const ended = (run) => async () => {
    try {
      await run();
    } finally {
      for (const client of clients.splice(0)) client.close();
    }
  };
  return Object.fromEntries(Object.entries(all).map(([name, run]) => [name, ended(run)]));
}
