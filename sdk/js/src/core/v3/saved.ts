// A session of version 3 as bytes, with which another process, or a page after a reload, goes on with it.
//
// The format is this library's own. It holds while the edge runs that has the session.

import { type Bytes, Writer, u32, u64 } from "../bytes.js";
import { PUBLIC_KEY_BYTES } from "../keys.js";
import { Malformed, Reader } from "../wire.js";
import { MARK_BYTES } from "./items.js";
import { Resumable } from "./opening.js";
import type { SavedSession3 } from "./session.js";

/** The first byte. That of a session of version 2 is 1. */
const FORMAT = 3;
const MAX_PACKETS = 65_536;

export function save3(saved: SavedSession3, edgeKey: Bytes): Bytes {
  const { resumable, settings, progress, acked, packets } = saved;
  const { state } = resumable;
  const to = new Writer().byte(FORMAT).put(edgeKey);
  to.put(state.id).put(state.claimKey).put(state.handle).put(state.run).put(state.hint).put(state.secret);
  for (const count of [state.least, state.last, state.used, state.told]) to.put(u64(count));
  to.byte(state.forgot ? 1 : 0).string(state.marks);
  for (const value of [settings.longest, settings.ringPackets, settings.ringBytes, settings.window / 1_000]) {
    to.put(u32(value));
  }
  to.put(u32(settings.ackDelay)).put(u32(settings.keepAlive / 1_000));
  const { got, taken, sentEver, superseded, gapped, skipped } = progress;
  for (const count of [got, taken, sentEver, superseded, gapped, skipped, acked]) to.put(u64(count));
  to.varint(packets.length);
  for (const data of packets) to.string(data);
  const bytes = to.take();
  to.clear();
  return bytes;
}

/** Returns undefined for bytes that are no saved session. */
export function restore3(saved: Bytes): { session: SavedSession3; edgeKey: Bytes } | undefined {
  if (saved[0] !== FORMAT) return undefined;
  try {
    return read(new Reader(saved));
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

function read(reader: Reader): { session: SavedSession3; edgeKey: Bytes } {
  const part = (length: number) => reader.take(length).slice();
  const int = () => new DataView(part(4).buffer).getUint32(0, true);
  const long = () => new DataView(part(8).buffer).getBigUint64(0, true);
  reader.byte();
  const edgeKey = part(PUBLIC_KEY_BYTES);
  const [id, claimKey, handle, run, hint, secret] = [part(8), part(32), part(16), part(8), part(4), part(32)];
  const [least, last, used, told] = [long(), long(), long(), long()];
  const forgot = reader.byte() === 1;
  const marks = reader.string().slice();
  if (marks.length === 0 || marks.length % MARK_BYTES !== 0) throw new Malformed("marks");
  const resumable = new Resumable({ id, claimKey, handle, run, hint, secret, least, last, used, told, marks, forgot });
  const [longest, ringPackets, ringBytes, window] = [int(), int(), int(), 1_000 * int()];
  const settings = { longest, ringPackets, ringBytes, window, ackDelay: int(), keepAlive: 1_000 * int() };
  const [got, taken, sentEver] = [long(), long(), long()];
  const progress = { got, taken, sentEver, superseded: long(), gapped: long(), skipped: long() };
  const acked = long();
  const packets = Array.from({ length: reader.varint(MAX_PACKETS) }, () => reader.string().slice());
  if (reader.rest > 0) throw new Malformed("bytes behind a saved session");
  return { session: { resumable, settings, progress, acked, packets }, edgeKey };
}
