// A backend over a link of version 3: against the real edge, and in the bytes of SPEC 38.3.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { test } from "node:test";
import { readU64, unhex } from "../dist/core/bytes.js";
import { connect, everyone, listen, Refuse } from "../dist/index.js";
import { MAX_ENDED } from "../dist/book.js";
import { Links, grantOf } from "../dist/link.js";
import { Edge, Relay, bytesOf, readUntil, scratch, within } from "./rig.js";

const GRANTS = 'clients.missed_packets_buffer_size = 4000\nmaster.protocol = "auto"\n';

/** A backend, a relay to it, an edge that grants, and what joins, until the test is over. */
async function rig(context, options = {}, config = GRANTS, directory = undefined) {
  const backend = await listen("127.0.0.1:0", { version: 3, ...options });
  const relay = await Relay.to(`127.0.0.1:${backend.address.port}`);
  const edge = await Edge.start(relay.address, config, directory);
  // Who joins before is told as one who was there.
  if (config === GRANTS) await edge.says(/the backend asked for version 3 of the link/);
  const clients = [];
  context.after(async () => {
    for (const client of clients) await client.suspend();
    // It would wait for what the backend has not come back from.
    await edge.stop("SIGKILL");
    relay.stop();
    await backend.close();
  });
  const join = async (of = {}) => {
    const client = await connect(edge.address, { edgeKeys: [], ...of });
    clients.push(client);
    return client;
  };
  return { backend, edge, relay, join };
}

const of = (type) => (event) => event.type === type;
const last = (events) => events[events.length - 1];

for (const versions of ["2", "3"]) {
  test(`a client of version ${versions}: who joins, is away, is back and is kicked is told, and nothing is lost`, async (context) => {
    const { backend, join } = await rig(context);
    const client = await join({ versions });
    const joined = last(await readUntil(backend, of("joined")));
    assert.deepEqual([joined.id, joined.again, joined.note, joined.tokenText], [client.id, false, "", ""]);
    assert.match(joined.address, /^127\.0\.0\.1:\d+$/);
    for (const length of [0, 1, 100, 65_536, 1 << 20]) {
      const packet = bytesOf(length, length);
      await client.send(packet);
      const got = last(await readUntil(backend, of("packet")));
      assert.ok(got.id === client.id && Buffer.compare(got.data, packet) === 0, `${length} bytes up`);
      await backend.send(client.id, packet);
      assert.ok(Buffer.compare(last(await readUntil(client, of("packet"))).data, packet) === 0, `${length} bytes down`);
    }
    client.dropConnection();
    await client.send("while away");
    await backend.send(client.id, "for you");
    const events = await readUntil(backend, (event) => event.text === "while away");
    assert.ok(events.some((event) => event.type === "resumed" && event.away >= 0), events.map(({ type }) => type));
    await readUntil(client, (event) => event.text === "for you");
    await backend.kick(client.id, 600, "not a position");
    const { end } = last(await readUntil(backend, of("ended")));
    assert.deepEqual([end.code, end.text, end.ledger.up.numbered], [600, "not a position", 6]);
    if (versions === "3") {
      const seen = last(await readUntil(client, of("ended"))).end;
      assert.deepEqual([seen.code, seen.text], [600, "not a position"]);
    }
    assert.deepEqual(backend.clients, []);
  });
}

test("a client that is asked to leave comes back, and so does everyone", async (context) => {
  const { backend, join } = await rig(context);
  const clients = [await join(), await join(), await join({ versions: "2" })];
  let joins = 0;
  await readUntil(backend, (event) => event.type === "joined" && ++joins === 3);
  assert.throws(() => backend.askToLeave(everyone, -1), { name: "ConfigError" });
  backend.askToLeave("00000000000000ff", 0);
  backend.askToLeave(clients[0].id, 0);
  assert.equal(last(await readUntil(backend, of("resumed"))).id, clients[0].id);
  backend.askToLeave(everyone, 0);
  const back = new Set();
  await readUntil(backend, (event) => event.type === "resumed" && back.add(event.id).size === 3);
  await backend.send(everyone, "still here");
  for (const client of clients) await readUntil(client, (event) => event.text === "still here");
});

test("a backend that was killed goes on: each packet up is told once, and who has left ends", async (context) => {
  const path = scratch(context);
  const first = await listen("127.0.0.1:0", { version: 3 });
  const relay = await Relay.to(`127.0.0.1:${first.address.port}`);
  const edge = await Edge.start(relay.address, GRANTS, path);
  const client = await connect(edge.address, { edgeKeys: [] });
  context.after(async () => {
    await client.suspend();
    await edge.stop("SIGKILL");
    relay.stop();
  });
  for (const text of ["1", "2", "3"]) await client.send(text);
  const heard = last(await readUntil(first, (event) => event.text === "2"));
  const { number } = await first.send(client.id, "down");
  await readUntil(client, (event) => event.text === "down");
  // What it told of 3, if anything, was not saved.
  await first.close();
  const gone = "00000000000000ff";
  const second = await listen("127.0.0.1:0", { version: 3, restore: [[heard.id, heard.number], [gone, 5]] });
  context.after(() => second.close());
  relay.leadTo(`127.0.0.1:${second.address.port}`);
  const events = await readUntil(second, (event) => event.text === "3");
  const joined = events.find(of("joined"));
  // It is told as new where no backend has acknowledged that it joined.
  assert.deepEqual([joined.id, joined.sent], [client.id, number]);
  assert.deepEqual(events.filter(of("packet")).map(({ text, number }) => [text, number]), [["3", 3]]);
  const ends = events.some(of("ended")) ? events : await readUntil(second, of("ended"));
  assert.equal(ends.find(of("ended")).id, gone);
});

test("groups and everyone cross the link once, and the newest of a key is what arrives", async (context) => {
  const { backend, relay, join } = await rig(context);
  const clients = [await join(), await join(), await join({ versions: "2" })];
  let joins = 0;
  await readUntil(backend, (event) => event.type === "joined" && ++joins === 3);
  const [a, b] = clients.map(({ id }) => id);
  const red = backend.group("red");
  for (const id of [a, b]) await backend.add(red, id);
  await backend.send(red, "to red");
  await backend.send(everyone, "to all but a", { without: [a] });
  await backend.remove(red, a);
  await backend.sendLatest(red, 7, "newest for b");
  backend.sendVolatile(everyone, "now");
  // A link that is cut takes no group with it.
  relay.cut();
  await readUntil(backend, of("edgeLost"));
  await readUntil(backend, of("edgeConnected"));
  await backend.send(red, "red after the cut");
  await backend.send(everyone, "end");
  const texts = [];
  for (const client of clients) {
    const events = await readUntil(client, (event) => event.text === "end");
    texts.push(events.filter(({ type }) => type === "packet").map(({ text }) => text).filter((text) => text !== "now"));
  }
  assert.deepEqual(texts, [["to red", "end"], ["to red", "to all but a", "newest for b", "red after the cut", "end"], ["to all but a", "end"]]);
  await backend.remove(red, b);
  assert.deepEqual(backend.members(red), []);
  await assert.rejects(backend.send(everyone, "x", { without: Array.from({ length: 17 }, (_, at) => at.toString(16).padStart(16, "0")) }), { name: "TooLong" });
  for (let at = 0; at < 63; at++) await backend.add(backend.group(`g${at}`), a);
  await assert.rejects(backend.add(backend.group("beyond"), a), { name: "NoRoom" });
});

test("a link that is cut again and again loses nothing and doubles nothing, in either direction", async (context) => {
  const { backend, relay, join } = await rig(context);
  const client = await join();
  await readUntil(backend, of("joined"));
  const count = 3_000;
  const padding = "x".repeat(300);
  const cuts = (async () => {
    for (let cut = 0; cut < 6; cut++) {
      await new Promise((wake) => setTimeout(wake, 60));
      relay.cut();
    }
  })();
  const sending = (async () => {
    for (let at = 0; at < count; at++) {
      await client.send(`${at} ${padding}`);
      void backend.send(client.id, `${at} ${padding}`);
      if (at % 100 === 0) await new Promise((wake) => setTimeout(wake, 10));
    }
  })();
  const numbers = async (side) => {
    const events = await readUntil(side, (event) => event.text?.startsWith(`${count - 1} `));
    return events.filter(({ type }) => type === "packet").map(({ text }) => parseInt(text));
  };
  const [up, down] = await Promise.all([numbers(backend), numbers(client), sending, cuts]);
  const all = Array.from({ length: count }, (_, at) => at);
  assert.deepEqual(up, all);
  assert.deepEqual(down, all);
});

test("a packet is acknowledged when the client's application came back, and one of a session that ends is not", async (context) => {
  const { backend, join } = await rig(context);
  const client = await join();
  await readUntil(backend, of("joined"));
  void (async () => {
    for await (const event of backend) if (event.type === "ended") break;
  })();
  const sent = await backend.send(client.id, "1");
  let isDone = false;
  const done = backend.acknowledged(sent).then(() => (isDone = true));
  await readUntil(client, (event) => event.text === "1");
  assert.equal(isDone, false);
  const next = client[Symbol.asyncIterator]().next();
  await within(done, "the acknowledgement");
  void next;
  const lost = await backend.send(client.id, "2");
  await backend.kick(client.id, 600);
  await assert.rejects(within(backend.acknowledged(lost), "its end"), { name: "SessionEnded" });
  // With end-to-end acknowledgements a client's packet is acknowledged once the backend came back from it.
});

test("another life of the backend is told of everybody, with the note that this one made", async (context) => {
  const { backend, relay, join } = await rig(context);
  const client = await join();
  await readUntil(backend, of("joined"));
  backend.setNote(client.id, "user 17 " + "é".repeat(40));
  assert.equal(Buffer.byteLength(backend.note(client.id)), 64);
  await client.send("told");
  await readUntil(backend, (event) => event.text === "told");
  const reader = backend[Symbol.asyncIterator]();
  const waiting = reader.next();
  await within(client.flush(), "the acknowledgement, end to end");
  const port = backend.address.port;
  await backend.close();
  await waiting;
  await client.send("to the next one");
  const next = await listen(`127.0.0.1:${port}`, { version: 3 });
  context.after(() => next.close());
  const events = await readUntil(next, (event) => event.text === "to the next one");
  assert.deepEqual(events.map(({ type }) => type), ["edgeConnected", "joined", "caughtUp", "packet"]);
  assert.deepEqual([events[1].id, events[1].again, events[1].note], [client.id, true, "user 17 " + "é".repeat(28)]);
  await next.send(client.id, "hello again");
  await readUntil(client, (event) => event.text === "hello again");
  void relay;
});

test("nothing is heard of a client before it is verified, and who is refused is told why", async (context) => {
  const verdicts = new Map();
  let asked;
  const verify = (who) => new Promise((resolve, reject) => (verdicts.set(who.tokenText, { resolve, reject }), asked?.()));
  const { backend, join } = await rig(context, { verify });
  const until = async (token) => {
    while (!verdicts.has(token)) await within(new Promise((wake) => (asked = wake)), token);
    return verdicts.get(token);
  };
  const [edge] = await readUntil(backend, of("caughtUp"));
  assert.equal(edge.type, "edgeConnected");
  const edgeKeys = [(await join()).edgeKey];
  (await until("")).resolve("nobody");
  await readUntil(backend, of("joined"));
  const good = await join({ token: "user 17", edgeKeys });
  await good.send("early");
  const { resolve } = await until("user 17");
  assert.equal(backend.clients.includes(good.id), false);
  await backend.send(everyone, "not for it");
  const bad = await join({ token: "stranger", edgeKeys });
  await bad.send("let me in");
  (await until("stranger")).reject(new Refuse(605, "log in first"));
  const { end } = last(await readUntil(bad, of("ended")));
  assert.deepEqual([end.code, end.text], [605, "log in first"]);
  resolve("user 17");
  const events = await readUntil(backend, (event) => event.text === "early");
  assert.deepEqual(events.map(({ type, id }) => [type, id]), [["joined", good.id], ["packet", good.id]]);
  assert.deepEqual([events[0].note, backend.note(good.id)], ["user 17", "user 17"]);
  await backend.send(everyone, "for all");
  const packets = await readUntil(good, of("packet"));
  assert.equal(last(packets).text, "for all");
  const waiting = backend[Symbol.asyncIterator]().next();
  await within(good.flush(), "the acknowledgement of what was held");
  void waiting;
});

test("edge and backend prove a secret to each other, and a wrong one ends the link", async (context) => {
  const directory = scratch();
  const secret = "5e".repeat(32);
  writeFileSync(`${directory}/link.secret`, secret, { mode: 0o600 });
  const config = 'master.protocol = "3"\nmaster.token_file = "link.secret"\n';
  const { backend, join } = await rig(context, { secret }, config, directory);
  await readUntil(backend, of("edgeConnected"));
  const client = await join();
  assert.equal(last(await readUntil(backend, of("joined"))).id, client.id);
  await assert.rejects(listen("127.0.0.1:0", { secret: "short" }), { name: "ConfigError" });
  const proves = async (other) => {
    const one = await listen("127.0.0.1:0", other);
    const edge = await Edge.start(`127.0.0.1:${one.address.port}`, config, (() => {
      const place = scratch();
      writeFileSync(`${place}/link.secret`, secret, { mode: 0o600 });
      return place;
    })());
    // The edge asks on, and no link is ever told.
    await within(
      (async () => {
        while (!/secret/.test(edge.lines.join(""))) await new Promise((wake) => setTimeout(wake, 10));
      })(),
      "what the edge says of it",
    );
    const { isConnected } = one;
    await one.close();
    await edge.stop("SIGKILL");
    const events = [];
    for await (const { type } of one) events.push(type);
    return [isConnected && events.length > 0, events];
  };
  assert.deepEqual(await proves({ secret: "6f".repeat(32) }), [false, []]);
  assert.deepEqual(await proves({ version: 3 }), [false, []]);
});

test("an edge that grants nothing is one of version 2", async (context) => {
  const { backend, join } = await rig(context, {}, 'master.protocol = "2"\n');
  const client = await join();
  await readUntil(backend, of("edgeConnected"));
  await client.send("hello");
  await readUntil(backend, (event) => event.text === "hello");
  await backend.send(client.id, "hello");
  await readUntil(client, (event) => event.text === "hello");
  await backend.kick(client.id, 600, "told here alone");
  const { end } = last(await readUntil(backend, of("ended")));
  assert.deepEqual([end.code, end.text], [600, "told here alone"]);
  assert.equal(last(await readUntil(client, of("ended"))).end.code, 401);
});

// ---- bytes

const EXAMPLES = new Map();
{
  let name;
  for (const line of readFileSync(new URL("../../../SPEC.txt", import.meta.url), "utf8").split("\n")) {
    const head = /^ {3}\[hex ([^\]]+)\]/.exec(line);
    if (head) EXAMPLES.set((name = head[1]), "");
    else if (name && /^ {6}([0-9a-f]{2})( [0-9a-f]{2})*$/.test(line)) EXAMPLES.set(name, EXAMPLES.get(name) + line.trim() + " ");
    else if (line.trim() !== "" || EXAMPLES.get(name)) name = undefined;
  }
}
const hex = (name) => unhex(EXAMPLES.get(name).replaceAll(" ", ""));
const same = (found, name) => assert.equal(Buffer.from(found).toString("hex"), Buffer.from(hex(name)).toString("hex"), name);
const filled = (length, byte) => new Uint8Array(length).fill(byte);
const boot = filled(16, 0xb0);

test("the worked examples of the link (38.3)", () => {
  const grant = grantOf(hex("link-grant").slice(4));
  assert.deepEqual([grant.features, grant.term, grant.received, grant.sessions], [0x17f, 0, 290n, 1]);
  const example = (name, secret, nonce) => {
    const links = new Links(0x800009, secret, () => undefined);
    const run = filled(8, 0x77);
    Object.assign(links, { boot, edge: { home: 0, term: 0, run }, received: 900, acknowledged: 890 });
    Object.assign(links.outbox, { highest: 300, placed: 880 });
    // The features asked for are all here; those of the example have "go away" as well, which this library does not ask for.
    const ask = links.ask();
    assert.equal(ask[14], 0x7f);
    ask[15] = 0x01;
    if (nonce) ask.set(filled(32, nonce), ask.length - 32);
    same(ask, name);
    links.askData = ask.slice(13);
    return links;
  };
  example("link-ask");
  const links = example("link-ask-secret", filled(32, 0x5e), 0xba);
  same(links.hearAnswer(hex("link-challenge").slice(4)), "link-proof");
  const wrong = example("link-ask-secret", filled(32, 0x5f), 0xba);
  assert.equal(wrong.hearAnswer(hex("link-challenge").slice(4)).length, 13, "who has another secret gets no proof");
  assert.throws(() => wrong.hearAnswer(hex("link-grant").slice(4)), /another secret/);
});

/** An edge that a test speaks for: it answers ASK, and counts. */
class FakeEdge {
  static async to(backend, answer) {
    const fake = new FakeEdge();
    fake.socket = net.connect(backend.address.port, "127.0.0.1");
    fake.frames = [];
    fake.ended = new Promise((done) => fake.socket.on("close", done));
    fake.socket.on("error", () => undefined);
    let held = Buffer.alloc(0);
    fake.socket.on("data", (bytes) => {
      held = Buffer.concat([held, bytes]);
      while (held.length >= 4 && held.length >= 4 + held.readUInt32LE(0)) {
        const body = held.subarray(4, 4 + held.readUInt32LE(0));
        held = held.subarray(4 + body.length);
        if (body[8] === 0x10) {
          fake.send(answer(body));
          fake.hasAnswered = true;
        } else fake.frames.push(body);
        fake.heard?.();
      }
    });
    while (!fake.hasAnswered) await within(new Promise((wake) => (fake.heard = wake)), "ASK");
    return fake;
  }

  async until(what) {
    while (!this.frames.some(what)) await within(new Promise((wake) => (this.heard = wake)), "a frame");
    return this.frames.find(what);
  }

  send(frame) {
    this.socket.write(frame);
  }
}

/** GRANT for an ASK, with so many sessions. */
const granting = (sessions, change = () => undefined) => (ask) => {
  const grant = hex("link-grant").slice();
  grant.set(ask.subarray(9 + 5, 9 + 21), 13 + 5);
  grant[14] = 0x7f;
  grant[15] = 0;
  new DataView(grant.buffer).setUint32(13 + 53, sessions, true);
  grant.fill(0, 13 + 43, 13 + 51);
  change(grant);
  return grant;
};

// SPEC 34.2: the edge has ASK before what was queued when the application came back, so ASK must not say that it did.
test("ASK acknowledges nothing that no frame has acknowledged", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const links = new Links(0x800009, undefined, () => undefined);
  /** Asks on another link, and returns what ASK says was received, acknowledged and sent. */
  const reopen = (opened, received = 0, change = undefined) => {
    links.close();
    const ask = links.ask();
    const grant = (frame) => {
      new DataView(frame.buffer).setBigUint64(13 + 43, BigInt(received), true);
      change?.(frame);
    };
    assert.equal(links.open(grantOf(granting(0, grant)(ask.subarray(4)).slice(4))), opened);
    return [29, 37, 45].map((at) => Number(readU64(ask, 13 + at)));
  };
  assert.deepEqual(reopen("continues"), [0, 0, 0]);
  const packet = hex("link-data-up").slice(4);
  links.push(packet.subarray(0, 8), 0, undefined, bytesOf(1, 4));
  links.count(packet);
  links.note(true);
  // It comes back from this, and says so behind its packet, of which the link has got nothing.
  links.taken(links.picture, 1);
  context.mock.timers.tick(10);
  assert.deepEqual(reopen("resumed"), [1, 0, 0]);
  links.outbox.take();
  assert.deepEqual(reopen("resumed"), [1, 0, 1]);
  while (links.outbox.take());
  // Now it has gone, and ASK says it on each link.
  assert.deepEqual(reopen("resumed", 1), [1, 1, 1]);
  assert.deepEqual(reopen("resumed", 1), [1, 1, 1]);
  assert.equal(links.outbox.isWritten, true, "the edge knows it");
  // Another run counts again.
  const { run } = links.edge;
  const other = (grant) => (grant.fill(9, 13 + 27, 13 + 35), grant.set(run, 13 + 35));
  assert.deepEqual(reopen("continues", 0, other), [1, 1, 1]);
  assert.deepEqual(reopen("resumed", 0, other), [0, 0, 0]);
});

test("every notice of the link is told, and what is malformed counts and is passed over", async (context) => {
  const backend = await listen("127.0.0.1:0", { version: 3 });
  context.after(() => backend.close());
  const fake = await FakeEdge.to(backend, granting(1));
  context.after(() => fake.socket.destroy());
  const own = hex("link-own").slice();
  own[13 + 32] = 1;
  fake.send(own);
  for (const name of ["link-token", "link-away", "link-resumed", "link-gap", "link-refused", "link-settled", "link-data-up", "link-goaway", "link-ended"]) fake.send(hex(name));
  const events = await readUntil(backend, of("ended"));
  assert.deepEqual(
    events.map(({ type }) => type),
    ["edgeConnected", "joined", "caughtUp", "token", "away", "resumed", "gap", "packet", "ended"],
  );
  const [, joined, , token, away, resumed, gap, packet, ended] = events;
  assert.deepEqual([joined.id, joined.again, joined.note], ["0102030405060708", true, "u7"]);
  assert.equal(Buffer.from(token.token).toString(), "new");
  assert.equal(away.expiresIn, 60_000);
  assert.deepEqual([resumed.away, resumed.missed], [1_500, 3]);
  assert.deepEqual([gap.direction, gap.first, gap.count, gap.bytes, gap.reason], ["down", 4, 2, 70_000, 1]);
  assert.deepEqual([packet.text, packet.number], ["hi", 3]);
  assert.deepEqual([ended.end.code, ended.end.text, ended.end.ledger.up.inDoubt], [302, "expired", 1]);
  void backend[Symbol.asyncIterator]().next();
  const ack = await fake.until((body) => body[8] === 0x12 && body.readBigUInt64LE(9) === 10n);
  // GROUP_ADD of everyone.
  assert.equal(ack.readBigUInt64LE(17), 1n);
});

// SPEC 45.6(b): the edge has it in its groups until it reads this, and what is sent to them later is not for it.
test("a client that goes to another backend is taken out of its groups, and one that has ended is not", async (context) => {
  const backend = await listen("127.0.0.1:0", { version: 3 });
  context.after(() => backend.close());
  const fake = await FakeEdge.to(backend, granting(3));
  context.after(() => fake.socket.destroy());
  const [ends, leaves, stays] = [1, 2, 3];
  /** A frame of SPEC 38.3 about one of them. */
  const about = (id, name) => {
    const frame = hex(name).slice();
    frame.fill(0, 4, 12)[4] = id;
    return frame;
  };
  for (const id of [ends, leaves, stays]) {
    const own = about(id, "link-own");
    own[13 + 32] = 1;
    fake.send(own);
  }
  await readUntil(backend, of("caughtUp"));
  const idOf = (id) => `000000000000000${id}`;
  const [red, blue] = ["red", "blue"].map((name) => backend.group(name));
  for (const id of [ends, leaves, stays]) await backend.add(red, idOf(id));
  // It is alone there.
  await backend.add(blue, idOf(leaves));
  fake.send(about(ends, "link-ended"));
  const ended = about(leaves, "link-ended");
  new DataView(ended.buffer).setUint16(13, 205, true);
  fake.send(ended);
  const { end } = last(await readUntil(backend, (event) => event.type === "ended" && event.id === idOf(leaves)));
  assert.equal(end.code, 205);
  await backend.send(red, "to who has stayed");
  await fake.until((body) => body[8] === 0x22);
  const name = (body) => ({ 0x24: "remove", 0x25: "end", 0x22: "send" })[body[8]];
  const frames = fake.frames.filter(name).map((body) => [name(body), body.readBigUInt64LE(0)]);
  assert.deepEqual(frames, [["remove", 1n], ["remove", 2n], ["remove", 0xffff_ffff_ffff_ffffn], ["send", 1n]]);
  const removed = fake.frames.filter((body) => name(body) === "remove").map((body) => [body.length, body[9]]);
  assert.deepEqual(removed, Array(3).fill([17, leaves]));
  assert.deepEqual([backend.members(red), backend.members(blue)], [[idOf(stays)], []]);
});

// SPEC 34.1(h), 37.4(c).
test("what is sent to a session of which nobody has told waits for it, and has the numbers behind those of the edge", async (context) => {
  const backend = await listen("127.0.0.1:0", { version: 3 });
  context.after(() => backend.close());
  const [id, nobody] = ["0102030405060708", "00000000000000ff"];
  const { number } = await backend.send(id, "early");
  assert.equal(number, 0, "nobody knows yet which");
  await backend.send(nobody, "to nobody");
  const fake = await FakeEdge.to(backend, granting(1));
  context.after(() => fake.socket.destroy());
  await readUntil(backend, of("edgeConnected"));
  await backend.send(id, "between");
  assert.equal(fake.frames.length, 0, "it has not told of anybody");
  const own = hex("link-own").slice();
  own[13 + 32] = 0;
  fake.send(own);
  const events = await readUntil(backend, of("caughtUp"));
  assert.equal(events.find(of("joined")).id, id);
  // OWN has 9 packets down.
  assert.equal((await backend.send(id, "next")).number, 12);
  await fake.until((body) => body.subarray(9).toString() === "next");
  const sent = fake.frames.filter((body) => body[8] === 0);
  assert.deepEqual(
    sent.map((body) => [body.readBigUInt64LE(0), body.subarray(9).toString()]),
    ["early", "between", "next"].map((text) => [0x0102030405060708n, text]),
  );
});

// SPEC 36.4.
test("an edge that has forgotten a pause is told again", async (context) => {
  const backend = await listen("127.0.0.1:0", { version: 3 });
  context.after(() => backend.close());
  const own = hex("link-own").slice();
  own[13 + 32] = 0;
  const isPause = (body) => body[8] === 0x29;
  for (const link of [1, 2]) {
    // The second begins to count again.
    const fake = await FakeEdge.to(backend, granting(1, (grant) => link === 2 && grant.fill(0xff, 13 + 43, 13 + 51)));
    fake.send(own);
    await readUntil(backend, of("caughtUp"));
    if (link === 1) backend.pause("0102030405060708");
    await fake.until(isPause);
    await backend.send("0102030405060708", "end");
    await fake.until((body) => body[8] === 0);
    assert.equal(fake.frames.filter(isPause).length, 1);
    fake.socket.destroy();
    await readUntil(backend, of("edgeLost"));
  }
});

for (const [what, answer, then] of [
  ["grants to another backend", granting(0, (grant) => grant.fill(1, 18, 34))],
  ["grants too little", granting(0, (grant) => (grant[14] = 0x08))],
  ["cuts its grant short", granting(0, (grant) => (grant[13] = 2))],
  ["wants a secret", () => Uint8Array.from([11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x10, 4])],
  ["counts differently", granting(0), (fake) => fake.send(hex("link-ack"))],
]) {
  test(`a link is closed whose edge ${what}`, async (context) => {
    const backend = await listen("127.0.0.1:0", { version: 3 });
    context.after(() => backend.close());
    const fake = await FakeEdge.to(backend, answer);
    then?.(fake);
    fake.socket.resume();
    await within(fake.ended, "the end of the link");
    assert.equal(backend.isConnected, false);
  });
}

/** A backend with a client that is away, to whom 9 packets were sent and 7 of them settled, and its edge. */
async function oneAway(context, options = {}) {
  const backend = await listen("127.0.0.1:0", { version: 3, ...options });
  context.after(() => backend.close());
  const fake = await FakeEdge.to(backend, granting(1));
  context.after(() => fake.socket.destroy());
  const own = hex("link-own").slice();
  own[13 + 32] = 1;
  fake.send(own);
  await readUntil(backend, of("caughtUp"));
  return { backend, fake, id: "0102030405060708" };
}

/** ENDED with these counts of the packets down: numbered, acknowledged, superseded, gapped, in doubt, lost. */
function endedWith(down) {
  const frame = hex("link-ended").slice();
  const view = new DataView(frame.buffer);
  down.forEach((count, at) => view.setBigUint64(13 + 58 + 8 * at, BigInt(count), true));
  return frame;
}

// SPEC 36.3(e): SETTLED comes at most every 20 ms, and the end at once.
test("what was acknowledged right before the end counts, and the rest does not", async (context) => {
  for (const [down, settled] of [
    [[12, 11, 0, 0, 1, 0], 11],
    [[12, 9, 1, 1, 0, 1], 11],
    [[12, 12, 0, 0, 0, 1], 9],
  ]) {
    const { backend, fake, id } = await oneAway(context);
    fake.send(Buffer.from([25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x18, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0]));
    const sent = [];
    for (let number = 10; number <= 12; number++) sent.push(await backend.send(id, "x"));
    assert.deepEqual(sent.map(({ number }) => number), [10, 11, 12]);
    const outcomes = () => Promise.allSettled(sent.map((one) => backend.acknowledged(one)));
    const waiting = outcomes();
    fake.send(endedWith(down));
    const { end } = last(await readUntil(backend, of("ended")));
    const expected = sent.map(({ number }) => (number <= settled ? "fulfilled" : "rejected"));
    for (const told of [await within(waiting, "the end"), await outcomes()]) {
      assert.deepEqual(told.map(({ status }) => status), expected, `${down}`);
      for (const { reason } of told) assert.ok(reason === undefined || reason.end === end);
    }
    await assert.rejects(backend.acknowledged(await backend.send(id, "late")), { name: "SessionEnded" });
  }
});

test("how sessions ended is known of the last ones", async (context) => {
  const { backend, fake, id } = await oneAway(context);
  const sent = await backend.send(id, "x");
  fake.send(endedWith([10, 10, 0, 0, 0, 0]));
  await readUntil(backend, of("ended"));
  // Sessions that begin and end: their ids are from 1 on.
  const endOne = (number) => {
    for (const name of ["link-joined", "link-ended"]) {
      const frame = hex(name).slice();
      new DataView(frame.buffer).setBigUint64(4, BigInt(number), true);
      fake.send(frame);
    }
  };
  const lastId = (number) => number.toString(16).padStart(16, "0");
  for (let number = 1; number < MAX_ENDED; number++) endOne(number);
  await readUntil(backend, (event) => event.type === "ended" && event.id === lastId(MAX_ENDED - 1));
  await backend.acknowledged(sent);
  endOne(MAX_ENDED);
  await readUntil(backend, (event) => event.type === "ended" && event.id === lastId(MAX_ENDED));
  await assert.rejects(backend.acknowledged(sent), { name: "SessionEnded" });
});

test("a client has room for 8,192 packets that are not settled, and what is known of it is told", async (context) => {
  const { backend, fake, id } = await oneAway(context);
  const counts = { superseded: 0, gapped: 0, lost: 0, skipped: 0 };
  const up = { numbered: 2, acknowledged: 2, inDoubt: 0, ...counts };
  const down = { numbered: 9, acknowledged: 7, inDoubt: 2, ...counts };
  assert.deepEqual(backend.client(id), { id, note: "u7", isConnected: false, ledger: { up, down } });
  assert.equal(backend.client("00000000000000ff"), undefined);
  fake.send(hex("link-resumed"));
  await readUntil(backend, of("resumed"));
  assert.equal(backend.client(id).isConnected, true);
  for (let number = 10; number < 7 + 8_192; number++) await backend.send(id, "x");
  await within(backend.room(id), "room for the last one");
  assert.equal(backend.trySend(id, "x").number, 7 + 8_192);
  assert.equal(backend.trySend(id, "x"), undefined);
  // Whoever does not ask sends on.
  assert.equal((await backend.send(id, "x")).number, 8 + 8_192);
  let isThere = false;
  const room = backend.room(id).then(() => (isThere = true));
  await backend.room("00000000000000ff");
  assert.equal(isThere, false);
  fake.send(hex("link-settled"));
  await within(room, "room");
  assert.ok(backend.trySend(id, "x"));
  const over = backend.room(id);
  fake.send(hex("link-ended"));
  await assert.rejects(within(over, "the end"), { name: "SessionEnded" });
  await assert.rejects(backend.room(id), { name: "SessionEnded" });
  assert.equal(backend.client(id), undefined);
});

test("an edge is told what becomes of a client for which there is no room, but of one of version 2", async (context) => {
  const isPolicy = (body) => body[8] === 0x27;
  const said = (body) => [body[9 + 8], body.subarray(9 + 9).toString()];
  const { backend, fake, id } = await oneAway(context, { overflow: "gap" });
  assert.deepEqual(said(await fake.until(isPolicy)), [1, "u7"]);
  backend.setNote(id, "u8");
  await fake.until((body) => isPolicy(body) && said(body)[1] === "u8");
  for (const version of [2, 3]) {
    const joined = hex("link-joined").slice();
    joined[4] = version;
    joined[13] = version;
    fake.send(joined);
  }
  await fake.until((body) => isPolicy(body) && body[0] === 3);
  assert.deepEqual(fake.frames.filter(isPolicy).map((body) => [body[0], ...said(body)]), [[8, 1, "u7"], [8, 1, "u8"], [3, 1, ""]]);

  const plain = await oneAway(context);
  plain.fake.send(hex("link-joined").map((byte, at) => (at === 4 ? 9 : byte)));
  plain.backend.setNote(plain.id, "u8");
  await plain.fake.until(isPolicy);
  assert.deepEqual(plain.fake.frames.filter(isPolicy).map((body) => [body[0], ...said(body)]), [[8, 0, "u8"]]);
});
