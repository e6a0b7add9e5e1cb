// The real edge, relays that cut, and what else tests need.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
export const certificates = join(here, "../../../doors/tests/certificates");

/** The edge's program: VOLTLANE, or what cargo has built last. */
export function program() {
  const target = process.env.CARGO_TARGET_DIR ?? join(here, "../../../target");
  const places = [process.env.VOLTLANE, join(target, "release/voltlane"), join(target, "debug/voltlane")];
  const found = places.find((path) => path && existsSync(path));
  assert.ok(found, "there is no voltlane: build it (cargo build -p voltlane), or name it in VOLTLANE");
  // It is started in other directories.
  return resolve(found);
}

export const scratch = () => mkdtempSync(join(tmpdir(), "voltlane-js-"));

/** How long a test waits for what must come. */
export const PATIENCE_MS = 30_000;

export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`too late: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** An edge in front of `backend`, with `config` as its configuration. */
export class Edge {
  lines = [];

  static async start(backend, config = "", directory = scratch(), listen = "127.0.0.1:0") {
    const edge = new Edge();
    edge.directory = directory;
    writeFileSync(join(directory, "connserver.toml"), `general.shards = 2\nmetrics.address = ""\n${config}`);
    edge.process = spawn(program(), ["--listen", listen, "--master", backend], { cwd: directory });
    edge.process.stderr.setEncoding("utf8").on("data", (text) => edge.lines.push(text));
    edge.process.stdout.setEncoding("utf8").on("data", (text) => edge.lines.push(text));
    edge.ended = new Promise((resolve) => edge.process.on("exit", resolve));
    edge.address = (await edge.says(/listening address=(\S+)/))[1];
    return edge;
  }

  /** Waits until its log has what `pattern` matches. */
  async says(pattern) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = pattern.exec(this.lines.join(""));
      if (found) return found;
      const waits = Date.now() < deadline && this.process.exitCode === null;
      assert.ok(waits, `it does not say ${pattern}:\n${this.lines.join("")}`);
      await new Promise((wake) => setTimeout(wake, 10));
    }
  }

  async stop(signal = "SIGTERM", keeps = false) {
    this.process.kill(signal);
    await within(this.ended, "the end of the edge");
    if (!keeps) rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Passes TCP connections on, and cuts them when it is told, or after so many bytes. */
export class Relay {
  pairs = new Set();
  accepted = 0;
  cutsAfter = Infinity;
  isOff = false;

  static async to(address) {
    const relay = new Relay();
    relay.leadTo(address);
    relay.server = net.createServer((near) => {
      if (relay.isOff) return near.destroy();
      relay.accepted += 1;
      const [host, port] = relay.to.split(":");
      const far = net.connect({ host, port: Number(port), noDelay: true });
      near.setNoDelay(true);
      let passed = 0;
      const pair = () => {
        near.destroy();
        far.destroy();
        relay.pairs.delete(pair);
      };
      relay.pairs.add(pair);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ]) {
        from.on("data", (bytes) => {
          passed += bytes.length;
          if (!to.write(bytes)) from.pause();
          if (passed >= relay.cutsAfter) setImmediate(pair);
        });
        to.on("drain", () => from.resume());
        from.on("end", () => to.end());
        from.on("error", pair);
        from.on("close", pair);
      }
    });
    await new Promise((done) => relay.server.listen(0, "127.0.0.1", done));
    relay.address = `127.0.0.1:${relay.server.address().port}`;
    return relay;
  }

  /** Where those go that come from now on. */
  leadTo(address) {
    this.to = address;
  }

  cut() {
    for (const pair of [...this.pairs]) pair();
  }

  stop() {
    this.server.close();
    this.cut();
  }
}

/** Bytes that tell where they are. */
export function bytesOf(seed, length) {
  const bytes = new Uint8Array(length);
  let state = (seed * 2_654_435_761 + 12_345) >>> 0;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** Reads the events of a client or a backend until `until` says so. */
export async function readUntil(events, until, what = "the event") {
  const read = [];
  await within(
    (async () => {
      for await (const event of events) {
        read.push(event);
        if (until(event, read)) return;
      }
      throw new Error(`the events end before ${what}: ${read.map(({ type }) => type)}`);
    })(),
    what,
  );
  return read;
}
