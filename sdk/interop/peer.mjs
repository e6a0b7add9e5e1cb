// A client or a backend of the library for JavaScript in Node.js, which does what the lines on its standard input say and tells what happens,
// as README.md describes: peer.mjs client|backend ADDRESS VERSION
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { connect, everyone, listen } from "../js/dist/index.js";
import { crc, packet, serve } from "./peer.js";

const [side, address, version] = process.argv.slice(2);
const authority = process.env.INTEROP_AUTHORITY;

function tell(line) {
  process.stdout.write(`${line}\n`);
}

async function serveBackend() {
  const backend = await listen(address, { version: Number(version) });
  tell(`listening ${backend.address.address}:${backend.address.port}`);
  void (async () => {
    for await (const event of backend) {
      if (event.type === "edgeConnected") tell("edge");
      if (event.type === "edgeLost") tell("edge-lost");
      if (["joined", "away", "resumed"].includes(event.type)) tell(`${event.type} ${event.id}`);
      if (event.type === "packet") tell(`packet ${event.id} ${event.data.length} ${crc(event.data)}`);
      if (event.type === "ended") tell(`ended ${event.id} ${event.end.code}`);
    }
  })();
  return async (line) => {
    const words = line.split(" ");
    if (words[0] === "send") await backend.send(words[1], packet(words[2], words[3]));
    else if (words[0] === "all") await backend.send(everyone, packet(words[1], words[2]));
    else if (words[0] === "kick") await backend.kick(words[1], Number(words[2]), words[3]);
    else throw new Error("it is no command");
  };
}

async function serveClient() {
  const tls = authority && /^(tls|wss):/.test(address) ? { ca: readFileSync(authority) } : undefined;
  return serve(await connect(address, { versions: version, tls }), tell);
}

const obey = side === "client" ? await serveClient() : await serveBackend();
for await (const line of createInterface({ input: process.stdin })) {
  await obey(line).catch((error) => tell(`fault ${line}: ${error}`));
}
process.exit(0);
