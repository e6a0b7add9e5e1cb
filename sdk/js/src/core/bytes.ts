// Bytes and integers.

export type Bytes = Uint8Array;

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });

export const EMPTY: Bytes = new Uint8Array(0);

export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

/** Returns the text, or undefined if the bytes are no UTF-8. */
export function strictText(bytes: Bytes): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Returns the text. Bytes that are no UTF-8 are replaced. */
export function text(bytes: Bytes): string {
  return lossy.decode(bytes);
}

export function concat(...parts: readonly Bytes[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function hex(bytes: Bytes): string {
  let digits = "";
  for (const byte of bytes) digits += byte.toString(16).padStart(2, "0");
  return digits;
}

/** Returns the bytes of hexadecimal digits, or undefined if they are none. */
export function unhex(digits: string): Bytes | undefined {
  if (digits.length % 2 !== 0 || /[^0-9a-fA-F]/.test(digits)) return undefined;
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

/** Compares in a time that depends on the lengths alone. */
export function equal(a: Bytes, b: Bytes): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let at = 0; at < a.length; at++) difference |= a[at]! ^ b[at]!;
  return difference === 0;
}

/** Overwrites secrets. A copy that the engine made of them is out of reach. */
export function wipe(...secrets: (Bytes | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

export function u32(value: number): Bytes {
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}

export function readU16(bytes: Bytes, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function readU32(bytes: Bytes, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function u64(value: bigint): Bytes {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

export function readU64(bytes: Bytes, at: number): bigint {
  return (BigInt(readU32(bytes, at + 4)) << 32n) | BigInt(readU32(bytes, at));
}

/** A list of bytes that grows at its end. */
export class Writer {
  private bytes: Bytes = new Uint8Array(64);
  length = 0;

  private room(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const wider = new Uint8Array(Math.max(2 * this.bytes.length, this.length + more));
    wider.set(this.bytes.subarray(0, this.length));
    this.bytes = wider;
  }

  byte(value: number): this {
    this.room(1);
    this.bytes[this.length++] = value;
    return this;
  }

  put(data: Bytes): this {
    this.room(data.length);
    this.bytes.set(data, this.length);
    this.length += data.length;
    return this;
  }

  /** An integer of SPEC 3.1. */
  varint(value: number | bigint): this {
    if (value <= 250) return this.byte(Number(value));
    const [first, width] = value < 65_536 ? [251, 2] : value < 4_294_967_296 ? [252, 4] : [253, 8];
    return this.byte(first).put(u64(BigInt(value)).subarray(0, width));
  }

  /** A byte string of SPEC 3.2. */
  string(data: Bytes): this {
    return this.varint(data.length).put(data);
  }

  zeros(count: number): this {
    this.room(count);
    this.bytes.fill(0, this.length, this.length + count);
    this.length += count;
    return this;
  }

  /** Returns a copy of what was written. */
  take(): Bytes {
    return this.bytes.slice(0, this.length);
  }

  /** Overwrites what was written. */
  clear(): void {
    this.bytes.fill(0);
    this.length = 0;
  }
}
