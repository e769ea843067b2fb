// The chat page: one WebSocket a room, reconnecting with growing pauses.

const element = (id) => document.getElementById(id);
const log = element("log");
const query = new URLSearchParams(location.search);
element("room").value = query.get("room") ?? "lobby";
element("name").value = query.get("name") ?? `guest ${Math.floor(Math.random() * 1000)}`;

let socket;
let pause = 500; // ms before the next attempt; doubles up to 15 s
let retry;

function show(kind, text, name) {
  const line = document.createElement("p");
  line.className = kind;
  if (name !== undefined) {
    const who = document.createElement("span");
    who.className = "name";
    who.textContent = name;
    line.append(who);
  }
  line.append(text);
  log.append(line);
  log.scrollTop = log.scrollHeight;
}

function connect() {
  clearTimeout(retry);
  const room = element("room").value.trim();
  const url = new URL(`chat/${encodeURIComponent(room)}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  const attempt = new WebSocket(url);
  socket = attempt;
  attempt.onopen = () => {
    pause = 500;
    element("status").textContent = `in room ${room}`;
  };
  attempt.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "chat_message") {
      show(message.name === element("name").value ? "mine" : "theirs", message.text, message.name);
    } else if (message.type === "system_notification") {
      element("status").textContent = `in room ${room}, ${message.members} here`;
      show("notice", message.text);
    } else if (message.type === "error") {
      show("error", message.field ? `${message.field}: ${message.message}` : message.message);
    }
  };
  attempt.onclose = (event) => {
    if (socket !== attempt) return; // we went to another room
    element("status").textContent =
      `connection lost (${event.code}), trying again in ${Math.round(pause / 1000) || 1} s …`;
    retry = setTimeout(connect, pause);
    pause = Math.min(pause * 2, 15000);
  };
}

element("place").addEventListener("submit", (event) => {
  event.preventDefault();
  const before = socket;
  log.replaceChildren();
  connect();
  before?.close();
  element("text").focus();
});

element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState !== WebSocket.OPEN) return;
  const name = element("name").value.trim();
  socket.send(JSON.stringify({ type: "chat_message", name, text: element("text").value }));
  element("text").value = "";
});

connect();
