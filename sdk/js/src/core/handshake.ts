// The handshake of version 2, at the client (SPEC 3, 4, 6).

import { type Bytes, EMPTY, Writer, concat, equal, readU64, u64, utf8, wipe } from "./bytes.js";
import { KeyPair, NONCE_BYTES, compressed, expand, extract, open, seal, sha256, sipHash } from "./keys.js";
import { Leave, over } from "./leave.js";
import type { Ledger, Random, State } from "./machine.js";
import type { Outbox } from "./outbox.js";
import { Code } from "./v3/code.js";
import { LENGTH_BYTES, Malformed, Reader, frame } from "./wire.js";

/** The longest body from the edge before the client is established. */
export const MAX_HANDSHAKE_BYTES = 128;
/** Output that is framed at once. */
const FILL_BYTES = 16_384;
/** So many challenges in a row that do not open are a refusal (SPEC 4.6(c)). */
export const MAX_UNPROVABLE = 3;
const CHALLENGE_BYTES = 32;
const RANDOM_NONCE_BYTES = 16;
const LABEL = /* @__PURE__ */ utf8("VOLTLANE.NET");

export type Packet =
  | { readonly name: "Ping" }
  | { readonly name: "ProtocolVersion"; readonly version: number }
  | { readonly name: "PubKey"; readonly point: Bytes }
  | { readonly name: "ClientId"; readonly id: bigint }
  | { readonly name: "Challenge" | "ChallengeResponse"; readonly sealed: Bytes };

const NAMES = ["Ping", "ProtocolVersion", "PubKey", "ClientId", "Challenge", "ChallengeResponse"] as const;

/** Returns the whole frame of a packet. */
export function encode(packet: Packet): Bytes {
  const body = new Writer().varint(NAMES.indexOf(packet.name));
  switch (packet.name) {
    case "ProtocolVersion":
      body.varint(packet.version);
      break;
    case "PubKey":
      body.string(packet.point);
      break;
    case "ClientId":
      body.varint(packet.id);
      break;
    case "Challenge":
    case "ChallengeResponse":
      body.string(packet.sealed);
      break;
    case "Ping":
  }
  return frame(body.take());
}

/** Reads a body. Throws Malformed (SPEC 3.4(a)). */
export function decode(body: Bytes): Packet {
  const reader = new Reader(body);
  const name = NAMES[reader.varint(0xffff_ffff)];
  const packet = fields(name, reader);
  if (reader.rest > 0) throw new Malformed("bytes behind a handshake packet");
  return packet;
}

function fields(name: Packet["name"] | undefined, reader: Reader): Packet {
  switch (name) {
    case "Ping":
      return { name };
    case "ProtocolVersion":
      return { name, version: reader.varint(0xffff_ffff) };
    case "PubKey":
      return { name, point: reader.string() };
    case "ClientId":
      return { name, id: reader.bigint() };
    case "Challenge":
    case "ChallengeResponse":
      return { name, sealed: reader.string() };
    default:
      throw new Malformed("no handshake packet");
  }
}

/** The key of a session of version 2 (SPEC 6.3). */
export function sessionKey(shared: Bytes): Bytes {
  const prk = extract(LABEL, shared);
  const key = expand(prk, LABEL);
  wipe(prk);
  return key;
}

/** Seals a value of version 2: the nonce comes last (SPEC 6.4). */
export function sealWithNonce(key: Bytes, nonce: Bytes, plain: Bytes): Bytes {
  return concat(seal(key, nonce, EMPTY, plain), nonce);
}

/** Returns the plain bytes of a value of version 2, or undefined. */
export function openWithNonce(key: Bytes, sealed: Bytes): Bytes | undefined {
  if (sealed.length < NONCE_BYTES) return undefined;
  const at = sealed.length - NONCE_BYTES;
  return open(key, sealed.subarray(at), EMPTY, sealed.subarray(0, at));
}

/** Makes nonces that the client recognises as its own (SPEC 4.6(a)). */
export class OwnNonces {
  private readonly key: Bytes;

  constructor(privateKey: Bytes) {
    this.key = sha256(utf8("voltlane client nonces"), privateKey).slice(0, 16);
  }

  nonce(random: Bytes): Bytes {
    const first = random.slice(0, RANDOM_NONCE_BYTES);
    return concat(first, sipHash(this.key, first));
  }

  isOwn(nonce: Bytes): boolean {
    const mark = sipHash(this.key, nonce.subarray(0, RANDOM_NONCE_BYTES));
    return equal(mark, nonce.subarray(RANDOM_NONCE_BYTES));
  }

  wipe(): void {
    wipe(this.key);
  }
}

/** The length of a saved session of version 2. */
export const SAVED_BYTES = 74;
const SAVED_FORMAT = 1;

/** What a client of version 2 keeps, and the steps of its handshake. */
export class Session2 {
  private foreign = 0;
  /** The ends of the packets that were framed. */
  private frameEnds: number[] = [];
  /** The packets that came. */
  received = 0n;

  private constructor(
    private keys: KeyPair | undefined,
    private edgeKey: Bytes | undefined,
    private idValue: bigint | undefined,
  ) {}

  static fresh(): Session2 {
    return new Session2(undefined, undefined, undefined);
  }

  get id(): bigint | undefined {
    return this.idValue;
  }

  get isResuming(): boolean {
    return this.idValue !== undefined;
  }

  begin(): Bytes {
    return encode({ name: "ProtocolVersion", version: 2 });
  }

  /** Handles the edge's key. Returns what the client answers, or undefined if the key is another edge's. Throws Malformed. */
  key(point: Bytes, random: Bytes): Bytes | undefined {
    const key = compressed(point);
    if (!key) throw new Malformed("the edge's key is no point");
    if (this.idValue !== undefined) {
      return equal(key, this.edgeKey!) ? encode({ name: "ClientId", id: this.idValue }) : undefined;
    }
    this.edgeKey = key;
    this.keys = KeyPair.from(random);
    return encode({ name: "PubKey", point: this.keys.public });
  }

  begun(id: bigint): void {
    this.idValue = id;
  }

  /**
   * Answers a challenge with a response and a Ping. Returns "foreign" for one that is not for this client, and "unknown" for the last one in
   * a row: the edge does not know the session.
   */
  challenge(sealed: Bytes, random: Bytes): Bytes | "foreign" | "unknown" {
    const keys = this.keys!;
    const nonces = new OwnNonces(keys.secret);
    const shared = keys.agree(this.edgeKey!)!;
    const key = sessionKey(shared);
    const plain = openWithNonce(key, sealed);
    const isMine = sealed.length >= NONCE_BYTES && nonces.isOwn(sealed.subarray(sealed.length - NONCE_BYTES));
    try {
      if (!plain || plain.length !== CHALLENGE_BYTES || isMine) {
        this.foreign += 1;
        return this.foreign >= MAX_UNPROVABLE ? "unknown" : "foreign";
      }
      this.foreign = 0;
      const answer = sealWithNonce(key, nonces.nonce(random), plain);
      return concat(encode({ name: "ChallengeResponse", sealed: answer }), encode({ name: "Ping" }));
    } finally {
      wipe(shared, key, plain);
      nonces.wipe();
    }
  }

  /**
   * Handles a packet of the opening. Returns what the client answers, and the state that follows: "open" is the end of it. Throws Leave, and
   * Malformed for what is out of turn.
   */
  packet(state: State, body: Bytes, random: Random): { readonly answer?: Bytes; readonly state: State } {
    const packet = decode(body);
    const is = `${state} ${packet.name}`;
    if (is === "key PubKey" && packet.name === "PubKey") {
      const answer = this.key(packet.point, random(32));
      if (!answer) {
        throw new Leave({ then: "over", code: Code.otherEdge, text: "the edge has another key than before", keeps: true });
      }
      return { answer, state: this.isResuming ? "challenge" : "id" };
    }
    if (is === "id ClientId" && packet.name === "ClientId") {
      this.begun(packet.id);
      return { state: "open" };
    }
    if (is === "challenge Challenge" && packet.name === "Challenge") {
      const answer = this.challenge(packet.sealed, random(16));
      if (answer === "unknown") throw over(Code.gone, "the edge does not know the session");
      if (answer === "foreign") throw new Malformed("the edge gives no challenge for this session");
      return { answer, state: "ping" };
    }
    if (is !== "ping Ping") throw new Malformed(`${packet.name} in state ${state}`);
    return { state: "open" };
  }

  /** Frames what waits. */
  fill(outbox: Outbox): Bytes {
    const frames: Bytes[] = [];
    let bytes = 0;
    for (let data = outbox.next(); data && bytes < FILL_BYTES; data = outbox.next()) {
      frames.push(frame(data));
      bytes += data.length + LENGTH_BYTES;
      this.frameEnds.push(bytes);
      outbox.advance();
    }
    return frames.length === 1 ? frames[0]! : concat(...frames);
  }

  /** The transport took the first `count` bytes of what was framed. Returns whether packets are through with it. */
  written(outbox: Outbox, count: number): boolean {
    let taken = 0;
    while (taken < this.frameEnds.length && this.frameEnds[taken]! <= count) taken += 1;
    this.frameEnds.splice(0, taken);
    outbox.acknowledge(outbox.acked + BigInt(taken));
    return taken > 0;
  }

  ledger({ acked, end }: Outbox): Ledger {
    const none = { superseded: 0n, gapped: 0n, skipped: 0n };
    const got = this.received;
    return {
      up: { numbered: end, acknowledged: acked, openSent: 0n, openUnsent: end - acked, ...none },
      down: { numbered: got, acknowledged: got, openSent: 0n, openUnsent: 0n, ...none },
    };
  }

  /** The connection is gone. If there is no session yet, its keys are of no more use. */
  lost(): void {
    this.frameEnds = [];
    if (this.idValue === undefined) this.wipe();
  }

  /** The session as bytes: those that the Rust library takes as well. */
  save(): Bytes | undefined {
    if (this.idValue === undefined || !this.keys) return undefined;
    return concat(Uint8Array.of(SAVED_FORMAT), u64(this.idValue), this.keys.secret, this.edgeKey!);
  }

  /** Returns undefined for bytes that are no session of version 2. */
  static restore(saved: Bytes): Session2 | undefined {
    if (saved.length !== SAVED_BYTES || saved[0] !== SAVED_FORMAT) return undefined;
    const keys = KeyPair.of(saved.subarray(9, 41));
    const edgeKey = compressed(saved.subarray(41));
    return keys && edgeKey ? new Session2(keys, edgeKey, readU64(saved, 1)) : undefined;
  }

  wipe(): void {
    this.keys?.wipe();
    this.keys = undefined;
  }
}
