// Looks at the status page in Chromium: node status.cjs CHROMIUM PROFILE URL PICTURES FLAGS...
//
// In light and dark, at the width of a telephone and of a screen: axe must find nothing, nothing may be wider than the window, and no other
// host may be asked. Prints a line for each view with what it found. Pictures go to the folder PICTURES, if it is not empty.
const fs = require("fs");
const path = require("path");
const { spawn } = require("child_process");
const { source: axe } = require("axe-core");

const [chromium, profile, url, pictures, ...flags] = process.argv.slice(2);
const SIZES = [[320, 640], [1280, 800]];
const SCHEMES = ["light", "dark"];

// It ends with its pipe, and so with this program.
const browser = spawn(chromium, [...flags, "--hide-scrollbars", `--user-data-dir=${profile}`, "--remote-debugging-pipe", "about:blank"], { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
let log = "";
browser.stderr.on("data", (data) => { log += data; });
browser.on("exit", () => end(1, `${chromium} has ended\n${log}`));
const [to, from] = [browser.stdio[3], browser.stdio[4]];
const end = (code, text) => {
  if (text) console.error(text);
  browser.kill("SIGKILL");
  process.exit(code);
};
process.on("unhandledRejection", (error) => end(1, error.stack));

const main = async () => {
  const waiting = new Map();
  const asked = new Set();
  let last = 0;
  const hear = (text) => {
    const message = JSON.parse(text);
    if (message.method === "Network.requestWillBeSent") asked.add(new URL(message.params.request.url));
    const own = waiting.get(message.id);
    if (!own) return;
    waiting.delete(message.id);
    if (message.error) own.reject(new Error(`${own.method}: ${message.error.message}`));
    else own.resolve(message.result);
  };
  // Each message ends with a zero.
  let rest = "";
  from.setEncoding("utf8");
  from.on("data", (data) => {
    const messages = (rest + data).split("\0");
    rest = messages.pop();
    messages.forEach(hear);
  });
  const call = (method, params = {}, sessionId) =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { method, resolve, reject });
      to.write(JSON.stringify({ id: last, method, params, sessionId }) + "\0");
    });
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => call(method, params, sessionId);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  };
  await page("Page.enable");
  await page("Network.enable");
  await page("Page.navigate", { url });
  // The page of the edge, with figures in it.
  await evaluate(`new Promise((done) => {
    const look = () => document.querySelector("#state.state.good") && document.querySelectorAll("#by-shard tr").length ? done() : setTimeout(look, 50);
    look();
  })`);
  await evaluate(axe);
  const pause = Number(process.env.VL_PICTURE_PAUSE_SECS || 0);
  await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
  for (const scheme of SCHEMES) {
    await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    for (const [width, height] of SIZES) {
      await page("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
      const back = await evaluate("getComputedStyle(document.body).backgroundColor");
      const wide = await evaluate("document.documentElement.scrollWidth");
      const found = await evaluate("axe.run().then((all) => ({ passed: all.passes.length, violations: all.violations.map((one) => one.id + ': ' + one.nodes.map((node) => node.html).join(' ')) }))");
      const shown = await evaluate("({ config: document.getElementById('config').textContent, turns: document.getElementById('turns').textContent })");
      console.log(JSON.stringify({ scheme, width, back, wide, ...found, ...shown }));
      if (pictures) {
        const { data } = await page("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
        fs.writeFileSync(path.join(pictures, `status-${width}-${scheme}.png`), Buffer.from(data, "base64"));
      }
    }
  }
  const own = new URL(url).host;
  const others = [...asked].filter((one) => one.protocol !== "data:" && one.host !== own);
  console.log(JSON.stringify({ asked: asked.size, others }));
  // The check can fail.
  await evaluate("document.documentElement.removeAttribute('lang'); document.getElementById('about').style.color = 'rgb(120,120,120)'; document.getElementById('about').style.background = 'rgb(130,130,130)'");
  console.log(JSON.stringify(await evaluate("axe.run().then((all) => all.violations.map((one) => one.id))")));
  end(0);
};
main();
