// The client: a machine, its connection, and the application's side of it.

import { type Bytes, hex } from "./core/bytes.js";
import { type DropCause, SavedError } from "./core/leave.js";
import { MAX_STATE_BYTES } from "./core/saved.js";
import { type Config, Machine, type MachineEnd, type MachineEvent, type Parts } from "./core/machine.js";
import { Clock } from "./clock.js";
import {
  type ClientEvent,
  type ClientId,
  ConfigError,
  ConnectError,
  type Data,
  type End,
  NoRoom,
  Packet,
  type Sent,
  SessionEnded,
  TooLong,
  VoltlaneError,
  clientId,
} from "./events.js";
import { bytesOf, ledgerOf, quietly, randomBytes } from "./data.js";
import { type ClientOptions, NEEDS_SAVED, configOf } from "./options.js";
import { Pages } from "./pages.js";
import { Stream } from "./stream.js";
import { type Address, type Connector, type Transport, WRITE_AHEAD } from "./transport.js";
import {
  MAX_INBOX_BYTES,
  MAX_INBOX_EVENTS,
  MAX_WAITING_SENDS,
  PAST_SESSIONS,
  type StateWaiter,
  type Waiter,
  type WaitingSend,
} from "./waiting.js";

/** The longest time of setTimeout. */
const MAX_TIMER_MS = 2_000_000_000;
const GIVE_UP_AFTER_MS = 30_000;

/** A client of an edge, which comes back by itself. What happens to it is one stream of events. */
export class Client implements AsyncIterable<ClientEvent>, AsyncDisposable {
  private readonly machine: Machine;
  private readonly clock = new Clock();
  private readonly stream: Stream<ClientEvent>;
  private transport: Transport | undefined;
  /** Tells the events of one connection from those of a later one. */
  private connection = 0;
  private isOpen = false;
  private given = 0;
  private reported = 0;
  private isHeld = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isTurning = false;
  private turnsAgain = false;
  private session = 1;
  private idValue: bigint | undefined;
  private readonly past = new Map<number, { acked: number; end: End }>();
  private waiters: Waiter[] = [];
  private sends: WaitingSend[] = [];
  private rooms: (() => void)[] = [];
  private lastTaken = 0n;
  private endValue: End | undefined;
  private isGone = false;
  private isClosing = false;
  private readonly endWaiters: (() => void)[] = [];
  private addressAt = 0;
  private lastDrop: DropCause | undefined;
  private begun: { resolve: () => void; reject: (error: Error) => void } | undefined;
  private readonly givesUpAt: number | undefined;
  private readonly pages: Pages;
  /** What is being stored, one thing after the other. */
  private storing: Promise<void> | undefined;
  /** The store is let go once all is stored. */
  private releasing: Promise<void> | undefined;
  /** Why the last attempt to store failed. The next one comes with the next connection. */
  private storeError: unknown;
  private states: StateWaiter[] = [];
  private nextTick: number | undefined;
  private readonly onAbort: () => void;

  private constructor(
    private readonly addresses: readonly Address[],
    private readonly connector: Connector,
    private readonly options: ClientOptions,
    stored: Bytes | undefined,
    config: Config,
    private readonly parts: Parts,
  ) {
    this.machine = new Machine(config, randomBytes, parts);
    const now = this.clock.now();
    const kept = options.session ?? stored;
    if (kept) this.restore(now, kept, !options.session);
    const patience = options.giveUpAfter === undefined ? GIVE_UP_AFTER_MS : options.giveUpAfter;
    if (patience !== null && this.machine.id === undefined) this.givesUpAt = now + patience;
    if (options.tick !== undefined) this.nextTick = now + options.tick;
    this.stream = new Stream<ClientEvent>(() => this.cameBack());
    this.pages = new Pages({
      hurry: () => this.act(() => this.machine.hurry()),
      thawed: () => this.act(() => this.machine.dropConnection()),
      hides: () => this.storeChanges(),
    });
    this.onAbort = () => this.destroy();
    options.signal?.addEventListener("abort", this.onAbort, { once: true });
  }

  private restore(now: number, session: Bytes, isStored: boolean): void {
    try {
      if (!this.machine.restore(now, session, isStored)) throw new ConfigError("the saved session is of a version that the options leave out");
    } catch (error) {
      throw error instanceof SavedError ? new ConfigError(error.message) : error;
    }
    this.idValue = this.machine.id;
  }

  /** Begins a client. See `connect`. @internal */
  static async begin(
    address: string | readonly string[],
    parse: (address: string) => Address,
    connector: Connector,
    options: ClientOptions,
    parts: Parts,
  ): Promise<Client> {
    const texts = typeof address === "string" ? [address] : address;
    const store = options.sessionStore;
    let client: Client;
    try {
      if (texts.length === 0) throw new ConfigError("no address is given");
      const addresses = texts.map(parse);
      options.signal?.throwIfAborted();
      if (options.tick !== undefined && !(options.tick > 0)) throw new ConfigError("a tick cannot come every 0 ms");
      const config = configOf(options, addresses, parts);
      client = new Client(addresses, connector, options, await store?.load(), config, parts);
      await client.takeToken();
    } catch (error) {
      store?.release?.();
      throw error;
    }
    const isKept = client.machine.id !== undefined;
    const begun = new Promise<void>((resolve, reject) => (client.begun = { resolve, reject }));
    client.turn();
    if (isKept) {
      client.begun?.resolve();
      client.begun = undefined;
    }
    await begun;
    return client;
  }

  private async takeToken(): Promise<void> {
    const { token } = this.options;
    if (token === undefined) return;
    const fault = this.machine.setToken(bytesOf(typeof token === "function" ? await token() : token));
    if (fault === "too long") throw new ConfigError("the token is longer than 4,096 bytes");
    if (fault === "no pin") {
      throw new ConfigError("a token goes only to an edge that is known: pin its key, or connect with tls:// or wss://");
    }
  }

  // ---- what it is

  /** The id of the client: that of the latest session that has begun. */
  get id(): ClientId {
    return clientId(this.idValue ?? 0n);
  }

  /** Whether there is a connection on which packets go, as far as is known. */
  get isConnected(): boolean {
    return this.machine.state === "open";
  }

  /** The version of the protocol. Version 3 is encrypted, and loses nothing. */
  get version(): 2 | 3 {
    return this.machine.version;
  }

  /** The key that the edge has proven, in hexadecimal, to be pinned. Version 2 proves none. */
  get edgeKey(): string | undefined {
    return this.machine.edgeKey && hex(this.machine.edgeKey);
  }

  /** The time in ms that a question to the edge and its answer took last, if one was asked. */
  get rtt(): number | undefined {
    return this.machine.rtt;
  }

  /** The maximum length of a packet to the edge, in bytes. */
  get maxPacket(): number {
    return this.machine.maxPacket;
  }

  /** The number of packets that are kept: not sent, or not acknowledged. */
  get unacknowledged(): number {
    return this.machine.unacknowledged;
  }

  /** What became of the packets so far, as far as this client knows. */
  get ledger(): End["ledger"] {
    return ledgerOf(this.machine.ledger);
  }

  /** The application's own state, as {@link Client.save} stored it last. */
  get state(): Uint8Array {
    return this.machine.savedState;
  }

  /** How the session ended, once it has and no other begins. */
  get end(): End | undefined {
    return this.endValue;
  }

  // ---- what comes

  /**
   * The events, in order. A packet counts as acknowledged when the next event is asked for. Events wait until they are; a loop that is left
   * can be begun again.
   */
  [Symbol.asyncIterator](): AsyncIterator<ClientEvent> {
    return this.stream.iterate();
  }

  /**
   * Calls `handler` for each event of this type, while nothing iterates over the client. Returns a function that ends that. A handler that
   * throws is reported as an uncaught error, and stops nothing.
   */
  on<K extends ClientEvent["type"]>(
    type: K,
    handler: (event: Extract<ClientEvent, { type: K }>) => void,
  ): () => void {
    return this.stream.on(type, handler as (event: ClientEvent) => void);
  }

  private cameBack(): void {
    if (!this.isGone) {
      this.machine.take(this.clock.now(), this.lastTaken);
      this.turnLater();
    }
    this.hold();
  }

  private tell(event: MachineEvent): void {
    switch (event.type) {
      case "connected":
        this.idValue = event.id;
        this.hasBegun();
        return this.stream.push({ type: "connected", id: this.id });
      case "packet":
        return this.stream.push(new Packet(event.data, Number(event.number)), event.data.length, () => {
          if (event.number > 0n) this.lastTaken = event.number;
        });
      case "dropped":
        this.lastDrop = event.cause;
        this.addressAt += 1;
        return this.stream.push({ type: "dropped", cause: event.cause, retryIn: event.retryIn });
      case "resumed":
        this.hasBegun();
        return this.stream.push({ type: "resumed", missed: Number(event.missed), away: Number(event.away) });
      case "caughtUp":
        return this.stream.push({ type: "caughtUp" });
      case "gap":
        return this.stream.push({
          type: "gap",
          first: Number(event.first),
          count: Number(event.count),
          bytes: Number(event.bytes),
          reason: event.reason,
        });
      case "skipped":
        return this.stream.push({ type: "skipped", count: Number(event.count) });
      case "ended":
        return this.ended(event.end);
    }
  }

  private hasBegun(): void {
    this.begun?.resolve();
    this.begun = undefined;
  }

  private ended(told: MachineEnd): void {
    const end: End = { code: told.code, text: told.text, ledger: ledgerOf(told.ledger) };
    const acked = end.ledger.up.acknowledged;
    this.past.set(this.session, { acked, end });
    if (this.past.size > PAST_SESSIONS) this.past.delete(this.past.keys().next().value!);
    this.settleAcknowledged();
    this.storeChanges();
    this.stream.push({ type: "ended", end });
    this.lastTaken = 0n;
    const isNew = this.options.startOver && !this.isClosing && !this.begun && this.machine.startOver();
    if (isNew) {
      this.session += 1;
      return;
    }
    this.finish(end, new ConnectError(`no session began: ${new SessionEnded(end).message}`, this.lastDrop, end));
  }

  /** The client is over. */
  private finish(end: End, error: Error): void {
    this.endValue = end;
    this.isGone = true;
    for (const { reject } of this.sends) reject(new SessionEnded(end));
    this.sends = [];
    for (const wake of this.rooms.splice(0)) wake();
    for (const wake of this.endWaiters.splice(0)) wake();
    this.begun?.reject(error);
    this.begun = undefined;
    this.release();
  }

  private release(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.pages.release();
    this.options.signal?.removeEventListener("abort", this.onAbort);
    this.releaseStore();
    this.stream.end();
  }

  private releaseStore(): void {
    const { sessionStore } = this.options;
    this.storeChanges();
    this.settleStates();
    const release = () => sessionStore?.release?.();
    if (this.storing) this.releasing = this.storing.then(release);
    else release();
  }

  // ---- what goes

  /**
   * Sends a packet once, in order. It is kept until it is acknowledged, over any number of connections. It has its place from this call on.
   * The promise is there when there is room for it, and need not be awaited by whoever sends little.
   *
   * In version 2 a packet is kept until the transport has taken it.
   */
  send(data: Data): Promise<Sent> {
    const bytes = bytesOf(data);
    const max = this.machine.maxPacket;
    if (bytes.length > max) return Promise.reject(new TooLong(bytes.length, max));
    const end = this.endNow();
    if (end) return quietly(new SessionEnded(end));
    if (this.sends.length === 0 && this.machine.hasRoom(bytes.length)) {
      const sent = this.put(bytes);
      this.turnSoon();
      return Promise.resolve(sent);
    }
    if (this.sends.length >= MAX_WAITING_SENDS) return quietly(new NoRoom(`${MAX_WAITING_SENDS} calls of send wait`));
    const waiting = new Promise<Sent>((resolve, reject) => this.sends.push({ data: bytes, resolve, reject }));
    waiting.catch(() => undefined);
    return waiting;
  }

  /** Sends a packet if there is room, and returns undefined if there is none. Throws TooLong and SessionEnded. */
  trySend(data: Data): Sent | undefined {
    const bytes = bytesOf(data);
    const max = this.machine.maxPacket;
    if (bytes.length > max) throw new TooLong(bytes.length, max);
    const end = this.endNow();
    if (end) throw new SessionEnded(end);
    if (this.sends.length > 0 || !this.machine.hasRoom(bytes.length)) return undefined;
    const sent = this.put(bytes);
    this.turnSoon();
    return sent;
  }

  /**
   * Sends a packet now or not at all: returns false if there is no connection, or other packets wait. Once sent it is as any other. Throws
   * TooLong and SessionEnded.
   */
  sendVolatile(data: Data): boolean {
    const isFree = this.isOpen && this.machine.isIdle && (this.transport?.pending() ?? 0) < WRITE_AHEAD;
    if (!isFree && !this.endNow()) return false;
    return this.trySend(data) !== undefined;
  }

  private endNow(): End | undefined {
    if (this.endValue) return this.endValue;
    if (this.isGone || this.isClosing) return { code: 0, text: "a goodbye was said", ledger: this.ledger };
    return undefined;
  }

  private put(bytes: Bytes): Sent {
    const number = Number(this.machine.send(bytes));
    return { id: this.id, session: this.session, number };
  }

  /** Moves calls of `send` on that have room now. */
  private admitSends(): void {
    while (this.sends.length > 0 && this.machine.takesPackets && this.machine.hasRoom(this.sends[0]!.data.length)) {
      const { data, resolve } = this.sends.shift()!;
      resolve(this.put(data));
      if (this.waiters.length > 0) this.machine.askAck();
      // It goes now, and not with what happens next.
      this.turnsAgain = true;
    }
    if (this.rooms.length > 0 && this.sends.length === 0 && this.machine.hasRoom(0)) {
      for (const wake of this.rooms.splice(0)) wake();
    }
  }

  /** Waits for room for another packet. Rejects with SessionEnded. */
  async room(): Promise<void> {
    while (!this.endNow()) {
      if (this.sends.length === 0 && this.machine.hasRoom(0)) return;
      await new Promise<void>((wake) => this.rooms.push(wake));
    }
    throw new SessionEnded(this.endNow()!);
  }

  /** Waits until a packet, and with it all before, is acknowledged; in version 2: taken by the transport. Rejects with SessionEnded. */
  acknowledged(sent: Sent): Promise<void> {
    return this.until(sent.session, sent.number);
  }

  /** Waits until everything that was sent so far is acknowledged. Rejects with SessionEnded. */
  flush(): Promise<void> {
    // Calls of `send` that wait have the next numbers.
    return this.until(this.session, Number(this.machine.ledger.up.numbered) + this.sends.length);
  }

  private until(session: number, number: number): Promise<void> {
    const waiting = new Promise<void>((resolve, reject) => this.waiters.push({ session, number, resolve, reject }));
    waiting.catch(() => undefined);
    this.settleAcknowledged();
    if (this.waiters.length > 0) {
      this.machine.askAck();
      this.turnSoon();
    }
    return waiting;
  }

  private settleAcknowledged(): void {
    if (this.waiters.length === 0) return;
    const acked = Number(this.machine.acknowledged);
    this.waiters = this.waiters.filter((waiter) => {
      const past = this.past.get(waiter.session);
      if (waiter.number <= (past ? past.acked : waiter.session === this.session ? acked : -1)) waiter.resolve();
      else if (past) waiter.reject(new SessionEnded(past.end));
      else if (waiter.session === this.session && !this.isGone) return true;
      else waiter.reject(new VoltlaneError("the session is none of the last ones of this client"));
      return false;
    });
  }

  // ---- ends

  /**
   * Says goodbye: sends what waits, ends the session, and waits until the edge has answered. What it returns says whether everything
   * arrived. It takes 7 s at most. Version 2 has no goodbye: its edge keeps the session until it expires.
   */
  async close(): Promise<End> {
    if (!this.endValue) {
      this.isClosing = true;
      const ended = new Promise<void>((wake) => this.endWaiters.push(wake));
      this.act(() => {
        if (this.sends.length === 0) this.machine.close(this.clock.now());
      });
      await ended;
    }
    await this.releasing;
    return this.endValue!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.options.sessionStore) await this.suspend();
    else await this.close();
  }

  /**
   * Ends the connection and keeps the session: returns its bytes, which are as secret as its keys, and stores them if there is a store. What
   * the application has not taken comes again. The client is over.
   */
  async suspend(): Promise<Uint8Array | undefined> {
    const session = this.export();
    this.destroy();
    await this.releasing;
    if (this.storeError !== undefined) throw this.storeError;
    return session;
  }

  /**
   * Returns the session as bytes, which are as secret as its keys, or undefined without one. Another client can go on with them, once this
   * one is gone and if nothing of it has left since. Those of version 3 are the content of a session file; those of version 2 are what the
   * other libraries call a saved session.
   */
  export(): Uint8Array | undefined {
    if (!this.parts.saved) throw new ConfigError(NEEDS_SAVED);
    return this.isGone ? undefined : this.machine.save();
  }

  /**
   * Stores up to 64 KiB of the application's own in one step with the session, and waits until it is stored. With the option `ack: "saved"`,
   * what was told is acknowledged and what was sent leaves then. Rejects with TooLong, SessionEnded and what the store says.
   */
  async save(state: Data): Promise<void> {
    const bytes = bytesOf(state);
    if (bytes.length > MAX_STATE_BYTES) throw new TooLong(bytes.length, MAX_STATE_BYTES);
    if (this.endValue) throw new SessionEnded(this.endValue);
    const { machine } = this;
    machine.take(this.clock.now(), this.lastTaken);
    machine.setState(this.clock.now(), bytes);
    this.storeError = undefined;
    const stored = new Promise<void>((resolve, reject) => this.states.push({ count: machine.statesSet, resolve, reject }));
    this.turn();
    await stored;
  }

  /** Drops the connection as if the network had failed. The client comes back by itself. */
  dropConnection(): void {
    this.act(() => this.machine.dropConnection());
  }

  /** Tries again now, if the client waits for the pause before its next attempt to pass. */
  hurry(): void {
    this.act(() => this.machine.hurry());
  }

  /** Sets what the client shows when it joins. In a session it is sent again, at once. */
  setToken(token: Data): void {
    const fault = this.machine.setToken(bytesOf(token));
    if (fault) throw new ConfigError(`the token is not taken: ${fault}`);
    this.turnSoon();
  }

  /** Ends without a goodbye. */
  private destroy(): void {
    if (this.isGone) return;
    const end: End = { code: 0, text: "left without a goodbye", ledger: this.ledger };
    this.past.set(this.session, { acked: Number(this.machine.acknowledged), end });
    this.dropTransport();
    const reason = this.options.signal?.aborted ? this.options.signal.reason : undefined;
    this.finish(end, reason instanceof Error ? reason : new ConnectError("the client was ended"));
    this.settleAcknowledged();
    this.machine.wipe();
  }

  // ---- the store

  /** Stores what must be stored before more leaves, or before the application hears of a session. */
  private storeIfWanted(): void {
    const mayTry = this.storeError === undefined || this.transport !== undefined;
    if (this.machine.wantsStore && !this.storing && mayTry) this.store();
  }

  private storeChanges(): void {
    if (this.options.sessionStore && this.machine.isChanged) this.store();
  }

  private store(): void {
    const { bytes, done } = this.machine.toStore();
    const put = () => this.options.sessionStore?.store(bytes);
    const stored = () => {
      done();
      this.storeError = undefined;
      this.settleStates();
      this.turn();
    };
    const failed = (error: unknown) => {
      this.storeError = error ?? new VoltlaneError("the session cannot be stored");
      this.settleStates();
      // A store that fails is like a network that is down: nothing leaves.
      this.machine.dropConnection("local", `the session cannot be stored: ${error}`);
      this.turn();
    };
    let putting: void | Promise<void>;
    try {
      putting = this.storing ? this.storing.then(put) : put();
    } catch (error) {
      return failed(error);
    }
    if (!putting) return stored();
    const storing = putting.then(stored, failed).finally(() => {
      if (this.storing === storing) this.storing = undefined;
      this.turn();
    });
    this.storing = storing;
  }

  /** Tells those who wait for a state to be stored. */
  private settleStates(): void {
    const stored = this.machine.config.saving ? this.machine.statesStored : Infinity;
    const { storeError } = this;
    const fails = storeError !== undefined || (this.isGone && !this.storing);
    this.states = this.states.filter(({ count, resolve, reject }) => {
      if (count <= stored) resolve();
      else if (fails) reject(storeError ?? new SessionEnded(this.endValue!));
      else return true;
      return false;
    });
  }

  // ---- the connection

  private act(what: () => void): void {
    if (this.isGone) return;
    what();
    this.turn();
  }

  private isTurnSoon = false;

  /** Several packets that are sent in one go leave together. */
  private turnSoon(): void {
    if (this.isTurnSoon) return;
    this.isTurnSoon = true;
    queueMicrotask(() => {
      this.isTurnSoon = false;
      this.turn();
    });
  }

  private isTurnLater = false;

  /** What acknowledgements need has time until the application has taken what it can. */
  private turnLater(): void {
    if (this.isTurnLater) return;
    this.isTurnLater = true;
    setTimeout(() => {
      this.isTurnLater = false;
      this.turn();
    });
  }

  /** Does all that there is to do. */
  private turn(): void {
    if (this.isTurning) {
      this.turnsAgain = true;
      return;
    }
    this.isTurning = true;
    try {
      do {
        this.turnsAgain = false;
        if (!this.isGone) this.step();
      } while (this.turnsAgain);
    } finally {
      this.isTurning = false;
    }
    this.arm();
  }

  private step(): void {
    const { machine } = this;
    const now = this.clock.now();
    machine.timeout(now);
    this.flushOutput(now);
    this.storeIfWanted();
    if (machine.wantsClose()) {
      this.dropTransport();
      machine.closed(now, true);
      this.turnsAgain = true;
    }
    // The application never knows a session that is not stored.
    while (!machine.isUnstored) {
      const event = machine.pollEvent();
      if (!event) break;
      this.tell(event);
    }
    if (this.isGone) return;
    this.admitSends();
    if (this.isClosing && this.sends.length === 0) machine.close(now);
    this.settleAcknowledged();
    if (machine.wantsConnect(now) && !this.transport && !this.isFull()) this.dial();
    this.giveUp(now);
    this.tick(now);
    this.hold();
  }

  private giveUp(now: number): void {
    if (!this.begun || this.givesUpAt === undefined || now < this.givesUpAt) return;
    const why = this.lastDrop?.message ?? "nobody answers";
    const end: End = { code: 0, text: "given up", ledger: this.ledger };
    this.dropTransport();
    this.finish(end, new ConnectError(`no edge was reached: ${why}`, this.lastDrop));
  }

  private tick(now: number): void {
    const { tick } = this.options;
    if (tick === undefined || this.nextTick === undefined || now < this.nextTick || this.begun) return;
    const late = now - this.nextTick;
    this.nextTick += tick * (1 + Math.floor(late / tick));
    this.stream.pushOnce({ type: "tick", late });
  }

  private dial(): void {
    const connection = ++this.connection;
    this.storeError = undefined;
    const address = this.addresses[this.addressAt % this.addresses.length]!;
    const isCurrent = () => connection === this.connection && !this.isGone;
    const { machine } = this;
    try {
      this.transport = this.connector(address, {
        opened: () => {
          if (!isCurrent()) return;
          machine.connected(this.clock.now(), randomBytes(32));
          this.isOpen = true;
          this.given = this.reported = 0;
          this.turn();
        },
        data: (bytes) => {
          if (isCurrent()) this.act(() => machine.bytes(this.clock.now(), bytes));
        },
        writable: () => {
          if (isCurrent()) this.turn();
        },
        closed: (isOrderly, words) => {
          if (!isCurrent()) return;
          this.settleTaken(this.clock.now());
          const wasOpen = machine.state !== "connecting" && machine.state !== "waiting";
          this.forgetTransport();
          this.act(() => {
            if (wasOpen) machine.closed(this.clock.now(), isOrderly, words);
            else machine.connectFailed(this.clock.now(), words);
          });
        },
      });
    } catch (error) {
      this.forgetTransport();
      machine.connectFailed(this.clock.now(), error instanceof Error ? error.message : String(error));
      if (error instanceof ConfigError) this.begun?.reject(error);
      this.turnsAgain = true;
    }
  }

  private forgetTransport(): void {
    this.transport = undefined;
    this.isOpen = this.isHeld = false;
    this.connection += 1;
  }

  private dropTransport(): void {
    const { transport } = this;
    if (!transport) return;
    this.settleTaken(this.clock.now());
    this.forgetTransport();
    transport.close();
  }

  /** Tells the machine what the transport took. */
  private settleTaken(now: number): void {
    if (!this.transport || !this.isOpen || this.machine.version === 3) return;
    const taken = this.given - this.transport.pending();
    if (taken > this.reported) {
      this.machine.written(now, taken - this.reported);
      this.reported = taken;
    }
  }

  private flushOutput(now: number): void {
    const { machine } = this;
    while (this.transport && this.isOpen) {
      this.settleTaken(now);
      const waits = machine.version === 2 ? this.given > this.reported : this.transport.pending() >= WRITE_AHEAD;
      if (waits) return;
      const output = machine.output(now);
      if (output.length === 0) break;
      this.transport.write(output);
      this.given += output.length;
      // A record that was sealed goes to this connection or nowhere.
      if (machine.version === 3) machine.written(now, output.length);
    }
    if (machine.isLeaving && !machine.waitsForStore) this.transport?.end();
  }

  private isFull(): boolean {
    return this.stream.length > MAX_INBOX_EVENTS / 2 || this.stream.bytes > MAX_INBOX_BYTES / 2;
  }

  /** Reads on or not, by what waits for the application. */
  private hold(): void {
    const { stream, transport } = this;
    if (!transport) {
      if (!this.isGone && !this.isFull() && this.machine.state === "connecting") this.turnSoon();
      return;
    }
    const isOver = stream.length + this.machine.unheard >= MAX_INBOX_EVENTS || stream.bytes >= MAX_INBOX_BYTES;
    if (transport.hold) {
      const isHeld = isOver || this.machine.isUnstored || (this.isHeld && this.isFull());
      if (isHeld !== this.isHeld) transport.hold((this.isHeld = isHeld));
    } else if (isOver) {
      // A WebSocket cannot be told to wait.
      this.machine.dropConnection("slow");
      this.turnSoon();
    }
  }

  private arm(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.isGone) return;
    const times = [this.machine.nextTimeout(), this.nextTick, this.begun && this.givesUpAt];
    const known = times.filter((time) => time !== undefined);
    if (known.length === 0) return;
    const wait = Math.min(...known) - this.clock.now();
    // A dial that waits for the application has no time.
    if (wait <= 0 && this.machine.state === "connecting" && !this.transport && this.isFull()) return;
    this.timer = setTimeout(() => this.turn(), Math.min(Math.max(Math.ceil(wait), 0), MAX_TIMER_MS));
  }
}
