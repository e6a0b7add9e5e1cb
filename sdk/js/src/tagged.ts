// What the frames of a link have: ids, flags and fields (SPEC 7.1, 34, 35).

import { type Bytes, readU16, u64, utf8 } from "./core/bytes.js";
import { bytesOf } from "./data.js";
import { type ClientId, ConfigError, type Counts, type Data } from "./events.js";
import { number64 } from "./link.js";

export const ID_BYTES = 8;
/** The id and the flag of a tagged packet. */
export const TAG_BYTES = ID_BYTES + 1;
export const DATA = 0;
export const FAILURE = 1;
export const KICK = 2;
export const RESUMED = 3;
/** The group of everyone, which the library keeps. */
export const EVERYONE = u64(0xffff_ffff_ffff_ffffn);
/** Codes (SPEC 25.2). */
export const GOING_AWAY = 101;
export const ELSEWHERE = 205;
export const GONE = 301;

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function idOf(body: Bytes): ClientId {
  let digits = "";
  for (let at = ID_BYTES - 1; at >= 0; at--) digits += DIGITS[body[at]!];
  return digits as ClientId;
}

export function tagOf(id: ClientId): Bytes {
  if (!/^[0-9a-f]{16}$/.test(id)) throw new ConfigError(`${id}: no id of a client`);
  return u64(BigInt(`0x${id}`));
}

/** The bytes themselves, which are copied at once. */
export function viewOf(data: Data): Bytes {
  return data instanceof Uint8Array ? data : bytesOf(data);
}

/** Bytes of JOINED before its token, of OWN before its note, of RESUMED, and of ENDED before its text. */
export const JOINED_BYTES = 53;
export const OWN_BYTES = 33;
export const RESUMED_BYTES = 44;
export const ENDED_BYTES = 114;

export function isKick(code: number): boolean {
  return code === 401 || code === 405 || (Number.isInteger(code) && code >= 500 && code <= 699);
}

/** As much of a text as fits into so many bytes. */
export function cut(words: string, bytes: number): string {
  let [used, end] = [0, 0];
  for (const letter of words) {
    used += utf8(letter).length;
    if (used > bytes) return words.slice(0, end);
    end += letter.length;
  }
  return words;
}

export function counts(numbered: number, acknowledged: number, inDoubt: number): Counts {
  return { numbered, acknowledged, superseded: 0, gapped: 0, inDoubt, lost: 0, skipped: 0 };
}

/** The number up to which everything is settled, for certain (SPEC 36.3(e)). */
export function settledBy({ numbered, acknowledged, superseded, gapped, inDoubt, lost }: Counts): number {
  if (acknowledged + superseded + gapped + inDoubt + lost !== numbered) return 0;
  // Only the last packets were never sent.
  return inDoubt === 0 ? numbered - lost : acknowledged;
}

export function countsOf(data: Bytes, at: number): Counts {
  const [numbered, acknowledged, superseded, gapped, inDoubt, lost, skipped] = Array.from({ length: 7 }, (_, index) => number64(data, at + 8 * index));
  return { numbered: numbered!, acknowledged: acknowledged!, superseded: superseded!, gapped: gapped!, inDoubt: inDoubt!, lost: lost!, skipped: skipped! };
}

/** The address in JOINED. */
export function addressOf(data: Bytes): string | undefined {
  const [family, bytes, port] = [data[2], data.subarray(3, 19), readU16(data, 19)];
  if (family === 4) return `${bytes.subarray(0, 4).join(".")}:${port}`;
  if (family !== 6) return undefined;
  const parts = Array.from({ length: 8 }, (_, at) => ((bytes[2 * at]! << 8) | bytes[2 * at + 1]!).toString(16));
  return `[${parts.join(":")}]:${port}`;
}

/** The code of a reason of version 2 (SPEC 7.3(d), 35.5(a)). */
export function codeOf(reason: string): number {
  return REASONS.get(reason) ?? GONE;
}

const REASONS = new Map([
  ["expired", 302],
  ["missed packet buffer full", 303],
  ["client is away", 303],
  ["send queue full", 303],
  ["write timed out", 303],
  ["kicked", 401],
  ["too many stale clients", 307],
  ["memory limit", 306],
  ["goodbye", 304],
  ["numbers do not fit", 305],
  ["packet too long", 404],
]);
