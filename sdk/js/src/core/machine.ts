// The client without sockets, clock and randomness: bytes and times go in, bytes and events come out (SPEC 8.5, 26.3).

import { type Bytes, EMPTY, concat } from "./bytes.js";
import type { Config } from "./config.js";
import { MAX_HANDSHAKE_BYTES, type Session2 } from "./handshake.js";
import { Breach, type DropCause, type Ending, Leave, cause, told, violation } from "./leave.js";
import { Outbox } from "./outbox.js";
import type { decodeSaved, encodeSaved } from "./saved.js";
import { Code, mayStartOver } from "./v3/code.js";
import { MAX_TOKEN_BYTES } from "./v3/items.js";
import { MAX_OPENING_BYTES } from "./v3/opening.js";
import { type Ledger, MAX_RECORD_BYTES, Session3, type Trust } from "./v3/session.js";
import { FrameReader, LENGTH_BYTES, Malformed, frame } from "./wire.js";

export { type Config, DEFAULTS, type Versions } from "./config.js";
export type { Ledger } from "./v3/session.js";
export type { Counts } from "./v3/items.js";

/** The edge has so long to answer a goodbye, and to end a connection on which it broke the protocol (SPEC 25.4(d), 25.5(c)). */
const LAST_WORDS = 1_000;
/** A connection of version 3 is steady then (SPEC 26.3(b)). */
const STEADY = 10_000;

/** How a session ended, and what became of its packets. */
export interface MachineEnd {
  readonly code: number;
  readonly text: string;
  readonly ledger: Ledger;
}

export type MachineEvent =
  | { readonly type: "connected"; readonly id: bigint }
  | { readonly type: "packet"; readonly data: Bytes; readonly number: bigint }
  | { readonly type: "dropped"; readonly cause: DropCause; readonly retryIn: number }
  | { readonly type: "resumed"; readonly id: bigint; readonly missed: bigint; readonly away: bigint }
  | { readonly type: "caughtUp" }
  | {
      readonly type: "gap";
      readonly first: bigint;
      readonly count: bigint;
      readonly bytes: bigint;
      readonly reason: number;
    }
  | { readonly type: "skipped"; readonly count: bigint }
  | { readonly type: "ended"; readonly end: MachineEnd };

/** Where a client is. The states of the opening are those of SPEC 8.5 and 26.3. */
export type State =
  | "waiting"
  | "connecting"
  | "key"
  | "id"
  | "challenge"
  | "ping"
  | "welcome"
  | "answer"
  | "resumed"
  | "open"
  /** The client says why it closes. What comes is thrown away, and the edge ends the connection. */
  | "leaving"
  /** The transport must be closed, or its opening given up. */
  | "closing"
  | "over";

const OPENING: readonly State[] = ["key", "id", "challenge", "ping", "welcome", "answer", "resumed"];

/** What a client can be without. */
export interface Parts {
  /** Version 2. */
  readonly two?: typeof Session2;
  /** The session as bytes. */
  readonly saved?: { readonly encode: typeof encodeSaved; readonly decode: typeof decodeSaved };
}

/** Returns so many bytes of the operating system's randomness. */
export type Random = (length: number) => Bytes;

/** What of a client is saved. */
interface Mark {
  readonly text: string;
  readonly id: bigint;
  readonly states: number;
}

/** What a client is to store, and what is to be called once it can be read after a loss of power. */
export interface ToStore {
  readonly bytes: Bytes;
  readonly done: () => void;
}

export class Machine {
  private stateValue: State = "waiting";
  private now = 0;
  /** The deadline of the state, or the end of the pause. */
  private timer: number | undefined = 0;
  private ending: Ending | undefined;
  private two: Session2 | undefined;
  private three: Session3 | undefined;
  private readonly outbox = new Outbox();
  private readonly trust: Trust;
  private readonly reader = new FrameReader();
  private readonly events: MachineEvent[] = [];
  private output_: Bytes = EMPTY;
  private outputAt = 0;
  private step: number;
  private isHasty = false;
  private goodbye: "no" | "wanted" | "said" = "no";
  private goodbyeUntil: number | undefined;
  private hasHeard = false;
  private fallsBack = false;
  private endValue: MachineEnd | undefined;
  private stored: Mark = { text: "0", id: 0n, states: 0 };
  /** Whether output waits for something to be stored. */
  private isDue = false;
  /** Whether the application knows the session. */
  private isTold = false;
  private savedStateValue: Bytes = EMPTY;
  private states = 0;
  /** The last packet that was taken since the state was set. */
  private takenSince = 0n;
  /** When the last session was over, and what the edge asked for before the next one. */
  private afresh = { at: 0, wait: 0, jitter: 0 };

  constructor(
    readonly config: Config,
    private readonly random: Random,
    private readonly parts: Parts,
  ) {
    this.step = config.backoffMin;
    this.trust = {
      pins: config.edgeKeys,
      learned: undefined,
      token: EMPTY,
      tokenIsNew: false,
      longest: config.maxReceive,
      takesOver: config.takeOver,
      pads: config.padding,
      saves: config.saving !== undefined,
    };
    if (config.saving === "saved") this.outbox.until = 0n;
    this.begin(this.firstVersion());
  }

  private firstVersion(): 2 | 3 {
    return this.config.versions === "2" && this.config.edgeKeys.length === 0 ? 2 : 3;
  }

  private begin(version: 2 | 3): void {
    this.two = version === 2 ? this.parts.two!.fresh() : undefined;
    this.three = version === 3 ? this.newSession3() : undefined;
  }

  private newSession3(): Session3 {
    return new Session3(this.trust, this.outbox, this.random, (event) => this.events.push(event));
  }

  // ---- what the application does

  /** The maximum length of a packet, in bytes. */
  get maxPacket(): number {
    const { maxSend, queueBytes } = this.config;
    return Math.min(maxSend, this.three?.settings?.longest ?? maxSend, queueBytes - LENGTH_BYTES);
  }

  hasRoom(length: number): boolean {
    const { queuePackets, queueBytes } = this.config;
    return this.outbox.length < queuePackets && this.outbox.bytes + length + LENGTH_BYTES <= queueBytes;
  }

  /** Whether a packet can be sent at all: the session is not over, and no goodbye is wanted. */
  get takesPackets(): boolean {
    return this.endValue === undefined && this.goodbye === "no";
  }

  /** Queues a packet that is not too long, in a session that takes it, where there is room. Returns its number. */
  send(data: Bytes): bigint {
    return this.outbox.push(data);
  }

  /** Sets the token. Returns why it is not taken, or undefined. */
  setToken(token: Bytes): "too long" | "no pin" | undefined {
    if (token.length > MAX_TOKEN_BYTES) return "too long";
    if (this.config.edgeKeys.length === 0 && !this.config.trustFirstUse) return "no pin";
    this.trust.token = token;
    this.trust.tokenIsNew = true;
    return undefined;
  }

  /** The application has come back for more after it got the packet `number`. */
  take(now: number, number: bigint): void {
    this.advance(now);
    if (this.config.saving !== "saved") this.three?.take(this.now, number);
    else if (number > this.takenSince) this.takenSince = number;
  }

  /** Asks the edge to acknowledge what it has. */
  askAck(): void {
    if (this.three) this.three.wantsAck = true;
  }

  /** Says goodbye as soon as everything is sent. */
  close(now: number): void {
    this.advance(now);
    if (this.stateValue === "over" || this.goodbye !== "no") return;
    this.goodbye = "wanted";
    this.goodbyeUntil = this.now + this.config.goodbyeTimeout;
    if (this.three) this.three.wantsGoodbye = true;
    if (this.id === undefined) this.endWith({ then: "over", code: Code.goodbye, text: "" });
    else this.part();
  }

  private part(): void {
    if (this.goodbye !== "wanted" || this.stateValue !== "open") return;
    if (this.three) {
      if (!this.three.hasSaidGoodbye) return;
      this.goodbye = "said";
      this.goodbyeUntil = this.now + LAST_WORDS;
    } else if (this.outbox.length === 0) {
      // Version 2 has no goodbye: the edge keeps the session until it expires (SPEC 1.4(f)).
      this.closeTransport({ then: "over", code: Code.goodbye, text: "" });
    }
  }

  /** Forgets a session that is over, and what waits, and joins as a new client. Returns whether it may. */
  startOver(): boolean {
    const end = this.endValue;
    const may = end && (mayStartOver(end.code) || (this.two && end.code === Code.otherEdge));
    if (!may) return false;
    this.endValue = undefined;
    this.two?.wipe();
    this.clearOutbox();
    this.begin(this.firstVersion());
    this.goodbye = "no";
    const { at, wait, jitter } = this.afresh;
    const pause = this.isHasty ? this.nextPause(wait, jitter) : wait + (jitter > 0 ? this.share() * jitter : 0);
    this.enter("waiting", Math.max(this.now, at + pause));
    this.isHasty = true;
    return true;
  }

  private clearOutbox(): void {
    this.outbox.clear();
    this.takenSince = 0n;
  }

  /** Drops the connection as if the network had failed. */
  dropConnection(why: "local" | "slow" = "local", words?: string): void {
    if (this.hasTransport && this.mayEnd) this.closeTransport({ then: "pause", cause: cause(why, words) });
  }

  /** Tries again now, if the client waits for a pause of its own to pass. */
  hurry(): void {
    if (this.stateValue === "waiting") this.timer = Math.min(this.timer ?? this.now, this.now);
  }

  // ---- what it tells

  get state(): State {
    return this.stateValue;
  }

  get version(): 2 | 3 {
    return this.two ? 2 : 3;
  }

  get id(): bigint | undefined {
    return this.two ? this.two.id : this.three!.id;
  }

  get end(): MachineEnd | undefined {
    return this.endValue;
  }

  get edgeKey(): Bytes | undefined {
    return this.trust.learned;
  }

  get rtt(): number | undefined {
    return this.three?.rtt;
  }

  /** All packets up to this number are acknowledged; in version 2, taken by the transport. */
  get acknowledged(): bigint {
    return this.endValue ? this.endValue.ledger.up.acknowledged : this.outbox.acked;
  }

  get unacknowledged(): number {
    return this.outbox.length;
  }

  /** Whether a packet would leave at once. */
  get isIdle(): boolean {
    return this.stateValue === "open" && this.outbox.next() === undefined && this.output_.length === this.outputAt;
  }

  get ledger(): Ledger {
    if (this.endValue) return this.endValue.ledger;
    return this.three ? this.three.ledger() : this.two!.ledger(this.outbox);
  }

  /** The number of events that wait for {@link pollEvent}. */
  get unheard(): number {
    return this.events.length;
  }

  pollEvent(): MachineEvent | undefined {
    const event = this.events.shift();
    if (event?.type === "connected") this.isTold = true;
    return event;
  }

  // ---- the transport

  wantsConnect(now: number): boolean {
    this.advance(now);
    if (this.stateValue === "connecting") return true;
    return this.stateValue === "waiting" && this.timer !== undefined && this.timer <= this.now;
  }

  wantsClose(): boolean {
    return this.stateValue === "closing";
  }

  /** Whether the client has said its last word on this connection, and the edge is to end it. */
  get isLeaving(): boolean {
    return this.stateValue === "leaving";
  }

  private get hasTransport(): boolean {
    return this.stateValue !== "waiting" && this.stateValue !== "over";
  }

  private get mayEnd(): boolean {
    return this.stateValue !== "over" && this.stateValue !== "closing" && this.stateValue !== "leaving";
  }

  /** The transport is open. `random` is 32 bytes of the operating system, for this connection (SPEC 20.6(a)). */
  connected(now: number, random: Bytes): void {
    this.advance(now);
    if (this.stateValue !== "waiting" && this.stateValue !== "connecting") return;
    if (this.id === undefined) this.chooseVersion();
    this.hasHeard = false;
    const deadline = this.now + this.config.handshakeTimeout;
    if (this.two) {
      this.setOutput(this.two.begin());
      this.enter("key", deadline);
      return;
    }
    const three = this.three!;
    const isJoin = three.id === undefined;
    this.setOutput(concat(frame(Uint8Array.of(1, 3)), three.begin(this.now, random)));
    this.enter(isJoin ? "welcome" : "answer", deadline);
  }

  private chooseVersion(): void {
    const version = this.fallsBack ? 2 : this.firstVersion();
    this.fallsBack = false;
    if (version !== this.version) this.begin(version);
  }

  connectFailed(now: number, words?: string): void {
    this.advance(now);
    if (this.stateValue === "closing") this.closed(now, false);
    else if (this.wantsConnect(now)) this.endConnection({ then: "pause", cause: cause("connectFailed", words) });
  }

  /** Bytes came. Events follow. */
  bytes(now: number, chunk: Bytes): void {
    this.advance(now);
    if (chunk.length === 0) return;
    this.hasHeard = true;
    // Bytes behind the deadline are late, even if nobody has looked at the clock.
    if (this.isOpening) this.timeout(now);
    if (this.stateValue === "open") this.three?.heardBytes(this.now);
    this.reader.push(chunk);
    try {
      while (this.isOpening || this.stateValue === "open") {
        const length = this.reader.nextLength();
        if (length === undefined) return;
        this.checkLength(length);
        const body = this.reader.next();
        if (!body) return;
        this.body(body);
      }
    } catch (error) {
      this.failed(error);
    }
  }

  private failed(error: unknown): void {
    if (error instanceof Leave) return this.closeTransport(error.ending);
    if (!(error instanceof Malformed) && !(error instanceof Breach)) throw error;
    const opening = this.stateValue !== "open" || !this.three;
    if (this.goodbye === "said") return this.closeTransport(this.unanswered());
    if (opening) return this.closeTransport({ then: "pause", cause: violation(error.message) });
    const leave = this.three!.broken(error);
    if (!leave.says) return this.closeTransport(leave.ending);
    this.setOutput(concat(this.rest, this.three!.fill(this.now)));
    this.ending = leave.ending;
    this.enter("leaving", this.now + LAST_WORDS);
  }

  private get isOpening(): boolean {
    return OPENING.includes(this.stateValue);
  }

  private checkLength(length: number): void {
    const { stateValue } = this;
    if (stateValue === "resumed" || (stateValue === "open" && this.three)) {
      // A length can be anybody's.
      const isRight = length >= 16 && length <= MAX_RECORD_BYTES;
      if (!isRight) throw new Breach(`a record of ${length} bytes`, Code.protocol, 0n, false);
      return;
    }
    const most = stateValue === "open" ? this.config.maxReceive : this.three ? MAX_OPENING_BYTES : MAX_HANDSHAKE_BYTES;
    if (length > most) throw new Malformed(`a frame of ${length} bytes, ${most} allowed`);
  }

  private body(body: Bytes): void {
    if (this.two) return this.bodyTwo(this.two, body);
    const three = this.three!;
    if (this.stateValue === "welcome" || this.stateValue === "answer") {
      const isJoin = this.stateValue === "welcome";
      if (three.packet(this.now, body) === "resumed") return this.enter("resumed", this.timer);
      if (isJoin) this.establish({ type: "connected", id: three.id! });
      return;
    }
    const resumption = three.recordCame(this.now, body);
    if (resumption) {
      this.establish({ type: "resumed", id: three.id!, ...resumption });
      three.goOn();
    }
  }

  private bodyTwo(two: Session2, body: Bytes): void {
    if (this.stateValue === "open") {
      this.events.push({ type: "packet", data: body.slice(), number: ++two.received });
      return;
    }
    const isResuming = two.isResuming;
    const { answer, state } = two.packet(this.stateValue, body, this.random);
    if (answer) this.append(answer);
    if (state !== "open") return this.enter(state, this.timer);
    const id = two.id!;
    this.establish(isResuming ? { type: "resumed", id, missed: 0n, away: 0n } : { type: "connected", id });
  }

  private establish(event: MachineEvent): void {
    if (this.two) this.step = this.config.backoffMin;
    this.enter("open", this.two ? undefined : this.now + STEADY);
    const isNew = event.type === "connected" || (this.trust.saves && !this.isTold);
    if (isNew) this.isTold = false;
    this.events.push(isNew ? { type: "connected", id: this.id! } : event);
    this.part();
  }

  /** The transport is gone. `isOrderly`: at the end of the stream. */
  closed(now: number, isOrderly: boolean, words?: string): void {
    this.advance(now);
    if (!this.hasTransport) return;
    if (this.mayFallBack(isOrderly)) this.fallsBack = true;
    const kind = this.stateValue === "connecting" ? "connectFailed" : isOrderly ? "closedByEdge" : "transport";
    const ending = this.ending ?? (this.goodbye === "said" ? this.unanswered() : undefined);
    this.endConnection(ending ?? { then: "pause", cause: cause(kind, words) });
  }

  /** SPEC 18.4(d). */
  private mayFallBack(isOrderly: boolean): boolean {
    const isFirst = this.stateValue === "welcome" && isOrderly && !this.hasHeard;
    return this.config.versions === "3 or 2" && isFirst && this.trust.pins.length === 0 && !this.trust.learned;
  }

  private unanswered(): Ending {
    return { then: "over", code: Code.goodbye, text: "the edge did not answer" };
  }

  private endWith(ending: Ending): void {
    if (this.hasTransport) this.closeTransport(ending);
    else this.endConnection(ending);
  }

  private closeTransport(ending: Ending): void {
    this.ending = ending;
    this.setOutput(EMPTY);
    this.enter("closing", undefined);
  }

  private endConnection(ending: Ending): void {
    this.ending = undefined;
    if (this.trust.saves && !this.isTold) this.forgetUntold();
    this.reader.clear();
    this.setOutput(EMPTY);
    this.two?.lost();
    this.outbox.rewind();
    this.three?.lose();
    switch (ending.then) {
      case "pause":
        return this.retry(ending.cause, this.nextPause(ending.wait ?? 0, ending.jitter ?? 0));
      case "again": {
        const waits = ending.once && this.isHasty;
        if (ending.once) this.isHasty = true;
        return this.retry(ending.cause, waits ? this.nextPause(0, 0) : 0);
      }
      case "join":
        // Another session is only for packets that wait: a goodbye wants none (SPEC 22(h)).
        if (this.goodbye !== "no" && this.outbox.length === 0) {
          this.afresh = { at: this.now, wait: ending.wait, jitter: ending.jitter };
          return this.finish(ending.code, "", false);
        }
        // Nothing that was sent has arrived.
        this.three!.forget();
        return this.retry(told(ending.code), this.nextPause(ending.wait, ending.jitter));
      case "over":
        this.afresh = { at: this.now, wait: ending.wait ?? 0, jitter: ending.jitter ?? 0 };
        return this.finish(ending.code, ending.text, ending.keeps ?? false);
    }
  }

  /** A session that is not stored is not told: it may come again (SPEC 46.1(h)). */
  private forgetUntold(): void {
    const at = this.events.findIndex(({ type }) => type === "connected");
    if (at >= 0) this.events.length = at;
  }

  private finish(code: number, text: string, keeps: boolean): void {
    const end = { code, text, ledger: this.ledger };
    this.endValue = end;
    this.goodbyeUntil = undefined;
    this.three?.wipe();
    if (!keeps) this.two?.wipe();
    this.clearOutbox();
    this.enter("over", undefined);
    this.events.push({ type: "ended", end });
  }

  private retry(why: DropCause, pause: number): void {
    this.enter("waiting", this.now + pause);
    this.events.push({ type: "dropped", cause: why, retryIn: pause });
  }

  /** SPEC 4.6(d), 25.2(b). */
  private nextPause(wait: number, jitter: number): number {
    const pause = Math.max(wait + this.share() * jitter, this.share() * this.step);
    this.step = Math.min(2 * this.step, this.config.backoffMax);
    return pause;
  }

  private share(): number {
    const [a, b] = this.random(2) as unknown as [number, number];
    return (256 * a + b) / 65_535;
  }

  // ---- output

  private setOutput(bytes: Bytes): void {
    this.output_ = bytes;
    this.outputAt = 0;
  }

  private get rest(): Bytes {
    return this.outputAt === 0 ? this.output_ : this.output_.subarray(this.outputAt);
  }

  private append(bytes: Bytes): void {
    this.setOutput(this.outputAt === this.output_.length ? bytes : concat(this.rest, bytes));
  }

  /**
   * Returns the bytes to write now. Call it when the transport may take bytes, and then `written`: records of version 3 are sealed here, of
   * all that waits at that moment. A client that saves has none as long as something of it is to be stored.
   */
  output(now: number): Bytes {
    this.advance(now);
    if (this.stateValue === "closing") return EMPTY;
    if (this.outputAt === this.output_.length && this.stateValue === "open") {
      this.setOutput(this.three ? this.three.fill(this.now) : this.two!.fill(this.outbox));
      this.part();
    }
    if (this.trust.saves && this.outputAt < this.output_.length) {
      this.isDue = this.mark().text !== this.stored.text;
      if (this.isDue) return EMPTY;
    }
    return this.rest;
  }

  /** The transport took the first `count` bytes of `output`. */
  written(now: number, count: number): void {
    this.advance(now);
    this.outputAt += count;
    if (this.two?.written(this.outbox, this.outputAt)) this.part();
  }

  // ---- time

  private advance(now: number): void {
    if (now > this.now) this.now = now;
  }

  private enter(state: State, timer: number | undefined): void {
    this.stateValue = state;
    this.timer = timer;
  }

  /** When `timeout` must be called at the latest. */
  nextTimeout(): number | undefined {
    const times = [this.timer];
    if (this.stateValue === "open") times.push(this.three?.nextTimeout());
    if (this.stateValue === "waiting") times.push(this.three?.endsAt);
    if (this.mayEnd) times.push(this.goodbyeUntil);
    const known = times.filter((time) => time !== undefined);
    return known.length > 0 ? Math.min(...known) : undefined;
  }

  timeout(now: number): void {
    this.advance(now);
    const isOver = (at: number | undefined) => at !== undefined && at <= this.now;
    if (this.mayEnd && isOver(this.goodbyeUntil)) return this.endWith(this.unanswered());
    if (this.stateValue === "waiting" && isOver(this.three?.endsAt)) {
      const text = "nothing came from the edge for as long as it keeps a session";
      return this.endConnection({ then: "over", code: Code.expired, text });
    }
    if (this.stateValue === "open" && this.three) {
      try {
        this.three.timeout(this.now);
      } catch (error) {
        return this.failed(error);
      }
    }
    if (!isOver(this.timer)) return;
    switch (this.stateValue) {
      case "waiting":
        return this.enter("connecting", this.now + this.config.connectTimeout);
      case "connecting":
        return this.closeTransport({ then: "pause", cause: cause("connectTimeout") });
      case "open":
        this.timer = undefined;
        this.step = this.config.backoffMin;
        this.isHasty = false;
        return;
      case "leaving":
        return this.enter("closing", undefined);
      default:
        return this.closeTransport({ then: "pause", cause: cause("handshakeTimeout") });
    }
  }

  // ---- what outlives the process (SPEC 46)

  private mark(): Mark {
    const { two, three, outbox, states, endValue } = this;
    // The packets of version 2 are not saved.
    const text = endValue ? "0" : two ? (two.id === undefined ? "0" : `session ${two.id}`) : `${outbox.released}${three!.mark()}`;
    return { text, id: endValue ? 0n : (this.id ?? 0n), states };
  }

  /** Whether what `toStore` gives is not what is stored. */
  get isChanged(): boolean {
    const mark = this.mark();
    return mark.text !== this.stored.text || mark.states !== this.stored.states;
  }

  /** Whether there is a session that is not stored. The application is not to know it. */
  get isUnstored(): boolean {
    return this.trust.saves && this.stateValue === "open" && this.mark().id !== this.stored.id;
  }

  /** Whether something must be stored now: output waits for it, a state was set, or a session has begun or is over. */
  get wantsStore(): boolean {
    if (!this.trust.saves || !this.isChanged) return false;
    return this.waitsForStore || this.states !== this.stored.states || this.isUnstored || this.endValue !== undefined;
  }

  /** Whether output waits until something is stored. */
  get waitsForStore(): boolean {
    return this.isDue;
  }

  /** How many states were set, and how many of them are stored. */
  get statesSet(): number {
    return this.states;
  }

  get statesStored(): number {
    return this.stored.states;
  }

  /** Returns what is to be stored in the place of what was stored before. It is as secret as the session's keys. */
  toStore(): ToStore {
    const mark = this.mark();
    return {
      bytes: this.encode(),
      done: () => {
        this.stored = mark;
        this.isDue = false;
      },
    };
  }

  private encode(): Bytes {
    const { endValue, outbox, trust } = this;
    const two = this.two?.save();
    const session = endValue ? undefined : this.three?.save();
    // What waits for a session that a refusal has kept is no packet of the next one.
    const packets = endValue ? [] : outbox.kept();
    return this.parts.saved!.encode({ state: this.savedStateValue, two, three: session && { session, edgeKey: trust.learned! }, packets });
  }

  /** Sets the application's own state, of 64 KiB at most: what it has sent and taken so far is saved with it. */
  setState(now: number, state: Bytes): void {
    this.advance(now);
    this.savedStateValue = state;
    this.states += 1;
    this.outbox.release();
    this.three?.take(this.now, this.takenSince);
    this.takenSince = 0n;
  }

  /** The application's own state, as it was restored or set last. */
  get savedState(): Bytes {
    return this.savedStateValue;
  }

  /**
   * The session as bytes, which are as secret as its keys: of version 2 those that the other libraries call a saved session, of version 3
   * what would be stored. Undefined without a session.
   */
  save(): Bytes | undefined {
    if (this.two) return this.two.save();
    return this.endValue || this.id === undefined ? undefined : this.encode();
  }

  /**
   * Goes on with what `save` gave, or `isStored` with what was stored, before the first connection. Returns false if it is of a version that
   * this client does not speak. Throws SavedError for bytes that are nothing like it.
   */
  restore(now: number, bytes: Bytes, isStored = false): boolean {
    this.advance(now);
    const saved = this.parts.saved!.decode(bytes, this.parts.two, !isStored);
    if (!saved) return false;
    const { state, two, three, packets } = saved;
    const { versions, edgeKeys } = this.config;
    if (two && (versions === "3" || edgeKeys.length > 0)) return false;
    if (three && versions === "2") return false;
    this.savedStateValue = state;
    this.isTold = two !== undefined || three !== undefined;
    if (two) {
      this.begin(2);
      this.two = two;
    } else if (three) {
      this.begin(3);
      this.trust.learned = three.edgeKey;
      this.three!.restore(three.session, packets);
    } else {
      for (const data of packets) this.outbox.push(data);
      this.outbox.release();
    }
    return true;
  }

  /** Overwrites the keys. The machine is of no more use. */
  wipe(): void {
    this.two?.wipe();
    this.three?.wipe();
  }
}
