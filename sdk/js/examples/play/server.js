// A drawing that all share, with everybody's cursor: an edge, its backend, and the page, in one command.
//
//     node examples/play/server.js [PORT OF THE PAGE]
//
// The edge's program is taken from VOLTLANE, or from cargo's target directory.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { everyone, listen } from "voltlane";

/** Lines that whoever comes is shown. Older ones are forgotten. */
const MAX_LINES = 5_000;
const LINES_OF_A_PACKET = 200;

const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../../target", import.meta.url));
const program = [process.env.VOLTLANE, join(target, "release/voltlane"), join(target, "debug/voltlane")].find((path) => path && existsSync(path));
if (!program) throw new Error("there is no voltlane: cargo build --release -p voltlane");

// The page.
const files = {
  "/": ["text/html; charset=utf-8", new URL("index.html", import.meta.url)],
  "/voltlane.js": ["text/javascript", new URL("../../dist/browser.min.js", import.meta.url)],
};
let edgeUrl = "";
const site = http.createServer((request, response) => {
  const file = files[request.url];
  if (request.url === "/edge") return response.end(edgeUrl);
  if (!file) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": file[0] }).end(readFileSync(file[1]));
});
await new Promise((done) => site.listen(Number(process.argv[2] ?? 0), "127.0.0.1", done));
const origin = `http://127.0.0.1:${site.address().port}`;

// The backend: what one says, all others hear.
const backend = await listen("127.0.0.1:0");
const lines = [];
backend.on("packet", ({ id, text }) => {
  const [verb, rest] = [text.split(" ", 1)[0], text.slice(text.indexOf(" ") + 1)];
  if (verb === "hello") {
    for (let at = 0; at < lines.length; at += LINES_OF_A_PACKET) backend.send(id, lines.slice(at, at + LINES_OF_A_PACKET).join("\n"));
  } else if (verb === "line") {
    lines.push(rest);
    if (lines.length > MAX_LINES) lines.shift();
    backend.send(everyone, rest, { without: [id] });
  } else if (verb === "at") backend.send(everyone, `at ${id} ${rest}`, { without: [id] });
  else backend.kick(id);
});
backend.on("ended", ({ id }) => backend.send(everyone, `gone ${id}`));

// The edge.
const directory = mkdtempSync(join(tmpdir(), "voltlane-play-"));
writeFileSync(join(directory, "connserver.toml"), `listener.transport = "ws"\nlistener.origins = ["${origin}"]\nclients.missed_packets_buffer_size = 4000\n`);
const edge = spawn(resolve(program), ["--listen", "127.0.0.1:0", "--master", `127.0.0.1:${backend.address.port}`], { cwd: directory });
let log = "";
for (const stream of [edge.stdout, edge.stderr]) {
  stream.setEncoding("utf8").on("data", (text) => {
    log += text;
    const address = !edgeUrl && /listening address=(\S+)/.exec(log)?.[1];
    if (!address) return;
    edgeUrl = `ws://${address}/`;
    console.log(`Open ${origin}/ in two browsers, draw, and cut the network of one.`);
  });
}
edge.on("exit", (code) => {
  rmSync(directory, { recursive: true, force: true });
  if (code) console.error(log);
  process.exit(code ?? 0);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => edge.kill(signal));
