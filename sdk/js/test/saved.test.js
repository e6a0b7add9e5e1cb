// What clients save (SPEC 46): the vectors that all libraries share, what is stored before what leaves, and processes that are killed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { connect, listen } from "../dist/index.js";
import { DEFAULTS, Machine } from "../dist/machine.js";
import { Session2 } from "../dist/core/handshake.js";
import { decodeSaved } from "../dist/core/saved.js";
import { Edge, Relay, readUntil, scratch, within } from "./rig.js";

const vectors = JSON.parse(fs.readFileSync(new URL("../../../core/tests/vectors/saved.json", import.meta.url), "utf8"));
const unhex = (digits) => new Uint8Array(Buffer.from(digits, "hex"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const machine = (config = {}) => new Machine({ ...DEFAULTS, ...config }, (length) => new Uint8Array(length));

test("what is whole is read, and written again as the same bytes", () => {
  assert.equal(vectors.whole.length, 6);
  for (const { name, bytes, version, id, state, numbered, acknowledged, taken } of vectors.whole) {
    for (const saving of ["taken", "saved"]) {
      const restored = machine({ saving });
      assert.ok(restored.restore(0, unhex(bytes)), name);
      if (version !== null) assert.equal(restored.version, version, name);
      assert.equal(restored.id?.toString(16).padStart(16, "0") ?? null, id, name);
      assert.equal(hex(restored.savedState), state, name);
      const { up, down } = restored.ledger;
      assert.deepEqual([up.numbered, up.acknowledged, down.numbered].map(String), [numbered, acknowledged, taken], name);
      const { bytes: again, done } = restored.toStore();
      assert.equal(hex(again), bytes, name);
      done();
      assert.ok(!restored.isChanged && !restored.wantsStore, name);
    }
  }
});

test("what is not whole is refused by name", () => {
  assert.equal(vectors.refused.length, 49);
  for (const { name, bytes, because } of vectors.refused) {
    assert.throws(() => decodeSaved(unhex(bytes), Session2), { name: "SavedError", because }, name);
  }
});

test("a session is of a version that the client speaks", () => {
  const { bytes: two } = vectors.whole.find(({ version }) => version === 2);
  const { bytes: three } = vectors.whole.find(({ version }) => version === 3);
  assert.equal(machine({ versions: "3" }).restore(0, unhex(two)), false);
  assert.equal(machine({ versions: "2" }).restore(0, unhex(three)), false);
});

test("a session that is restored has nothing in common with the bytes it was read from", () => {
  for (const { name, bytes } of vectors.whole) {
    const given = Buffer.from(bytes, "hex");
    const restored = machine();
    assert.ok(restored.restore(0, given), name);
    restored.wipe();
    assert.equal(hex(given), bytes, name);
  }
});

async function rig(context) {
  const backend = await listen("127.0.0.1:0");
  const edge = await Edge.start(`127.0.0.1:${backend.address.port}`);
  const directory = scratch();
  const clients = [];
  context.after(async () => {
    // A store that waits for this test never ends.
    for (const client of clients) await within(client.suspend(), "what is stored", 3_000).catch(() => undefined);
    await edge.stop();
    await backend.close();
    fs.rmSync(directory, { recursive: true });
  });
  const join = async (options) => {
    const client = await connect(edge.address, options);
    clients.push(client);
    return client;
  };
  return { backend, edge, join, file: path.join(directory, "session") };
}

/** A store that waits until it is told, and keeps all that it was given. */
class SlowStore {
  given = [];
  waiting = [];
  content = undefined;

  load() {
    return this.content;
  }

  store(bytes) {
    assert.equal(this.waiting.length, 0, "one thing after the other");
    this.given.push(bytes);
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject, bytes });
      this.heard?.();
    });
  }

  async next() {
    while (this.waiting.length === 0) await within(new Promise((wake) => (this.heard = wake)), "something to store");
    const { resolve, bytes } = this.waiting.shift();
    this.content = bytes;
    resolve();
    return decodeSaved(bytes, Session2);
  }

  async fail(error) {
    while (this.waiting.length === 0) await within(new Promise((wake) => (this.heard = wake)), "something to store");
    this.waiting.shift().reject(error);
  }
}

test("nothing leaves and nothing is told before it is stored", async (context) => {
  const { backend, join } = await rig(context);
  const other = await join({});
  const store = new SlowStore();
  // With packets that waited for a first session when another process was killed.
  store.content = unhex(vectors.whole.find(({ version, numbered }) => version === null && numbered === "3").bytes);
  let hasJoined = false;
  const joining = join({ sessionStore: store, versions: "3" }).then((client) => {
    hasJoined = true;
    return client;
  });
  // Before Hello.
  const waits = await store.next();
  assert.deepEqual([waits.three, waits.packets.length], [undefined, 3]);
  while (store.waiting.length === 0) await within(new Promise((wake) => (store.heard = wake)), "the session");
  assert.equal(hasJoined, false);
  const first = await store.next();
  // No packet went into the Join record.
  assert.equal(first.three.session.isTried, false);
  assert.equal(first.packets.length, 3);
  const client = await within(joining, "the client");
  const second = await store.next();
  assert.deepEqual([second.three.session.isTried, second.packets.length], [true, 3]);
  await readUntil(backend, (event, read) => read.filter(({ type }) => type === "packet").length === 3);
  await client.send("1");
  while (store.waiting.length === 0) await within(new Promise((wake) => (store.heard = wake)), "the packet");
  await other.send("2");
  const heard = await readUntil(backend, (event) => event.type === "packet");
  assert.equal(heard.at(-1).text, "2");
  const third = await store.next();
  assert.equal(Buffer.from(third.packets.at(-1)).toString(), "1");
  await readUntil(backend, (event) => event.text === "1");
  // It fails: like a network that is down. The client comes back, and tries again.
  await client.send("3");
  await store.fail(new Error("no room"));
  const [dropped] = (await readUntil(client, (event) => event.type === "dropped")).slice(-1);
  assert.match(dropped.cause.message, /cannot be stored: Error: no room/);
  const stores = (async () => {
    for (;;) await store.next();
  })();
  stores.catch(() => undefined);
  await readUntil(backend, (event) => event.text === "3");
  // A state that cannot be stored is told to who saves it.
  const { store: was } = store;
  store.store = () => Promise.reject(new Error("no room again"));
  await assert.rejects(client.save("state"), /no room again/);
  store.store = was;
});

for (const versions of ["2", "3"]) {
  test(`version ${versions}: a session that cannot be stored is not told`, async (context) => {
    const { backend, join } = await rig(context);
    const store = new SlowStore();
    let told = 0;
    const joining = join({ sessionStore: store, versions }).then((client) => {
      told += 1;
      return client;
    });
    for (const why of ["one", "two", "three"]) {
      await store.fail(new Error(why));
      // Its next attempt comes with the next connection.
      while (store.waiting.length === 0) await within(new Promise((wake) => (store.heard = wake)), "another attempt");
      assert.equal(told, 0, why);
    }
    const stores = (async () => {
      for (;;) await store.next();
    })();
    stores.catch(() => undefined);
    const client = await within(joining, "the client");
    const begun = await readUntil(client, ({ type }) => type !== "dropped");
    assert.deepEqual(begun.at(-1), { type: "connected", id: client.id });
    assert.equal(begun.filter(({ type, cause }) => type === "dropped" && /cannot be stored/.test(cause.message)).length, 3);
    await client.send("1");
    await readUntil(backend, ({ text }) => text === "1");
    client.dropConnection();
    const back = await readUntil(client, ({ type }) => type !== "dropped" && type !== "caughtUp");
    assert.equal(back.at(-1).type, "resumed");
  });
}

test("ack: saved: what is sent leaves with the state", async (context) => {
  const { backend, join, file } = await rig(context);
  const client = await join({ sessionFile: file, ack: "saved", versions: "3" });
  const heard = [];
  let wake;
  backend.on("packet", ({ text }) => {
    heard.push(text);
    wake?.();
  });
  const hears = async (...texts) => {
    while (heard.length < texts.length) await within(new Promise((again) => (wake = again)), `${texts}`);
    assert.deepEqual(heard, texts);
  };
  await client.send("1");
  await client.save("one");
  await within(client.acknowledged({ session: 1, number: 1 }), "the acknowledgement");
  await client.send("2");
  await client.send("3");
  await hears("1");
  const saved = decodeSaved(new Uint8Array(fs.readFileSync(file)), Session2);
  assert.equal(Buffer.from(saved.state).toString(), "one");
  assert.equal(client.unacknowledged, 2);
  await client.save("two");
  await hears("1", "2", "3");
  // A process that begins again has neither sent nor heard what it did not save.
  await client.send("4");
  await client.suspend();
  const second = await join({ sessionFile: file, ack: "saved", versions: "3" });
  assert.equal(Buffer.from(second.state).toString(), "two");
  assert.equal((await second.send("four")).number, 4);
  await second.save("three");
  await hears("1", "2", "3", "four");
});

test("a file that is no session is refused by name and left as it is, and its lock is free again", async (context) => {
  const { join, file } = await rig(context);
  const words = { foreign: /no saved session/, older: /older/, newer: /newer/, torn: /cut off/, impossible: /cannot be/ };
  for (const { bytes, because } of vectors.refused) {
    fs.writeFileSync(file, unhex(bytes));
    await assert.rejects(join({ sessionFile: file }), { name: "ConfigError", message: words[because] });
    assert.equal(hex(fs.readFileSync(file)), bytes);
  }
  fs.rmSync(file);
  const { id } = await join({ sessionFile: file });
  assert.ok(id);
});

test("a lock is held by a process that lives, and by one of another language where the system tells", async (context) => {
  const { join, file } = await rig(context);
  const lock = `${file}.lock`;
  const began = /^\d+ (\S+)/.exec.bind(/^\d+ (\S+)/);
  const client = await join({ sessionFile: file });
  const [, since] = began(fs.readFileSync(lock, "utf8"));
  await assert.rejects(join({ sessionFile: file }), { name: "SessionInUse", pid: process.pid });
  await client.suspend();
  assert.equal(fs.readFileSync(lock, "utf8"), "");
  // A process of that number lives, and is another one: in a container, each is the first.
  if (since !== "-") {
    fs.writeFileSync(lock, `${process.pid} another-boot/17\n`);
    await (await join({ sessionFile: file })).suspend();
  }
  fs.writeFileSync(lock, `${process.ppid}\n`);
  await assert.rejects(join({ sessionFile: file }), { name: "SessionInUse", pid: process.ppid });
  fs.writeFileSync(lock, "");
  const holder = spawn("flock", [lock, "sh", "-c", "echo locked; cat"], { stdio: ["pipe", "pipe", "inherit"] });
  const isLocked = await new Promise((done) => {
    holder.on("error", () => done(false));
    holder.stdout.once("data", () => done(true));
  });
  if (isLocked) {
    await assert.rejects(join({ sessionFile: file }), { name: "SessionInUse" });
    holder.stdin.end();
    await new Promise((done) => holder.on("exit", done));
  } else context.diagnostic("there is no flock");
  // One that finds that another process has taken its lock stores no more.
  const third = await join({ sessionFile: file });
  fs.writeFileSync(lock, `${process.ppid}\n`);
  await assert.rejects(third.save("state"), { name: "SessionInUse" });
});

const COUNT = 600;
const KILLS = 9;
const CHILD = `
import { connect } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
const [address, sessionFile, ack] = process.argv.slice(1);
const client = await connect(address, { sessionFile, ack, versions: "3", giveUpAfter: null });
const state = client.state.length > 0 ? JSON.parse(Buffer.from(client.state)) : { sent: 0, got: 0 };
const fail = (why) => { console.error(why, JSON.stringify(state)); process.exit(1); };
// Without states, the numbers of the session say how far it is.
if (ack === "taken") Object.assign(state, { sent: client.ledger.up.numbered, got: client.ledger.down.numbered });
const turn = async () => {
  while (state.sent < ${COUNT} && state.sent < state.got + 30) {
    state.sent += 1;
    await client.send(String(state.sent));
  }
  if (ack === "saved") await client.save(JSON.stringify(state));
};
await turn();
let number = state.got;
for await (const event of client) {
  if (event.type === "ended") fail("ended " + event.end.code);
  if (event.type !== "packet") continue;
  if (event.text !== String(++number)) fail("heard " + event.text + " for " + number);
  state.got = number;
  if (number % 41 === 0) client.dropConnection();
  await turn();
  if (state.got === ${COUNT}) break;
}
await client.flush();
const end = await client.close();
if (end.ledger.up.acknowledged !== ${COUNT}) fail(JSON.stringify(end));
process.exit(0);
`;

for (const ack of ["saved", "taken"]) {
  test(`ack: ${ack}: nothing is lost or doubled by a process that is killed at random`, async (context) => {
    const { backend, edge, file } = await rig(context);
    const heard = [];
    let hears;
    backend.on("packet", ({ id, text }) => {
      heard.push(text);
      void backend.send(id, text);
      hears?.();
    });
    let kills = 0;
    let before = 0;
    for (;;) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", CHILD, edge.address, file, ack], { stdio: ["ignore", "ignore", "inherit"] });
      const ended = new Promise((done) => child.on("exit", (code, signal) => done({ code, signal })));
      // While it goes on, or as it begins, which takes a while.
      const dies = (ms) => setTimeout(() => child.kill("SIGKILL"), ms * Math.random());
      hears = undefined;
      if (kills < KILLS && kills % 3 < 2) hears = () => (hears = void dies(30));
      else if (kills < KILLS) dies(200);
      const { code, signal } = await within(ended, "its end");
      if (signal === null) {
        assert.equal(code, 0);
        break;
      }
      kills += 1;
      if (heard.length < COUNT) before += 1;
      assert.equal(fs.existsSync(file) ? fs.statSync(file).mode & 0o777 : 0o600, 0o600);
    }
    context.diagnostic(`killed ${kills} times, ${before} of them before all was heard`);
    assert.deepEqual(heard, Array.from({ length: COUNT }, (_, at) => String(at + 1)));
    assert.ok(before > 3, `${before}`);
  });
}
