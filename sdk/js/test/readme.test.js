// The first example of README.md, pasted.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import * as path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Edge, scratch } from "./rig.js";

const root = fileURLToPath(new URL("..", import.meta.url));

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

test("the first example of the README", async (context) => {
  const [, example] = /```js\n(.*?)```/s.exec(readFileSync(path.join(root, "README.md"), "utf8"));
  const backend = `127.0.0.1:${await freePort()}`;
  const edge = await Edge.start(backend);
  const directory = scratch();
  context.after(async () => {
    await edge.stop();
    rmSync(directory, { recursive: true });
  });
  mkdirSync(path.join(directory, "node_modules"));
  symlinkSync(root, path.join(directory, "node_modules/voltlane"));
  // As it is pasted, but for the ports, which others may have.
  const text = example.replaceAll("127.0.0.1:42001", backend).replaceAll("127.0.0.1:42000", edge.address);
  writeFileSync(path.join(directory, "chat.mjs"), text);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["chat.mjs"], { cwd: directory, timeout: 60_000 });
  assert.equal(stderr, "");
  assert.match(stdout, /^[0-9a-f]{16}: Is anybody here\?\n[0-9a-f]{16}: I am!\n1 of 1 packets have arrived\n$/);
});

test("the package has what its exports name", async () => {
  const { exports } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  const files = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(files));
  for (const file of files(exports)) assert.ok(readFileSync(path.join(root, file)).length > 0, file);
  // A page's bundler gets no module of Node.js.
  const browser = readFileSync(path.join(root, "dist/browser.min.js"), "utf8");
  assert.ok(!/node:|require\(/.test(browser));
});
