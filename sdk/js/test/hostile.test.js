// Whatever an edge sends, a client takes it or ends the connection: it never throws, never hangs, and holds no more than it should.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Machine } from "../dist/machine.js";
import { Writer, concat, u32 } from "../dist/core/bytes.js";
import { sha256 } from "../dist/core/keys.js";
import { Bodies } from "./cases/language.js";
import { World2 } from "./cases/edge2.js";
import { World3 } from "./cases/edge3.js";
import { bytesOf } from "./rig.js";

const SEEDS = 120;

/** Numbers that a seed gives. */
function dice(seed) {
  const bytes = bytesOf(seed, 4_096);
  let at = 0;
  const byte = () => bytes[at++ % bytes.length];
  return { byte, below: (most) => (256 * byte() + byte()) % most, bytes: (length) => Uint8Array.from({ length }, byte) };
}

/** Ways to the states of a client of version 3. */
const JOINED = [["client", "connects"], ["client", "sends", "version:3", "hello"], ["edge", "sends", "welcome"], ["client", "gets", "connected"]];
const STATES = {
  welcome: JOINED.slice(0, 2),
  open: JOINED,
  answer: [...JOINED, ["client", "sends", "token:[]"], ["edge", "breaks"], ["client", "connects"], ["client", "sends", "version:3", "claim", "empty"]],
};
STATES.resumed = [...STATES.answer, ["edge", "sends", "answer:0"]];

function reach(state) {
  const world = new World3({}, Infinity);
  for (const line of STATES[state]) world.step([...line]);
  assert.equal(world.machine.state, state);
  return world;
}

/** Records whose items are nearly right: heads of every type, then what comes. */
function items({ byte, below, bytes }) {
  const plain = new Writer();
  for (let count = below(6); count >= 0; count--) {
    const kind = below(40);
    if (byte() < 40) plain.put(bytes(below(40)));
    else if (kind === 39) plain.varint(2 * below(50)).put(bytes(below(50)));
    else {
      plain.varint(2 * kind + 1);
      for (let fields = below(5); fields > 0; fields--) plain.varint(byte() < 200 ? byte() : 256 * byte() + byte());
    }
  }
  return plain.take();
}

const OVER = ["waiting", "connecting", "over", "leaving", "closing"];
const isSane = ({ machine }, was) => assert.ok(machine.state === was || OVER.includes(machine.state) || machine.state === "open", machine.state);

for (const state of Object.keys(STATES)) {
  test(`bytes of all kinds in ${state}`, () => {
    for (let seed = 0; seed < SEEDS / 4; seed++) {
      const world = reach(state);
      const { below, bytes } = dice(seed);
      const body = bytes(below(300));
      // A first byte that a packet of the opening has, or any.
      if (body.length > 0 && seed % 2 === 0) body[0] = 0x10 + (seed % 5);
      world.side.deliver(seed % 3 === 0 ? body : concat(u32(body.length), body));
      isSane(world, state);
      world.side.wait(20_000);
    }
  });
}

for (const state of ["open", "resumed"]) {
  test(`items of all kinds in ${state}`, () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      const world = reach(state);
      const { line } = world;
      const body = line.sealer.seal(line.nextDown, items(dice(seed)));
      world.side.deliver(concat(u32(body.length), body));
      isSane(world, state);
      world.side.wait(20_000);
      assert.ok(world.machine.ledger.down.numbered >= world.machine.ledger.down.acknowledged);
    }
  });
}

test("frames of all kinds in each state of version 2", () => {
  const steps = [["client", "connects"], ["edge", "sends", "key"], ["client", "sends", "version:2", "key"], ["edge", "sends", "id"]];
  for (let seed = 0; seed < SEEDS; seed++) {
    const world = new World2({}, Infinity);
    for (const line of steps.slice(0, 1 + (seed % steps.length))) world.step(line);
    const { below, bytes } = dice(seed);
    const body = bytes(below(160));
    if (body.length > 0 && seed % 2 === 0) body[0] = seed % 7;
    world.side.deliver(seed % 3 === 0 ? body : concat(u32(body.length), body));
    world.side.wait(20_000);
    world.side.bodies = new Bodies();
  }
});

test("saved sessions of all kinds restore or do not", () => {
  const world = reach("open");
  world.machine.send(new Uint8Array(10));
  const saved = world.machine.save();
  const { config } = world.machine;
  for (let seed = 0; seed < SEEDS; seed++) {
    const { below, byte } = dice(seed);
    const bytes = Uint8Array.from(seed % 2 === 0 ? saved : saved.slice(0, below(saved.length)));
    bytes[below(bytes.length || 1)] ^= byte();
    // Behind its check, too.
    if (seed % 3 === 0 && bytes.length > 17) bytes.set(sha256(bytes.subarray(0, -8)).subarray(0, 8), bytes.length - 8);
    try {
      new Machine(config, (length) => new Uint8Array(length)).restore(0, bytes);
    } catch (error) {
      assert.equal(error.name, "SavedError");
    }
  }
  const again = new Machine(config, (length) => new Uint8Array(length));
  assert.ok(again.restore(0, saved));
  assert.deepEqual(again.save(), saved);
});
