// Runs the tests, a file at a time: two that measure would disturb each other. Fails if one did not run.
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { program } from "../test/rig.js";

const directory = join(dirname(fileURLToPath(import.meta.url)), "../test");
const wanted = process.argv.slice(2);
const files = readdirSync(directory).filter((file) => file.endsWith(".test.js"));
const chosen = files.filter((file) => wanted.length === 0 || wanted.some((name) => file.startsWith(name)));
// Without the edge, backends would wait for it.
if (chosen.some((file) => readFileSync(join(directory, file), "utf8").includes("Edge"))) program();
const options = ["--test", "--test-concurrency=1", "--test-reporter=spec"];
const { status } = spawnSync(process.execPath, [...options, ...chosen.map((file) => join(directory, file))], { stdio: "inherit" });
if (chosen.length === 0) console.error(`no test begins with ${wanted}`);
process.exit(chosen.length === 0 ? 1 : (status ?? 1));
