// Packets a second of a backend that echoes: this library's, and one written by hand over `net`. Both have the same edge in front, so the
// edge is left out: a program speaks the link's bytes to each.
import * as net from "node:net";
import { performance } from "node:perf_hooks";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const PACKET_BYTES = 32;
const SECONDS = Number(process.env.SECONDS ?? 3);
const CLIENTS = 100;
/** Packets under way. */
const WINDOW = 4_000;

if (!isMainThread) await load(workerData);
else {
  const results = {};
  for (const [name, serve] of Object.entries({ library, hand })) {
    const server = await serve();
    results[name] = await new Promise((done) => new Worker(new URL(import.meta.url), { workerData: server.port }).once("message", done));
    await server.stop();
  }
  for (const [name, rate] of Object.entries(results)) console.log(`${name}: ${Math.round(rate).toLocaleString("en")} packets/s`);
  console.log(`ratio: ${(results.library / results.hand).toFixed(2)}`);
  process.exit(0);
}

async function library() {
  const { listen } = await import("../dist/index.js");
  const backend = await listen("127.0.0.1:0");
  void (async () => {
    for await (const event of backend) if (event.type === "packet") void backend.send(event.id, event.data);
  })();
  return { port: backend.address.port, stop: () => backend.close() };
}

/** As one writes it: a buffer, slices, and a Map of clients. */
async function hand() {
  const clients = new Map();
  const server = net.createServer((socket) => {
    socket.setNoDelay(true);
    let held = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      held = held.length > 0 ? Buffer.concat([held, chunk]) : chunk;
      let at = 0;
      while (held.length - at >= 4) {
        const length = held.readUInt32LE(at);
        if (held.length - at < 4 + length) break;
        const body = held.subarray(at + 4, at + 4 + length);
        at += 4 + length;
        const id = body.readBigUInt64LE(0);
        if (body[8] !== 0) continue;
        clients.set(id, (clients.get(id) ?? 0) + 1);
        const answer = Buffer.alloc(4 + length);
        answer.writeUInt32LE(length, 0);
        answer.writeBigUInt64LE(id, 4);
        body.copy(answer, 13, 9);
        socket.write(answer);
      }
      held = held.subarray(at);
    });
    socket.on("error", () => undefined);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { port: server.address().port, stop: () => server.close() };
}

async function load(port) {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  await new Promise((done) => socket.once("connect", done));
  const frames = Array.from({ length: CLIENTS }, (_, client) => {
    const frame = Buffer.alloc(13 + PACKET_BYTES, client);
    frame.writeUInt32LE(9 + PACKET_BYTES, 0);
    frame.writeBigUInt64LE(BigInt(client + 1), 4);
    frame[12] = 0;
    return frame;
  });
  const frameBytes = 13 + PACKET_BYTES;
  let came = 0;
  let sent = 0;
  const more = () => {
    const count = WINDOW - (sent - Math.floor(came / frameBytes));
    if (count < WINDOW / 8) return;
    socket.write(Buffer.concat(Array.from({ length: count }, (_, at) => frames[(sent + at) % CLIENTS])));
    sent += count;
  };
  socket.on("data", (chunk) => {
    came += chunk.length;
    more();
  });
  more();
  await new Promise((wake) => setTimeout(wake, 1_000));
  const [bytes, at] = [came, performance.now()];
  await new Promise((wake) => setTimeout(wake, 1_000 * SECONDS));
  parentPort.postMessage((came - bytes) / frameBytes / ((performance.now() - at) / 1_000));
}
