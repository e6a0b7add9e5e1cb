// Items of records (SPEC 21.3, 21.4).

import { type Bytes, Writer, strictText } from "../bytes.js";
import { Malformed, Reader } from "../wire.js";
import { isCode } from "./code.js";

export const MAX_NUMBER = (1n << 63n) - 1n;
export const MAX_ITEMS = 4_096;
export const MAX_TOKEN_BYTES = 4_096;
export const MAX_TEXT_BYTES = 256;
export const MAX_NAMED_MARKS = 64;
export const MARK_BYTES = 8;
const MAX_KEY = 63;
const MAX_MS = 0xffff_ffff;

export const Type = {
  pad: 0,
  token: 1,
  earlyEnd: 2,
  ack: 3,
  ackNow: 4,
  part: 5,
  gap: 6,
  superseded: 7,
  latest: 8,
  volatile: 9,
  skipped: 10,
  resumed: 11,
  ping: 12,
  pong: 13,
  goAway: 14,
  close: 15,
} as const;

/** Types from here on are passed over. */
const FIRST_IGNORED = 32;

/** The counts of one direction (SPEC 24.7). */
export interface Counts {
  numbered: bigint;
  acknowledged: bigint;
  superseded: bigint;
  gapped: bigint;
  openSent: bigint;
  openUnsent: bigint;
  skipped: bigint;
}

export interface Close {
  readonly type: "close";
  readonly code: number;
  readonly wait: number;
  readonly jitter: number;
  readonly detail: bigint;
  readonly up: Counts;
  readonly down: Counts;
  readonly text: string;
}

export type Item =
  | { readonly type: "packet" | "part" | "volatile"; readonly data: Bytes }
  | { readonly type: "latest"; readonly key: number; readonly data: Bytes }
  | { readonly type: "pad" | "ignored" | "ackNow" }
  | { readonly type: "ack" | "superseded" | "skipped"; readonly count: bigint }
  | { readonly type: "gap"; readonly count: bigint; readonly bytes: bigint; readonly reason: number }
  | {
      readonly type: "resumed";
      readonly until: bigint;
      readonly received: bigint;
      readonly away: bigint;
      readonly cause: number;
      readonly marks: Bytes;
    }
  | { readonly type: "ping" | "pong"; readonly bytes: Bytes }
  | { readonly type: "goAway"; readonly code: number; readonly earliest: number; readonly latest: number }
  | Close;

function counted(reader: Reader): bigint {
  const count = reader.bigint(MAX_NUMBER);
  if (count === 0n) throw new Malformed("a count of 0");
  return count;
}

function code(reader: Reader): number {
  const read = reader.varint();
  if (!isCode(read)) throw new Malformed(`the code ${read}, which does not exist`);
  return read;
}

function check(can: boolean, type: keyof typeof Type): void {
  if (!can) throw new Malformed(`an item of type ${type} that says what cannot be`);
}

/** Reads the next item of a record down. Throws Malformed. */
export function readItem(reader: Reader): Item {
  const head = reader.varint();
  if (head % 2 === 0) return { type: "packet", data: reader.take(head / 2) };
  const kind = (head - 1) / 2;
  if (kind < FIRST_IGNORED) return readKind(kind, reader);
  reader.string();
  return { type: "ignored" };
}

function readKind(kind: number, reader: Reader): Item {
  switch (kind) {
    case Type.pad:
      check(reader.take(reader.rest).every((byte) => byte === 0), "pad");
      return { type: "pad" };
    case Type.ack:
      return { type: "ack", count: counted(reader) };
    case Type.ackNow:
      return { type: "ackNow" };
    case Type.part: {
      const data = reader.string();
      check(data.length > 0, "part");
      return { type: "part", data };
    }
    case Type.gap: {
      const [count, bytes, reason] = [counted(reader), reader.bigint(), reader.varint(255)];
      check(reason > 0, "gap");
      return { type: "gap", count, bytes, reason };
    }
    case Type.superseded:
      return { type: "superseded", count: counted(reader) };
    case Type.latest: {
      const key = reader.byte();
      check(key <= MAX_KEY, "latest");
      return { type: "latest", key, data: reader.string() };
    }
    case Type.volatile:
      return { type: "volatile", data: reader.string() };
    case Type.skipped:
      return { type: "skipped", count: counted(reader) };
    case Type.resumed:
      return readResumed(reader);
    case Type.ping:
      return { type: "ping", bytes: reader.take(8).slice() };
    case Type.pong:
      return { type: "pong", bytes: reader.take(8).slice() };
    case Type.goAway:
      return readGoAway(reader);
    case Type.close:
      return readClose(reader);
    default:
      throw new Malformed(`an item of type ${kind}, which an edge does not send`);
  }
}

function readResumed(reader: Reader): Item {
  const [until, received, away] = [reader.bigint(MAX_NUMBER), reader.bigint(MAX_NUMBER), reader.bigint()];
  const cause = code(reader);
  const marks = reader.string().slice();
  const count = marks.length / MARK_BYTES;
  check(Number.isInteger(count) && count >= 1 && count <= MAX_NAMED_MARKS, "resumed");
  return { type: "resumed", until, received, away, cause, marks };
}

function readGoAway(reader: Reader): Item {
  const why = code(reader);
  const [earliest, latest] = [reader.varint(MAX_MS), reader.varint(MAX_MS)];
  reader.varint(MAX_MS);
  // An address is reserved.
  check(reader.byte() === 0 && earliest <= latest, "goAway");
  return { type: "goAway", code: why, earliest, latest };
}

function readCounts(reader: Reader): Counts {
  const next = () => reader.bigint();
  return {
    numbered: next(),
    acknowledged: next(),
    superseded: next(),
    gapped: next(),
    openSent: next(),
    openUnsent: next(),
    skipped: next(),
  };
}

function readClose(reader: Reader): Close {
  const why = code(reader);
  const [wait, jitter, detail] = [reader.varint(MAX_MS), reader.varint(MAX_MS), reader.bigint()];
  const [up, down] = [readCounts(reader), readCounts(reader)];
  const bytes = reader.string();
  const words = strictText(bytes);
  check(bytes.length <= MAX_TEXT_BYTES && words !== undefined, "close");
  return { type: "close", code: why, wait, jitter, detail, up, down, text: words! };
}

/** Returns whether the counts add up (SPEC 24.7(a)). */
export function isBalanced(counts: Counts): boolean {
  const { numbered, acknowledged, superseded, gapped, openSent, openUnsent } = counts;
  return numbered === acknowledged + superseded + gapped + openSent + openUnsent;
}

// What a client writes.

export function headBytes(length: number): number {
  return 2 * length <= 250 ? 1 : 2 * length < 65_536 ? 3 : 5;
}

export function writePacket(to: Writer, data: Bytes): void {
  to.varint(2 * data.length).put(data);
}

export function writeType(to: Writer, type: number): Writer {
  return to.varint(2 * type + 1);
}

export function writeClose(to: Writer, code: number, detail: bigint, up: Counts, down: Counts): void {
  writeType(to, Type.close).varint(code).varint(0).varint(0).varint(detail);
  for (const counts of [up, down]) {
    to.varint(counts.numbered).varint(counts.acknowledged).varint(counts.superseded).varint(counts.gapped);
    to.varint(counts.openSent).varint(counts.openUnsent).varint(counts.skipped);
  }
  to.varint(0);
}
