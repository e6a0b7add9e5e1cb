// The worked examples of SPEC.txt, 15 and 30, and what else the core promises without a socket.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { DEFAULTS, Machine } from "../dist/machine.js";
import { Writer, concat, equal, readU32, u64, unhex, utf8 } from "../dist/core/bytes.js";
import * as handshake from "../dist/core/handshake.js";
import { KeyPair, Lane, compressed, derive, expand, extract, open, seal, sha256, sipHash } from "../dist/core/keys.js";
import { Type, readItem, writeClose, writePacket, writeType } from "../dist/core/v3/items.js";
import { Joining, Resumable } from "../dist/core/v3/opening.js";
import { readItemUp } from "./cases/items.js";
import { FrameReader, Malformed, Reader, frame } from "../dist/core/wire.js";

const EXAMPLES = new Map();
/** Those of the sections on the client link. */
const OF_CLIENTS = new Set();
{
  let name;
  let section;
  for (const line of readFileSync(new URL("../../../SPEC.txt", import.meta.url), "utf8").split("\n")) {
    section = /^(\d+)\./.exec(line)?.[1] ?? section;
    const head = /^ {3}\[hex ([^\]]+)\]/.exec(line);
    if (head) {
      EXAMPLES.set((name = head[1]), "");
      if (section === "15" || section === "30") OF_CLIENTS.add(name);
    } else if (name && /^ {6}([0-9a-f]{2})( [0-9a-f]{2})*$/.test(line)) EXAMPLES.set(name, EXAMPLES.get(name) + line.trim() + " ");
    else if (line.trim() !== "" || EXAMPLES.get(name)) name = undefined;
  }
}
const used = new Set();
function hex(name) {
  used.add(name);
  const digits = EXAMPLES.get(name);
  assert.ok(digits, `SPEC.txt has no example ${name}`);
  return unhex(digits.replaceAll(" ", ""));
}
const body = (name) => hex(name).slice(4);
const same = (found, name) => assert.deepEqual(Buffer.from(found), Buffer.from(hex(name)), name);
const names = (prefix) => [...EXAMPLES.keys()].filter((name) => name.startsWith(prefix));
const filled = (length, byte) => new Uint8Array(length).fill(byte);

test("keys and sealing of version 2 (15.1, 15.3)", () => {
  const edge = KeyPair.of(hex("edge-private"));
  const client = KeyPair.of(hex("client-private"));
  same(edge.public, "edge-public");
  same(client.public, "client-public");
  const shared = client.agree(edge.public);
  same(shared, "shared-secret");
  same(edge.agree(client.public), "shared-secret");
  same(extract(utf8("VOLTLANE.NET"), shared), "hkdf-prk");
  const key = handshake.sessionKey(shared);
  same(key, "session-key");
  same(handshake.sealWithNonce(key, filled(24, 0x33), hex("challenge-plain")), "challenge-sealed");
  same(handshake.sealWithNonce(key, filled(24, 0x44), hex("challenge-plain")), "response-sealed");
  same(handshake.openWithNonce(key, hex("challenge-sealed")), "challenge-plain");
  assert.equal(handshake.openWithNonce(key, hex("challenge-sealed").slice(1)), undefined);
  assert.equal(handshake.openWithNonce(key, filled(39, 0)), undefined);
});

test("packets of version 2 (15.2 to 15.4)", () => {
  const id = (value) => handshake.encode({ name: "ClientId", id: value });
  same(handshake.encode({ name: "ProtocolVersion", version: 2 }), "new-1");
  same(handshake.encode({ name: "PubKey", point: hex("edge-public") }), "new-2");
  same(handshake.encode({ name: "PubKey", point: hex("client-public") }), "new-3");
  same(id(0x0102030405060708n), "new-4");
  same(frame(utf8("hello")), "new-5");
  same(handshake.encode({ name: "Challenge", sealed: hex("challenge-sealed") }), "back-4");
  same(handshake.encode({ name: "ChallengeResponse", sealed: hex("response-sealed") }), "back-5");
  same(handshake.encode({ name: "Ping" }), "back-6");
  for (const name of names("id-")) {
    same(id(BigInt(name.slice(3))), name);
    assert.equal(handshake.decode(body(name)).id, BigInt(name.slice(3)));
  }
  for (const name of names("version-")) {
    same(handshake.encode({ name: "ProtocolVersion", version: Number(name.slice(8)) }), name);
  }
});

test("bodies and points that are refused (15.6, 15.9)", () => {
  for (const name of names("bad-")) assert.throws(() => handshake.decode(body(name)), Malformed, name);
  const points = names("refused-point-");
  assert.equal(points.length, 7);
  for (const name of points) assert.equal(compressed(handshake.decode(body(name)).point), undefined, name);
  same(compressed(handshake.decode(body("point-long")).point), "client-public");
});

test("nonces, a reflected challenge and a decoy (15.7, 15.8)", () => {
  same(sipHash(hex("nonce-key"), hex("nonce-random")), "nonce-mark");
  same(concat(hex("nonce-random"), hex("nonce-mark")), "nonce-edge");
  same(sha256(utf8("voltlane client nonces"), hex("client-private")).slice(0, 16), "client-nonce-key");
  const nonces = new handshake.OwnNonces(hex("client-private"));
  same(nonces.nonce(hex("nonce-random")), "nonce-client");
  assert.ok(nonces.isOwn(hex("nonce-client")));
  assert.ok(!nonces.isOwn(hex("nonce-edge")));
  const { sealed } = handshake.decode(body("decoy-challenge"));
  assert.equal(handshake.openWithNonce(hex("session-key"), sealed), undefined);
  const reflected = handshake.decode(body("reflected-challenge")).sealed;
  same(handshake.openWithNonce(hex("session-key"), reflected), "challenge-plain");
});

test("frames are the same however the stream is cut", () => {
  const stream = concat(hex("new-5"), frame(filled(0, 0)), hex("back-9"), hex("new-2"));
  for (const size of [1, 2, 3, 5, 100]) {
    const reader = new FrameReader();
    const found = [];
    for (let at = 0; at < stream.length; at += size) {
      reader.push(stream.slice(at, at + size));
      for (let next = reader.next(); next; next = reader.next()) found.push(Buffer.from(next).toString("latin1"));
    }
    assert.deepEqual(found.slice(0, 3), ["hello", "", "world"]);
    assert.equal(found.length, 4);
  }
});

test("the opening of version 3 (30.1 to 30.3)", () => {
  const edge = KeyPair.of(hex("edge-private"));
  same(sha256(edge.public).slice(0, 4), "v3-key-hint");
  const [ours, theirs] = [KeyPair.of(filled(32, 0x33)), KeyPair.of(filled(32, 0x44))];
  const first = ours.agree(theirs.public);
  const second = ours.agree(edge.public);
  same(first, "v3-x-ee");
  same(second, "v3-x-es");
  const welcome = body("v3-welcome");
  const th = sha256(utf8("voltlane 3 join"), body("v3-hello"), welcome.slice(1, 34), welcome.slice(34, 67));
  same(th, "v3-th");
  const prk = extract(utf8("voltlane 3 k256 xchacha20poly1305 sha256"), concat(first, second));
  same(prk, "v3-prk");
  for (const [label, name] of [
    ["hs", "v3-hs"],
    ["up", "v3-join-up"],
    ["down", "v3-join-down"],
    ["rs1", "v3-rs1"],
    ["exporter", "v3-exporter"],
  ]) {
    same(derive(prk, label, th), name);
  }
  same(open(hex("v3-hs"), filled(24, 0), th, welcome.slice(67)), "v3-settings");
  // The Hello of the example, but for the feature bit, is what this client sends.
  const joining = new Joining(filled(32, 0x33), [edge.public], 65_536);
  const hello = Uint8Array.from(joining.hello);
  assert.ok([1, 2, 4, 8, 16, 32, 64, 128].includes(readU32(hello, 1) / 0x1000000));
  hello.set([0, 0, 0, 0x80], 1);
  assert.deepEqual(Buffer.from(hello), Buffer.from(body("v3-hello")));
  const both = expand(hex("v3-join-up"), utf8("record"), 48);
  same(both.slice(0, 32), "v3-record-key");
  same(both.slice(32), "v3-record-prefix");
  const up = new Lane(hex("v3-join-up"));
  const down = new Lane(hex("v3-join-down"));
  same(frame(up.seal(1n, hex("v3-join-items"))), "v3-join-record");
  same(frame(up.seal(2n, hex("v3-ack-items"))), "v3-ack-record");
  assert.deepEqual(down.open(1n, body("v3-reply-record")), Uint8Array.from(hex("v3-reply-items")));
});

test("resuming in version 3 (30.4, 30.5)", () => {
  const settings = hex("v3-settings");
  const session = Resumable.begin(settings, hex("v3-key-hint"), hex("v3-rs1"));
  const attempt = session.attempt(filled(32, 0x55), 2n, 1n);
  assert.deepEqual(Buffer.from(frame(attempt.claim)), Buffer.from(hex("v3-claim")));
  same(attempt.tc, "v3-tc");
  same(attempt.tc.slice(0, 8), "v3-mark");
  same(attempt.early, "v3-ek");
  const early = new Lane(attempt.early);
  const again = new Writer();
  writePacket(again, utf8("again"));
  same(frame(early.seal(2n, again.take())), "v3-early-record");
  const outcome = session.answer(attempt, body("v3-answer"));
  assert.equal(outcome.type, "up");
  same(outcome.up, "v3-up");
  same(outcome.down, "v3-down");
  const down = new Lane(outcome.down);
  const resumed = down.open(2n, body("v3-resumed-record"));
  assert.deepEqual(resumed, Uint8Array.from(hex("v3-resumed-items")));
  assert.equal(session.resumed(attempt, filled(8, 0)), false);
  same(session.state.secret, "v3-rs2");
  same(frame(early.seal(3n, writeType(new Writer(), Type.earlyEnd).take())), "v3-early-end-record");
  const up = new Lane(outcome.up);
  const more = writeType(new Writer(), Type.ack).varint(2);
  writePacket(more, utf8("more"));
  same(frame(up.seal(3n, more.take())), "v3-up-record");
  const none = { superseded: 0n, gapped: 0n, openUnsent: 0n, skipped: 0n };
  const goodbye = new Writer();
  writeClose(
    goodbye,
    0,
    0n,
    { numbered: 3n, acknowledged: 1n, openSent: 2n, ...none },
    { numbered: 2n, acknowledged: 2n, openSent: 0n, ...none },
  );
  same(goodbye.take(), "v3-goodbye-items");
  same(frame(up.seal(4n, hex("v3-goodbye-items"))), "v3-goodbye-record");
  assert.deepEqual(down.open(3n, body("v3-last-record")), Uint8Array.from(hex("v3-last-items")));
  // The Claim comes a second time.
  const second = Resumable.begin(settings, hex("v3-key-hint"), hex("v3-rs1"));
  const stale = second.answer(second.attempt(filled(32, 0x55), 2n, 1n), body("v3-stale"));
  assert.equal(stale.type, "again");
  const busy = second.answer(second.attempt(filled(32, 0x55), 2n, 1n), body("v3-busy"));
  assert.deepEqual({ ...busy.busy }, { code: 204, wait: 1_000 });
});

test("items of version 3, right and wrong (30.6, 30.7)", () => {
  const down = ["packet", "empty", "pad", "ack", "ack-now", "part", "gap", "superseded", "latest", "volatile", "skipped"];
  down.push("resumed", "resumed-twice", "ping", "pong", "goaway", "close", "ignored");
  for (const name of down) {
    const reader = new Reader(hex(`v3-item-${name}`));
    readItem(reader);
    assert.equal(reader.rest, 0, name);
  }
  for (const name of ["token", "early-end"]) readItemUp(new Reader(hex(`v3-item-${name}`)));
  assert.deepEqual(readItem(new Reader(hex("v3-item-gap"))), { type: "gap", count: 2n, bytes: 70_000n, reason: 1 });
  assert.deepEqual(readItem(new Reader(hex("v3-item-close"))).text, "bye");
  for (const name of names("v3-bad-down-")) assert.throws(() => readItem(new Reader(hex(name))), Malformed, name);
  for (const name of names("v3-bad-up-")) assert.throws(() => readItemUp(new Reader(hex(name))), Malformed, name);
});

test("every example that concerns a client was used", () => {
  // Those of the backend link, of an edge's own secrets, and repeated ones.
  const others = /^(new-6|back-|tagged-|loss-|decoy-key|reflected-response|nonce-key|v3-(master|handle|version|position|seal-key|verdict|ka|tr|claim-key|not-here|bad-packet))/;
  const left = [...OF_CLIENTS].filter((name) => !used.has(name) && !others.test(name));
  assert.deepEqual(left, []);
});

test("secrets are compared whole, and sealed values do not open when changed", () => {
  assert.ok(equal(filled(3, 1), filled(3, 1)));
  assert.ok(!equal(filled(3, 1), Uint8Array.of(1, 1, 2)));
  assert.ok(!equal(filled(3, 1), filled(4, 1)));
  const sealed = seal(filled(32, 1), filled(24, 2), filled(0, 0), utf8("secret"));
  for (let bit = 0; bit < 8 * sealed.length; bit += 5) {
    const changed = Uint8Array.from(sealed);
    changed[bit >> 3] ^= 1 << (bit & 7);
    assert.equal(open(filled(32, 1), filled(24, 2), filled(0, 0), changed), undefined);
  }
});

test("keys that are wiped are gone", () => {
  const pair = KeyPair.of(filled(32, 7));
  pair.wipe();
  assert.deepEqual(pair.secret, filled(32, 0));
});

test("saved sessions of version 2: the bytes are those of the Rust library; damaged ones are none", () => {
  const edgeKey = KeyPair.of(filled(32, 0x22)).public;
  const saved = concat(Uint8Array.of(1), u64(0x0102030405060708n), filled(32, 0x11), edgeKey);
  const machine = () => new Machine({ ...DEFAULTS, versions: "2" }, (length) => new Uint8Array(length));
  const restored = machine();
  assert.ok(restored.restore(0, saved));
  assert.equal(restored.id, 0x0102030405060708n);
  assert.deepEqual(restored.save(), saved);
  const isNone = (bytes) => assert.throws(() => machine().restore(0, bytes), { name: "SavedError" });
  for (let length = 0; length < saved.length; length++) isNone(saved.slice(0, length));
  isNone(concat(saved, filled(1, 0)));
  isNone(concat(Uint8Array.of(2), saved.slice(1)));
  isNone(Uint8Array.from(saved).fill(0, 9, 41));
  assert.equal(new Machine({ ...DEFAULTS, versions: "3" }, (length) => new Uint8Array(length)).restore(0, saved), false);
});
