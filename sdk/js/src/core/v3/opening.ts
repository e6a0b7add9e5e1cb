// The opening of version 3, at the client (SPEC 19, 20, 22, 23).

import { type Bytes, concat, equal, hex, readU16, readU32, readU64, u32, u64, utf8, wipe } from "../bytes.js";
import { KeyPair, NONCE_BYTES, compressed, derive, expand, extract, open, seal, sha256 } from "../keys.js";
import { Malformed } from "../wire.js";
import { Code, isCode } from "./code.js";
import { MARK_BYTES } from "./items.js";

/** The longest body of the opening from an edge. */
export const MAX_OPENING_BYTES = 256;
/** A client does not go further beyond what its edge has told. */
export const MAX_AHEAD = 64n;
const MAX_CLIENT_AHEAD = 1n << 20n;
/** The attempts whose marks a client remembers. */
export const MAX_MARKS = 128;
const MAX_BUSY_WAIT = 60_000;

const HELLO = 0x10;
const WELCOME = 0x11;
const CLAIM = 0x12;
const ANSWER = 0x13;
const BUSY = 0x14;
const WELCOME_BYTES = 179;
const ANSWER_BYTES = 169;
const SETTINGS_BYTES = 96;
const VERDICT_BYTES = 128;
const JOIN_LABEL = utf8("voltlane 3 join");
const RESUME_LABEL = utf8("voltlane 3 resume");
const SUITE_LABEL = utf8("voltlane 3 k256 xchacha20poly1305 sha256");
const GREASE_BITS = 8;

/** The edge has no room now, or is not the one. */
export class Busy {
  constructor(
    readonly code: number,
    readonly wait: number,
  ) {}
}

/** The edge has another key than the pinned one. */
export class OtherEdge {}

export function hintOf(key: Bytes): Bytes {
  return sha256(key).slice(0, 4);
}

/** Returns Busy if the packet is one, and undefined if it has another type. */
function busy(body: Bytes): Busy | undefined {
  if (body[0] !== BUSY) return undefined;
  if (body.length !== 7) throw new Malformed("a Busy of another length");
  const code = readU16(body, 1);
  if (code !== Code.busy && code !== Code.notHere) throw new Malformed(`Busy with the code ${code}`);
  return new Busy(code, Math.min(readU32(body, 3), MAX_BUSY_WAIT));
}

function expectPacket(body: Bytes, type: number, least: number): void {
  if (body[0] !== type || body.length < least || body.length > MAX_OPENING_BYTES) {
    throw new Malformed("a packet of the opening out of turn, or of another length");
  }
}

function point(bytes: Bytes): Bytes {
  const read = compressed(bytes);
  if (!read) throw new Malformed("a point that is none");
  return read;
}

/** What a Welcome says. */
export interface Settings {
  readonly longest: number;
  readonly ringPackets: number;
  readonly ringBytes: number;
  /** How long the session may be away, in ms. */
  readonly window: number;
  readonly ackDelay: number;
  /** In ms. 0: none. */
  readonly keepAlive: number;
}

/** The secrets of the first connection. */
export interface Join {
  readonly session: Resumable;
  readonly settings: Settings;
  readonly edgeKey: Bytes;
  readonly up: Bytes;
  readonly down: Bytes;
}

/** A Hello that was sent. */
export class Joining {
  readonly hello: Bytes;
  private readonly ephemeral: KeyPair;

  /** `random` is 32 bytes of the operating system, for this connection. */
  constructor(
    random: Bytes,
    private readonly pins: readonly Bytes[],
    longest: number,
  ) {
    this.ephemeral = KeyPair.from(random);
    const grease = u32(0x0100_0000 << sha256(random)[0]! % GREASE_BITS);
    const hint = pins.length > 0 ? hintOf(pins[0]!) : new Uint8Array(4);
    this.hello = concat(Uint8Array.of(HELLO), grease, hint, this.ephemeral.public, Uint8Array.of(1, 4), u32(longest));
  }

  /** Handles the edge's packet. Throws Malformed. */
  welcome(body: Bytes): Join | Busy | OtherEdge {
    const now = busy(body);
    if (now) return now;
    expectPacket(body, WELCOME, WELCOME_BYTES);
    const edgeKey = point(body.subarray(34, 67));
    // Before any use of it.
    if (this.pins.length > 0 && !this.pins.some((pin) => equal(pin, edgeKey))) return new OtherEdge();
    const theirs = point(body.subarray(1, 34));
    const th = sha256(JOIN_LABEL, this.hello, theirs, edgeKey);
    const [first, second] = [this.ephemeral.agree(theirs)!, this.ephemeral.agree(edgeKey)!];
    const shared = concat(first, second);
    const prk = extract(SUITE_LABEL, shared);
    const hs = derive(prk, "hs", th);
    const plain = open(hs, new Uint8Array(NONCE_BYTES), th, body.subarray(67));
    try {
      if (!plain || plain.length < SETTINGS_BYTES) throw new Malformed("a Welcome that does not open");
      const settings = readSettings(plain);
      const rs = derive(prk, "rs1", th);
      const session = Resumable.begin(plain, hintOf(edgeKey), rs);
      return { session, settings, edgeKey, up: derive(prk, "up", th), down: derive(prk, "down", th) };
    } finally {
      wipe(first, second, shared, prk, hs, plain);
    }
  }

  wipe(): void {
    this.ephemeral.wipe();
  }
}

function readSettings(plain: Bytes): Settings {
  if (readU32(plain, 72) !== 0) throw new Malformed("features that were not asked for");
  const ringPackets = readU32(plain, 80);
  if (ringPackets === 0) throw new Malformed("a ring of no packet");
  return {
    longest: readU32(plain, 76),
    ringPackets,
    ringBytes: readU32(plain, 84),
    window: 1_000 * readU32(plain, 88),
    ackDelay: readU16(plain, 92),
    keepAlive: 1_000 * readU16(plain, 94),
  };
}

export interface Verdict {
  readonly code: number;
  readonly highest: bigint;
  readonly wait: number;
  readonly jitter: number;
  readonly acknowledgedUp: bigint;
}

/** A Claim that was sent. */
export interface Attempt {
  readonly claim: Bytes;
  readonly counter: bigint;
  readonly early: Bytes;
  /** rs of this counter. */
  readonly secret: Bytes;
  readonly tc: Bytes;
}

/** What follows an Answer. */
export type Outcome =
  | { readonly type: "up"; readonly up: Bytes; readonly down: Bytes }
  | { readonly type: "again" | "later" | "conflict" | "over" }
  | { readonly type: "code"; readonly verdict: Verdict }
  | { readonly type: "busy"; readonly busy: Busy };

/** The parts of a session that were saved. */
export interface SavedResumable {
  id: Bytes;
  claimKey: Bytes;
  handle: Bytes;
  run: Bytes;
  hint: Bytes;
  secret: Bytes;
  least: bigint;
  last: bigint;
  used: bigint;
  told: bigint;
  marks: Bytes;
  forgot: boolean;
}

/** What a client keeps to come back (SPEC 23.5, 23.6). */
export class Resumable {
  private refusals = 0;

  constructor(private readonly kept: SavedResumable) {}

  static begin(plain: Bytes, hint: Bytes, secret: Bytes): Resumable {
    const part = (from: number, to: number) => plain.slice(from, to);
    return new Resumable({
      id: part(0, 8),
      claimKey: part(8, 40),
      handle: part(40, 56),
      run: part(56, 64),
      hint,
      secret,
      least: 1n,
      last: 0n,
      used: 0n,
      told: 0n,
      // Zeros stand for the join.
      marks: new Uint8Array(MARK_BYTES),
      forgot: false,
    });
  }

  get id(): bigint {
    return readU64(this.kept.id, 0);
  }

  /** The greatest counter of all attempts. */
  get used(): bigint {
    return this.kept.used;
  }

  /** The mark of the last attempt, or of the join. */
  get lastMark(): Bytes {
    return this.kept.marks.subarray(-MARK_BYTES);
  }

  /** What is to be saved. Its bytes are those that this client goes on with. */
  get state(): Readonly<SavedResumable> {
    return this.kept;
  }

  /** Begins an attempt: its counter is used up. `random` comes from the operating system for it. */
  attempt(random: Bytes, first: bigint, received: bigint): Attempt {
    const kept = this.kept;
    const following = max(kept.last + 1n, kept.least);
    const counter = min(min(following, kept.told + MAX_AHEAD), kept.least + MAX_CLIENT_AHEAD);
    let secret: Bytes = kept.secret.slice();
    for (let at = kept.least; at < counter; at++) secret = replaced(secret, derive(secret, "next"));
    kept.last = counter;
    kept.used = max(kept.used, counter);
    const nonce = random.slice(0, NONCE_BYTES);
    const head = concat(Uint8Array.of(CLAIM), kept.hint, kept.handle, nonce);
    const position = concat(u64(counter), u64(0n), kept.run, u64(first), u64(received), u64(0n));
    const key = derive(kept.claimKey, "seal");
    const claim = concat(head, seal(key, nonce, head, position));
    wipe(key);
    const tc = sha256(RESUME_LABEL, claim);
    this.remember(tc.subarray(0, MARK_BYTES));
    return { claim, counter, early: derive(secret, "early", tc), secret, tc };
  }

  private remember(mark: Bytes): void {
    const marks = concat(this.kept.marks, mark);
    const most = MAX_MARKS * MARK_BYTES;
    this.kept.forgot ||= marks.length > most;
    this.kept.marks = marks.slice(-most);
  }

  /** Handles the edge's packet. Throws Malformed. */
  answer(attempt: Attempt, body: Bytes): Outcome {
    const now = busy(body);
    if (now) return { type: "busy", busy: now };
    expectPacket(body, ANSWER, ANSWER_BYTES);
    const key = expand(this.kept.claimKey, concat(utf8("answer"), attempt.tc));
    const head = body.subarray(0, 1 + NONCE_BYTES);
    const plain = open(key, head.subarray(1), head, body.subarray(1 + NONCE_BYTES));
    wipe(key);
    if (!plain || plain.length < VERDICT_BYTES) throw new Malformed("an Answer that does not open");
    const code = readU16(plain, 0);
    if (!isCode(code)) throw new Malformed(`an Answer with the code ${code}`);
    this.kept.handle = plain.slice(28, 44);
    const highest = readU64(plain, 4);
    switch (code) {
      case 0: {
        const tr = sha256(attempt.tc, body);
        return { type: "up", up: derive(attempt.secret, "up", tr), down: derive(attempt.secret, "down", tr) };
      }
      case Code.stale:
        return { type: this.stale(highest) };
      case Code.ahead:
        return { type: this.ahead(highest) };
      default: {
        this.refusals = 0;
        const [wait, jitter] = [readU32(plain, 12), readU32(plain, 16)];
        return { type: "code", verdict: { code, highest, wait, jitter, acknowledgedUp: readU64(plain, 44) } };
      }
    }
  }

  /** SPEC 23.4(c). */
  private stale(highest: bigint): "again" | "later" | "conflict" | "over" {
    const kept = this.kept;
    const links = highest + 1n - kept.least;
    if (links < 0n || links > MAX_CLIENT_AHEAD) return "over";
    kept.told = kept.last = highest;
    return highest > kept.used ? "conflict" : this.again();
  }

  /** SPEC 23.4(d). */
  private ahead(highest: bigint): "again" | "later" | "over" {
    const kept = this.kept;
    if (kept.least > highest + MAX_AHEAD) return "over";
    kept.told = highest;
    kept.last = kept.least - 1n;
    return this.again();
  }

  /** The first refusal in a row is followed by an attempt at once. */
  private again(): "again" | "later" {
    this.refusals += 1;
    return this.refusals === 1 ? "again" : "later";
  }

  /** The application goes on after a conflict: what the edge told counts as used. */
  goOn(counter = this.kept.told): void {
    this.kept.used = max(this.kept.used, counter);
  }

  /**
   * Handles the marks of RESUMED: those of the attempts before this one. Returns whether one of them is somebody else's (SPEC 23.6(b)).
   */
  resumed(attempt: Attempt, marks: Bytes): boolean {
    const kept = this.kept;
    let isForeign = false;
    for (let at = 0; at < marks.length; at += MARK_BYTES) {
      isForeign ||= !kept.forgot && !this.hasMark(marks.subarray(at, at + MARK_BYTES));
    }
    wipe(kept.secret);
    kept.secret = derive(attempt.secret, "next");
    kept.least = attempt.counter + 1n;
    kept.told = kept.last = attempt.counter;
    // The edge names them again until it knows that this client has seen them.
    kept.marks = concat(marks, attempt.tc.subarray(0, MARK_BYTES));
    kept.forgot = false;
    this.refusals = 0;
    return isForeign;
  }

  private hasMark(mark: Bytes): boolean {
    const { marks } = this.kept;
    for (let at = 0; at < marks.length; at += MARK_BYTES) {
      if (equal(marks.subarray(at, at + MARK_BYTES), mark)) return true;
    }
    return false;
  }

  wipe(): void {
    wipe(this.kept.claimKey, this.kept.secret);
  }

  toString(): string {
    return `session ${hex(this.kept.id)}`;
  }
}

function replaced(old: Bytes, made: Bytes): Bytes {
  wipe(old);
  return made;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
