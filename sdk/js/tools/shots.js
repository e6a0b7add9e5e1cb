// Makes the pictures of the README: `voltlane demo --web` in Chromium, with two people who draw, one of whom loses its network.
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { Browser } from "../test/chromium.js";
import { program, scratch, within } from "../test/rig.js";

const at = (name) => new URL(`../examples/play/${name}.png`, import.meta.url);

/** Points of a curve, from 0 to 1. The paper is 6 by 5. */
const curve = (count, of) => Array.from({ length: count }, (_, step) => of(step / (count - 1)));
const flower = (x, y, size, leaves) =>
  curve(90, (turn) => {
    const far = size * (0.55 + 0.45 * Math.cos(leaves * 2 * Math.PI * turn));
    return [x + (far * Math.cos(2 * Math.PI * turn)) / 6, y + (far * Math.sin(2 * Math.PI * turn)) / 5];
  });
const wave = (from, to, y, height) => curve(60, (part) => [from + (to - from) * part, y + (height * Math.sin(5 * Math.PI * part)) / 5]);

const directory = scratch();
const server = spawn(program(), ["demo", "--web"], { cwd: directory });
const ended = new Promise((done) => server.on("exit", done));
let log = "";
const link = new Promise((found) => server.stdout.on("data", (text) => found(/Open (\S+)/.exec((log += text))?.[1])));
const browser = await Browser.start();
try {
  const url = await within(link, "the link");
  const [wide, narrow] = [await browser.page(url, 900, 620), await browser.page(url, 320, 480)];
  const isOpen = 'document.getElementById("state")?.className === "open"';
  for (const page of [wide, narrow]) await page.until(isOpen);
  await wide.draw(flower(0.28, 0.36, 1.4, 5));
  await narrow.draw(wave(0.08, 0.92, 0.86, 0.4));
  await wide.until('parseInt(document.getElementById("counts").textContent) > 140');
  await narrow.value('document.getElementById("cut").click()');
  await narrow.until('document.getElementById("state").className === "cut"');
  await wide.draw(flower(0.7, 0.42, 1.6, 7));
  await narrow.draw(wave(0.08, 0.92, 0.74, 0.35));
  writeFileSync(at("cut"), await narrow.shot());
  await narrow.until(isOpen);
  await narrow.until('document.getElementById("news").textContent.includes("all here now")');
  await wide.until('parseInt(document.getElementById("counts").textContent) > 280');
  await narrow.draw([
    [0.46, 0.2],
    [0.5, 0.24],
  ]);
  writeFileSync(at("wide"), await wide.shot());
} finally {
  await browser.close();
  server.kill();
  await ended;
  rmSync(directory, { recursive: true, force: true });
}
