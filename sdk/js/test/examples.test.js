// The programs in examples/, against the real edge.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "../dist/index.js";
import { Edge, scratch, within } from "./rig.js";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A project that has the package installed, in which programs run. */
class Project {
  directory = scratch();
  running = [];

  constructor() {
    mkdirSync(path.join(this.directory, "node_modules"));
    symlinkSync(root, path.join(this.directory, "node_modules/voltlane"));
    cpSync(path.join(root, "examples"), path.join(this.directory, "examples"), { recursive: true });
  }

  /** Starts a program. Returns what gives its next line, and what kills it. */
  run(...words) {
    const program = spawn(process.execPath, words, { cwd: this.directory, stdio: ["ignore", "pipe", "inherit"] });
    const ended = new Promise((done) => program.on("exit", done));
    const lines = [];
    let rest = "";
    let wake = () => {};
    program.stdout.setEncoding("utf8").on("data", (text) => {
      const whole = (rest + text).split("\n");
      rest = whole.pop();
      lines.push(...whole);
      wake();
    });
    const line = async () => {
      while (lines.length === 0) await new Promise((come) => (wake = come));
      return lines.shift();
    };
    const kill = async () => {
      program.kill("SIGKILL");
      await ended;
    };
    this.running.push(kill);
    return { line: () => within(line(), `a line of ${words}`), kill };
  }

  /** Starts a backend and its edge. */
  async serve(example) {
    const { line } = this.run(`examples/${example}.js`, "127.0.0.1:0");
    this.edge = await Edge.start((await line()).replace("listening at ", ""), 'master.protocol = "auto"\n');
    return this.edge.address;
  }

  async stop() {
    for (const kill of this.running) await kill();
    await this.edge?.stop();
    rmSync(this.directory, { recursive: true });
  }
}

async function next(client, is) {
  const find = async () => {
    for await (const event of client) if (is(event)) return event;
    throw new Error("it is over");
  };
  return within(find(), "an event");
}

/** A client that is known to a backend as somebody. */
async function join(address, token) {
  const stranger = await connect(address);
  const edgeKeys = [stranger.edgeKey];
  await stranger.close();
  return connect(address, { token, edgeKeys });
}

test("a game", async (context) => {
  const project = new Project();
  context.after(() => project.stop());
  const address = await project.serve("game");
  const [red, blue] = [await connect(address), await connect(address)];
  await red.send("redredre");
  await blue.send("blueblue");
  await next(red, ({ type, text }) => type === "packet" && text === "redredre");
  await next(blue, ({ type, text }) => type === "packet" && text === "blueblue");
  await red.send("here");
  const { end } = await next(red, ({ type }) => type === "ended");
  assert.deepEqual([end.code, end.text], [600, "not a position"]);
  await blue.close();
});

test("a chat", async (context) => {
  const project = new Project();
  context.after(() => project.stop());
  const address = await project.serve("chat");
  const [anna, bert] = [await join(address, "user anna"), await join(address, "user bert")];
  const hears = async (one, text) => assert.equal((await next(one, ({ type }) => type === "packet")).text, text);
  const joins = async (one, room) => {
    await one.send(`join ${room}`);
    await hears(one, `you are in ${room}`);
  };
  for (const one of [anna, bert]) await joins(one, "tea");
  await anna.send("tea Is anybody here?");
  await hears(bert, "anna: Is anybody here?");
  await bert.send("leave tea");
  await bert.send("tea Not me");
  await hears(anna, "bert: Not me");
  await anna.send("tea Are you gone?");
  // The backend has done that when it answers, and what it sends to bert comes in order.
  for (const one of [anna, bert]) await joins(one, "hall");
  for (const one of [anna, bert]) await one.close();
  const nobody = await join(address, "nobody");
  const { end } = await next(nobody, ({ type }) => type === "ended");
  assert.deepEqual([end.code, end.text], [605, "log in first"]);
});

test("a fleet: nobody looks for the rows of a session that has ended", async (context) => {
  const project = new Project();
  context.after(() => project.stop());
  // It says how many timers there are behind each end.
  const watch = `import { listen } from "voltlane";
    const backend = await listen("127.0.0.1:0");
    const prototype = Object.getPrototypeOf(backend.hearing);
    await backend.close();
    const { over } = prototype;
    prototype.over = function (...of) {
      over.apply(this, of);
      const count = () => process.getActiveResourcesInfo().filter((one) => one === "Timeout").length;
      setTimeout(() => console.log("timers: " + count()), 200);
    };`;
  writeFileSync(path.join(project.directory, "watch.mjs"), watch);
  const { line } = project.run("--import", "./watch.mjs", "examples/fleet.js", "127.0.0.1:0");
  project.edge = await Edge.start((await line()).replace("listening at ", ""), 'master.protocol = "auto"\n');
  const counts = [];
  for (let session = 0; session < 3; session++) {
    const device = await connect(project.edge.address);
    await device.send("here");
    await device.close();
    counts.push(await line());
  }
  assert.deepEqual(counts, Array(3).fill(counts[0]));
});

test("a fleet: each row once, whenever the device is killed", async (context) => {
  const project = new Project();
  context.after(() => project.stop());
  const rows = Array.from({ length: 7 }, (_, at) => ({ row: at + 1, device: "device 17", command: `open valve ${at + 1}` }));
  writeFileSync(path.join(project.directory, "fleet.json"), JSON.stringify(rows));
  const address = await project.serve("fleet");
  const stranger = await connect(address);
  const key = stranger.edgeKey;
  await stranger.close();
  const wanted = rows.map(({ row, command }) => `${row} ${command}`);
  const done = [];
  while (!done.includes(wanted[6])) {
    const device = project.run("examples/fleet.js", "device", address, "17", "device.session", key);
    // It is killed behind some of its rows.
    for (let count = 0; count < 3 && done.at(-1) !== wanted[6]; count++) done.push(await device.line());
    await device.kill();
  }
  // A row may have been printed, and not saved.
  assert.deepEqual([...new Set(done)], wanted);
});
