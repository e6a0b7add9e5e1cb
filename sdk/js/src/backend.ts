// The backend of an edge, over the links of version 2 (SPEC 7) and 3 (SPEC 33 to 38).

import * as net from "node:net";
import * as tls from "node:tls";

import {
  type BackendEvent,
  type BackendOptions,
  type ClientInfo,
  type Everyone,
  type Group,
  Joined,
  everyone,
} from "./backend-events.js";
import { Book, type Known } from "./book.js";
import { bytesOf, quietly } from "./data.js";
import { type Bytes, EMPTY, concat, u32, utf8 } from "./core/bytes.js";
import { FrameReader } from "./core/wire.js";
import { type ClientId, ConfigError, type Data, NoRoom, SessionEnded, type Sent, TooLong, VoltlaneError } from "./events.js";
import { Gate, type HeldEvent, type Mark, Refuse } from "./gate.js";
import { Groups } from "./groups.js";
import { Hearing, type Hears } from "./hearing.js";
import { ASK_MS, Feature, Flag, GRANT_MS, type Grant, LinkError, Links, grantOf } from "./link.js";
import { FrameQueue } from "./queue.js";
import { Stream } from "./stream.js";
import {
  DATA,
  EVERYONE,
  GOING_AWAY,
  GONE,
  ID_BYTES,
  KICK,
  TAG_BYTES,
  counts,
  cut,
  isKick,
  tagOf,
  viewOf,
} from "./tagged.js";
import { type Transport, WRITE_AHEAD, hostAndPort, parseAddress } from "./transport.js";
import { onSocket } from "./transport/node.js";

/** Malformed packets before the first good one: then the peer is no edge (SPEC 7.5(d)). */
const MAX_MALFORMED = 32;
/** Events and bytes that wait for the application. Beyond, the link is not read. */
const MAX_INBOX_EVENTS = 65_536;
const MAX_INBOX_BYTES = 67_108_864;
/** What waits for the link. Beyond, `send` waits. */
const MAX_QUEUE_BYTES = 67_108_864;
/** Turns of the loop in which a link that is replaced is read. */
const MAX_DRAIN_TURNS = 1_024;
const MAX_WAITING_SENDS = 65_536;
/** How long `close` waits for what is to be written. */
const CLOSE_MS = 5_000;
/** Ids that a packet for many may leave out. */
const MAX_LEFT_OUT = 16;
/** The longest note, and text of a kick, in bytes of UTF-8. */
const MAX_NOTE_BYTES = 64;
const MAX_TEXT_BYTES = 256;
/** Packets to one client that are not settled. Beyond, it has no room. */
const MAX_UNSETTLED = 8_192;
interface Waiting {
  readonly put: () => void;
  readonly reject: (error: Error) => void;
}

interface Link {
  readonly transport: Transport;
  readonly reader: FrameReader;
  /** What has come. */
  bytes: number;
  hasGood: boolean;
  malformed: number;
  /** Whether it is not read, since too much waits. */
  isHeld: boolean;
  /** The version, once it is known. */
  version: 2 | 3 | undefined;
  readonly from: string;
}

/** Waits for an edge, and speaks with its clients. */
export async function listen(address: string, options: BackendOptions = {}): Promise<Backend> {
  options.signal?.throwIfAborted();
  if (options.tick !== undefined && !(options.tick > 0)) throw new ConfigError("a tick cannot come every 0 ms");
  const { scheme, at } = parseAddress(address);
  if (scheme === "ws" || scheme === "wss") throw new ConfigError(`${address}: an edge does not reach its backend by WebSocket`);
  if (scheme === "tls" && !options.tls?.cert) throw new ConfigError("tls:// needs a certificate: the option tls");
  const server =
    scheme === "tls" ? tls.createServer({ minVersion: "TLSv1.2", rejectUnauthorized: options.tls?.requestCert, ...options.tls }) : net.createServer({ noDelay: true });
  const backend = new Backend(server, scheme === "tls" ? "secureConnection" : "connection", options);
  const to = scheme === "unix" ? { path: at } : hostAndPort(at);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(to, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return backend;
}

/** The one program behind an edge. What happens to it is one stream of events. */
export class Backend implements AsyncIterable<BackendEvent>, AsyncDisposable {
  private readonly stream: Stream<BackendEvent>;
  private link: Link | undefined;
  /** A connection that takes the link's place as soon as that is read. */
  private successor: net.Socket | undefined;
  private readonly book = new Book();
  private readonly groups = new Groups(this.book, (group, flag, data) => {
    if (this.hasGroups) this.links!.push(group, flag, data);
  });
  /** Who waits for room. */
  private rooms: { readonly id: ClientId; readonly wake: () => void }[] = [];
  private readonly gaps: boolean;
  private readonly hearing: Hearing;
  private readonly links: Links | undefined;
  private asking: ReturnType<typeof setTimeout> | undefined;
  private readonly gate: Gate | undefined;
  /** The frame of the last event that the application has got. */
  private got: Mark | undefined;
  /** What waits for a link of version 2, or for the picture of one of version 3. */
  private readonly queue = new FrameQueue();
  private waiting: Waiting[] = [];
  private isFlushing = false;
  private isClosed = false;
  /** The maximum length of a packet to a client, in bytes. The edge has a bound of its own: `master.max_frame_bytes`. */
  readonly maxPacket: number;
  private timer: ReturnType<typeof setInterval> | undefined;
  private drained: (() => void)[] = [];

  /** See {@link listen}. @internal */
  constructor(
    private readonly server: net.Server,
    event: "connection" | "secureConnection",
    options: BackendOptions,
  ) {
    this.maxPacket = options.maxPacket ?? 8_388_608;
    this.gaps = options.overflow === "gap";
    this.stream = new Stream<BackendEvent>(() => this.cameBack());
    if (options.verify) this.gate = new Gate(options.verify, (id, verdict) => this.judged(id, verdict));
    if (options.version === 3 || options.secret !== undefined) {
      const secret = options.secret === undefined ? undefined : bytesOf(options.secret);
      this.links = new Links(this.maxPacket + TAG_BYTES, secret, () => this.flushSoon());
      for (const [id, number] of options.restore ?? []) {
        const tag = tagOf(id);
        (this.book.find(tag) ?? this.book.enter(tag)).received = number;
      }
    }
    const hears: Hears = {
      tell: (heard, bytes) => this.tell(heard, bytes),
      admit: (id) => this.admit(id),
      pushPolicy: (client) => this.pushPolicy(client),
      pushKick: (client) => this.pushKick(client),
      letSend: () => this.letSend(),
      wakeRooms: () => this.wakeRooms(),
    };
    this.hearing = new Hearing(hears, this.book, this.groups, this.queue, this.links, this.maxPacket, this.gaps, this.gate !== undefined);
    server.on(event, (socket: net.Socket) => this.accept(socket));
    server.on("tlsClientError", () => undefined);
    if (options.tick !== undefined) this.startTicks(options.tick);
    options.signal?.addEventListener("abort", () => void this.close(), { once: true });
  }

  private startTicks(every: number): void {
    let due = performance.now() + every;
    this.timer = setInterval(() => {
      const late = performance.now() - due;
      if (late < 0) return;
      due += every * (1 + Math.floor(late / every));
      this.stream.pushOnce({ type: "tick", late });
    }, every);
  }

  /** Where it listens. */
  get address(): net.AddressInfo | string | null {
    return this.server.address();
  }

  /** Whether an edge is there. */
  get isConnected(): boolean {
    return this.link !== undefined;
  }

  /** The clients that it has heard of and that have not ended. */
  get clients(): ClientId[] {
    return this.book.shown().map(({ id }) => id);
  }

  /** The events, in order. Events wait until they are asked for. */
  [Symbol.asyncIterator](): AsyncIterator<BackendEvent> {
    return this.stream.iterate();
  }

  /** Calls `handler` for each event of this type, while nothing iterates over the backend. Returns a function that ends that. */
  on<K extends BackendEvent["type"]>(
    type: K,
    handler: (event: Extract<BackendEvent, { type: K }>) => void,
  ): () => void {
    return this.stream.on(type, handler as (event: BackendEvent) => void);
  }

  // ---- what comes

  private accept(socket: net.Socket): void {
    const from = socket.remoteAddress === undefined ? "unix" : `${socket.remoteAddress}:${socket.remotePort}`;
    socket.on("error", () => undefined);
    const link = this.link;
    if (!link) return this.begin(socket, from);
    // An edge opens a link only when it has given up the one before. What has come on that is read first (SPEC 7.8(e)).
    this.successor?.destroy();
    this.successor = socket;
    if (link.isHeld) link.transport.hold!((link.isHeld = false));
    this.drain(link, link.bytes, MAX_DRAIN_TURNS, () => {
      if (this.successor !== socket) return;
      this.successor = undefined;
      if (this.link) this.lose("another edge, or the same one again, has connected");
      if (this.isClosed) socket.destroy();
      else this.begin(socket, from);
    });
  }

  /** Waits until nothing more comes on a link. */
  private drain(link: Link, bytes: number, turns: number, then: () => void): void {
    // A turn of the loop reads what there is, and the next one finds nothing.
    setImmediate(() =>
      setImmediate(() => {
        if (this.link !== link || link.bytes === bytes || turns === 0) then();
        else this.drain(link, link.bytes, turns - 1, then);
      }),
    );
  }

  private begin(socket: net.Socket, from: string): void {
    const transport = onSocket(socket, {
      data: (bytes) => {
        if (this.link === link) this.came(link, bytes);
      },
      writable: () => {
        if (this.link === link) this.flush();
      },
      closed: (isOrderly, words) => {
        if (this.link === link) this.lose(words ?? (isOrderly ? "the edge closed the link" : "the link broke"));
      },
    });
    const link: Link = { transport, reader: new FrameReader(), bytes: 0, hasGood: false, malformed: 0, isHeld: false, version: undefined, from };
    this.link = link;
    const { links } = this;
    if (links) {
      transport.write(links.ask());
      this.asking = setTimeout(
        () => {
          if (links.demands) this.lose("the edge does not grant version 3 of the link");
          else this.fallBack(link);
        },
        links.demands ? GRANT_MS : ASK_MS,
      );
    } else this.fallBack(link);
    this.hold();
  }

  /** The link has version 2. */
  private fallBack(link: Link): void {
    clearTimeout(this.asking);
    link.version = 2;
    if (this.links?.edge) {
      // An edge that has granted never falls back within its run, so this is another one.
      this.links.forget();
      this.hearing.allAreGone();
    }
    this.book.forgetStrangers();
    this.tell({ type: "edgeConnected", address: link.from });
    this.flush();
  }

  private lose(reason: string): void {
    const { link } = this;
    if (!link) return;
    clearTimeout(this.asking);
    if (link.version === 2) this.queue.takeWritten(link.transport);
    this.link = undefined;
    link.transport.close();
    this.queue.lose();
    this.links?.close();
    // Who was never told of it is not told of its end.
    if (link.version !== undefined) this.tell({ type: "edgeLost", reason });
  }

  /** The application hears of an event, or will once its client is verified. */
  private tell(event: BackendEvent, bytes = 0): void {
    const heard: HeldEvent = { event, bytes, mark: this.links && this.link?.version === 3 ? { picture: this.links.picture, count: this.links.mark } : undefined };
    if (!this.gate || this.gate.passes(heard)) {
      if (this.gate && event.type === "joined") this.admit(event.id);
      this.give(heard);
    } else if (event.type === "joined") this.pauseAs(event.id, true);
  }

  private give({ event, bytes, mark }: HeldEvent): void {
    this.stream.push(event, bytes, mark && (() => (this.got = mark)));
  }

  /** The application asks for more. */
  private cameBack(): void {
    this.takeUp();
    this.hold();
  }

  private takeUp(): void {
    const { links, got } = this;
    if (!links || !got) return;
    const first = this.gate?.firstWaiting;
    const isHeld = first && first.picture === got.picture && first.count <= got.count;
    links.taken(got.picture, isHeld ? first.count - 1 : got.count);
  }

  /** Handles a verdict. */
  private judged(id: ClientId, verdict: string | Refuse): void {
    if (this.isClosed) return;
    if (verdict instanceof Refuse) {
      this.gate!.keepOut(id);
      const { code, text } = verdict;
      void this.kick(id, isKick(code) ? code : 405, cut(text, MAX_TEXT_BYTES)).catch(() => undefined);
      return;
    }
    const told = this.gate!.letIn(id);
    if (!told) return;
    this.admit(id);
    this.setNote(id, verdict);
    this.pauseAs(id, false);
    const [{ event: joined, bytes, mark }, ...others] = told;
    this.give({ event: new Joined(id, joined.token, verdict, joined.again, joined.address, joined.sent), bytes, mark });
    for (const heard of others) this.give(heard);
  }

  /** Shows a client. */
  private admit(id: ClientId): void {
    const client = this.book.get(id);
    if (!client || client.isShown) return;
    client.isShown = true;
    if (this.links?.isReady && this.links.has(Feature.groups)) this.links.push(EVERYONE, Flag.groupAdd, client.tag);
  }

  private came(link: Link, bytes: Bytes): void {
    const { reader } = link;
    link.bytes += bytes.length;
    reader.push(bytes);
    for (;;) {
      const length = reader.nextLength();
      if (length === undefined) break;
      if (length > this.maxPacket + TAG_BYTES) {
        return this.lose(`a frame of ${length} bytes: the peer is no edge, or its max_frame_bytes is larger`);
      }
      const body = reader.next();
      if (!body) break;
      if (link.version !== 2) {
        try {
          if (link.version === 3 ? this.hearing.heard(body) : this.answered(link, body)) continue;
        } catch (error) {
          if (error instanceof LinkError) return this.lose(error.message);
          throw error;
        }
        if (this.link !== link) return;
      } else if (this.links && grantOf(body)) {
        // The edge counts what this end does not.
        return this.lose("the edge has granted version 3 too late");
      }
      if (!this.hearing.tagged(body)) {
        link.malformed += 1;
        if (!link.hasGood && link.malformed >= MAX_MALFORMED) return this.lose("the peer is no edge: its packets are malformed");
      } else link.hasGood = true;
    }
    this.hold();
  }

  // ---- a link of version 3

  /** Handles a frame before the version is known. Returns false if it is one of version 2. */
  private answered(link: Link, body: Bytes): boolean {
    const links = this.links!;
    const answer = links.hearAnswer(body);
    if (answer instanceof Uint8Array) link.transport.write(answer);
    else if (answer) this.opened(link, answer);
    else this.fallBack(link);
    return answer !== undefined;
  }

  private opened(link: Link, grant: Grant): void {
    const links = this.links!;
    const opened = links.open(grant);
    clearTimeout(this.asking);
    link.version = 3;
    if (opened === "afresh") this.hearing.allAreGone();
    if (opened !== "resumed") {
      // What waits has numbers behind those of the edge.
      for (const client of this.book.all()) client.waiting = 0;
      this.book.forgetStrangers();
      for (const { flag, id } of this.queue.frames()) if (flag === DATA) this.book.countEarly(id);
    }
    this.tell({ type: "edgeConnected", address: link.from });
    if (links.owns === 0) this.hearing.complete();
    this.flush();
  }

  /** Reads on or not, by what waits for the application. */
  private hold(): void {
    const { link, stream } = this;
    if (!link || this.successor) return;
    const most = link.isHeld ? 2 : 1;
    const isHeld = stream.length * most >= MAX_INBOX_EVENTS || stream.bytes * most >= MAX_INBOX_BYTES;
    if (isHeld !== link.isHeld) link.transport.hold!((link.isHeld = isHeld));
  }

  // ---- what goes

  private wakeRooms(): void {
    if (this.rooms.length === 0) return;
    this.rooms = this.rooms.filter(({ id, wake }) => {
      const client = this.book.get(id);
      if (client && !this.isClosed && !this.hasRoomOf(client)) return true;
      wake();
      return false;
    });
  }

  /**
   * Sends a packet to a client, to each member of a group, or to everyone, without the ids in `options.without`. It waits for room in the
   * link, never for one client. To a client that has ended it is no error: that was told, or is told next.
   */
  send(to: ClientId, data: Data): Promise<Sent>;
  send(to: Group | Everyone, data: Data, options?: { without?: Iterable<ClientId> }): Promise<void>;
  send(
    to: ClientId | Group | Everyone,
    data: Data,
    options?: { without?: Iterable<ClientId> },
  ): Promise<Sent | void> {
    const isNow = this.hasRoom;
    // What waits is a copy: what the application does with its buffer then is its own.
    const bytes = isNow ? viewOf(data) : bytesOf(data);
    if (bytes.length > this.maxPacket) return Promise.reject(new TooLong(bytes.length, this.maxPacket));
    if (typeof to === "symbol" || this.isGroup(to)) return this.sendAll(to, bytes, options?.without);
    return isNow ? Promise.resolve(this.sendOne(to, bytes)) : this.put(() => this.sendOne(to, bytes));
  }

  /** Sends a packet to a client if there is {@link room} for it. Returns undefined if there is none. Throws TooLong. */
  trySend(to: ClientId, data: Data): Sent | undefined {
    const bytes = viewOf(data);
    if (bytes.length > this.maxPacket) throw new TooLong(bytes.length, this.maxPacket);
    const client = this.book.get(to);
    return this.hasRoom && (!client || this.hasRoomOf(client)) ? this.sendOne(to, bytes) : undefined;
  }

  /**
   * Waits for room for a client: fewer than 8,192 packets to it are unsettled, and not too much waits for the link. A link of version 2 does
   * not tell what is settled. Rejects with SessionEnded.
   */
  async room(id: ClientId): Promise<void> {
    for (let client = this.book.get(id); ; client = this.book.get(id)) {
      const past = this.book.past(id);
      if (past) throw new SessionEnded(past.end);
      if (this.isClosed) throw new VoltlaneError("the backend is closed");
      if (client && !this.hasRoomOf(client)) await new Promise<void>((wake) => this.rooms.push({ id, wake }));
      else if (this.hasRoom) return;
      else await this.put(() => undefined);
    }
  }

  private hasRoomOf({ sent, settled }: Known): boolean {
    return this.links?.edge === undefined || sent - settled < MAX_UNSETTLED;
  }

  private get hasRoom(): boolean {
    return !this.isClosed && this.waiting.length === 0 && this.queue.bytes + (this.links?.outbox.bytes ?? 0) < MAX_QUEUE_BYTES;
  }

  private sendOne(to: ClientId, bytes: Bytes, flag: number = DATA, before: Bytes = EMPTY): Sent {
    const client = this.book.get(to);
    const { links } = this;
    if (links?.isReady) {
      // The edge has told of everybody whom it has.
      if (!client) return { id: to, session: 1, number: 0 };
      links.push(client.tag, flag, before, bytes);
      if (flag !== Flag.volatile) client.sent += 1;
      return { id: to, session: 1, number: client.sent };
    }
    this.enqueue(client?.tag ?? tagOf(to), DATA, bytes);
    if (this.links && this.link?.version !== 2) this.book.countEarly(to);
    if (!client) return { id: to, session: 1, number: 0 };
    return { id: to, session: 1, number: ++client.sent };
  }

  private sendAll(to: Group | Everyone, bytes: Bytes, without: Iterable<ClientId> = [], kind: "packet" | "volatile" | number = "packet"): Promise<void> {
    const left = new Set(without);
    if (left.size > MAX_LEFT_OUT) return Promise.reject(new TooLong(left.size, MAX_LEFT_OUT));
    const put = (): void => {
      const all = typeof to === "symbol" ? this.book.shown() : this.groups.known(to);
      const ones = all.filter(({ id }) => !left.has(id));
      const { links } = this;
      if (!links?.isReady || !links.has(Feature.groups)) {
        for (const { id } of ones) this.sendAs(id, bytes, kind);
        return;
      }
      if (ones.length === 0) return;
      const slot = typeof kind === "number" && links.has(Feature.classes) ? links.slot(typeof to === "symbol" ? "everyone" : to, kind) : undefined;
      const delivery = kind === "volatile" && links.has(Feature.classes) ? 2 : slot === undefined ? 0 : 1;
      const ids = [...left].map(tagOf);
      const group = typeof to === "symbol" ? EVERYONE : this.groups.tag(to);
      links.push(group, Flag.groupSend, concat(Uint8Array.of(delivery, slot ?? 0, ids.length), ...ids), bytes);
      if (delivery !== 2) for (const client of ones) client.sent += 1;
    };
    if (3 + ID_BYTES * left.size + bytes.length > this.maxPacket) {
      return Promise.reject(new TooLong(bytes.length, this.maxPacket - 3 - ID_BYTES * left.size));
    }
    return this.put<void>(put);
  }

  private sendAs(id: ClientId, bytes: Bytes, kind: "packet" | "volatile" | number): Sent {
    const { links } = this;
    if (kind === "packet" || !links?.isReady || !links.has(Feature.classes)) return this.sendOne(id, bytes);
    if (kind === "volatile") return this.sendOne(id, bytes, Flag.volatile);
    const slot = links.slot(id, kind);
    return slot === undefined ? this.sendOne(id, bytes) : this.sendOne(id, bytes, Flag.latest, Uint8Array.of(slot));
  }

  /**
   * Sends a packet in place of an older one that waits under the same key. Over a link of version 2 it is a packet like any other, and so it
   * is beyond 64 keys of all receivers.
   */
  sendLatest(to: ClientId, key: number, data: Data): Promise<Sent>;
  sendLatest(to: Group | Everyone, key: number, data: Data, options?: { without?: Iterable<ClientId> }): Promise<void>;
  sendLatest(to: ClientId | Group | Everyone, key: number, data: Data, options?: { without?: Iterable<ClientId> }): Promise<Sent | void> {
    const bytes = bytesOf(data);
    if (bytes.length >= this.maxPacket) return Promise.reject(new TooLong(bytes.length, this.maxPacket - 1));
    if (typeof to === "symbol" || this.isGroup(to)) return this.sendAll(to, bytes, options?.without, key);
    return this.put(() => this.sendAs(to, bytes, key));
  }

  /** Sends a packet now or not at all. It has no number. */
  sendVolatile(to: ClientId | Group | Everyone, data: Data, options?: { without?: Iterable<ClientId> }): void {
    const bytes = bytesOf(data);
    if (bytes.length > this.maxPacket) throw new TooLong(bytes.length, this.maxPacket);
    if (!this.hasRoom) return;
    if (typeof to === "symbol" || this.isGroup(to)) void this.sendAll(to, bytes, options?.without, "volatile");
    else this.sendAs(to, bytes, "volatile");
  }

  /**
   * Waits until a packet, and all before, are acknowledged: the client's application came back for more. Over a link of version 2: until
   * everything that was sent before this call is taken by the link. Rejects with SessionEnded if the session ends before.
   */
  acknowledged({ id, number }: Sent): Promise<void> {
    const client = this.book.get(id);
    if (this.links?.edge === undefined) return this.queue.taken();
    if (!client || number === 0) {
      const past = this.book.past(id);
      if (past && number > 0 && number <= past.settled) return Promise.resolve();
      return quietly(new SessionEnded(past?.end ?? { code: GONE, text: "", ledger: { up: counts(0, 0, 0), down: counts(0, 0, 0) } }));
    }
    if (client.settled >= number) return Promise.resolve();
    const waiting = new Promise<void>((settle, reject) => {
      const waits = (client.waits ??= []);
      let at = waits.length;
      while (at > 0 && waits[at - 1]!.number > number) at -= 1;
      waits.splice(at, 0, { number, settle, fail: (end) => reject(new SessionEnded(end)) });
    });
    waiting.catch(() => undefined);
    return waiting;
  }

  /**
   * Ends a session with a code (401, 405, or 500 to 699) and a text, which its client sees behind what was sent to it. `ended` follows. Over a
   * link of version 2 the client is told 401.
   */
  kick(id: ClientId, code = 401, text = ""): Promise<void> {
    if (!isKick(code)) return quietly(new ConfigError(`a kick with the code ${code}; it has 401, 405, or 500 to 699`));
    const length = utf8(text).length;
    if (length > MAX_TEXT_BYTES) return quietly(new TooLong(length, MAX_TEXT_BYTES));
    return this.put<void>(() => {
      const client = this.book.get(id);
      if (client) client.kick = { code, text };
      if (!this.links?.isReady) this.enqueue(client?.tag ?? tagOf(id), KICK, EMPTY);
      else if (client) this.pushKick(client);
    });
  }

  private pushKick({ tag, kick }: Known): void {
    const links = this.links!;
    if (kick && links.has(Feature.kick)) links.push(tag, Flag.kick, concat(u32(kick.code).subarray(0, 2), u32(0), utf8(kick.text)));
  }

  /** What is noted of a client, or nothing. */
  note(id: ClientId): string {
    return this.book.get(id)?.note ?? "";
  }

  /** Notes something of a client, in at most 64 bytes. A longer note is cut. The edge keeps it with the session, over a link of version 3. */
  setNote(id: ClientId, note: string): void {
    const client = this.book.get(id);
    if (!client) return;
    client.note = cut(note, MAX_NOTE_BYTES);
    client.isNoted = true;
    this.pushPolicy(client);
  }

  private pushPolicy({ tag, note }: Known): void {
    if (!this.links?.edge || !this.links.has(Feature.notices)) return;
    // Window and ring as configured.
    const policy = new Uint8Array(9);
    policy[8] = this.gaps ? 1 : 0;
    this.links.push(tag, Flag.policy, policy, utf8(note));
  }

  /** What is known of a client, if it is there, and was let in. */
  client(id: ClientId): ClientInfo | undefined {
    const client = this.book.get(id);
    if (!client?.isShown) return undefined;
    const { note, isAway, received, sent, settled } = client;
    return { id, note, isConnected: !isAway, ledger: { up: counts(received, received, 0), down: counts(sent, settled, sent - settled) } };
  }

  /** Reads no more packets of a client, until `unpause`. A link of version 2 reads on. */
  pause(id: ClientId): void {
    this.pauseAs(id, true);
  }

  unpause(id: ClientId): void {
    this.pauseAs(id, false);
  }

  private pauseAs(id: ClientId, pauses: boolean): void {
    const client = this.book.get(id);
    const { links } = this;
    if (!client || !links?.edge || !links.has(Feature.settled)) return;
    links.push(client.tag, pauses ? Flag.pause : Flag.goOn);
    client.paused = pauses ? links.picture : undefined;
  }

  /**
   * Asks a client, or everyone, to leave and to come back: it does so at a random time within `within` ms. One that is still there then is
   * closed, and so is one of version 2, which cannot be asked. Its session goes on, and nothing is lost. A link of version 2 cannot carry it.
   */
  askToLeave(who: ClientId | Everyone, within: number): void {
    if (!(within >= 0 && within <= 0xffff_ffff)) throw new ConfigError(`${within}: no time of 0 to 4,294,967,295 ms`);
    const { links } = this;
    const client = who === everyone ? undefined : this.book.get(who);
    if (!links?.edge || !links.has(Feature.goAway) || (who !== everyone && !client?.isTold)) return;
    const ms = u32(Math.floor(within));
    links.push(client?.tag ?? new Uint8Array(ID_BYTES), Flag.goAway, concat(u32(GOING_AWAY).subarray(0, 2), u32(0), ms, ms));
  }

  private put<T>(put: () => T): Promise<T> {
    if (this.isClosed) {
      const rejected = Promise.reject<T>(new VoltlaneError("the backend is closed"));
      rejected.catch(() => undefined);
      return rejected;
    }
    if (this.hasRoom) return Promise.resolve(put());
    if (this.waiting.length >= MAX_WAITING_SENDS) return Promise.reject(new NoRoom(`${MAX_WAITING_SENDS} calls of send wait`));
    const waiting = new Promise<T>((resolve, reject) => {
      this.waiting.push({ put: () => resolve(put()), reject });
    });
    waiting.catch(() => undefined);
    return waiting;
  }

  private enqueue(tag: Bytes, flag: number, data: Bytes): void {
    this.queue.put(tag, flag, data);
    this.flushSoon();
  }

  private flushSoon(): void {
    if (this.isFlushing || !this.link) return;
    this.isFlushing = true;
    // What is sent in one go leaves together.
    setImmediate(() => {
      this.isFlushing = false;
      this.flush();
    });
  }

  private flush(): void {
    const { link, links } = this;
    if (!link?.version) return;
    if (link.version === 3) {
      while (link.transport.pending() < WRITE_AHEAD) {
        const bytes = links!.outbox.take();
        if (!bytes) break;
        link.transport.write(bytes);
      }
    } else {
      this.queue.write(link.transport);
    }
    this.letSend();
  }

  private letSend(): void {
    while (this.waiting.length > 0 && this.queue.bytes + (this.links?.outbox.bytes ?? 0) < MAX_QUEUE_BYTES) this.waiting.shift()!.put();
    if (this.hasWritten) for (const wake of this.drained.splice(0)) wake();
  }

  /** Whether nothing waits for the link. */
  private get hasWritten(): boolean {
    if (!this.queue.isEmpty) return false;
    return !this.links || (this.links.outbox.isWritten && (this.link?.transport.pending() ?? 0) === 0);
  }

  // ---- groups, which are the library's own with a link of version 2

  /** A group of clients, by its name. */
  group(name: string): Group {
    return `group:${name}` as Group;
  }

  private isGroup(to: string): to is Group {
    return to.startsWith("group:");
  }

  /** Makes a client a member of a group. Who has ended has left. */
  add(group: Group, id: ClientId): Promise<void> {
    const client = this.book.get(id);
    const error = client && this.groups.add(group, client);
    return error ? quietly(error) : Promise.resolve();
  }

  private get hasGroups(): boolean {
    return this.links?.isReady === true && this.links.has(Feature.groups);
  }

  /** Ends that. */
  remove(group: Group, id: ClientId): Promise<void> {
    const client = this.book.get(id);
    if (client) this.groups.remove(group, client);
    return Promise.resolve();
  }

  /** The members of a group. */
  members(group: Group): ClientId[] {
    return this.groups.members(group);
  }

  // ---- ends

  /** Sends what waits, for 5 s at most, and ends. Events that have come can still be read. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    clearInterval(this.timer);
    this.server.close();
    this.takeUp();
    if (this.link && !this.hasWritten) {
      this.flush();
      await new Promise<void>((resolve) => {
        this.drained.push(resolve);
        setTimeout(resolve, CLOSE_MS).unref();
      });
    }
    for (const { reject } of this.waiting.splice(0)) reject(new VoltlaneError("the backend is closed"));
    this.wakeRooms();
    this.successor?.destroy();
    this.successor = undefined;
    this.lose("the backend was closed");
    this.links?.end();
    this.stream.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
