// The backend's end of a link of version 3: its frames, their counts and their acknowledgements (SPEC 34, 37).

import { createHmac, timingSafeEqual } from "node:crypto";

import { type Bytes, EMPTY, concat, equal, readU16, readU32, readU64, u32, u64, utf8, wipe } from "./core/bytes.js";
import { LENGTH_BYTES, frame } from "./core/wire.js";
import { randomBytes } from "./data.js";
import { ConfigError } from "./events.js";

export const Flag = {
  data: 0x00,
  ask: 0x10,
  grant: 0x11,
  linkAck: 0x12,
  joined: 0x13,
  away: 0x14,
  resumed: 0x15,
  ended: 0x16,
  gap: 0x17,
  settled: 0x18,
  refused: 0x1a,
  token: 0x1b,
  own: 0x1c,
  challenge: 0x1d,
  volatile: 0x20,
  latest: 0x21,
  groupSend: 0x22,
  groupAdd: 0x23,
  groupRemove: 0x24,
  groupEnd: 0x25,
  kick: 0x26,
  policy: 0x27,
  goAway: 0x28,
  pause: 0x29,
  goOn: 0x2a,
  proof: 0x2d,
} as const;

/** Bits of features (SPEC 33.5). */
const FEATURES = 0x17f;
/** Notices and link acks. */
const NEEDED = 0x09;
export const Feature = { notices: 0x01, groups: 0x02, settled: 0x04, classes: 0x20, kick: 0x40, goAway: 0x100 } as const;

/** The time in which an edge answers ASK, in ms. After it the link is one of version 2. */
export const ASK_MS = 1_000;
/** The same for an edge that has granted before, or has to prove a secret. After it the link is given up. */
export const GRANT_MS = 10_000;
/** Frames, bytes and ms after which an acknowledgement is sent (SPEC 37.2(b)). */
const ACK_FRAMES = 256;
const ACK_BYTES = 65_536;
const ACK_MS = 10;
const PROOF_BYTES = 32;
/** Keys on the wire of packets of which only the newest is kept. */
const MAX_SLOTS = 64;
const TAG_BYTES = 9;
const PIECE_BYTES = 65_536;
const LEAST_PIECE_BYTES = 1_024;
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;

/** Why a link is closed. */
export class LinkError extends Error {}

/** Reads an integer of 8 bytes. One that is beyond what can be counted is wrong. */
export function number64(bytes: Bytes, at: number): number {
  const value = readU64(bytes, at);
  return value > MAX_NUMBER ? MAX_NUMBER : Number(value);
}

export interface Grant {
  readonly features: number;
  readonly boot: Bytes;
  readonly home: number;
  readonly term: number;
  readonly run: Bytes;
  readonly continues: Bytes;
  readonly received: bigint;
  readonly sessions: number;
}

const GRANT_BYTES = 57;

/** Frames that are kept until they are acknowledged, one behind the other in `bytes` from `start` to `length`. */
interface Piece {
  readonly bytes: Bytes;
  start: number;
  length: number;
  /** Where each of its frames ends. */
  readonly ends: number[];
  /** The count of the first of them. */
  first: number;
  /** It is about the link alone, and has no count. */
  readonly isAck: boolean;
  /** What it acknowledges. */
  readonly acknowledges: number;
}

/** The frames that are not acknowledged. */
class Outbox {
  private pieces: Piece[] = [];
  /** The first piece that this link has not got. */
  private next = 0;
  /** The counts of the last frame that is acknowledged, was sent on any link, and was put in. */
  acknowledged = 0;
  highest = 0;
  end = 0;
  /**
   * What an acknowledgement says that a link has got, behind all that was put in before. ASK says no more: the next link would have it before
   * those.
   */
  placed = 0;
  bytes = 0;

  push(tag: Bytes, flag: number, before: Bytes, data: Bytes): void {
    const count = TAG_BYTES + before.length + data.length;
    const length = LENGTH_BYTES + count;
    let last = this.pieces[this.pieces.length - 1];
    if (!last || last.isAck || this.pieces.length <= this.next || last.bytes.length - last.length < length) {
      const size = Math.max(length, Math.min(PIECE_BYTES, Math.max(2 * (last?.length ?? 0), LEAST_PIECE_BYTES)));
      last = { bytes: new Uint8Array(size), start: 0, length: 0, ends: [], first: this.end + 1, isAck: false, acknowledges: 0 };
      this.pieces.push(last);
    }
    const { bytes } = last;
    let at = last.length;
    bytes[at++] = count;
    bytes[at++] = count >>> 8;
    bytes[at++] = count >>> 16;
    bytes[at++] = count >>> 24;
    for (let part = 0; part < 8; part++) bytes[at++] = tag[part]!;
    bytes[at++] = flag;
    bytes.set(before, at);
    bytes.set(data, at + before.length);
    last.length += length;
    last.ends.push(last.length);
    this.end += 1;
    this.bytes += length;
  }

  /** Behind everything that was put in before. */
  pushAck(bytes: Bytes, acknowledges: number): void {
    this.pieces.push({ bytes, start: 0, length: bytes.length, ends: [], first: 0, isAck: true, acknowledges });
  }

  get isWritten(): boolean {
    return this.next >= this.pieces.length;
  }

  /** Returns the next bytes for the link, which has them then. */
  take(): Bytes | undefined {
    const piece = this.pieces[this.next];
    if (!piece) return undefined;
    if (piece.isAck) {
      this.pieces.splice(this.next, 1);
      this.placed = Math.max(this.placed, piece.acknowledges);
    } else {
      this.next += 1;
      this.highest = Math.max(this.highest, piece.first + piece.ends.length - 1);
    }
    return piece.bytes.subarray(piece.start, piece.length);
  }

  /** Drops what is acknowledged. Returns false if that was never sent. */
  acknowledge(count: number): boolean {
    if (count > this.highest) return false;
    this.acknowledged = Math.max(this.acknowledged, count);
    for (let [piece] = this.pieces; piece && !piece.isAck && piece.first <= count; [piece] = this.pieces) {
      const known = Math.min(count - piece.first + 1, piece.ends.length);
      const to = piece.ends[known - 1]!;
      this.bytes -= to - piece.start;
      if (known === piece.ends.length) {
        // What the link has not got is not acknowledged but at its begin.
        this.pieces.shift();
        if (this.next > 0) this.next -= 1;
        continue;
      }
      piece.start = to;
      piece.ends.splice(0, known);
      piece.first += known;
    }
    return true;
  }

  /** The link is gone. */
  lose(): void {
    this.pieces = this.pieces.filter((piece) => !piece.isAck);
    this.next = 0;
  }

  /** Goes on behind the frame of this count. Returns false if that cannot be. */
  resume(count: number): boolean {
    return count >= this.acknowledged && this.acknowledge(count);
  }

  clear(): void {
    this.pieces = [];
    this.next = this.acknowledged = this.highest = this.end = this.placed = this.bytes = 0;
  }
}

/** How a link goes on: behind what the other side has, or with a picture of all sessions, of which those known before may all be gone. */
export type Opened = "resumed" | "continues" | "afresh";

/** What outlives the links of version 3. */
export class Links {
  readonly outbox = new Outbox();
  private readonly boot = randomBytes(16);
  /** The edge that has granted. */
  edge: Pick<Grant, "home" | "term" | "run"> | undefined;
  private features = 0;
  private received = 0;
  /** The counts of the last frame of which the application was given something, and of the last one that it came back from. */
  private given = 0;
  private acknowledged = 0;
  /** The one that the edge was told last, and the one in the ASK of this link. */
  private told = 0;
  private asked = 0;
  /** Bytes received since then. */
  private bytes = 0;
  private isOpen = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** OWN that are still to come. Undefined: the picture is complete. */
  owns: number | undefined;
  picture = 0;
  private readonly slots = new Map<string, number>();
  private askData: Bytes = EMPTY;
  private stage: "asked" | "differs" | "proven" = "asked";
  private readonly secret: Bytes | undefined;

  /** `flush` is called when something is to be written. */
  constructor(
    private readonly maxBody: number,
    secret: Bytes | undefined,
    private readonly flush: () => void,
  ) {
    if (secret && (secret.length < 32 || secret.length > 512)) throw new ConfigError(`a secret of ${secret.length} bytes; it has 32 to 512`);
    this.secret = secret?.slice();
  }

  /** Whether the edge has to grant. */
  get demands(): boolean {
    return this.edge !== undefined || this.secret !== undefined;
  }

  /** Whether the edge knows the sessions of which this end knows. */
  get isReady(): boolean {
    return this.edge !== undefined && this.owns === undefined;
  }

  has(feature: number): boolean {
    return (this.features & feature) !== 0;
  }

  /** The count of the last frame received. */
  get mark(): number {
    return this.received;
  }

  /** ASK, the first frame of a link. */
  ask(): Bytes {
    const run = this.edge?.run;
    const count = (value: number): Bytes => u64(BigInt(run ? value : 0));
    this.isOpen = false;
    this.asked = run ? this.outbox.placed : 0;
    const nonce = this.secret ? randomBytes(PROOF_BYTES) : EMPTY;
    this.stage = "asked";
    this.askData = concat(
      Uint8Array.of(3),
      u32(FEATURES),
      this.boot,
      run ?? new Uint8Array(8),
      count(this.received),
      count(this.outbox.placed),
      count(this.outbox.highest),
      u32(this.maxBody),
      nonce,
    );
    return ofLink(Flag.ask, this.askData);
  }

  /** Reads a frame that comes before GRANT, or GRANT. Returns bytes to write, the grant, or nothing: the edge is one of version 2. */
  hearAnswer(body: Bytes): Bytes | Grant | undefined {
    const flag = body[TAG_BYTES - 1];
    if (flag === Flag.refused && body[TAG_BYTES] === Flag.ask && body.length === TAG_BYTES + 2) {
      const reason = body[TAG_BYTES + 1]!;
      if (reason === 4) throw new LinkError("the edge wants a secret for the link: give this backend that of its master.token_file");
      if (reason === 5) throw new LinkError("the edge has not proven the secret of the link: set its master.token_file to a file that has it");
      throw new LinkError(OTHER_SECRET);
    }
    const grant = grantOf(body);
    if (!this.secret) return grant;
    if (this.stage === "proven" && grant) return grant;
    if (this.stage === "differs") throw new LinkError(OTHER_SECRET);
    if (this.stage !== "asked" || flag !== Flag.challenge || body.length !== TAG_BYTES + 2 * PROOF_BYTES) {
      throw new LinkError("the edge has not proven the secret of the link: set its master.token_file to a file that has it");
    }
    const nonce = body.subarray(TAG_BYTES, TAG_BYTES + PROOF_BYTES);
    const isProven = timingSafeEqual(this.proof(Flag.challenge, nonce), body.subarray(TAG_BYTES + PROOF_BYTES));
    this.stage = isProven ? "proven" : "differs";
    // An edge that has not proven the secret gets no proof made of it.
    return ofLink(Flag.proof, isProven ? this.proof(Flag.proof, nonce) : EMPTY);
  }

  private proof(flag: number, nonce: Bytes): Bytes {
    const hmac = createHmac("sha256", this.secret!);
    for (const part of [utf8("VOLTLANE.NET link"), Uint8Array.of(flag), nonce, this.askData]) hmac.update(part);
    return hmac.digest();
  }

  /** Takes the edge's answer. */
  open(grant: Grant): Opened {
    if (!equal(grant.boot, this.boot)) throw new LinkError("the grant answers another backend's question");
    if ((grant.features & NEEDED) !== NEEDED || (grant.features & ~FEATURES) !== 0) {
      throw new LinkError("the edge does not grant what a backend needs");
    }
    const known = this.edge;
    const isSame = known !== undefined && equal(known.run, grant.run);
    if (isSame && grant.received <= MAX_NUMBER && this.outbox.resume(Number(grant.received))) {
      this.features = grant.features;
      this.isOpen = true;
      this.told = this.asked;
      // The application may have come back from more meanwhile.
      if (this.acknowledged > this.told) this.acknowledgeNow();
      return "resumed";
    }
    if (known && !isSame && known.home === grant.home && grant.term > 0 && grant.term <= known.term) {
      throw new LinkError("a second edge has connected: give each edge a backend of its own");
    }
    const continues = !known || isSame || equal(grant.continues, known.run);
    this.begin();
    this.isOpen = true;
    this.edge = { home: grant.home, term: grant.term, run: grant.run.slice() };
    this.features = grant.features;
    this.owns = grant.sessions;
    this.picture += 1;
    return continues ? "continues" : "afresh";
  }

  private begin(): void {
    this.outbox.clear();
    this.slots.clear();
    this.received = this.given = this.acknowledged = this.told = this.bytes = 0;
    this.stopTimer();
  }

  /** Forgets the edge: it has none of its sessions any more. */
  forget(): void {
    this.begin();
    this.edge = this.owns = undefined;
  }

  /** The link is gone. */
  close(): void {
    this.isOpen = false;
    this.stopTimer();
    this.outbox.lose();
  }

  /** Nothing follows. */
  end(): void {
    this.close();
    wipe(this.secret);
  }

  // ---- frames to the edge

  push(tag: Bytes, flag: number, before: Bytes = EMPTY, data: Bytes = EMPTY): void {
    this.outbox.push(tag, flag, before, data);
    this.flush();
  }

  /** Returns the key on the wire for a key of a receiver. Undefined: there are too many, so nothing is superseded. */
  slot(to: string, key: number): number | undefined {
    const name = `${to} ${key}`;
    let slot = this.slots.get(name);
    if (slot === undefined && this.slots.size < MAX_SLOTS) this.slots.set(name, (slot = this.slots.size));
    return slot;
  }

  // ---- frames from the edge

  /** Counts a frame, unless it is about the link alone. */
  count(body: Bytes): void {
    const flag = body[TAG_BYTES - 1];
    if (flag === Flag.ask || flag === Flag.grant || flag === Flag.challenge || flag === Flag.proof || flag === Flag.linkAck) return;
    this.received += 1;
    this.bytes += body.length;
  }

  /** Notes whether the application gets something of the last frame. */
  note(isGiven: boolean): void {
    if (isGiven) this.given = this.received;
    else if (this.given <= this.acknowledged) this.acknowledged = this.received;
    this.arm();
  }

  /** The application came back from the frame of this count. */
  taken(picture: number, count: number): void {
    if (picture !== this.picture) return;
    this.acknowledged = Math.max(this.acknowledged, count >= this.given ? this.received : count);
    this.arm();
  }

  private arm(): void {
    const frames = this.acknowledged - this.told;
    if (frames === 0 || !this.isOpen) return;
    if (frames >= ACK_FRAMES || this.bytes >= ACK_BYTES) this.acknowledgeNow();
    else this.timer ??= setTimeout(() => this.acknowledgeNow(), ACK_MS);
  }

  private acknowledgeNow(): void {
    this.stopTimer();
    const { acknowledged, outbox } = this;
    outbox.pushAck(ofLink(Flag.linkAck, concat(u64(BigInt(acknowledged)), u64(BigInt(outbox.end)))), acknowledged);
    this.told = acknowledged;
    this.bytes = 0;
    this.flush();
  }

  private stopTimer(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** Takes an acknowledgement of the edge: the data of LINK_ACK. */
  hearAck(data: Bytes): void {
    if (data.length !== 16) throw new LinkError("a malformed acknowledgement");
    if (readU64(data, 8) !== BigInt(this.received) || !this.outbox.acknowledge(number64(data, 0))) {
      throw new LinkError("the edge and this backend count differently");
    }
  }
}

const OTHER_SECRET = "the edge has another secret for the link in its master.token_file than this backend";

/** A frame about the link. */
function ofLink(flag: number, data: Bytes): Bytes {
  return frame(concat(new Uint8Array(8), Uint8Array.of(flag), data));
}

/** Returns what a frame grants, if it is GRANT. A longer one is one of a later edge. */
export function grantOf(body: Bytes): Grant | undefined {
  if (body[TAG_BYTES - 1] !== Flag.grant || readU64(body, 0) !== 0n) return undefined;
  const data = body.subarray(TAG_BYTES);
  if (data.length < GRANT_BYTES || data[0] !== 3) throw new LinkError("a malformed grant");
  return {
    features: readU32(data, 1),
    boot: data.subarray(5, 21),
    home: readU16(data, 21),
    term: readU32(data, 23),
    run: data.subarray(27, 35),
    continues: data.subarray(35, 43),
    received: readU64(data, 43),
    sessions: readU32(data, 53),
  };
}
