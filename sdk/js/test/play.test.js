// examples/play in Chromium: two draw, one loses its network for 5 s, and nothing is missing on either page.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Browser, skip } from "./chromium.js";
import { program, scratch, within } from "./rig.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const SHOTS = process.env.SHOTS;

/** Draws a line of so many pieces, between parts of the paper. */
const stroke = (page, from, to, pieces) =>
  page.draw(Array.from({ length: pieces + 1 }, (_, at) => from.map((start, axis) => start + ((to[axis] - start) * at) / pieces)));

/** The paper's shape, of which all pages have the same. */
const shape = (page) => page.value('(({ width, height }) => width / height)(document.querySelector("canvas").getBoundingClientRect())');

const lines = (page, count) => page.until(`document.getElementById("counts")?.textContent === "${count} lines"`);

/** As a project that has the package installed. */
function example() {
  const directory = scratch();
  mkdirSync(path.join(directory, "node_modules"));
  symlinkSync(root, path.join(directory, "node_modules/voltlane"));
  cpSync(path.join(root, "examples"), path.join(directory, "examples"), { recursive: true });
  cpSync(path.join(root, "dist"), path.join(directory, "dist"), { recursive: true });
  return [directory, process.execPath, ["examples/play/server.js"]];
}

test("the program has the page and the library that are here: node tools/embed.js copies them", () => {
  const embedded = path.join(root, "../../app/src/commands/demo/web");
  for (const [ours, its] of [
    ["examples/play/index.html", "index.html"],
    ["dist/browser.min.js", "voltlane.js"],
  ]) {
    assert.ok(readFileSync(path.join(root, ours)).equals(readFileSync(path.join(embedded, its))), `${its} is another one`);
  }
});

for (const [name, serve] of [
  ["examples/play", example],
  ["voltlane demo --web", () => [scratch(), program(), ["demo", "--web"]]],
]) test(`the page that all draw on, served by ${name}`, { skip }, async (context) => {
  const [directory, command, words] = serve();
  const server = spawn(command, words, { cwd: directory, env: { ...process.env, VOLTLANE: program() } });
  let log = "";
  server.stderr.on("data", (text) => (log += text));
  const link = new Promise((found) => server.stdout.on("data", (text) => found(/Open (\S+)/.exec((log += text))?.[1])));
  const browser = await Browser.start();
  const ended = new Promise((done) => server.on("exit", done));
  context.after(async () => {
    await browser.close();
    server.kill();
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  const url = await within(link, `the link: ${log}`);
  const wide = await browser.page(url, 1_280, 720);
  const narrow = await browser.page(url, 320, 640);
  const isOpen = 'document.getElementById("state")?.className === "open"';
  for (const page of [wide, narrow]) await page.until(isOpen);
  await stroke(wide, [0.1, 0.2], [0.5, 0.6], 20);
  for (const page of [wide, narrow]) await lines(page, 20);
  assert.equal(await narrow.value('document.querySelectorAll(".cursor").length'), 1);
  await stroke(narrow, [0.1, 0.5], [0.9, 0.8], 15);
  for (const page of [wide, narrow]) await lines(page, 35);
  for (const page of [wide, narrow]) assert.ok(Math.abs((await shape(page)) - 1.2) < 0.01);
  // Nothing is wider than a phone.
  assert.equal(await narrow.value("document.documentElement.scrollWidth"), 320);

  await narrow.value('document.getElementById("cut").click()');
  await narrow.until('document.getElementById("state").className === "cut"');
  await stroke(wide, [0.6, 0.2], [0.8, 0.9], 30);
  await stroke(narrow, [0.9, 0.4], [0.2, 0.9], 25);
  if (SHOTS) for (const [name, page] of Object.entries({ wide, narrow })) writeFileSync(path.join(SHOTS, `${name}-cut.png`), await page.shot());
  await lines(wide, 65);
  await lines(narrow, 60);
  for (const page of [wide, narrow]) await lines(page, 90);
  await narrow.until(isOpen);
  assert.match(await narrow.value('document.getElementById("news").textContent'), /[3-6]\d packets missed, all here now/);
  if (SHOTS) for (const [name, page] of Object.entries({ wide, narrow })) writeFileSync(path.join(SHOTS, `${name}.png`), await page.shot());
  // Whoever comes late is shown everything.
  const late = await browser.page(url, 800, 600);
  await lines(late, 90);
});
