// Copies the page to play with, and the library, to where `voltlane demo --web` is built from.
import { copyFileSync } from "node:fs";

const from = new URL("..", import.meta.url);
const to = new URL("../../../app/src/commands/demo/web/", import.meta.url);
copyFileSync(new URL("examples/play/index.html", from), new URL("index.html", to));
copyFileSync(new URL("dist/browser.min.js", from), new URL("voltlane.js", to));
