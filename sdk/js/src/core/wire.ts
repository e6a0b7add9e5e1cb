// Frames (SPEC 2) and the integers of packets (SPEC 3.1).

import { type Bytes, EMPTY, concat, readU32, readU64, u32 } from "./bytes.js";

/** The bytes of a frame's length. */
export const LENGTH_BYTES = 4;

/** What a peer sent is not what the protocol allows there. */
export class Malformed extends Error {}

export function frame(body: Bytes): Bytes {
  return concat(u32(body.length), body);
}

/**
 * Finds frames in a stream that arrives in pieces (SPEC 2.3). Memory grows with what has arrived, not with what a length claims.
 */
export class FrameReader {
  private chunks: Bytes[] = [];
  private held = 0;

  push(chunk: Bytes): void {
    if (chunk.length === 0) return;
    this.chunks.push(chunk);
    this.held += chunk.length;
  }

  clear(): void {
    this.chunks = [];
    this.held = 0;
  }

  /** Returns the length of the next frame as soon as its four bytes are there. */
  nextLength(): number | undefined {
    if (this.held < LENGTH_BYTES) return undefined;
    const first = this.chunks[0]!;
    return first.length >= LENGTH_BYTES ? readU32(first, 0) : readU32(this.gather(LENGTH_BYTES), 0);
  }

  /** Returns the body of the next frame, or undefined if it is not whole. Its bytes may be those that were pushed. */
  next(): Bytes | undefined {
    const length = this.nextLength();
    if (length === undefined || this.held < LENGTH_BYTES + length) return undefined;
    const whole = LENGTH_BYTES + length;
    const first = this.chunks[0]!.length >= whole ? this.chunks[0]! : this.gather(whole);
    const body = first.subarray(LENGTH_BYTES, whole);
    this.held -= whole;
    if (first.length === whole) this.chunks.shift();
    else this.chunks[0] = first.subarray(whole);
    return body;
  }

  /** Makes one chunk of those that hold the first `count` bytes. */
  private gather(count: number): Bytes {
    let found = 0;
    let chunks = 0;
    while (found < count) found += this.chunks[chunks++]!.length;
    const joined = chunks === 1 ? this.chunks[0]! : concat(...this.chunks.slice(0, chunks));
    this.chunks.splice(0, chunks, joined);
    return joined;
  }
}

/** Reads the fields of a packet or of a record. */
export class Reader {
  at = 0;

  constructor(readonly bytes: Bytes) {}

  get rest(): number {
    return this.bytes.length - this.at;
  }

  take(length: number): Bytes {
    if (length > this.rest) throw new Malformed("a field ends behind its packet");
    this.at += length;
    return length === 0 ? EMPTY : this.bytes.subarray(this.at - length, this.at);
  }

  byte(): number {
    if (this.rest === 0) throw new Malformed("a field ends behind its packet");
    return this.bytes[this.at++]!;
  }

  /** An integer in its shortest form, at most 2^53 - 1: those that count bytes or name types. */
  varint(limit = Number.MAX_SAFE_INTEGER): number {
    const first = this.bytes[this.at];
    if (first !== undefined && first <= 250) {
      this.at += 1;
      if (first > limit) throw new Malformed("an integer that does not fit its field");
      return first;
    }
    return Number(this.bigint(BigInt(limit)));
  }

  /** An integer in its shortest form. */
  bigint(limit = 0xffff_ffff_ffff_ffffn): bigint {
    const first = this.byte();
    let value: bigint;
    let least: bigint;
    if (first <= 250) [value, least] = [BigInt(first), 0n];
    else if (first === 251) {
      const two = this.take(2);
      [value, least] = [BigInt(two[0]! | (two[1]! << 8)), 251n];
    } else if (first === 252) [value, least] = [BigInt(readU32(this.take(4), 0)), 0x1_0000n];
    else if (first === 253) [value, least] = [readU64(this.take(8), 0), 0x1_0000_0000n];
    else throw new Malformed("an integer that begins with no length");
    if (value < least) throw new Malformed("an integer in a longer form than needed");
    if (value > limit) throw new Malformed("an integer that does not fit its field");
    return value;
  }

  /** A byte string. */
  string(): Bytes {
    return this.take(this.varint());
  }
}
