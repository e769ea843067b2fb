// The operator's console; what the feed says is told in feed.py.
const element = (id) => document.getElementById(id);
let socket = null;
let requests = 0;

function open(token) {
  socket?.close();
  const url = new URL("console/feed", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  socket = new WebSocket(url);
  socket.onopen = () => say({ type: "authenticate", token });
  socket.onmessage = (event) => show(JSON.parse(event.data));
  socket.onclose = (event) => {
    element("state").textContent = `closed: ${event.code} ${event.reason}`;
    element("login").hidden = false;
  };
}

function say(request) {
  requests += 1;
  socket.send(JSON.stringify({ ...request, request_id: requests }));
}

function show(message) {
  if (message.type === "error") {
    element("state").textContent = message.message;
  } else if (message.type === "snapshot") {
    element("login").hidden = true;
    element("state").textContent = `${message.node}${message.is_ready ? "" : ", not ready"}`;
    const numbers = { ...message.gauges, ...message.queues };
    element("numbers").replaceChildren(
      ...Object.entries(numbers).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]),
    );
    element("sessions").hidden = false;
    element("sessions").tBodies[0].replaceChildren(...message.sessions.shown.map(row));
  }
}

function row(session) {
  const kick = cell("button", "Close");
  kick.onclick = () => say({ type: "kick", fd: session.fd, generation: session.generation });
  const last = cell("td", "");
  last.append(kick);
  const { fd, path, user, address, outbox_bytes } = session;
  const made = document.createElement("tr");
  made.append(...[fd, path, user ?? "", address, outbox_bytes].map((each) => cell("td", each)), last);
  return made;
}

function cell(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

element("login").onsubmit = (event) => {
  event.preventDefault();
  open(element("token").value);
};
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) open(given);
