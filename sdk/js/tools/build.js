// Builds dist/: modules with types, and two files for pages that have no bundler.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";
import { internalNames } from "./names.js";
import { noble } from "./noble/plugin.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
/** The most that a file for pages may weigh, with gzip. */
const MAX_GZIP_BYTES = { browser: 27_700, small: 25_000 };

rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root], { stdio: "inherit" });

const names = internalNames(
  root,
  Object.keys(MAX_GZIP_BYTES).map((name) => `${name}.ts`),
);
const sizes = {};
for (const [name, most] of Object.entries(MAX_GZIP_BYTES)) {
  const { outputFiles } = await build({
    entryPoints: [join(dist, `${name}.js`)],
    bundle: true,
    minify: true,
    plugins: [noble],
    mangleProps: new RegExp(`^(${names.join("|")})$`),
    format: "esm",
    target: "es2022",
    platform: "browser",
    legalComments: "none",
    write: false,
  });
  // It shortens further what esbuild leaves.
  const { code } = await minify(outputFiles[0].text, { module: true, ecma: 2022, compress: { passes: 3 } });
  writeFileSync(join(dist, `${name}.min.js`), code);
  const size = { bytes: code.length, gzip: gzipSync(readFileSync(join(dist, `${name}.min.js`)), { level: 9 }).length };
  sizes[name] = size;
  console.log(`${name}.min.js: ${size.bytes} bytes, ${size.gzip} with gzip`);
  if (size.gzip > most) {
    const { node, zlib } = process.versions;
    throw new Error(`${name}.min.js has ${size.gzip} bytes with gzip, ${most} are allowed (measured with Node.js ${node}, zlib ${zlib}, level 9)`);
  }
}
writeFileSync(join(dist, "size.json"), `${JSON.stringify(sizes)}\n`);
