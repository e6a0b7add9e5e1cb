// Keys, agreement and sealing of both versions (SPEC 6, 20).

import { chacha20poly1305, hchacha, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { u32 as words } from "@noble/ciphers/utils.js";
import { expand as hkdfExpand, extract as hkdfExtract } from "@noble/hashes/hkdf.js";
import { sha256 as hash } from "@noble/hashes/sha2.js";
import { Point, getPublicKey, getSharedSecret, utils } from "@noble/secp256k1";

import { type Bytes, concat, readU64, u64, utf8, wipe } from "./bytes.js";

export const KEY_BYTES = 32;
export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;
export const PUBLIC_KEY_BYTES = 33;

export function sha256(...parts: Bytes[]): Bytes {
  return hash(parts.length === 1 ? parts[0]! : concat(...parts));
}

export function extract(salt: Bytes, material: Bytes): Bytes {
  return hkdfExtract(hash, material, salt);
}

export function expand(key: Bytes, info: Bytes, length = KEY_BYTES): Bytes {
  return hkdfExpand(hash, key, info, length);
}

/** Expand(key, label || more, 32). */
export function derive(key: Bytes, label: string, more?: Bytes): Bytes {
  return expand(key, more ? concat(utf8(label), more) : utf8(label));
}

/** A key pair on secp256k1. */
export class KeyPair {
  readonly public: Bytes;

  private constructor(readonly secret: Bytes) {
    this.public = getPublicKey(secret, true);
  }

  /** Makes a pair of 32 bytes, or returns undefined if they are 0 or above the order. */
  static of(secret: Bytes): KeyPair | undefined {
    return utils.isValidSecretKey(secret) ? new KeyPair(secret.slice()) : undefined;
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
      return getSharedSecret(this.secret, point, true).slice(1);
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

/** Seals with XChaCha20-Poly1305. The tag comes behind the ciphertext, the nonce is not part of it (SPEC 20.1(b)). */
export function seal(key: Bytes, nonce: Bytes, associated: Bytes, plain: Bytes): Bytes {
  return xchacha20poly1305(key, nonce, associated).encrypt(plain);
}

/** Returns the plain bytes, or undefined if they do not open. */
export function open(key: Bytes, nonce: Bytes, associated: Bytes, sealed: Bytes): Bytes | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  try {
    return xchacha20poly1305(key, nonce, associated).decrypt(sealed);
  } catch {
    return undefined;
  }
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
    return this.next(number).encrypt(plain);
  }

  /** Returns the plain bytes, or undefined if the record does not open. Then the connection is over. */
  open(number: bigint, body: Bytes): Bytes | undefined {
    try {
      return this.next(number).decrypt(body);
    } catch {
      return undefined;
    }
  }

  private next(number: bigint) {
    this.view.setBigUint64(4, this.count++, true);
    return chacha20poly1305(this.key, this.nonce, u64(number));
  }

  wipe(): void {
    wipe(this.key);
  }
}

/** The key of ChaCha20 that XChaCha20 makes of a key and the first 16 bytes of a nonce. */
function subkey(key: Bytes, nonce: Bytes): Bytes {
  const constant = words(utf8("expand 32-byte k"));
  const made = new Uint32Array(8);
  // As words in memory: the library is one for little-endian machines, like all engines that there are.
  hchacha(constant, words(key.slice()), words(nonce.slice()), made);
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
