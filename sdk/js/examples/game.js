// A game at 20 Hz: to each team its own state. Of what waits for a player only the newest is kept. node examples/game.js [ADDRESS]
import { listen } from "voltlane";

const backend = await listen(process.argv[2] ?? "127.0.0.1:42001", { version: 3, tick: 50 });
console.log(`listening at 127.0.0.1:${backend.address.port}`);
const teams = [backend.group("red"), backend.group("blue")];
const players = new Map();
for await (const event of backend) {
  switch (event.type) {
    case "tick":
      for (const team of teams) {
        const view = [...players.values()].filter((player) => player.team === team).map(({ at }) => at);
        await backend.sendLatest(team, 1, Buffer.concat(view));
      }
      break;
    case "joined": {
      const team = teams[players.size % 2];
      players.set(event.id, { team, at: new Uint8Array(8) });
      await backend.add(team, event.id);
      break;
    }
    case "packet": {
      const player = players.get(event.id);
      if (player && event.data.length === 8) player.at = event.data;
      else await backend.kick(event.id, 600, "not a position");
      break;
    }
    case "ended":
      players.delete(event.id);
  }
}
