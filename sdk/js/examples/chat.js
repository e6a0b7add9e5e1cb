// A chat with rooms: "join ROOM", "leave ROOM", "ROOM text". A token is "user NAME". node examples/chat.js [ADDRESS]
import { Refuse, listen } from "voltlane";

/** It may take its time: nobody else waits. */
async function verify(who) {
  if (who.tokenText.startsWith("user ")) return who.tokenText.slice(5);
  throw new Refuse(605, "log in first");
}

const backend = await listen(process.argv[2] ?? "127.0.0.1:42001", { version: 3, verify });
console.log(`listening at 127.0.0.1:${backend.address.port}`);
for await (const event of backend) {
  if (event.type !== "packet") continue;
  const [, word = "", text = ""] = /^(\S+) (.*)$/s.exec(event.text) ?? [];
  if (word === "join") {
    await backend.add(backend.group(text), event.id);
    await backend.send(event.id, `you are in ${text}`);
  } else if (word === "leave") await backend.remove(backend.group(text), event.id);
  else if (word) await backend.send(backend.group(word), `${backend.note(event.id)}: ${text}`, { without: [event.id] });
}
