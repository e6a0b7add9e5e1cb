// The items that only a client sends, and those that it must not.
import { Type, readItem } from "../../dist/core/v3/items.js";
import { Malformed, Reader } from "../../dist/core/wire.js";

const MAX_TOKEN_BYTES = 4_096;

/** Reads the next item of a record up. Throws Malformed. */
export function readItemUp(reader) {
  const ahead = new Reader(reader.bytes.subarray(reader.at));
  const head = ahead.varint();
  if (head % 2 === 0) return readItem(reader);
  const kind = (head - 1) / 2;
  const isOnlyDown = (kind >= Type.gap && kind <= Type.resumed) || kind === Type.goAway;
  if (isOnlyDown) throw new Malformed(`an item of type ${kind}, which a client does not send`);
  if (kind !== Type.token && kind !== Type.earlyEnd) {
    const item = readItem(reader);
    if (item.type === "close" && ![0, 403, 404].includes(item.code)) throw new Malformed(`the code ${item.code} from a client`);
    return item;
  }
  reader.varint();
  if (kind === Type.earlyEnd) return { type: "earlyEnd" };
  const data = reader.string();
  if (data.length > MAX_TOKEN_BYTES) throw new Malformed("a token that is too long");
  return { type: "token", data };
}
