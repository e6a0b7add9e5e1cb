// The browser's file in Chromium, against the real edge: two pages in a room, one loses its network and is loaded again.
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import * as http from "node:http";
import * as path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { everyone, listen } from "../dist/index.js";
import { show, skip } from "./chromium.js";
import { Edge, PATIENCE_MS, Relay, certificates, scratch, within } from "./rig.js";

/** Serves the page and the library, and speaks with each page by its name. */
class Site {
  told = new Map();
  commands = new Map();
  waiting = new Map();
  wakes = [];

  static async open(library) {
    const site = new Site();
    const files = {
      "/": ["text/html", new URL("page.html", import.meta.url)],
      "/voltlane.js": ["text/javascript", library],
    };
    site.server = http.createServer((request, response) => {
      const [where] = request.url.split("?");
      const [, verb, name] = where.split("/");
      if (files[where]) {
        response.setHeader("Content-Type", files[where][0]);
        return response.end(readFileSync(files[where][1]));
      }
      if (verb === "told") {
        let text = "";
        request.on("data", (chunk) => (text += chunk));
        return request.on("end", () => {
          site.heard(name).push(JSON.parse(text));
          response.end();
          for (const wake of site.wakes.splice(0)) wake();
        });
      }
      if (verb === "next") {
        const [command] = (site.commands.get(name) ?? []).splice(0, 1);
        if (command) return response.end(JSON.stringify(command));
        site.waiting.get(name)?.end("{}");
        return site.waiting.set(name, response);
      }
      response.statusCode = 404;
      response.end();
    });
    await new Promise((done) => site.server.listen(0, "127.0.0.1", done));
    site.origin = `http://127.0.0.1:${site.server.address().port}`;
    return site;
  }

  heard(name) {
    if (!this.told.has(name)) this.told.set(name, []);
    return this.told.get(name);
  }

  tell(name, command) {
    const response = this.waiting.get(name);
    this.waiting.delete(name);
    if (response && !response.destroyed) return response.end(JSON.stringify(command));
    this.commands.set(name, [...(this.commands.get(name) ?? []), command]);
  }

  async until(name, is, what) {
    const found = async () => {
      for (;;) {
        const fault = this.heard(name).find(({ type }) => type === "fault");
        assert.ok(!fault, `${name}: ${fault?.text}`);
        const one = this.heard(name).find(is);
        if (one) return one;
        await new Promise((wake) => this.wakes.push(wake));
      }
    };
    return within(found(), `${name}: ${what}; it told ${JSON.stringify(this.heard(name).slice(-5))}`, 2 * PATIENCE_MS);
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

const pem = (file) => JSON.stringify(path.join(certificates, file));
const KEYS = {
  ws: 'listener.transport = "ws"\n',
  // It does not know Ed25519.
  wss: `listener.transport = "wss"\nlistener.certificate_file = ${pem("wild.pem")}\nlistener.key_file = ${pem("wild.key")}\n`,
};

/** What a page's bundler makes of the small client and its parts. */
async function bundled(directory) {
  const outfile = path.join(directory, "bundle.js");
  const contents = `
    import { connect as begin } from "voltlane/small";
    import { savedSessions, tabStore, version2 } from "voltlane/parts";
    export const connect = (address, options) => begin(address, { ...options, with: [savedSessions, version2] });
    export { tabStore };`;
  await build({ stdin: { contents, resolveDir: fileURLToPath(new URL("..", import.meta.url)) }, bundle: true, format: "esm", outfile });
  return outfile;
}

for (const [scheme, versions, library] of [
  ["ws", "[2, 3]", "browser.min.js"],
  ["wss", "[2, 3]", "browser.min.js"],
  ["ws", "[2]", "browser.min.js"],
  ["ws", "[3]", "small.min.js"],
  ["ws", "[2]", "the small client with all parts"],
]) {
  test(`two pages over ${scheme}, with an edge of versions ${versions}, by ${library}`, { skip }, async (context) => {
    const keeps = library !== "small.min.js";
    const directory = scratch();
    context.after(() => rmSync(directory, { recursive: true }));
    const site = await Site.open(library.endsWith(".js") ? new URL(`../dist/${library}`, import.meta.url) : await bundled(directory));
    const backend = await listen("127.0.0.1:0");
    const config = `${KEYS[scheme]}listener.versions = ${versions}\nlistener.origins = ["${site.origin}"]\n`;
    const edge = await Edge.start(`127.0.0.1:${backend.address.port}`, `${config}clients.missed_packets_buffer_size = 4000\n`);
    const relay = await Relay.to(edge.address);
    const near = await Relay.to(edge.address);
    const up = [];
    void (async () => {
      for await (const event of backend) {
        if (event.type !== "packet") continue;
        up.push(event.text.slice(0, 99));
        await backend.send(everyone, event.data);
      }
    })();
    const page = (relayed, name) => `${site.origin}/?${encodeURIComponent(`${scheme}://${relayed.address}/ ${name}`)}`;
    const closes = [show(page(relay, "a")), show(page(near, "b"))];
    context.after(async () => {
      for (const close of closes) await close();
      for (const one of [relay, near]) one.stop();
      site.close();
      await edge.stop();
      await backend.close();
    });
    const version = versions === "[2]" ? 2 : 3;
    const { id } = await site.until("a", ({ type }) => type === "client", "it joins");
    assert.equal((await site.until("b", ({ type }) => type === "client", "it joins")).version, version);
    site.tell("a", { send: ["a is here"] });
    await site.until("a", ({ text }) => text === "a is here", "its own words");
    site.tell("b", { send: ["b is here"], size: 1 << 20 });
    for (const name of ["a", "b"]) await site.until(name, ({ text }) => text === 1 << 20, "1 MiB");

    // The network of one is gone, and both go on.
    relay.isOff = true;
    relay.cut();
    if (version === 2) await site.until("a", ({ type }) => type === "dropped", "it is away");
    site.tell("a", { send: ["from a, away"] });
    site.tell("b", { send: Array.from({ length: 200 }, (_, at) => `b ${at}`) });
    await site.until("b", ({ text }) => text === "b 199", "its own words");
    relay.isOff = false;
    await site.until("a", ({ text }) => text === "b 199", "what it has missed");
    await site.until("a", ({ type }) => type === "resumed", "it is back");
    for (const name of ["a", "b"]) await site.until(name, ({ text }) => text === "from a, away", "words of a");

    // A page that is loaded again is the same client, if it keeps its session.
    if (version === 3) {
      site.tell("a", { flush: true });
      await site.until("a", ({ type }) => type === "flushed", "what it said was acknowledged");
    }
    const before = keeps ? site.told.get("a") : [];
    if (keeps) {
      site.told.set("a", []);
      site.tell("a", { reload: true });
      assert.equal((await site.until("a", ({ type }) => type === "client", "it is loaded")).id, id);
    }
    site.tell("b", { send: ["welcome back"] });
    await site.until("a", ({ text }) => text === "welcome back", "words to the page that was loaded");
    site.tell("a", { send: ["thanks"] });
    await site.until("b", ({ text }) => text === "thanks", "words of the page that was loaded");

    const texts = (heard) => heard.filter(({ type }) => type === "packet").map(({ text }) => text);
    const a = texts([...before, ...site.heard("a")]);
    assert.equal(new Set(a).size, a.length, "a packet came twice");
    const b = texts(site.heard("b"));
    // Both have seen the same, once and in order, from b's first words on.
    assert.deepEqual(a.slice(a.indexOf("b is here")).filter((text) => text !== "thanks"), b.slice(b.indexOf("b is here")).filter((text) => text !== "thanks"));
    assert.equal(up.filter((text) => text === "from a, away").length, 1);
    site.tell("a", { close: true });
    const closed = await site.until("a", ({ type }) => type === "closed", "the goodbye");
    assert.equal(closed.code, 0);
  });
}
