// The operator's console: what /console/feed tells (see feed.py), drawn.

import { TimeChart, columnChart, sparkline } from "./console_charts.js";
import { Client } from "./wireroom.js";

const SPAN_MAX_S = 300; // of the charts
const SPARK = 60; // values of a small line

const $ = (id) => document.getElementById(id);

// -- numbers --------------------------------------------------------------------------------

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");

const count = (value) => (value < 10_000 ? whole.format(Math.round(value)) : compact.format(value));
const rate = (value) => (value >= 10 || value === 0 ? count(value) : value.toFixed(1));

function bytes(value) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1000) return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of units) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

function latency(seconds) {
  if (seconds >= 1) return `${+seconds.toPrecision(2)} s`;
  return seconds >= 0.001 ? `${+(seconds * 1e3).toPrecision(2)} ms` : `${+(seconds * 1e6).toPrecision(2)} µs`;
}

/** The words of a field's name. */
const words = (name) => name.replaceAll("_", " ");

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  return element;
}

// -- the connection -------------------------------------------------------------------------

const KEY = "wireroom-console";
let client = null;
let past = []; // what the charts show
let isPaused = false;
let newest = null; // the last snapshot
let intervalS = 1;

const fromLink = new URLSearchParams(location.hash.slice(1)).get("token");
if (fromLink) {
  sessionStorage.setItem(KEY, fromLink);
  history.replaceState(null, "", location.pathname);
}

function start() {
  const token = sessionStorage.getItem(KEY);
  if (token === null) {
    showEntrance();
    return;
  }
  client?.close();
  client = new Client(new URL("console/feed", location.href));
  client.addEventListener("state", ({ detail }) => connectionChanged(detail, token));
  client.on("snapshot", (snapshot) => {
    if (!isPaused) show(snapshot);
  });
  client.connect();
}

async function connectionChanged(state, token) {
  if (state.name === "open") {
    try {
      const welcome = await client.request("authenticate", { token }, { isQueued: false });
      $("entrance").hidden = true;
      $("console").hidden = false;
      $("connection").textContent = "";
      $("version").textContent = welcome.version;
      intervalS = welcome.interval_s;
      past = welcome.history;
      watch();
    } catch {
      // the connection's end says why
    }
  } else if (state.name === "waiting") {
    $("connection").textContent = `No connection (${state.code}); trying again`;
  } else if (state.name === "stopped" && !state.isOwn) {
    if (state.code === 4401) {
      sessionStorage.removeItem(KEY);
      showEntrance("This is not the token.");
    } else {
      $("connection").textContent = `The connection has ended: ${state.code} ${state.reason}`;
    }
  }
}

function showEntrance(problem = "") {
  $("console").hidden = true;
  $("entrance").hidden = false;
  $("entrance-problem").textContent = problem;
  $("enter").querySelector("button").disabled = false;
  $("token").value = "";
  $("token").focus();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  $("entrance-problem").textContent = "";
  $("enter").querySelector("button").disabled = true; // a wrong one is answered after a second
  sessionStorage.setItem(KEY, $("token").value.trim());
  start();
});

$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  client?.close();
  showEntrance();
});

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Go on" : "Pause";
});

function watch() {
  const wanted = { sort: $("sort").value, search: $("search").value.trim() };
  client?.request("watch", wanted, { isQueued: false }).catch(() => {});
}

let searching = null;
$("search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(watch, 200);
});
$("sort").addEventListener("change", watch);

// -- what is shown --------------------------------------------------------------------------

const messagesChart = new TimeChart(
  $("messages-chart"),
  [
    { name: "received", kind: "in", of: ({ rates }) => rates.messages_received },
    { name: "sent", kind: "out", of: ({ rates }) => rates.messages_sent },
  ],
  rate,
);
const bytesChart = new TimeChart(
  $("bytes-chart"),
  [
    { name: "received", kind: "in", of: ({ rates }) => rates.bytes_received },
    { name: "sent", kind: "out", of: ({ rates }) => rates.bytes_sent },
  ],
  bytes,
);

let latencies = []; // of the last minute: {time, counts, sum_s}

function show(snapshot) {
  newest = snapshot;
  past.push({ time: snapshot.time, sessions: snapshot.gauges.sessions, rates: snapshot.rates });
  past = past.filter(({ time }) => time > snapshot.time - SPAN_MAX_S);
  latencies.push({ time: snapshot.time, counts: snapshot.latency.counts, sum_s: snapshot.latency.sum_s });
  latencies = latencies.filter(({ time, counts }) =>
    time > snapshot.time - 60 - intervalS && counts.every((each, index) => each <= snapshot.latency.counts[index]));
  $("node").textContent = `${snapshot.node} · up ${duration(snapshot.uptime_s)}`;
  document.title = `${count(snapshot.gauges.sessions)} sessions · Wireroom console`;
  showChecks(snapshot);
  showTiles(snapshot);
  const spanS = Math.min(SPAN_MAX_S, Math.max(60, 30 * Math.ceil((snapshot.time - past[0].time) / 30)));
  messagesChart.show(past, spanS);
  bytesChart.show(past, spanS);
  showLatency(snapshot);
  showBars($("closes"), snapshot.closes, (each) => [closeName(each), each.count, whole.format(each.count)]);
  $("rooms-total").textContent = whole.format(snapshot.rooms.total);
  showBars($("rooms"), snapshot.rooms.shown, (each) => [
    `${each.name}`, each.sessions, `${whole.format(each.sessions)} in ${each.path}`,
  ]);
  showBars($("handlers"), snapshot.latency.handlers, (each) => [
    each.name,
    each.sum_s,
    `${whole.format(each.count)} × ${latency(each.sum_s / Math.max(1, each.count))}, at most ${latency(each.max_s)}`,
  ]);
  const { queues } = snapshot;
  showNumbers($("queues"), [
    ["outboxes together", queues.outbox_bytes, bytes],
    ["the fullest outbox", queues.outbox_bytes_highest, bytes],
    ["messages in inboxes", queues.inbox_messages, count],
    ["sessions not read from", queues.sessions_paused, count],
    ["handlers that run", snapshot.gauges.invocations, count],
  ], false);
  showNumbers($("drops"), Object.entries(snapshot.drops).map(([name, value]) =>
    [words(name), value, name.startsWith("bytes") ? bytes : count]));
  showNumbers($("failures"), Object.entries(snapshot.failures).map(([name, value]) => [words(name), value, count]));
  showSessions(snapshot.sessions);
}

function showChecks({ checks, is_ready: isReady }) {
  const all = [{ name: isReady ? "ready" : "not ready", isBad: !isReady, reason: null }];
  for (const { name, reason } of checks) all.push({ name, isBad: reason !== null, reason });
  $("checks").replaceChildren(...all.map(({ name, isBad, reason }) =>
    make("li", isBad ? "bad" : "", reason === null ? `${isBad ? "✕" : "✓"} ${name}` : `✕ ${name}: ${reason}`)));
}

function showTiles({ gauges, rates }) {
  const last = past.slice(-SPARK);
  const tiles = [
    ["Sessions", count(gauges.sessions), "", last.map(({ sessions }) => sessions), "in"],
    ["Users", count(gauges.users), "", null, "in"],
    ["Rooms", count(gauges.rooms), "", null, "in"],
    ["Messages in", rate(rates.messages_received), "/s", last.map((each) => each.rates.messages_received), "in"],
    ["Messages out", rate(rates.messages_sent), "/s", last.map((each) => each.rates.messages_sent), "out"],
    ["Opened", rate(rates.sessions_opened), "/s", last.map((each) => each.rates.sessions_opened), "in"],
    ["Ended", rate(rates.sessions_closed), "/s", last.map((each) => each.rates.sessions_closed), "out"],
  ];
  document.querySelector(".tiles").replaceChildren(...tiles.map(([name, value, unit, values, kind]) => {
    const tile = make("div", "tile");
    const number = make("span", "value", value);
    if (unit) number.append(" ", make("small", "", unit));
    tile.append(make("span", "name", name), number);
    if (values !== null) tile.append(sparkline(values, kind));
    return tile;
  }));
}

function showLatency({ latency: { bounds_s: bounds, counts, sum_s: sum, handlers } }) {
  let [shown, shownSum] = [counts, sum];
  if ($("latency-span").value === "minute") {
    const [first] = latencies;
    shown = counts.map((each, index) => each - first.counts[index]);
    shownSum = sum - first.sum_s;
  }
  const total = shown.reduce((all, each) => all + each, 0);
  const quantile = (part) => {
    let below = 0;
    for (const [index, each] of shown.entries()) {
      below += each;
      if (below >= part * total) return index < bounds.length ? `≤ ${latency(bounds[index])}` : `> ${latency(bounds.at(-1))}`;
    }
    return "";
  };
  const longest = Math.max(0, ...handlers.map(({ max_s: max }) => max));
  const facts = total === 0
    ? "No messages."
    : `${count(total)} messages · mean ${latency(shownSum / total)} · half ${quantile(0.5)} · 99 % ${quantile(0.99)}` +
      ` · longest ever ${latency(longest)}`;
  $("latency-facts").textContent = facts;
  const used = shown.reduce((last, each, index) => (each > 0 ? index : last), 0);
  const end = Math.max(8, Math.min(shown.length, used + 2));
  const columns = shown.slice(0, end).map((each, index) => {
    const isLast = index >= bounds.length;
    const label = isLast ? "more" : latency(bounds[index]);
    return {
      label,
      count: each,
      isFar: isLast || bounds[index] > 0.1,
      title: `${isLast ? `more than ${latency(bounds.at(-1))}` : `up to ${label}`}: ${whole.format(each)}`,
    };
  });
  columnChart($("latency-chart"), columns, facts);
}

const CLOSES = {
  1000: "normal closure",
  1001: "going away",
  1002: "protocol error",
  1003: "unsupported data",
  1005: "no code",
  1006: "connection lost",
  1007: "invalid data",
  1008: "policy violation",
  1009: "too big",
  1011: "internal error",
  1012: "service restart",
  1013: "try again later",
  4001: "replaced",
  4401: "unauthenticated",
  4419: "token expired",
};

function closeName({ code, by }) {
  const who = { us: "by us", peer: "by the peer", nobody: "" }[by] ?? by;
  return `${code} ${CLOSES[code] ?? ""}${who ? `, ${who}` : ""}`;
}

/** Rows with a bar as long as their share of the highest; they are made anew only if they change. */
function showBars(root, items, describe) {
  const rows = items.map(describe);
  const most = Math.max(...rows.map(([, value]) => value), 1e-12);
  const key = JSON.stringify(rows);
  if (root.dataset.key === key) return;
  root.dataset.key = key;
  if (rows.length === 0) {
    root.replaceChildren(make("p", "quiet", "None."));
    return;
  }
  root.replaceChildren(...rows.map(([name, value, text]) => {
    const row = make("div", "bar");
    row.style.setProperty("--part", `${(100 * value) / most}%`);
    const what = make("span", "what", name);
    what.title = name;
    row.append(what, make("span", "many", text));
    return row;
  }));
}

function showNumbers(list, numbers, isBad = true) {
  list.replaceChildren(...numbers.flatMap(([name, value, format]) => [
    make("dt", "", name),
    make("dd", value > 0 && isBad ? "some" : "", format(value)),
  ]));
}

// -- sessions -------------------------------------------------------------------------------

const rows = new Map(); // by fd and generation

function showSessions({ total, matching, shown, search }) {
  const parts = [whole.format(total)];
  if (search) parts.push(`${whole.format(matching)} match`);
  if (shown.length < (search ? matching : total)) parts.push(`${shown.length} shown`);
  $("sessions-total").textContent = parts.join(", ");
  $("no-sessions").hidden = shown.length > 0;
  const keys = new Set();
  const body = $("sessions");
  let at = body.firstElementChild;
  for (const session of shown) {
    const key = `${session.fd}.${session.generation}`;
    keys.add(key);
    let row = rows.get(key);
    if (row === undefined) rows.set(key, row = newRow(session));
    fillRow(row, session);
    if (row === at) at = at.nextElementSibling;
    else body.insertBefore(row, at);
  }
  for (const [key, row] of rows) {
    if (keys.has(key)) continue;
    row.remove();
    rows.delete(key);
  }
}

function newRow(session) {
  const row = make("tr");
  for (let index = 0; index < 10; index++) row.append(make("td", index >= 5 ? "number" : ""));
  const button = make("button", "dangerous", "Close");
  button.type = "button";
  button.setAttribute("aria-label", `Close session ${session.fd}${session.user ? ` of ${session.user}` : ""}`);
  button.addEventListener("click", () => askToKick(session));
  const cell = make("td", "number");
  cell.append(button);
  row.append(cell);
  return row;
}

function fillRow(row, session) {
  const more = session.rooms_total - session.rooms.length;
  const perS = (value) => (value === null ? "" : bytes(value));
  const texts = [
    session.fd,
    session.user ?? "–",
    session.path,
    session.address,
    session.rooms.join(", ") + (more > 0 ? ` and ${more} more` : ""),
    duration(session.age_s),
    bytes(session.outbox_bytes),
    `${count(session.inbox_messages)}${session.is_paused ? " paused" : ""}`,
    perS(session.bytes_received_per_s),
    perS(session.bytes_sent_per_s),
  ];
  texts.forEach((text, index) => {
    const cell = row.cells[index];
    if (cell.textContent !== String(text)) cell.textContent = cell.title = text;
  });
  row.cells[6].classList.toggle("some", session.outbox_bytes > 65_536);
  row.cells[7].classList.toggle("some", session.is_paused);
}

let kicking = null;

function askToKick(session) {
  kicking = session;
  $("kick-title").textContent = `Close session ${session.fd}${session.user ? ` of ${session.user}` : ""}?`;
  $("kick-problem").textContent = "";
  $("kick").showModal();
  $("kick-no").focus();
}

$("kick-no").addEventListener("click", () => $("kick").close());
$("kick").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { fd, generation } = kicking;
  try {
    await client.request("kick", { fd, generation, code: Number($("kick-code").value), reason: $("kick-reason").value });
    rows.get(`${fd}.${generation}`)?.classList.add("gone");
    $("kick").close();
  } catch (error) {
    $("kick-problem").textContent = error.message;
  }
});

$("latency-span").addEventListener("change", () => {
  if (newest !== null) showLatency(newest);
});
addEventListener("resize", () => {
  if (newest !== null) showLatency(newest);
});

start();
