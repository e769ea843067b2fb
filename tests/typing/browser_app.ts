// What tsc --strict must infer or reject for users of wireroom.js; see test_browser_types.py.
import { Client, RequestError, type Position } from "../../transports/wireroom/browser/wireroom.js";

interface Said {
  room: string;
  offset: number;
  text: string;
}

interface Chat {
  requests: {
    join_room: { data: { room: string }; reply: { room: string; recovered: boolean; last_offset: number } };
    chat_message: { data: { room: string; text: string; client_id?: string }; reply: Said };
  };
  messages: { chat_message: Said; typing: { room: string; name: string } };
  sends: { typing: { room: string; is_typing: boolean } };
}

const client = new Client<Chat>("/chat", { token: async () => "token", maxDelayMs: 5_000, probe: "list_rooms" });
const off: () => void = client.on("chat_message", (message) => {
  const text: string = message.text;
  const type: "chat_message" = message.type;
  const position: (Position & { room: string }) | undefined = message.position;
  return [text, type, position];
});
off();

export async function use(): Promise<number> {
  const room = client.room("lobby");
  const reply = await room.join();
  const joined: number = reply.last_offset;
  room.addEventListener("lost", (event) => event.detail.reason === "gap");
  room.addEventListener("joined", (event) => event.detail.reply.last_offset + joined);
  client.addEventListener("state", (event) => {
    if (event.detail.name === "waiting") return event.detail.retryAt;
    return event.detail.name === "stopped" ? event.detail.code : 0;
  });
  try {
    const said = await client.request("chat_message", { room: "lobby", text: "hello" }, { resend: true });
    return said.offset;
  } catch (error) {
    return error instanceof RequestError && error.code === "timeout" ? 0 : 1;
  }
}

const isSent: boolean = client.send("typing", { room: "lobby", is_typing: true }, { isQueued: false });

// @ts-expect-error there is no such message
client.on("chat_mesage", () => {});
// @ts-expect-error a typing message has no text
client.on("typing", (message) => message.text);
// @ts-expect-error text is missing
void client.request("chat_message", { room: "lobby" });
// @ts-expect-error it is a request
client.send("chat_message", { room: "lobby", text: "" });
// @ts-expect-error there is no such option
new Client("/chat", { maxDelay: 5 });
// @ts-expect-error a state that is open has no code
if (client.state.name === "open") void client.state.code;

const anything = new Client("/any");
anything.on("whatever", (message) => message.deep.field);
void anything.request("whatever", { a: 1 }).then((reply) => reply.b.c);
export const used = [isSent];
