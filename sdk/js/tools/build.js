// Builds dist/: modules with types, and one file for pages that have no bundler.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root], { stdio: "inherit" });
if (existsSync(join(dist, "browser.js"))) {
  await build({
    entryPoints: [join(dist, "browser.js")],
    outfile: join(dist, "browser.min.js"),
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    legalComments: "none",
  });
  const bytes = readFileSync(join(dist, "browser.min.js"));
  const size = { bytes: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
  writeFileSync(join(dist, "size.json"), `${JSON.stringify(size)}\n`);
  console.log(`browser.min.js: ${size.bytes} bytes, ${size.gzip} with gzip`);
}
