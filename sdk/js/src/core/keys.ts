// Keys, agreement and sealing of both versions (SPEC 6, 20).

import { Poly1305 } from "@noble/ciphers/_poly1305.js";
import { chacha20, hchacha } from "@noble/ciphers/chacha.js";
import { _SHA256 as Sha256 } from "@noble/hashes/sha2.js";
import { Point } from "@noble/secp256k1";

import { type Bytes, EMPTY, concat, equal, hex, readU64, u64, utf8, wipe } from "./bytes.js";

export const KEY_BYTES = 32;
export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;
export const PUBLIC_KEY_BYTES = 33;

/** The block and the hash of SHA-256, in bytes. */
const BLOCK_BYTES = 64;
const HASH_BYTES = 32;

export function sha256(...parts: readonly Bytes[]): Bytes {
  const hash = new Sha256();
  for (const part of parts) hash.update(part);
  return hash.digest();
}

// What is put together of the ciphers and the hash is written here: the wrappers around them in noble weigh as much as they do.

/** HMAC-SHA-256 (RFC 2104) under a key of one block at most. */
function hmac(key: Bytes, ...parts: readonly Bytes[]): Bytes {
  const padded = (byte: number): Bytes => {
    const block = new Uint8Array(BLOCK_BYTES).fill(byte);
    for (let at = 0; at < key.length; at++) block[at]! ^= key[at]!;
    return block;
  };
  const [inner, outer] = [padded(0x36), padded(0x5c)];
  const code = sha256(outer, sha256(inner, ...parts));
  wipe(inner, outer);
  return code;
}

/** The first half of HKDF-SHA-256 (RFC 5869). The salt is one block at most. */
export function extract(salt: Bytes, material: Bytes): Bytes {
  return hmac(salt, material);
}

/** The second half, of so many bytes. */
export function expand(key: Bytes, info: Bytes, length = KEY_BYTES): Bytes {
  const made = new Uint8Array(length);
  let block = EMPTY;
  for (let at = 0; at < length; at += HASH_BYTES) {
    const next = hmac(key, block, info, Uint8Array.of(1 + at / HASH_BYTES));
    wipe(block);
    block = next;
    made.set(block.subarray(0, length - at), at);
  }
  wipe(block);
  return made;
}

/** Expand(key, label || more, 32). */
export function derive(key: Bytes, label: string, more?: Bytes): Bytes {
  return expand(key, more ? concat(utf8(label), more) : utf8(label));
}

/** Returns the scalar of a private key, or undefined if it is 0 or not below the order. */
function scalar(secret: Bytes): bigint | undefined {
  const value = BigInt(`0x${hex(secret)}`);
  return value > 0n && value < Point.CURVE().n ? value : undefined;
}

/** A key pair on secp256k1. */
export class KeyPair {
  readonly public: Bytes;

  private constructor(readonly secret: Bytes) {
    this.public = Point.BASE.multiply(scalar(secret)!).toBytes();
  }

  /** Makes a pair of 32 bytes, or returns undefined if they are 0 or not below the order. */
  static of(secret: Bytes): KeyPair | undefined {
    return secret.length === KEY_BYTES && scalar(secret) !== undefined ? new KeyPair(new Uint8Array(secret)) : undefined;
  }

  /** Makes a pair of 32 random bytes. Bytes that are no key, one set in 2^128, are hashed until they are one. */
  static from(random: Bytes): KeyPair {
    let secret = random;
    for (;;) {
      const pair = KeyPair.of(secret);
      if (pair) return pair;
      secret = sha256(secret);
    }
  }

  /** Returns the x coordinate of the shared point (SPEC 6.2), or undefined if `point` is none. */
  agree(point: Bytes): Bytes | undefined {
    try {
      return Point.fromBytes(point).multiply(scalar(this.secret)!).toBytes().slice(1);
    } catch {
      return undefined;
    }
  }

  wipe(): void {
    wipe(this.secret);
  }
}

/** Returns the compressed form of a point in the form of SEC 1, or undefined if it is none (SPEC 3.3(a)). */
export function compressed(point: Bytes): Bytes | undefined {
  const form = point[0];
  const isForm = point.length === PUBLIC_KEY_BYTES ? form === 2 || form === 3 : point.length === 65 && form === 4;
  if (!isForm) return undefined;
  try {
    return Point.fromBytes(point).toBytes(true);
  } catch {
    return undefined;
  }
}

/** The tag of ChaCha20-Poly1305 (RFC 8439, 2.8). */
function tag(key: Bytes, nonce: Bytes, associated: Bytes, sealed: Bytes): Bytes {
  const once = chacha20(key, nonce, new Uint8Array(KEY_BYTES));
  // Each filled up to a block, and their lengths.
  const at = (associated.length + 15) & ~15;
  const end = at + ((sealed.length + 15) & ~15);
  const message = new Uint8Array(end + 16);
  message.set(associated);
  message.set(sealed, at);
  const view = new DataView(message.buffer);
  view.setUint32(end, associated.length, true);
  view.setUint32(end + 8, sealed.length, true);
  const code = new Poly1305(once).update(message).digest();
  wipe(once);
  return code;
}

/** Seals with ChaCha20-Poly1305. The tag comes behind the ciphertext. */
function sealUnder(key: Bytes, nonce: Bytes, associated: Bytes, plain: Bytes): Bytes {
  const whole = new Uint8Array(plain.length + TAG_BYTES);
  const sealed = chacha20(key, nonce, plain, whole.subarray(0, plain.length), 1);
  whole.set(tag(key, nonce, associated, sealed), plain.length);
  return whole;
}

/** Returns the plain bytes, or undefined if they do not open. */
function openUnder(key: Bytes, nonce: Bytes, associated: Bytes, whole: Bytes): Bytes | undefined {
  if (whole.length < TAG_BYTES) return undefined;
  const sealed = whole.subarray(0, -TAG_BYTES);
  if (!equal(tag(key, nonce, associated, sealed), whole.subarray(-TAG_BYTES))) return undefined;
  return chacha20(key, nonce, sealed, undefined, 1);
}

type Cipher<T> = (key: Bytes, nonce: Bytes, associated: Bytes, bytes: Bytes) => T;

/** Seals or opens with XChaCha20-Poly1305: under a key of its own, with what remains of the nonce. */
function extended<T>(cipher: Cipher<T>, key: Bytes, nonce: Bytes, associated: Bytes, bytes: Bytes): T {
  const own = subkey(key, nonce.subarray(0, 16));
  const done = cipher(own, concat(new Uint8Array(4), nonce.subarray(16)), associated, bytes);
  wipe(own);
  return done;
}

/** Seals with XChaCha20-Poly1305. The tag comes behind the ciphertext, the nonce is not part of it (SPEC 20.1(b)). */
export function seal(key: Bytes, nonce: Bytes, associated: Bytes, plain: Bytes): Bytes {
  return extended(sealUnder, key, nonce, associated, plain);
}

/** Returns the plain bytes, or undefined if they do not open. */
export function open(key: Bytes, nonce: Bytes, associated: Bytes, sealed: Bytes): Bytes | undefined {
  return extended(openUnder, key, nonce, associated, sealed);
}

/** Records under one secret (SPEC 20.5): their nonces count, and the key of XChaCha20 is computed once. */
export class Lane {
  private readonly key: Bytes;
  private readonly nonce = new Uint8Array(12);
  private readonly view = new DataView(this.nonce.buffer);
  private count = 0n;

  constructor(secret: Bytes) {
    const both = expand(secret, utf8("record"), 48);
    this.key = subkey(both.subarray(0, 32), both.subarray(32));
    wipe(both);
  }

  seal(number: bigint, plain: Bytes): Bytes {
    return sealUnder(this.key, this.next(), u64(number), plain);
  }

  /** Returns the plain bytes, or undefined if the record does not open. Then the connection is over. */
  open(number: bigint, body: Bytes): Bytes | undefined {
    return openUnder(this.key, this.next(), u64(number), body);
  }

  /** The nonce of the next record. It is valid until the one after it. */
  private next(): Bytes {
    this.view.setBigUint64(4, this.count++, true);
    return this.nonce;
  }

  wipe(): void {
    wipe(this.key);
  }
}

/** "expand 32-byte k". */
const CONSTANT = /* @__PURE__ */ Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574);

/** The key of ChaCha20 that XChaCha20 makes of a key and the first 16 bytes of a nonce. */
function subkey(key: Bytes, nonce: Bytes): Bytes {
  // As words in memory: the library is one for little-endian machines, like all engines that there are. A slice of a Buffer is no copy.
  const words = (bytes: Bytes) => new Uint32Array(new Uint8Array(bytes).buffer);
  const secret = words(key);
  const made = new Uint32Array(KEY_BYTES / 4);
  hchacha(CONSTANT, secret, words(nonce), made);
  secret.fill(0);
  return new Uint8Array(made.buffer);
}

const MASK = 0xffff_ffff_ffff_ffffn;

/** SipHash-2-4, which marks the nonces of version 2 (SPEC 4.6(a)). It is used once for a resume. */
export function sipHash(key: Bytes, data: Bytes): Bytes {
  const [k0, k1] = [readU64(key, 0), readU64(key, 8)];
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;
  const turn = (word: bigint, bits: bigint) => ((word << bits) | (word >> (64n - bits))) & MASK;
  const round = () => {
    v0 = (v0 + v1) & MASK;
    v1 = turn(v1, 13n) ^ v0;
    v0 = turn(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = turn(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = turn(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = turn(v1, 17n) ^ v2;
    v2 = turn(v2, 32n);
  };
  const last = new Uint8Array(8 * Math.floor(data.length / 8) + 8);
  last.set(data);
  last[last.length - 1] = data.length & 0xff;
  for (let at = 0; at < last.length; at += 8) {
    const word = readU64(last, at);
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  v2 ^= 0xffn;
  for (let turns = 0; turns < 4; turns++) round();
  return u64(v0 ^ v1 ^ v2 ^ v3);
}
