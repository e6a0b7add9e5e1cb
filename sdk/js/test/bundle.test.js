// The files for pages: what is in them, and that their ciphers are those of the modules.
import assert from "node:assert/strict";
import * as crypto from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import * as modules from "../dist/core/keys.js";
import { noble } from "../tools/noble/plugin.js";
import { bytesOf } from "./rig.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const LENGTHS = [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 4_096, 65_537];

async function bundle(options) {
  const { outputFiles } = await build({ bundle: true, format: "esm", write: false, platform: "browser", absWorkingDir: root, ...options });
  return outputFiles[0].text;
}

test("seals, hashes and derives as Node.js does, in the modules and in the bundles", async (context) => {
  const directory = mkdtempSync(path.join(tmpdir(), "voltlane-js-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const outfile = path.join(directory, "keys.mjs");
  await build({ entryPoints: [path.join(root, "dist/core/keys.js")], bundle: true, format: "esm", outfile, plugins: [noble], logLevel: "error" });
  const text = readFileSync(outfile, "utf8");
  assert.ok(!/expected Uint8Array, got|counter overflow/.test(text), "noble's own checks are in the bundle");
  for (const keys of [modules, await import(outfile)]) {
    for (const length of LENGTHS) {
      const [secret, nonce, data] = [bytesOf(length, 32), bytesOf(length + 1, 24), bytesOf(length + 2, length)];
      const associated = data.subarray(0, 40);
      assert.deepEqual(Buffer.from(keys.sha256(data, secret)), crypto.createHash("sha256").update(data).update(secret).digest());
      const made = crypto.hkdfSync("sha256", data, nonce, associated, 80);
      assert.deepEqual(Buffer.from(keys.expand(keys.extract(nonce, data), associated, 80)), Buffer.from(made));

      // A lane is ChaCha20-Poly1305 under a key that HChaCha20 makes of the first 16 bytes of its nonce.
      const [lane, other] = [new keys.Lane(secret), new modules.Lane(secret)];
      const sealed = lane.seal(7n, data);
      assert.deepEqual(other.open(7n, sealed), data);
      assert.deepEqual(lane.open(7n, other.seal(7n, data)), data);
      const whole = keys.seal(secret, nonce, associated, data);
      assert.deepEqual(keys.open(secret, nonce, associated, whole), data);
      assert.deepEqual(whole, modules.seal(secret, nonce, associated, data));
      for (const at of [0, whole.length - 17, whole.length - 1]) {
        const bad = whole.slice();
        bad[Math.max(at, 0)] ^= 1;
        assert.equal(keys.open(secret, nonce, associated, bad), undefined);
      }
      assert.equal(keys.open(secret, nonce, associated, whole.subarray(0, 15)), undefined);
    }
    for (const secret of [new Uint8Array(32), new Uint8Array(32).fill(255), new Uint8Array(31).fill(1)]) assert.equal(keys.KeyPair.of(secret), undefined);
    const [mine, theirs] = [1, 2].map((seed) => ({ secret: bytesOf(seed, 32), node: crypto.createECDH("secp256k1") }));
    for (const { node, secret } of [mine, theirs]) node.setPrivateKey(secret);
    const pair = keys.KeyPair.of(mine.secret);
    assert.deepEqual(Buffer.from(pair.public), mine.node.getPublicKey(null, "compressed"));
    assert.deepEqual(Buffer.from(pair.agree(theirs.node.getPublicKey())), mine.node.computeSecret(theirs.node.getPublicKey()));
    // No point of the curve has this x.
    const none = new Uint8Array(33);
    [none[0], none[32]] = [2, 5];
    assert.equal(pair.agree(none), undefined);
    assert.equal(keys.compressed(none), undefined);
  }
});

test("the files for pages have every public name", async () => {
  const types = readFileSync(path.join(root, "dist/client.d.ts"), "utf8");
  const names = [...types.matchAll(/^ {4}(?:get )?(\w+)(?=[(<])/gm)].map(([, name]) => name).filter((name) => name !== "constructor");
  assert.ok(names.length > 20 && names.includes("sendVolatile") && names.includes("edgeKey"), `${names}`);
  for (const file of ["browser", "small"]) {
    const whole = await import(`../dist/${file}.js`);
    const bundled = await import(`../dist/${file}.min.js`);
    assert.deepEqual(Object.keys(bundled).sort(), Object.keys(whole).sort());
    for (const name of names) assert.ok(name in bundled.Client.prototype, `${file}: ${name}`);
    assert.equal(new bundled.Packet(new Uint8Array([104, 105]), 7).text, "hi");
    const { length, max, name, message } = new bundled.TooLong(9, 8);
    assert.deepEqual([length, max, name, message.slice(0, 29)], [9, 8, "TooLong", "packet of 9 bytes, 8 allowed "]);
    await assert.rejects(bundled.connect("tcp://here:1"), { name: "ConfigError", message: /a page connects with ws:/ });
  }
  const { connect } = await import("../dist/small.min.js");
  for (const options of [{ session: new Uint8Array(74) }, { ack: "saved" }]) {
    await assert.rejects(connect("ws://127.0.0.1:9/", options), { name: "ConfigError", message: /savedSessions/ });
  }
  await assert.rejects(connect("ws://127.0.0.1:9/", { versions: "3 or 2" }), { name: "ConfigError", message: /version2/ });
});

test("a bundler leaves out the parts that a page does not name", async () => {
  const words = { version2: "voltlane client nonces", savedSessions: "VLSAVED" };
  for (const wanted of [[], ["version2"], ["savedSessions"], ["version2", "savedSessions"]]) {
    const contents = `import { connect } from "voltlane/small"; import { ${wanted} } from "voltlane/parts"; connect("ws://x/", { with: [${wanted}] });`;
    const text = await bundle({ stdin: { contents, resolveDir: root }, minify: true });
    for (const [part, word] of Object.entries(words)) assert.equal(text.includes(word), wanted.includes(part), `${wanted}: ${part}`);
    assert.ok(!text.includes("SessionInUse"), "what only Node.js has");
  }
});
