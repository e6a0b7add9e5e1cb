// Builds dist/: modules with types, and one file for pages that have no bundler.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
/** The most that the browser's file may weigh, with gzip. */
const MAX_GZIP_BYTES = 33_500;

rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root], { stdio: "inherit" });
const bundle = join(dist, "browser.min.js");
await build({
  entryPoints: [join(dist, "browser.js")],
  outfile: bundle,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  platform: "browser",
  legalComments: "none",
});
const bytes = readFileSync(bundle);
const size = { bytes: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
writeFileSync(join(dist, "size.json"), `${JSON.stringify(size)}\n`);
console.log(`browser.min.js: ${size.bytes} bytes, ${size.gzip} with gzip`);
if (size.gzip > MAX_GZIP_BYTES) throw new Error(`${MAX_GZIP_BYTES} bytes are allowed`);
