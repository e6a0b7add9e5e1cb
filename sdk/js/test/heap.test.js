// 10,000 reconnects leave nothing behind.
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { test } from "node:test";
import { connect, listen } from "../dist/index.js";
import { Edge, within } from "./rig.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const RECONNECTS = 10_000;
const WARM_UP = 1_000;
const MAX_GROWTH_BYTES = 1_000_000;

async function heap() {
  // What the last connection left to the loop goes first.
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((wake) => setTimeout(wake, 20));
    collect();
  }
  return process.memoryUsage().heapUsed;
}

test(`${RECONNECTS} reconnects, with a packet each way on every connection`, async (context) => {
  const backend = await listen("127.0.0.1:0");
  const edge = await Edge.start(`127.0.0.1:${backend.address.port}`);
  const client = await connect(edge.address);
  context.after(async () => {
    await client.suspend();
    await edge.stop();
    await backend.close();
  });
  backend.on("packet", ({ id, data }) => void backend.send(id, data));
  backend.on("resumed", () => undefined);
  let resumed = 0;
  let before = 0;
  const growth = (async () => {
    await client.send("0");
    for await (const event of client) {
      if (event.type === "dropped") client.hurry();
      else if (event.type === "resumed") {
        resumed += 1;
        if (resumed === WARM_UP) before = await heap();
        if (resumed === RECONNECTS) return (await heap()) - before;
        await client.send(`${resumed}`);
      } else if (event.type === "packet") client.dropConnection();
    }
  })();
  const grown = await within(growth, `it has resumed ${resumed} times`, 300_000);
  context.diagnostic(`the heap grew by ${grown} bytes in ${RECONNECTS - WARM_UP} reconnects`);
  assert.ok(grown <= MAX_GROWTH_BYTES, `the heap grew by ${grown} bytes`);
});
