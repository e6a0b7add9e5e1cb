// Chromium without a window, and what its debugging protocol lets a test do.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { WebSocket } from "ws";
import { scratch, within } from "./rig.js";

const FLAGS = [
  "--headless",
  // As root, which CI is, it has no sandbox.
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  // The tests' authority is none that it knows.
  "--ignore-certificate-errors",
];
const NAMES = ["chromium-headless-shell", "chromium"];

function browserPath() {
  for (const name of NAMES) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {
      // The next one.
    }
  }
  return undefined;
}

const BROWSER = browserPath();
// CI has it: a test that did not run is none.
if (!BROWSER) assert.ok(process.env.CI !== "true", "there is no Chromium: .ci/programs installs it");
export const skip = BROWSER ? false : "there is no Chromium";

/** Shows a page. Returns what ends the browser. */
export function show(url, flags = [], onError = () => undefined) {
  const profile = scratch();
  const browser = spawn(BROWSER, [...FLAGS, ...flags, `--user-data-dir=${profile}`, url], { stdio: ["ignore", "ignore", "pipe"], detached: true });
  browser.stderr.setEncoding("utf8").on("data", onError);
  return async () => {
    const ended = new Promise((done) => browser.on("exit", done));
    // With the processes that it has started.
    process.kill(-browser.pid, "SIGKILL");
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
  };
}

/** A browser whose pages the test looks at and touches. */
export class Browser {
  calls = new Map();
  next = 1;

  static async start() {
    const browser = new Browser();
    const address = new Promise((found) => {
      let log = "";
      browser.close = show("about:blank", ["--remote-debugging-port=0"], (text) => {
        log += text;
        const [, url] = /listening on (ws:\S+)/.exec(log) ?? [];
        if (url) found(url);
      });
    });
    browser.socket = new WebSocket(await within(address, "the browser"));
    await new Promise((done, failed) => browser.socket.on("open", done).on("error", failed));
    browser.socket.on("message", (text) => {
      const { id, result, error } = JSON.parse(text);
      const call = browser.calls.get(id);
      browser.calls.delete(id);
      if (error) call?.reject(new Error(error.message));
      else call?.resolve(result);
    });
    return browser;
  }

  call(method, params = {}, sessionId) {
    const id = this.next++;
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return within(new Promise((resolve, reject) => this.calls.set(id, { resolve, reject })), method);
  }

  async page(url, width, height) {
    // Each has storage of its own, as each browser has.
    const { browserContextId } = await this.call("Target.createBrowserContext");
    const { targetId } = await this.call("Target.createTarget", { url, browserContextId, width, height });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = {
      call: (method, params) => this.call(method, params, sessionId),
      async value(expression) {
        const { result, exceptionDetails } = await page.call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
        assert.ok(!exceptionDetails, JSON.stringify(exceptionDetails));
        return result.value;
      },
      async until(expression) {
        const found = async () => {
          while (!(await page.value(`!!(${expression})`))) await new Promise((wake) => setTimeout(wake, 30));
        };
        return within(found(), expression, 60_000);
      },
      mouse: (type, x, y) => page.call("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons: 1, clickCount: 1 }),
      /** Draws through points of the paper: parts of its width and height. */
      async draw(points) {
        const [left, top, width, height] = await page.value(
          '(({ left, top, width, height }) => [left, top, width, height])(document.querySelector("canvas").getBoundingClientRect())',
        );
        const on = points.map(([x, y]) => [left + x * width, top + y * height]);
        await page.mouse("mousePressed", ...on[0]);
        for (const [x, y] of on.slice(1)) await page.mouse("mouseMoved", x, y);
        await page.mouse("mouseReleased", ...on[on.length - 1]);
      },
      async shot() {
        return Buffer.from((await page.call("Page.captureScreenshot", { format: "png" })).data, "base64");
      },
    };
    await page.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 });
    return page;
  }
}
