// Each device does each row of its outbox once.
//
//     node examples/fleet.js [ADDRESS]                           the backend, with its outbox in fleet.json
//     node examples/fleet.js device EDGE NAME FILE [EDGE_KEY]    a device, whose session and last row are in FILE
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { SessionEnded, connect, listen } from "voltlane";

/** What is to be done, as a table would have it. */
class Outbox {
  rows = existsSync("fleet.json") ? JSON.parse(readFileSync("fleet.json", "utf8")) : [];

  first(device) {
    return this.rows.find((row) => row.device === device);
  }

  delete(row) {
    this.rows = this.rows.filter((other) => other !== row);
    writeFileSync("fleet.json.new", JSON.stringify(this.rows));
    renameSync("fleet.json.new", "fleet.json");
  }
}

async function device(edge, name, sessionFile, ...edgeKeys) {
  const token = `device ${name}`;
  const client = await connect(edge, { token, edgeKeys, sessionFile, ack: "saved", startOver: true, giveUpAfter: null });
  let done = Number(new TextDecoder().decode(client.state));
  for await (const event of client) {
    if (event.type !== "packet") continue;
    // A row comes again only after the backend has died, or this session has ended.
    const row = parseInt(event.text);
    if (row > done) {
      done = row;
      console.log(event.text);
    }
    // Done and acknowledged, in one rename.
    await client.save(String(done));
  }
}

async function serve(backend, { id, note }, outbox, signal) {
  while (!signal.aborted) {
    const found = outbox.first(note);
    // Its end wakes it.
    if (!found) await sleep(1_000, undefined, { signal }).catch(() => undefined);
    else {
      // In a second or in a week: it is done. It throws SessionEnded if the session ends, and the row stays.
      await backend.acknowledged(await backend.send(id, `${found.row} ${found.command}`));
      outbox.delete(found);
    }
  }
}

async function fleet(address = "127.0.0.1:42001") {
  // A real one checks a signature.
  const backend = await listen(address, { version: 3, verify: (who) => who.tokenText });
  console.log(`listening at 127.0.0.1:${backend.address.port}`);
  const outbox = new Outbox();
  const serving = new Map();
  for await (const event of backend) {
    if (event.type === "joined") {
      const ends = new AbortController();
      serving.set(event.id, ends);
      serve(backend, event, outbox, ends.signal).catch((error) => {
        if (!(error instanceof SessionEnded)) throw error;
      });
    } else if (event.type === "ended") {
      serving.get(event.id)?.abort();
      serving.delete(event.id);
    }
  }
}

const [what, ...more] = process.argv.slice(2);
await (what === "device" ? device(...more) : fleet(what));
