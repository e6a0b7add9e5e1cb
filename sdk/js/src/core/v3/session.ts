// A client's session of version 3 over all its connections (SPEC 21 to 25), without sockets, pauses and clocks.

import { type Bytes, EMPTY, Writer, concat, equal, hex, wipe } from "../bytes.js";
import { Lane, TAG_BYTES } from "../keys.js";
import { Breach, Leave, byClass, cause, over, pause, told, violation } from "../leave.js";
import type { Outbox } from "../outbox.js";
import { Malformed, Reader, frame } from "../wire.js";
import { Code } from "./code.js";
import { Connection } from "./connection.js";
import {
  type Close,
  type Counts,
  type Item,
  MAX_ITEMS,
  Type,
  headBytes,
  isBalanced,
  readItem,
  writeClose,
  writePacket,
  writeType,
} from "./items.js";
import { Received, type ReceivedCounts } from "./received.js";
import { Busy, Joining, OtherEdge, Resumable, type Settings } from "./opening.js";

/** The longest body of a record (SPEC 21.1(a)). */
export const MAX_RECORD_BYTES = 65_552;
/** The plain bytes that a record of this client has at most, but for the first one with a long token. */
const RECORD_BYTES = 4_096;
const MAX_JOIN_BYTES = 8_192 - TAG_BYTES;
/** The edge waits a second for the first early record, so it is short. */
const FIRST_EARLY_BYTES = 150 - TAG_BYTES;
const MAX_FIRST_EARLY_BYTES = 4_096 - TAG_BYTES;
/** Early records beside the first one. */
const MORE_EARLY = 1;
/** Output that is sealed at once. */
const FILL_BYTES = 16_384;
/** Items of a record of this client. */
const MOST_ITEMS = 4_000;
/** The least room for which a long packet is cut. */
const LEAST_PIECE = 64;
/** An ACK of one packet alone may wait so many times longer. */
const ALONE = 8;
/** Connections in a row on which the edge may break the protocol. */
const MAX_BREACHES = 3;

/** What a client is told of the edge, and tells it. */
export interface Trust {
  pins: readonly Bytes[];
  /** The key of the edge, once it was proven. */
  learned: Bytes | undefined;
  token: Bytes;
  tokenIsNew: boolean;
  readonly longest: number;
  readonly takesOver: boolean;
  readonly pads: boolean;
  /** Whether nothing leaves before it is saved. */
  readonly saves: boolean;
}

export type SessionEvent =
  | { readonly type: "packet"; readonly data: Bytes; readonly number: bigint }
  | {
      readonly type: "gap";
      readonly first: bigint;
      readonly count: bigint;
      readonly bytes: bigint;
      readonly reason: number;
    }
  | { readonly type: "skipped"; readonly count: bigint }
  | { readonly type: "caughtUp" };

export interface Ledger {
  readonly up: Counts;
  readonly down: Counts;
}

/** A session as it is saved, but for its packets up. */
export interface SavedSession3 {
  readonly resumable: Resumable;
  readonly settings: Settings;
  readonly counts: ReceivedCounts;
  readonly acked: bigint;
  /** Whether packets may have been sent, or it has begun for sure. */
  readonly isTried: boolean;
}

export class Session3 {
  resumable: Resumable | undefined;
  settings: Settings | undefined;
  private down = new Received();
  /** The highest number sent on any connection. */
  private sentEver = 0n;
  /** Whether the session has begun for sure. */
  private hasBegun = false;
  /** Whether a record of it was opened, whatever was in it. */
  private hasOpened = false;
  /** What the edge's last words say. */
  private toldUp = 0n;
  private breaches = 0;
  private isBroken = false;
  private miscounts = 0;
  /** Undefined: nothing was heard since another process saved it. */
  private windowFrom: number | undefined;
  /** Whether the application waits for an acknowledgement. */
  wantsAck = false;
  wantsGoodbye = false;
  hasSaidGoodbye = false;
  rtt: number | undefined;
  private on = new Connection();

  constructor(
    private readonly trust: Trust,
    private readonly outbox: Outbox,
    private readonly random: (length: number) => Bytes,
    private readonly emit: (event: SessionEvent) => void,
  ) {}

  get id(): bigint | undefined {
    return this.resumable?.id;
  }

  get received(): bigint {
    return this.down.got;
  }

  /** When the session is over for want of news. */
  get endsAt(): number | undefined {
    const { settings, windowFrom } = this;
    return settings && settings.window > 0 && windowFrom !== undefined ? windowFrom + settings.window : undefined;
  }

  // ---- the opening

  /** Begins an opening on an open transport. Returns the frames behind ProtocolVersion. */
  begin(now: number, random: Bytes): Bytes {
    const on = (this.on = new Connection());
    on.heardAt = now;
    if (!this.resumable) {
      on.joining = new Joining(random, this.trust.pins, this.trust.longest);
      return frame(on.joining.hello);
    }
    this.outbox.rewind();
    const first = this.outbox.acked + 1n;
    on.claimed = this.down.got;
    on.isUntried = !this.isTried;
    on.attempt = this.resumable.attempt(random, first, on.claimed);
    on.sealer = new Lane(on.attempt.early);
    on.number = first;
    return concat(frame(on.attempt.claim), ...this.earlyRecords());
  }

  private earlyRecords(): Bytes[] {
    const records: Bytes[] = [];
    for (let at = 0; at <= MORE_EARLY; at++) {
      const items = new Writer();
      let count = 0;
      const most = at === 0 ? FIRST_EARLY_BYTES : RECORD_BYTES;
      for (let data = this.sendable(); data && count < MOST_ITEMS; data = this.sendable()) {
        if (items.length + headBytes(data.length) + data.length > most) break;
        writePacket(items, data);
        this.advance();
        count += 1;
      }
      if (at > 0 && count === 0) continue;
      records.push(this.record(items, count, at === 0 ? MAX_FIRST_EARLY_BYTES : RECORD_BYTES));
    }
    return records;
  }

  /** Handles a packet of the opening. Returns "open", or "resumed" if RESUMED comes next. Throws Leave and Malformed. */
  packet(now: number, body: Bytes): "open" | "resumed" {
    return this.on.joining ? this.welcome(now, body) : this.answer(body);
  }

  private welcome(now: number, body: Bytes): "open" {
    const { on, trust } = this;
    const joined = on.joining!.welcome(body);
    on.joining!.wipe();
    if (joined instanceof Busy) throw pause(told(joined.code), joined.wait);
    if (joined instanceof OtherEdge) {
      throw over(Code.otherEdge, "the edge has another key than the pinned one");
    }
    this.resumable = joined.session;
    this.settings = joined.settings;
    trust.learned = joined.edgeKey;
    trust.tokenIsNew = true;
    on.sealer = new Lane(joined.up);
    on.opener = new Lane(joined.down);
    wipe(joined.up, joined.down);
    on.isJoin = true;
    // Packets go behind the answer.
    on.mustAsk = trust.saves;
    this.windowFrom = now;
    this.opened(now);
    return "open";
  }

  private answer(body: Bytes): "resumed" {
    const { on, trust } = this;
    const resumable = this.resumable!;
    const outcome = resumable.answer(on.attempt!, body);
    const stale = told(Code.stale);
    switch (outcome.type) {
      case "up":
        on.up = outcome.up;
        on.opener = new Lane(outcome.down);
        wipe(outcome.down);
        on.awaitsResumed = true;
        return "resumed";
      case "again":
        throw new Leave({ then: "again", cause: stale, once: false });
      case "later":
        throw pause(stale);
      case "conflict":
        if (!trust.takesOver) throw conflict();
        resumable.goOn();
        throw new Leave({ then: "again", cause: stale, once: false });
      case "over":
        throw over(Code.gone, "the edge and this client do not agree on the attempts so far");
      case "busy":
        throw pause(told(outcome.busy.code), outcome.busy.wait);
      case "code": {
        const { code, wait, jitter, acknowledgedUp } = outcome.verdict;
        this.hearUp(acknowledgedUp);
        // The edge threw away what came with this Claim, and nothing was sent before it: no packet can be in doubt (SPEC 22(h)).
        if (code === Code.gone && on.isUntried) {
          throw new Leave({ then: "join", code, wait, jitter });
        }
        throw code === 0 ? over(Code.gone) : byClass(code, wait, jitter, "");
      }
    }
  }

  private opened(now: number): void {
    const { on } = this;
    on.isOpen = true;
    on.heardAt = now;
    const share = this.random(1)[0]! / 255;
    on.pingAfter = this.settings!.keepAlive * (0.9 + 0.2 * share);
    if (this.down.taken > 0n) on.ackableAt = now;
  }

  // ---- what comes

  get isOpen(): boolean {
    return this.on.isOpen;
  }

  /** Something came, whatever it is. */
  heardBytes(now: number): void {
    this.on.heardAt = now;
    this.on.hasAsked = false;
  }

  /** Handles a record. Returns what a RESUMED in it says. Throws Leave, and Breach after RESUMED. */
  recordCame(now: number, body: Bytes): { missed: bigint; away: bigint } | undefined {
    const { on } = this;
    const plain = on.opener!.open(this.down.got + 1n, body);
    if (!plain) throw this.unopened();
    this.windowFrom = now;
    this.hasOpened = true;
    if (on.awaitsResumed) return this.firstRecord(now, plain);
    if (on.isFresh) {
      on.isFresh = false;
      this.miscounts = 0;
    }
    this.items(now, new Reader(plain), 0);
    return undefined;
  }

  private unopened(): Leave {
    const { on } = this;
    if (!on.isFresh) return pause(violation("a record that does not open"));
    this.miscounts += 1;
    if (this.miscounts < MAX_BREACHES) return pause(violation("a record that does not open"));
    this.miscounts = 0;
    return pause(violation("no record opens behind RESUMED: the ends do not count alike"));
  }

  private firstRecord(now: number, plain: Bytes): { missed: bigint; away: bigint } | undefined {
    const { on } = this;
    const reader = new Reader(plain);
    let count = 0;
    try {
      while (reader.rest > 0) {
        count += 1;
        const item = readItem(reader);
        if (item.type === "pad" || item.type === "ignored") continue;
        if (item.type === "close") throw this.closed(item);
        if (item.type !== "resumed") throw new Breach(`${item.type} in place of RESUMED`);
        const resumption = this.resumedBy(now, item);
        this.items(now, reader, count);
        return resumption;
      }
    } catch (error) {
      // A CLOSE could not be said: what the edge expects next are early records.
      if (!on.isOpen && (error instanceof Breach || error instanceof Malformed)) throw this.broken(error);
      throw error;
    }
    return undefined;
  }

  private resumedBy(now: number, item: Item & { type: "resumed" }): { missed: bigint; away: bigint } {
    const { on, outbox } = this;
    if (item.until < on.claimed) throw new Breach("RESUMED ends its replay before what was received");
    const early = on.number;
    if (item.received > max(this.sentEver, on.number - 1n)) throw new Breach("RESUMED received what was not sent");
    const isForeign = this.resumable!.resumed(on.attempt!, item.marks);
    on.awaitsResumed = false;
    this.hasBegun = true;
    if (isForeign && !this.trust.takesOver) throw conflict();
    on.number = early;
    on.ready.push(this.record(writeType(new Writer(), Type.earlyEnd), 0, RECORD_BYTES));
    if (item.received > outbox.acked) outbox.advanceTo(item.received);
    on.number = max(item.received, early - 1n) + 1n;
    on.sealer!.wipe();
    on.sealer = new Lane(on.up!);
    wipe(on.up, on.attempt!.secret, on.attempt!.early);
    on.replayUntil = item.until;
    on.isFresh = true;
    this.opened(now);
    return { missed: item.until - on.claimed, away: item.away };
  }

  /** Tells that the replay is over, if it is. */
  catchUp(): void {
    const { on } = this;
    if (on.replayUntil === undefined || this.down.got < on.replayUntil) return;
    on.replayUntil = undefined;
    this.emit({ type: "caughtUp" });
  }

  private pending: { readonly now: number; readonly reader: Reader; count: number } | undefined;

  /** Handles the items of a record. Those behind RESUMED wait until the resume was told. */
  private items(now: number, reader: Reader, count: number): void {
    this.pending = { now, reader, count };
    if (count === 0) this.goOn();
  }

  /** Handles the rest of the record that RESUMED came in. Throws Leave and Breach. */
  goOn(): void {
    const { pending } = this;
    this.pending = undefined;
    if (!pending) return;
    const { now, reader } = pending;
    let { count } = pending;
    this.catchUp();
    try {
      while (reader.rest > 0) {
        if (++count > MAX_ITEMS) throw new Breach("too many items");
        this.item(now, readItem(reader));
        this.catchUp();
      }
    } catch (error) {
      throw error instanceof Malformed ? new Breach(error.message) : error;
    }
  }

  private item(now: number, item: Item): void {
    const { on } = this;
    const isFirst = !this.hasBegun && this.outbox.acked === 0n;
    if (item.type !== "pad" && item.type !== "ignored") this.hasBegun = true;
    switch (item.type) {
      case "packet":
      case "latest":
      case "volatile":
      case "part":
        return this.delivered(item.type, item.data);
      case "gap":
      case "superseded":
        return this.hole(now, item);
      case "skipped":
        this.notBetweenPieces();
        this.down.skipped(item.count);
        return this.emit({ type: "skipped", count: item.count });
      case "ack":
        return this.hear(item.count);
      case "ackNow":
        on.asksAck = true;
        return;
      case "ping":
        on.pong = item.bytes;
        return;
      case "pong":
        if (on.question && equal(on.question.bytes, item.bytes)) {
          this.rtt = now - on.question.at;
          on.question = undefined;
        }
        return;
      case "goAway":
        // One that has said goodbye leaves anyway.
        if (!this.hasSaidGoodbye) {
          on.leave = { at: now + item.earliest + this.share() * (item.latest - item.earliest), code: item.code };
        }
        return;
      case "close":
        throw this.closed(item, isFirst);
      case "resumed":
        throw new Breach(`${item.type} out of place`);
      case "pad":
      case "ignored":
    }
  }

  private share(): number {
    const [a, b] = this.random(2) as unknown as [number, number];
    return (256 * a + b) / 65_535;
  }

  private notBetweenPieces(): void {
    if (this.on.pieces.length > 0) throw new Breach("an item between the pieces of a packet");
  }

  private delivered(type: "packet" | "latest" | "volatile" | "part", data: Bytes): void {
    const { on, trust } = this;
    const bytes = on.piecesBytes + data.length;
    if (bytes > trust.longest) throw new Breach("a packet that is too long", Code.tooLong, BigInt(trust.longest));
    if (type === "part") {
      on.pieces.push(data);
      on.piecesBytes = bytes;
      return;
    }
    if (type === "volatile") {
      this.emit({ type: "packet", data: this.whole(data), number: 0n });
      return;
    }
    const number = this.down.packet(bytes, this.settings!);
    this.emit({ type: "packet", data: this.whole(data), number });
  }

  /** A copy: the record that it came in is not kept. */
  private whole(last: Bytes): Bytes {
    const { on } = this;
    if (on.pieces.length === 0) return last.slice();
    const whole = concat(...on.pieces, last);
    on.pieces = [];
    on.piecesBytes = 0;
    return whole;
  }

  private hole(now: number, item: Extract<Item, { count: bigint }>): void {
    this.notBetweenPieces();
    const { taken } = this.down;
    const first = this.down.hole(item.type === "gap" ? "gap" : "superseded", item.count);
    if (this.down.taken > taken) this.on.ackableAt ??= now;
    if (item.type === "gap") {
      this.emit({ type: "gap", first, count: item.count, bytes: item.bytes, reason: item.reason });
    }
  }

  private hear(count: bigint): void {
    const { on, outbox } = this;
    const heard = on.heard + count;
    if (heard > this.sentEver) throw new Breach("an ACK beyond what was sent");
    on.heard = heard;
    // What was not sent again on this connection goes first (SPEC 21.2(d)).
    const until = min(heard, outbox.sent);
    if (until > outbox.acked) outbox.acknowledge(until);
  }

  private hearUp(acknowledged: bigint): void {
    this.toldUp = max(this.toldUp, min(acknowledged, this.sentEver));
  }

  private closed(close: Close, isFirst = false): Leave {
    const { code, wait, jitter, detail, text, up, down } = close;
    if (code === Code.busy && isFirst) {
      return new Leave({ then: "join", code, wait, jitter });
    }
    if (isBalanced(up) && isBalanced(down)) this.hearUp(up.acknowledged);
    if (code === Code.takenOver) {
      if (detail <= this.resumable!.used) return pause(told(code));
      if (!this.trust.takesOver) return conflict();
      this.resumable!.goOn(detail);
      return new Leave({ then: "again", cause: told(code), once: false });
    }
    if (code === Code.goodbye) return over(code, this.hasSaidGoodbye ? "" : "the edge ended the session");
    return byClass(code, wait, jitter, text);
  }

  /** The edge broke the protocol. Returns what follows; the CLOSE for it is sealed first if one can be said. */
  broken(error: Breach | Malformed): Leave & { says?: boolean } {
    const { on } = this;
    const isProven = !(error instanceof Breach) || error.isProven;
    if (isProven) {
      this.isBroken = true;
      this.breaches += 1;
      if (this.breaches >= MAX_BREACHES) return over(Code.protocol, error.message);
    }
    if (on.isOpen && !on.hasClosed) {
      const [code, detail] = error instanceof Breach ? [error.code, error.detail] : [Code.protocol, 0n];
      const items = new Writer();
      this.writeAck(items);
      const { up, down } = this.ledger();
      writeClose(items, code, detail, up, down);
      on.ready.push(this.record(items, 0, RECORD_BYTES));
      on.hasClosed = true;
      return Object.assign(pause(violation(error.message)), { says: true });
    }
    return pause(violation(error.message));
  }

  // ---- what the application takes

  /** The application has come back for more after it got the packet `number`. */
  take(now: number, number: bigint): void {
    if (this.down.take(number)) this.on.ackableAt ??= now;
  }

  private ackIsDue(now: number): boolean {
    const { on, down } = this;
    const due = down.taken - on.told;
    if (due <= 0n) return false;
    if (on.asksAck || down.quarterIsDue(this.settings!)) return true;
    return on.ackableAt !== undefined && now >= this.ackAt(due);
  }

  private ackAt(due: bigint): number {
    return this.on.ackableAt! + this.settings!.ackDelay * (due >= 2n ? 1 : ALONE);
  }

  private writeAck(items: Writer): void {
    const { on, down } = this;
    const due = down.taken - on.told;
    if (due <= 0n) return;
    writeType(items, Type.ack).varint(due);
    on.told = down.taken;
    on.ackableAt = undefined;
    on.asksAck = false;
    down.acknowledged();
  }

  // ---- what goes

  /** The next packet up, if the ring lets it go (SPEC 24.2(b)). One that saves knows first that its session has begun (SPEC 46.1(c)). */
  private sendable(): Bytes | undefined {
    const { outbox, settings } = this;
    if (this.trust.saves && !this.hasOpened) return undefined;
    const data = outbox.next();
    if (!data || outbox.open === 0) return data;
    const { ringPackets, ringBytes } = settings!;
    return outbox.open < ringPackets && outbox.openBytes + data.length + 4 <= ringBytes ? data : undefined;
  }

  private advance(): void {
    this.outbox.advance();
    this.sentEver = max(this.sentEver, this.outbox.sent);
  }

  private record(items: Writer, numbers: number, most: number): Bytes {
    const { on } = this;
    if (this.trust.pads) pad(items, most);
    const body = on.sealer!.seal(on.number, items.take());
    on.number += BigInt(numbers);
    return frame(body);
  }

  /** Seals what is to go now. */
  fill(now: number): Bytes {
    const { on } = this;
    const frames = on.ready;
    on.ready = [];
    if (!on.isOpen) return frames.length > 0 ? concat(...frames) : EMPTY;
    let bytes = 0;
    while (bytes < FILL_BYTES) {
      const record = this.nextRecord(now);
      if (!record) break;
      frames.push(record);
      bytes += record.length;
    }
    return frames.length === 1 ? frames[0]! : concat(...frames);
  }

  private nextRecord(now: number): Bytes | undefined {
    const { on, outbox, trust } = this;
    if (on.hasClosed) return undefined;
    const saysGoodbye = this.wantsGoodbye && !on.part && outbox.next() === undefined;
    const asks = this.asksNow(now);
    const hasData = on.part !== undefined || this.sendable() !== undefined;
    const wantsAck = this.wantsAck && (outbox.open > 0 || hasData);
    const sends = trust.tokenIsNew || wantsAck || on.pong !== undefined || asks || hasData || saysGoodbye;
    if (!sends && !this.ackIsDue(now)) return undefined;
    const items = new Writer();
    if (trust.tokenIsNew) {
      writeType(items, Type.token).string(trust.token);
      trust.tokenIsNew = false;
    }
    this.writeAck(items);
    if (on.pong) {
      writeType(items, Type.pong).put(on.pong);
      on.pong = undefined;
    }
    if (asks) {
      on.question = { bytes: this.random(8), at: now };
      on.hasAsked = true;
      on.mustAsk = false;
      writeType(items, Type.ping).put(on.question.bytes);
    }
    const numbers = this.writePackets(items);
    if (wantsAck && this.sendable() === undefined) {
      // Otherwise one packet alone would wait for eight times the delay (SPEC 24.3(d)).
      writeType(items, Type.ackNow);
      this.wantsAck = false;
    }
    if (this.wantsGoodbye && !on.part && outbox.next() === undefined) this.writeGoodbye(items);
    const most = on.isJoin ? MAX_JOIN_BYTES : 2 * RECORD_BYTES;
    on.isJoin = false;
    return this.record(items, numbers, most);
  }

  private writePackets(items: Writer): number {
    const { on } = this;
    let numbers = 0;
    while (numbers < MOST_ITEMS) {
      const room = RECORD_BYTES - items.length;
      const data = on.part ?? this.sendable();
      if (!data || room < LEAST_PIECE) break;
      const rest = data.length - on.partAt;
      if (headBytes(rest) + rest <= room) {
        writePacket(items, on.partAt === 0 ? data : data.subarray(on.partAt));
        on.part = undefined;
        on.partAt = 0;
        this.advance();
        numbers += 1;
        continue;
      }
      // A packet that fits a record of its own is not cut.
      if (!on.part && headBytes(rest) + rest <= RECORD_BYTES && items.length > 0) break;
      const length = room - 4;
      writeType(items, Type.part).string(data.subarray(on.partAt, on.partAt + length));
      on.part = data;
      on.partAt += length;
      break;
    }
    return numbers;
  }

  private writeGoodbye(items: Writer): void {
    const { up, down } = this.ledger();
    writeClose(items, Code.goodbye, 0n, up, down);
    this.on.hasClosed = true;
    this.hasSaidGoodbye = true;
  }

  // ---- time

  private asksNow(now: number): boolean {
    const { on } = this;
    return on.mustAsk || (on.pingAfter > 0 && !on.hasAsked && now >= on.heardAt + on.pingAfter);
  }

  nextTimeout(): number | undefined {
    const { on, settings, down } = this;
    if (!on.isOpen) return undefined;
    const times: number[] = [];
    if (on.pingAfter > 0) {
      times.push(on.heardAt + 2.5 * settings!.keepAlive);
      if (!on.hasAsked && !on.hasClosed) times.push(on.heardAt + on.pingAfter);
    }
    if (on.leave) times.push(on.leave.at);
    const due = down.taken - on.told;
    if (due > 0n && on.ackableAt !== undefined && !on.hasClosed) times.push(this.ackAt(due));
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  /** Throws Leave. Output may be due. */
  timeout(now: number): void {
    const { on, settings } = this;
    if (!on.isOpen) return;
    if (on.pingAfter > 0 && now >= on.heardAt + 2.5 * settings!.keepAlive) throw pause(cause("silent"));
    if (on.leave && now >= on.leave.at) {
      throw byClass(isMoveClass(on.leave.code) ? on.leave.code : Code.goingAway, 0, 0, "");
    }
  }

  // ---- ends

  /** The connection is gone. */
  lose(): void {
    const { on } = this;
    if (on.isOpen && !this.isBroken) this.breaches = 0;
    this.isBroken = false;
    this.pending = undefined;
    on.wipe();
    this.on = new Connection();
    this.outbox.rewind();
  }

  /** The session has not begun: what was sent goes again, in another one. */
  forget(): void {
    this.resumable?.wipe();
    this.resumable = undefined;
    this.settings = undefined;
    this.down = new Received();
    this.sentEver = this.toldUp = 0n;
    this.hasBegun = this.hasOpened = false;
    this.trust.tokenIsNew = true;
  }

  wipe(): void {
    this.on.wipe();
    this.resumable?.wipe();
  }

  /** The packets up to this number have arrived, as far as this client knows. */
  get arrived(): bigint {
    return max(this.outbox.acked, min(this.toldUp, this.outbox.end));
  }

  ledger(): Ledger {
    const { outbox } = this;
    const acknowledged = this.arrived;
    const sent = max(min(this.sentEver, outbox.end), acknowledged);
    const up: Counts = {
      numbered: outbox.end,
      acknowledged,
      superseded: 0n,
      gapped: 0n,
      openSent: sent - acknowledged,
      openUnsent: outbox.end - sent,
      skipped: 0n,
    };
    return { up, down: this.down.ledger() };
  }

  private get isTried(): boolean {
    return this.hasOpened || this.sentEver > 0n;
  }

  /** Tells apart what must be saved before more leaves, beside the packets up (SPEC 46.1(b)). */
  mark(): string {
    const { resumable } = this;
    return resumable ? ` ${resumable.id} ${hex(resumable.lastMark)} ${this.down.taken} ${this.isTried}` : "";
  }

  /** What is to be saved. Packets that were not taken are left out: the edge has them, and sends them again. */
  save(): SavedSession3 | undefined {
    const { resumable, settings, isTried } = this;
    if (!resumable || !settings) return undefined;
    return { resumable, settings, counts: this.down.save(), acked: this.outbox.acked, isTried };
  }

  /** Goes on with a session that was saved, without a connection (SPEC 46.1(d)). */
  restore({ resumable, settings, counts, acked, isTried }: SavedSession3, packets: readonly Bytes[]): void {
    const { outbox } = this;
    this.resumable = resumable;
    this.settings = settings;
    this.down = Received.restore(counts);
    outbox.acked = outbox.sent = acked;
    for (const data of packets) outbox.push(data);
    outbox.release();
    this.hasBegun = this.hasOpened = isTried;
    if (isTried) this.sentEver = outbox.end;
  }
}

function isMoveClass(code: number): boolean {
  return code >= 100 && code < 200;
}

function conflict(): Leave {
  return over(Code.conflict, "somebody else has resumed the session");
}

/** Pads up to the next of 32, 64, 128 and so on bytes (SPEC 21.3(f)). */
function pad(items: Writer, most: number): void {
  let length = 32;
  while (length < items.length) length *= 2;
  length = Math.min(length, most);
  if (length > items.length) items.byte(1).zeros(length - items.length - 1);
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
