// The cases of a client, which the Rust core and the other libraries run as well.
import assert from "node:assert/strict";
import { test } from "node:test";
import { playAll, readCases } from "./cases/language.js";
import { World2 } from "./cases/edge2.js";
import { World3 } from "./cases/edge3.js";

const directory = new URL("../../../sim/cases/", import.meta.url);
const CHUNKS = [Infinity, 1, 7];

for (const [file, World, least] of [
  ["client.txt", World2, 150],
  ["v3/client.txt", World3, 700],
]) {
  test(`every case of ${file}, whole and in pieces`, (context) => {
    const cases = readCases(new URL(file, directory));
    const { played, failures } = playAll(cases, CHUNKS, (config, chunk) => new World(config, chunk));
    assert.equal(failures.join("\n"), "");
    assert.ok(played >= least, `${played} were played`);
    context.diagnostic(`${played} runs of ${cases.length} cases`);
  });

  test(`every case of ${file}, with Buffers`, () => {
    const cases = readCases(new URL(file, directory));
    const { failures } = playAll(cases, [Infinity], (config, chunk) => {
      const world = new World(config, chunk);
      // They lie in a pool that others write to as well, and a slice of one is no copy.
      world.side.form = (bytes) => Buffer.from(bytes);
      return world;
    });
    assert.equal(failures.join("\n"), "");
  });
}
