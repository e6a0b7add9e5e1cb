// The libraries against the real edge: over every transport, in both versions.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, rmSync, statSync } from "node:fs";
import * as net from "node:net";
import * as path from "node:path";
import { test } from "node:test";
import { connect, everyone, listen } from "../dist/index.js";
import { Edge, Relay, bytesOf, certificates, readUntil, scratch, within } from "./rig.js";

const TLS = { ca: readFileSync(path.join(certificates, "authority.pem")), servername: "edge.example.com" };
const pem = (kind) =>
  `listener.certificate_file = ${JSON.stringify(path.join(certificates, "edge.pem"))}\n` +
  `listener.key_file = ${JSON.stringify(path.join(certificates, "edge.key"))}\nlistener.transport = "${kind}"\n`;
const DOORS = {
  tcp: ["", (address) => address],
  tls: [pem("tls"), (address) => `tls://${address}`],
  ws: ['listener.transport = "ws"\n', (address) => `ws://${address}/`],
  wss: [pem("wss"), (address) => `wss://${address}/`],
};
const KEEPS = "clients.missed_packets_buffer_size = 4000\n";

/** A backend, an edge with this door, and a relay in between, until the test is over. */
async function rig(context, door = "tcp", config = KEEPS) {
  const backend = await listen("127.0.0.1:0");
  const [keys, url] = DOORS[door];
  const edge = await Edge.start(`127.0.0.1:${backend.address.port}`, config + keys);
  const relay = await Relay.to(edge.address);
  const clients = [];
  context.after(async () => {
    for (const client of clients) await client.suspend();
    relay.stop();
    await edge.stop();
    await backend.close();
  });
  const join = async (options = {}) => {
    const tls = door === "tls" || door === "wss" ? { tls: TLS } : {};
    const client = await connect(url(relay.address), { ...tls, ...options });
    clients.push(client);
    return client;
  };
  return { backend, edge, relay, join, url };
}

/** Sends every packet back until the backend is over. */
async function echo(backend) {
  for await (const event of backend) {
    if (event.type === "packet") await backend.send(event.id, event.data);
  }
}

const same = (a, b) => assert.ok(Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0, `${a.length} and ${b.length} bytes`);

for (const door of Object.keys(DOORS)) {
  for (const version of [2, 3]) {
    test(`version ${version} over ${door}: join, 0 B to 1 MiB, a drop with both directions busy, resume`, async (context) => {
      const { backend, relay, join } = await rig(context, door);
      void echo(backend);
      const client = await join({ versions: String(version) });
      assert.equal(client.version, version);
      const sizes = [0, 1, 125, 126, 4_095, 4_096, 16_380, 65_536, 1 << 20];
      const sent = sizes.map((size, seed) => bytesOf(seed, size));
      for (const data of sent) await client.send(data);
      const events = await readUntil(client, (_, read) => read.filter(({ type }) => type === "packet").length === sent.length);
      assert.equal(events[0].type, "connected");
      assert.equal(events[0].id, client.id);
      const packets = events.filter(({ type }) => type === "packet");
      packets.forEach((packet, at) => same(packet.data, sent[at]));
      assert.deepEqual(packets.map(({ number }) => number), sent.map((_, at) => at + 1));
      const { id } = client;
      relay.cut();
      // In version 2 a packet that the transport takes before it knows is lost (SPEC 1.4(a)).
      const dropped = version === 2 ? await readUntil(client, (event) => event.type === "dropped") : [];
      await client.send("while away");
      const back = [...dropped, ...(await readUntil(client, (event) => event.type === "packet"))];
      assert.deepEqual(back.map(({ type }) => type).filter((type) => type !== "caughtUp"), ["dropped", "resumed", "packet"]);
      assert.equal(back.at(-1).text, "while away");
      assert.equal(client.id, id);
    });
  }
}

test("version 3: 1,000 packets each way over a transport that is cut again and again, each once and in order", async (context) => {
  const { backend, relay, join } = await rig(context);
  const COUNT = 1_000;
  const up = [];
  const serving = (async () => {
    for await (const event of backend) {
      if (event.type !== "packet") continue;
      up.push(event.text);
      await backend.send(event.id, `down ${event.text}`);
      // With packets under way in both directions.
      if (up.length % 80 === 0) relay.cut();
      if (up.length === COUNT) return;
    }
  })();
  const client = await join();
  const sending = (async () => {
    for (let at = 0; at < COUNT; at++) {
      await client.send(`${at}`.padEnd(1 + ((at * 37) % 300), "."));
      while (up.length < at - 60) await new Promise((wake) => setTimeout(wake, 2));
    }
  })();
  const events = await readUntil(client, (_, read) => read.filter(({ type }) => type === "packet").length === COUNT);
  await sending;
  await within(serving, "what the backend got");
  const numbers = (texts) => texts.map((text) => Number(/\d+/.exec(text)[0]));
  const all = Array.from({ length: COUNT }, (_, at) => at);
  assert.deepEqual(numbers(up), all);
  assert.deepEqual(numbers(events.filter(({ type }) => type === "packet").map(({ text }) => text)), all);
  const resumes = events.filter(({ type }) => type === "resumed").length;
  assert.ok(resumes >= 10, `it was cut ${resumes} times`);
  await within(client.flush(), "the acknowledgement of all");
  context.diagnostic(`${resumes} resumes`);
});

test("version 3: acknowledged, the ledger, and a goodbye that is answered", async (context) => {
  const { backend, join } = await rig(context);
  const client = await join();
  const sent = await client.send("one");
  assert.deepEqual(sent, { id: client.id, session: 1, number: 1 });
  await within(client.acknowledged(sent), "the acknowledgement");
  const [joined] = await readUntil(backend, (event) => event.type === "packet").then((events) => events.filter(({ type }) => type === "joined"));
  assert.equal(joined.id, client.id);
  await backend.send(client.id, "down");
  await readUntil(client, (event) => event.type === "packet");
  const floating = client.send("last");
  const end = await within(client.close(), "the goodbye");
  assert.equal((await floating).number, 2);
  assert.equal(end.code, 0);
  assert.equal(end.text, "");
  assert.deepEqual(end.ledger.up, { numbered: 2, acknowledged: 2, superseded: 0, gapped: 0, inDoubt: 0, lost: 0, skipped: 0 });
  const left = [];
  for await (const event of client) left.push(event.type);
  assert.deepEqual(left, ["ended"]);
  await assert.rejects(client.send("too late"), { name: "SessionEnded" });
  await assert.rejects(client.acknowledged({ ...sent, number: 3 }), { name: "SessionEnded" });
  const ended = await readUntil(backend, (event) => event.type === "ended");
  assert.deepEqual(ended.map((event) => event.text ?? event.reason), ["last", "goodbye"]);
});

for (const version of [2, 3]) {
  test(`version ${version}: a kick ends the session`, async (context) => {
    const { backend, join } = await rig(context);
    const client = await join({ versions: String(version) });
    await client.send("hello");
    await readUntil(backend, (event) => event.type === "packet");
    await backend.send(client.id, "bye");
    await backend.kick(client.id);
    const events = await readUntil(client, (event) => event.type === "ended");
    assert.equal(events.find(({ type }) => type === "packet").text, "bye");
    // Version 2 cannot say why.
    assert.equal(events.at(-1).end.code, version === 3 ? 401 : 301);
    assert.equal((await readUntil(backend, (event) => event.type === "ended")).at(-1).reason, "kicked");
  });
}

test("flush waits for the calls of send that wait for room, too", async (context) => {
  const { backend, join } = await rig(context);
  const client = await join();
  backend.on("packet", () => undefined);
  const last = Array.from({ length: 8_200 }, () => client.send("x")).pop();
  const flushed = client.flush();
  assert.equal(client.ledger.up.numbered, 8_192);
  await within(flushed, "all of it");
  const { up } = client.ledger;
  assert.deepEqual([up.numbered, up.acknowledged, (await last).number], [8_200, 8_200, 8_200]);
});

// The edge acknowledges after a while, and its last word says what it has.
for (const versions of ["2", "3"]) {
  test(`version ${versions}: what arrived right before the end counts as acknowledged, and the rest does not`, async (context) => {
    const { backend, join } = await rig(context);
    const client = await join({ versions });
    const sent = await client.send("1");
    // Who waits asks the edge for it at once, so nobody does before the end.
    const { id } = (await readUntil(backend, (event) => event.type === "packet")).pop();
    await backend.kick(id);
    const { end } = (await readUntil(client, (event) => event.type === "ended")).pop();
    assert.deepEqual([end.ledger.up.numbered, end.ledger.up.acknowledged], [1, 1]);
    await within(client.acknowledged(sent), "the acknowledgement");
    await within(client.flush(), "all of it");
    const beyond = client.acknowledged({ ...sent, number: sent.number + 1 });
    await assert.rejects(within(beyond, "the end"), (error) => error.name === "SessionEnded" && error.end === end);
  });
}

test("startOver: a new session begins by itself behind one that has ended, and what was asked of the old one is answered", async (context) => {
  const config = `${KEEPS}clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 1\n`;
  const { relay, join } = await rig(context, "tcp", config);
  const client = await join({ startOver: true });
  const { id } = client;
  const sent = await client.send("in the first session");
  await within(client.acknowledged(sent), "the acknowledgement");
  relay.isOff = true;
  relay.cut();
  const unsent = await client.send("never arrives");
  await readUntil(client, (event) => event.type === "ended");
  relay.isOff = false;
  const [connected] = (await readUntil(client, (event) => event.type === "connected")).slice(-1);
  assert.notEqual(connected.id, id);
  await assert.rejects(within(client.acknowledged(unsent), "the answer"), { name: "SessionEnded" });
  const next = await client.send("in the second one");
  assert.deepEqual([next.session, next.number, next.id], [2, 1, connected.id]);
  await within(client.acknowledged(next), "the acknowledgement");
});

test("a session is exported and restored: nothing is lost, and what was not taken comes again", async (context) => {
  for (const versions of ["2", "3"]) {
    const { backend, relay, join } = await rig(context, "tcp");
    const first = await join({ versions });
    const { id } = first;
    await first.send("1");
    await readUntil(backend, (event) => event.type === "packet");
    for (const text of ["a", "b", "c"]) await backend.send(id, text);
    const read = await readUntil(first, (event) => event.type === "packet");
    assert.equal(read.at(-1).text, "a");
    await within(first.flush(), "the acknowledgement");
    if (versions === "3") {
      relay.isOff = true;
      relay.cut();
      await first.send("2");
    }
    const session = await first.suspend();
    relay.isOff = false;
    const second = await join({ versions, session });
    assert.equal(second.id, id);
    await second.send("3");
    const up = await readUntil(backend, (event) => event.text === "3");
    const packets = up.filter(({ type }) => type === "packet");
    assert.deepEqual(packets.map(({ text }) => text), versions === "3" ? ["2", "3"] : ["3"]);
    assert.ok(packets.every((packet) => packet.id === id));
    if (versions === "3") {
      // "a" was not come back from.
      const again = await readUntil(second, (event) => event.text === "c");
      assert.deepEqual(again.filter(({ type }) => type === "packet").map(({ text, number }) => text + number), ["a1", "b2", "c3"]);
    }
  }
});

test("a session file is locked, is taken up by the next process, and forgets a session that has ended", async (context) => {
  const { backend, join } = await rig(context);
  const sessionFile = path.join(scratch(), "client.session");
  const first = await join({ sessionFile });
  const { id } = first;
  await assert.rejects(join({ sessionFile }), { name: "SessionInUse", pid: process.pid });
  await first.send("1");
  await within(first.flush(), "the acknowledgement");
  await first.save("my own state");
  await first.suspend();
  const second = await join({ sessionFile });
  assert.equal(second.id, id);
  assert.equal(Buffer.from(second.state).toString(), "my own state");
  await second.send("2");
  const up = await readUntil(backend, (event) => event.text === "2");
  assert.ok(up.every((event) => event.id === undefined || event.id === id));
  assert.equal((await second.close()).code, 0);
  const third = await join({ sessionFile });
  assert.notEqual(third.id, id);
  assert.equal(Buffer.from(third.state).toString(), "my own state");
});

test("ack: saved: what was not saved comes again", async (context) => {
  const { backend, join } = await rig(context);
  const sessionFile = path.join(scratch(), "client.session");
  const first = await join({ sessionFile, ack: "saved" });
  await first.send("hello");
  await first.save("hello is sent");
  await readUntil(backend, (event) => event.type === "packet");
  for (const text of ["a", "b", "c"]) await backend.send(first.id, text);
  await readUntil(first, (event) => event.text === "b");
  await first.save("up to b");
  await readUntil(first, (event) => event.text === "c");
  await first.suspend();
  const second = await join({ sessionFile, ack: "saved" });
  const again = await readUntil(second, (event) => event.type === "packet");
  assert.deepEqual([again.at(-1).text, again.at(-1).number], ["c", 3]);
});

test("pinned keys: the right one is taken, another one ends the client, and a token needs one", async (context) => {
  const { join } = await rig(context);
  const first = await join();
  assert.match(first.edgeKey, /^0[23][0-9a-f]{64}$/);
  const pinned = await join({ edgeKeys: [first.edgeKey], token: "user 17" });
  assert.equal(pinned.version, 3);
  const other = "02466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27";
  await assert.rejects(join({ edgeKeys: [other] }), (error) => error.name === "ConnectError" && error.end.code === 490);
  await assert.rejects(join({ token: "user 17" }), { name: "ConfigError" });
  await assert.rejects(join({ edgeKeys: ["03ff"] }), { name: "ConfigError" });
});

test("padding: every record is taken", async (context) => {
  const { backend, relay, join } = await rig(context);
  void echo(backend);
  const client = await join({ padding: true });
  for (const size of [0, 1, 100, 5_000, 70_000]) await client.send(bytesOf(size, size));
  await readUntil(client, (event) => event.type === "packet" && event.data.length === 70_000);
  relay.cut();
  await client.send("back");
  await readUntil(client, (event) => event.text === "back");
  assert.equal((await client.close()).text, "");
});

test("version 2 is what remains with an edge that has no other, and never with a pinned key", async (context) => {
  const { join } = await rig(context, "tcp", `${KEEPS}listener.versions = [2]\n`);
  const client = await join();
  assert.equal(client.version, 2);
  const other = "02466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27";
  await assert.rejects(join({ edgeKeys: [other], giveUpAfter: 700 }), { name: "ConnectError" });
});

test("taken over: a copy of the session is a conflict for the first one, unless it takes over itself", async (context) => {
  const { join } = await rig(context);
  const first = await join();
  await first.send("1");
  await within(first.flush(), "the acknowledgement");
  const session = first.export();
  const second = await join({ session });
  await readUntil(second, (event) => event.type === "resumed");
  const ended = await readUntil(first, (event) => event.type === "ended");
  assert.equal(ended.at(-1).end.code, 491);
  assert.equal(second.id, first.id);
  const third = await join({ session, takeOver: true });
  await readUntil(third, (event) => event.type === "resumed");
  assert.equal(third.id, first.id);
});

test("an edge that ends sends its clients away, and they come back to the next one as new ones", async (context) => {
  const backend = await listen("127.0.0.1:0");
  const to = `127.0.0.1:${backend.address.port}`;
  const directory = scratch();
  const config = `${KEEPS}general.key_file = "edge.key"\n`;
  const first = await Edge.start(to, config, directory);
  const client = await connect(first.address, { startOver: true });
  context.after(async () => {
    await client.suspend();
    await second.stop();
    await backend.close();
  });
  const { id, edgeKey } = client;
  await client.send("the session has begun");
  await within(client.flush(), "the acknowledgement");
  await first.stop("SIGTERM", true);
  const second = await Edge.start(to, config, directory, first.address);
  const events = await readUntil(client, (event) => event.type === "connected" && event.id !== id);
  const end = events.find(({ type }) => type === "ended");
  // With its key file the edge knows its earlier run, and says at once that the session is gone.
  assert.equal(end.end.code, 301);
  assert.equal(client.edgeKey, edgeKey);
  const dropped = events.find(({ type }) => type === "dropped");
  assert.deepEqual([dropped.cause.kind, dropped.cause.code], ["moved", 104]);
});

test("groups and everyone: a client in a group has what is sent to it, in order, and not what it is left out of", async (context) => {
  const { backend, join } = await rig(context);
  const clients = [await join(), await join(), await join({ versions: "2" })];
  for (const client of clients) await client.send("hello");
  let heard = 0;
  await readUntil(backend, (event) => event.type === "packet" && ++heard === clients.length);
  const [a, b, c] = clients.map(({ id }) => id);
  const red = backend.group("red");
  await backend.add(red, a);
  await backend.add(red, b);
  await backend.send(red, "to red");
  await backend.send(everyone, "to all but a", { without: [a] });
  await backend.remove(red, a);
  assert.deepEqual(backend.members(red), [b]);
  await backend.send(red, "to b");
  await backend.send(everyone, "end");
  const texts = await Promise.all(
    clients.map(async (client) => {
      const events = await readUntil(client, (event) => event.text === "end");
      return events.filter(({ type }) => type === "packet").map(({ text }) => text);
    }),
  );
  assert.deepEqual(texts, [["to red", "end"], ["to red", "to all but a", "to b", "end"], ["to all but a", "end"]]);
  assert.ok(backend.clients.includes(c));
});

test("a backend keeps its clients and what it sends while the edge is gone", async (context) => {
  const backend = await listen("127.0.0.1:0");
  const relay = await Relay.to(`127.0.0.1:${backend.address.port}`);
  const edge = await Edge.start(relay.address, KEEPS);
  const client = await connect(edge.address);
  context.after(async () => {
    await client.suspend();
    await edge.stop();
    relay.stop();
    await backend.close();
  });
  await client.send("hello");
  await readUntil(backend, (event) => event.type === "packet");
  relay.isOff = true;
  relay.cut();
  await readUntil(backend, (event) => event.type === "edgeLost");
  assert.equal(backend.isConnected, false);
  for (let at = 0; at < 100; at++) await backend.send(client.id, `${at}`);
  await client.send("while the link is down");
  relay.isOff = false;
  const events = await readUntil(client, (event) => event.text === "99");
  const texts = events.filter(({ type }) => type === "packet").map(({ text }) => Number(text));
  assert.deepEqual(texts, Array.from({ length: 100 }, (_, at) => at));
  const back = await readUntil(backend, (event) => event.type === "packet");
  assert.deepEqual(back.map(({ type }) => type), ["edgeConnected", "packet"]);
});

test("a stranger at a backend's port is no edge, and the edge comes back", async (context) => {
  const { backend, join } = await rig(context);
  const client = await join();
  await client.send("1");
  await readUntil(backend, (event) => event.type === "packet");
  const stranger = net.connect(backend.address.port, "127.0.0.1");
  stranger.write("GET / HTTP/1.1\r\n\r\n");
  stranger.on("error", () => undefined);
  await readUntil(backend, (event) => event.type === "edgeLost" && /no edge/.test(event.reason));
  await readUntil(backend, (event) => event.type === "edgeConnected");
  await client.send("2");
  await readUntil(backend, (event) => event.text === "2");
});

test("a second reader, packets that are too long, and calls behind the end are told at once", async (context) => {
  const { join } = await rig(context);
  const client = await join();
  const reader = client[Symbol.asyncIterator]();
  await reader.next();
  assert.throws(() => client[Symbol.asyncIterator](), /one reader/);
  await assert.rejects(client.send(new Uint8Array(client.maxPacket + 1)), { name: "TooLong", max: client.maxPacket });
  assert.throws(() => client.trySend(new Uint8Array(client.maxPacket + 1)), { name: "TooLong" });
  assert.ok(client.trySend("fits"));
  await within(client.flush(), "the acknowledgement");
  assert.equal(client.sendVolatile("now"), true);
  client.dropConnection();
  assert.equal(client.sendVolatile("not now"), false);
  await client.close();
  assert.throws(() => client.trySend("late"), { name: "SessionEnded" });
});

test("handlers: all that are attached in one go see the first event; one that throws stops nothing", async (context) => {
  const { backend, join } = await rig(context);
  void echo(backend);
  const client = await join();
  const seen = [];
  const thrown = [];
  const caught = (error) => thrown.push(error.message);
  const before = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", caught);
  const off = client.on("connected", () => {
    seen.push("connected");
    throw new Error("of a handler");
  });
  const echoed = new Promise((resolve) => client.on("packet", (event) => resolve(seen.push(event.text))));
  await client.send("echo");
  await within(echoed, "the echo");
  await new Promise((wake) => setTimeout(wake, 5));
  process.off("uncaughtException", caught);
  for (const listener of before) process.on("uncaughtException", listener);
  assert.deepEqual(seen, ["connected", "echo"]);
  assert.deepEqual(thrown, ["of a handler"]);
  off();
});

test("an abort ends a client, and one that tries in vain", async (context) => {
  const { join } = await rig(context);
  const controller = new AbortController();
  const client = await join({ signal: controller.signal });
  controller.abort();
  const events = [];
  for await (const event of client) events.push(event.type);
  assert.deepEqual(events, ["connected"]);
  const later = new AbortController();
  const trying = connect("127.0.0.1:1", { signal: later.signal, giveUpAfter: null });
  setTimeout(() => later.abort(), 50);
  await assert.rejects(within(trying, "the abort"), { name: "AbortError" });
  await assert.rejects(connect("127.0.0.1:1", { giveUpAfter: 300 }), /no edge was reached: could not connect/);
  await assert.rejects(connect("nowhere"), { name: "ConfigError" });
});

test("ticks come, and those that nobody waited for are left out", async (context) => {
  const { join } = await rig(context);
  const client = await join({ tick: 20 });
  await new Promise((wake) => setTimeout(wake, 200));
  const events = await readUntil(client, (_, read) => read.filter(({ type }) => type === "tick").length === 3);
  assert.deepEqual(events.map(({ type }) => type), ["connected", "tick", "tick", "tick"]);
});

const CHILD = `
import { connect } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
const [address, sessionFile, versions] = process.argv.slice(1);
const client = await connect(address, { sessionFile, versions });
console.log(client.id);
await client.send("hello");
for await (const event of client) {
  if (event.type === "packet") client.dropConnection();
  if (event.type === "dropped") client.hurry();
  if (event.type === "resumed") {
    console.log(client.id);
    await client.send("hello");
  }
}
`;

for (const versions of ["2", "3"]) {
  test(`version ${versions}: a process that is killed at random goes on with its session file`, async (context) => {
    const { backend, edge } = await rig(context);
    void echo(backend);
    const directory = scratch();
    const file = path.join(directory, "session");
    let first;
    for (let turn = 0; turn < 5; turn++) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", CHILD, edge.address, file, versions], { stdio: ["ignore", "pipe", "inherit"] });
      const ended = new Promise((done) => child.on("exit", done));
      let ids = [];
      let heard;
      child.stdout.setEncoding("utf8").on("data", (text) => {
        ids = ids.concat(text.trim().split("\n"));
        heard?.();
      });
      // Somewhere in a reconnect.
      while (ids.length < 1 + 7 * turn) await within(new Promise((wake) => (heard = wake)), "an id of the child");
      child.kill("SIGKILL");
      await within(ended, "its end");
      first ??= ids[0];
      assert.deepEqual([...new Set(ids)], [first]);
    }
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const client = await connect(edge.address, { sessionFile: file, versions });
    assert.equal(client.id, first);
    await client.close();
    rmSync(directory, { recursive: true });
  });
}
