// The scenarios, in Node with its own WebSocket.

import { test } from "node:test";

import { Client } from "../../../transports/wireroom/browser/wireroom.js";
import { scenarios } from "./scenarios.mjs";

for (const [name, run] of Object.entries(scenarios(Client, process.env.WIREROOM_URL))) {
  test(name, { timeout: 60_000 }, run);
}
