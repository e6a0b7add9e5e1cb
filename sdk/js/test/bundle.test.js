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

/**
 * HChaCha20 (draft-irtf-cfrg-xchacha-03, 2.2) with the ChaCha20 of Node.js, whose key stream is the state behind the rounds and the first state,
 * added: without that, its first and its last four words.
 */
function hchacha(key, nonce) {
  const stream = crypto.createCipheriv("chacha20", key, nonce).update(new Uint8Array(64));
  const first = Buffer.concat([Buffer.from("expand 32-byte k"), nonce]);
  const subkey = Buffer.alloc(32);
  for (let at = 0; at < 32; at += 4) subkey.writeUInt32LE((stream.readUInt32LE(at < 16 ? at : at + 32) - first.readUInt32LE(at)) >>> 0, at);
  return subkey;
}

/** Seals as RFC 8439 says, with Node.js. */
function nodeSeals(key, nonce, associated, plain) {
  const cipher = crypto.createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  cipher.setAAD(associated, { plaintextLength: plain.length });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** The nonce of XChaCha20 behind its first 16 bytes, or a count, as one of ChaCha20. */
const nonceOf = (rest) => Buffer.concat([new Uint8Array(4), rest]);

/** Seals with XChaCha20-Poly1305. */
const nodeSealsExtended = (key, nonce, associated, plain) =>
  nodeSeals(hchacha(key, nonce.subarray(0, 16)), nonceOf(nonce.subarray(16)), associated, plain);

/** Seals the first record of a lane (SPEC 20.5). */
function nodeSealsRecord(secret, number, plain) {
  const hmac = (...parts) => parts.reduce((hash, part) => hash.update(part), crypto.createHmac("sha256", secret)).digest();
  const first = hmac("record", Uint8Array.of(1));
  const key = hchacha(first, hmac(first, "record", Uint8Array.of(2)).subarray(0, 16));
  const associated = Buffer.alloc(8);
  associated.writeBigUInt64LE(number);
  return nodeSeals(key, nonceOf(new Uint8Array(8)), associated, plain);
}

// draft-irtf-cfrg-xchacha-03, A.3.1.
const PUBLISHED = {
  key: Buffer.from("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "hex"),
  nonce: Buffer.from("404142434445464748494a4b4c4d4e4f5051525354555657", "hex"),
  associated: Buffer.from("50515253c0c1c2c3c4c5c6c7", "hex"),
  plain: Buffer.from(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  ),
  tag: "c0875924c1c7987947deafd8780acf49",
};

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

      const record = nodeSealsRecord(secret, 7n, data);
      const sealing = new keys.Lane(secret);
      assert.deepEqual(Buffer.from(sealing.seal(7n, data)), record);
      assert.deepEqual(new keys.Lane(secret).open(7n, record), data);
      assert.equal(new keys.Lane(secret).open(8n, record), undefined);
      // Its nonces count.
      const opening = new keys.Lane(secret);
      assert.deepEqual(opening.open(7n, record), data);
      assert.equal(opening.open(7n, record), undefined);
      const next = sealing.seal(8n, data);
      assert.notDeepEqual(Buffer.from(next), nodeSealsRecord(secret, 8n, data));

      const whole = keys.seal(secret, nonce, associated, data);
      assert.deepEqual(Buffer.from(whole), nodeSealsExtended(secret, nonce, associated, data));
      // A Buffer lies somewhere in a pool, and its slices are no copies.
      const lying = [secret, nonce, associated, data].map((bytes) => Buffer.from(bytes));
      assert.deepEqual(keys.seal(...lying), whole);
      assert.deepEqual(new keys.Lane(lying[0]).open(7n, Buffer.from(record)), data);
      assert.deepEqual(lying[0], Buffer.from(secret), "the key of others is not wiped");
      const opens = (sealed, more = associated, key = secret) => keys.open(key, nonce, more, sealed);
      assert.deepEqual(opens(whole), data);
      assert.deepEqual(opens(Buffer.from(whole)), data);
      const changed = (bytes, at) => bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));
      // The first and the last byte, and of the tag each.
      for (const at of [0, length - 1, ...Array.from({ length: 16 }, (_, of) => length + of)]) {
        if (at >= 0) assert.equal(opens(changed(whole, at)), undefined, `byte ${at} of ${length}`);
      }
      assert.equal(opens(whole.subarray(0, 15)), undefined);
      assert.equal(opens(whole.subarray(0, -1)), undefined);
      assert.equal(opens(whole, Uint8Array.of(...associated, 0)), undefined);
      if (associated.length > 0) {
        assert.equal(opens(whole, changed(associated, 0)), undefined);
        assert.equal(opens(whole, changed(associated, associated.length - 1)), undefined);
        assert.equal(opens(whole, associated.subarray(1)), undefined);
      }
      assert.equal(opens(whole, associated, changed(secret, 31)), undefined);
    }
    {
      const { key, nonce, associated, plain, tag } = PUBLISHED;
      const whole = keys.seal(key, nonce, associated, plain);
      assert.equal(Buffer.from(whole.subarray(plain.length)).toString("hex"), tag);
      assert.deepEqual(Buffer.from(whole), nodeSealsExtended(key, nonce, associated, plain));
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
