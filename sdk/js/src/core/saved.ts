// What a client saves, as the content of a file (SPEC 46.2, 46.3).

import { type Bytes, EMPTY, Writer, concat, equal, readU32, readU64, u32, u64, utf8 } from "./bytes.js";
import { SAVED_BYTES, type Session2 } from "./handshake.js";
import { PUBLIC_KEY_BYTES, compressed, sha256 } from "./keys.js";
import { SavedError } from "./leave.js";
import { MARK_BYTES, MAX_NUMBER } from "./v3/items.js";
import { MAX_AHEAD, MAX_MARKS, Resumable, hintOf } from "./v3/opening.js";
import type { SavedSession3 } from "./v3/session.js";
import { Malformed, Reader } from "./wire.js";

/** The most bytes of an application's own state. */
export const MAX_STATE_BYTES = 65_536;

const MAGIC = /* @__PURE__ */ utf8("VLSAVED\n");
const FORMAT = 2;
const CHECK_BYTES = 8;
/** There is no session. Packets may wait for one. */
const NONE = 0;
const V2 = 1;
const V3 = 3;
const FORGOT = 1;
const TRIED = 2;
/** The JavaScript library wrote this byte first before it had this format. */
const OLDER = 0x56;

const WORDS: Record<SavedError["because"], string> = {
  foreign: "this is no saved session of Voltlane",
  older: "this saved session was written by an older library, in a format that is not read any more",
  newer: "this saved session was written by a newer library",
  torn: "this saved session is cut off or damaged",
  impossible: "this saved session says what cannot be",
};

function savedError(because: SavedError["because"]): SavedError {
  return new SavedError(because, WORDS[because]);
}

/** What was saved. */
export interface Saved {
  readonly state: Bytes;
  readonly two?: Session2;
  readonly three?: { readonly session: SavedSession3; readonly edgeKey: Bytes };
  /** Packets that wait for a first session. */
  readonly packets: readonly Bytes[];
}

/** What is to be written: of a session of version 2 its bytes. */
export interface ToSave {
  readonly state: Bytes;
  readonly two?: Bytes | undefined;
  readonly three?: { readonly session: SavedSession3; readonly edgeKey: Bytes } | undefined;
  readonly packets: readonly Bytes[];
}

export function encodeSaved({ state, two, three, packets }: ToSave): Bytes {
  const to = new Writer().put(MAGIC).byte(FORMAT).put(u32(state.length)).put(state);
  if (two) to.put(two);
  else {
    if (three) write3(to.byte(V3), three.session, three.edgeKey);
    else to.byte(NONE);
    to.varint(packets.length);
    for (const data of packets) to.string(data);
  }
  const content = to.take();
  to.clear();
  return concat(content, sha256(content).subarray(0, CHECK_BYTES));
}

function write3(to: Writer, { resumable, settings, counts, acked, isTried }: SavedSession3, edgeKey: Bytes): void {
  const { state } = resumable;
  to.put(edgeKey).put(state.id).put(state.claimKey).put(state.handle).put(state.run).put(state.secret);
  for (const counter of [state.least, state.last, state.used, state.told]) to.put(u64(counter));
  to.byte((state.forgot ? FORGOT : 0) | (isTried ? TRIED : 0));
  to.varint(state.marks.length / MARK_BYTES).put(state.marks);
  const { longest, ringPackets, ringBytes, window, ackDelay, keepAlive } = settings;
  for (const value of [longest, ringPackets, ringBytes, window / 1_000, ackDelay, keepAlive / 1_000]) to.put(u32(value));
  for (const count of [counts.taken, counts.superseded, counts.gapped, counts.skipped, acked]) to.put(u64(count));
}

/**
 * Reads what a client has saved; if `takesBare`, also what the libraries call a saved session of version 2. Returns undefined for a session of
 * version 2 without `Two`. Throws SavedError.
 */
export function decodeSaved(given: Bytes, Two?: typeof Session2, takesBare = false): Saved | undefined {
  // What is kept of it is wiped at its end, and a slice of a Buffer is no copy.
  const bytes = new Uint8Array(given);
  const bare = bytes.length === SAVED_BYTES && takesBare ? Two?.restore(bytes) : undefined;
  if (bare) return { state: EMPTY, two: bare, packets: [] };
  const head = bytes.subarray(0, MAGIC.length);
  if (!equal(head, MAGIC.subarray(0, head.length))) throw savedError(isOlder(bytes) ? "older" : "foreign");
  const format = bytes[MAGIC.length];
  if (format === undefined) throw savedError("torn");
  if (format !== FORMAT) throw savedError(format < FORMAT ? "older" : "newer");
  const end = bytes.length - CHECK_BYTES;
  const from = MAGIC.length + 1;
  if (end < from || !equal(sha256(bytes.subarray(0, end)).subarray(0, CHECK_BYTES), bytes.subarray(end))) {
    throw savedError("torn");
  }
  try {
    return read(new Reader(bytes.subarray(from, end)), Two);
  } catch (error) {
    throw error instanceof Malformed ? savedError("impossible") : error;
  }
}

/** Of the libraries before this format, the one for Python wrote a bare session of version 2. */
function isOlder(bytes: Bytes): boolean {
  if (bytes[0] === V2) return bytes.length === SAVED_BYTES;
  return bytes[0] === OLDER && bytes.length >= 5 && readU32(bytes, 1) <= MAX_STATE_BYTES;
}

const int = (reader: Reader) => readU32(reader.take(4), 0);
const long = (reader: Reader) => readU64(reader.take(8), 0);

function check(can: boolean): void {
  if (!can) throw new Malformed("what cannot be saved");
}

function read(reader: Reader, Two: typeof Session2 | undefined): Saved | undefined {
  const length = int(reader);
  check(length <= MAX_STATE_BYTES);
  const state = reader.take(length).slice();
  const kind = reader.byte();
  if (kind === V2) {
    if (!Two) return undefined;
    const two = Two.restore(concat(Uint8Array.of(V2), reader.take(reader.rest)));
    check(two !== undefined);
    return { state, two: two!, packets: [] };
  }
  check(kind === NONE || kind === V3);
  const three = kind === V3 ? read3(reader) : undefined;
  const packets: Bytes[] = [];
  for (let count = reader.varint(); count > 0; count--) packets.push(reader.string().slice());
  check(reader.rest === 0);
  if (!three) return { state, packets };
  check(three.session.acked + BigInt(packets.length) <= MAX_NUMBER);
  return { state, three, packets };
}

function read3(reader: Reader): NonNullable<Saved["three"]> {
  const part = (length: number) => reader.take(length).slice();
  const edgeKey = compressed(part(PUBLIC_KEY_BYTES));
  check(edgeKey !== undefined);
  const hint = hintOf(edgeKey!);
  const [id, claimKey, handle, run, secret] = [part(8), part(32), part(16), part(8), part(32)];
  const [least, last, used, told] = [long(reader), long(reader), long(reader), long(reader)];
  const flags = reader.byte();
  const count = reader.varint();
  check([least, last, used, told].every((counter) => counter <= MAX_NUMBER) && least >= 1n && least <= told + MAX_AHEAD);
  check((flags & ~(FORGOT | TRIED)) === 0 && count >= 1 && count <= MAX_MARKS);
  const marks = part(count * MARK_BYTES);
  const forgot = (flags & FORGOT) !== 0;
  const resumable = new Resumable({ id, claimKey, handle, run, hint, secret, least, last, used, told, marks, forgot });
  const [longest, ringPackets, ringBytes, window] = [int(reader), int(reader), int(reader), 1_000 * int(reader)];
  const [ackDelay, keepAlive] = [int(reader), int(reader)];
  check(ringPackets > 0 && ackDelay < 65_536 && keepAlive < 65_536);
  const settings = { longest, ringPackets, ringBytes, window, ackDelay, keepAlive: 1_000 * keepAlive };
  const [taken, superseded, gapped] = [long(reader), long(reader), long(reader)];
  const counts = { got: taken, taken, superseded, gapped, skipped: long(reader) };
  check(taken <= MAX_NUMBER && superseded + gapped <= taken);
  const session = { resumable, settings, counts, acked: long(reader), isTried: (flags & TRIED) !== 0 };
  return { session, edgeKey: edgeKey! };
}
