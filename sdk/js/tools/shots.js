// Makes the pictures of the README: `voltlane demo --web` in Chromium, with two people who draw, one of whom loses its network.
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { Browser } from "../test/chromium.js";
import { program, scratch, within } from "../test/rig.js";

const at = (name) => new URL(`../examples/play/${name}.png`, import.meta.url);

async function draw(page, points) {
  await page.mouse("mousePressed", ...points[0]);
  for (const [x, y] of points) await page.mouse("mouseMoved", x, y);
  await page.mouse("mouseReleased", ...points[points.length - 1]);
}

/** Points of a curve, from 0 to 1. */
const curve = (count, of) => Array.from({ length: count }, (_, step) => of(step / (count - 1)).map(Math.round));
const flower = (x, y, size, leaves) =>
  curve(90, (turn) => {
    const far = size * (0.55 + 0.45 * Math.cos(leaves * 2 * Math.PI * turn));
    return [x + far * Math.cos(2 * Math.PI * turn), y + far * Math.sin(2 * Math.PI * turn)];
  });
const wave = (from, to, y, height) => curve(60, (part) => [from + (to - from) * part, y + height * Math.sin(5 * Math.PI * part)]);

const directory = scratch();
const server = spawn(program(), ["demo", "--web"], { cwd: directory });
const ended = new Promise((done) => server.on("exit", done));
let log = "";
const link = new Promise((found) => server.stdout.on("data", (text) => found(/Open (\S+)/.exec((log += text))?.[1])));
const browser = await Browser.start();
try {
  const url = await within(link, "the link");
  const [wide, narrow] = [await browser.page(url, 900, 520), await browser.page(url, 320, 520)];
  const isOpen = 'document.getElementById("state")?.className === "open"';
  for (const page of [wide, narrow]) await page.until(isOpen);
  await draw(wide, flower(230, 230, 120, 5));
  await draw(narrow, wave(30, 290, 420, 30));
  await wide.until('parseInt(document.getElementById("counts").textContent) > 140');
  await narrow.value('document.getElementById("cut").click()');
  await narrow.until('document.getElementById("state").className === "cut"');
  await draw(wide, flower(640, 260, 150, 7));
  await draw(narrow, wave(30, 290, 330, 25));
  writeFileSync(at("cut"), await narrow.shot());
  await narrow.until(isOpen);
  await narrow.until('document.getElementById("news").textContent.includes("all here now")');
  await wide.until('parseInt(document.getElementById("counts").textContent) > 280');
  await draw(narrow, [[150, 200], [170, 210]]);
  writeFileSync(at("wide"), await wide.shot());
} finally {
  await browser.close();
  server.kill();
  await ended;
  rmSync(directory, { recursive: true, force: true });
}
