// What a client of the library for JavaScript does with the lines that it gets, in Node.js and in a page: see README.md.

/** The bytes that a length and a seed stand for. */
export function packet(length, seed) {
  const bytes = new Uint8Array(Number(length));
  for (let at = 0; at < bytes.length; at++) bytes[at] = ((at * 7) >> 3) + Number(seed);
  return bytes;
}

/** CRC-32, as of zlib, in eight digits. */
export function crc(data) {
  let sum = 0xffffffff;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
  }
  return (~sum >>> 0).toString(16).padStart(8, "0");
}

/** Tells the events of a client. Returns what obeys a line. */
export function serve(client, tell) {
  void (async () => {
    for await (const event of client) {
      const { type } = event;
      if (type === "connected") tell(`connected ${event.id}`);
      if (type === "packet") tell(`packet ${event.data.length} ${crc(event.data)}`);
      if (type === "dropped" || type === "resumed") tell(type);
      if (type === "ended") tell(`ended ${event.end.code} ${event.end.text}`);
    }
  })();
  return async (line) => {
    const [verb, length, seed] = line.split(" ");
    if (verb === "send") await client.send(packet(length, seed));
    else if (verb === "close") tell(`closed ${(await client.close()).code}`);
    else throw new Error("it is no command");
  };
}
