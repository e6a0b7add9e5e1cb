// The backend of an edge, over the link of version 2 (SPEC 7).

import * as net from "node:net";
import * as tls from "node:tls";

import { bytesOf } from "./client.js";
import { type Bytes, concat, text, u32, u64 } from "./core/bytes.js";
import { FrameReader, LENGTH_BYTES } from "./core/wire.js";
import { type ClientId, ConfigError, type Data, NoRoom, Packet, type Sent, TooLong, VoltlaneError } from "./events.js";
import { Stream } from "./stream.js";
import { type Transport, hostAndPort, parseAddress } from "./transport.js";
import { onSocket } from "./transport/node.js";

const ID_BYTES = 8;
/** The id and the flag of a tagged packet. */
const TAG_BYTES = ID_BYTES + 1;
const DATA = 0;
const FAILURE = 1;
const KICK = 2;
const RESUMED = 3;
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
/** Frames that are given to the link at once. */
const WRITE_BYTES = 65_536;
/** A packet behind so many bytes is copied no more: it is written by itself. */
const LARGE_BYTES = 16_384;

/** What can be said of a backend. */
export interface BackendOptions {
  /** How often there is a tick, in ms. Default: never. */
  tick?: number;
  /** Ends the backend. */
  signal?: AbortSignal;
  /** With a certificate of its own and, to keep strangers out, the authority of the edge's (SPEC 16.6). */
  tls?: Pick<tls.TlsOptions, "cert" | "key" | "ca" | "requestCert">;
  /** The longest packet to a client and from one, in bytes. Default: 8 MiB, as max_frame_bytes of the edge. */
  maxPacket?: number;
}

/** A name to send to instead of an id. */
export type Group = string & { readonly __voltlane: "Group" };

/** All clients that the backend has heard of and that have not ended. */
export const everyone = Symbol("everyone");
export type Everyone = typeof everyone;

/** A packet of a client. */
export class ClientPacket extends Packet {
  constructor(
    readonly id: ClientId,
    data: Uint8Array,
    number: number,
  ) {
    super(data, number);
  }
}

/** What happens to a backend, in order. The link of version 2 tells neither who is away nor a token. */
export type BackendEvent =
  | { readonly type: "edgeConnected"; readonly address: string }
  /** The edge is gone. Its clients are not: they stay, and so does what is sent to them. */
  | { readonly type: "edgeLost"; readonly reason: string }
  /** A client's first sign: it comes right before its first packet, or its return. */
  | { readonly type: "joined"; readonly id: ClientId }
  | ClientPacket
  /** The client is back on another connection. */
  | { readonly type: "resumed"; readonly id: ClientId }
  | { readonly type: "tick"; readonly late: number }
  /** The session is over. The id is not used again. */
  | { readonly type: "ended"; readonly id: ClientId; readonly reason: string };

interface Known {
  readonly tag: Bytes;
  received: number;
  sent: number;
  groups: Set<Group> | undefined;
}

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
  private readonly known = new Map<ClientId, Known>();
  private readonly groups = new Map<Group, Set<ClientId>>();
  /** Frames for the link, from `first` on. */
  private queue: Bytes[] = [];
  private first = 0;
  private queueBytes = 0;
  /** The frames of the last write, and its bytes: they are taken when the link says so. */
  private written = 0;
  private writtenBytes = 0;
  private waiting: Waiting[] = [];
  private isFlushing = false;
  private isClosed = false;
  private readonly maxPacket: number;
  private timer: ReturnType<typeof setInterval> | undefined;
  private drained: (() => void)[] = [];

  /** See {@link listen}. @internal */
  constructor(
    private readonly server: net.Server,
    event: "connection" | "secureConnection",
    options: BackendOptions,
  ) {
    this.maxPacket = options.maxPacket ?? 8_388_608;
    this.stream = new Stream<BackendEvent>(() => this.hold());
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
    return [...this.known.keys()];
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
    const link: Link = { transport, reader: new FrameReader(), bytes: 0, hasGood: false, malformed: 0, isHeld: false };
    this.link = link;
    this.stream.push({ type: "edgeConnected", address: from });
    this.flush();
    this.hold();
  }

  private lose(reason: string): void {
    const { link } = this;
    if (!link) return;
    this.takeWritten(link);
    this.link = undefined;
    link.transport.close();
    // A packet that was taken in part goes again whole, on the next link (SPEC 7.8(f)).
    this.written = this.writtenBytes = 0;
    this.stream.push({ type: "edgeLost", reason });
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
      if (!this.tagged(body)) {
        link.malformed += 1;
        if (!link.hasGood && link.malformed >= MAX_MALFORMED) return this.lose("the peer is no edge: its packets are malformed");
      } else link.hasGood = true;
    }
    this.hold();
  }

  private tagged(body: Bytes): boolean {
    if (body.length < TAG_BYTES) return false;
    const id = idOf(body);
    const flag = body[ID_BYTES];
    switch (flag) {
      case DATA: {
        const client = this.know(id, body);
        client.received += 1;
        // A copy, so that a small packet does not keep all that was read with it.
        const data = body.slice(TAG_BYTES);
        this.stream.push(new ClientPacket(id, data, client.received), data.length);
        return true;
      }
      case RESUMED:
        if (body.length > TAG_BYTES) return false;
        this.know(id, body);
        this.stream.push({ type: "resumed", id });
        return true;
      case FAILURE: {
        const reason = text(body.subarray(TAG_BYTES));
        // "unknown client" may follow another end (SPEC 7.4(c)).
        if (this.forget(id)) this.stream.push({ type: "ended", id, reason });
        return true;
      }
      default:
        return false;
    }
  }

  private know(id: ClientId, body: Bytes): Known {
    let client = this.known.get(id);
    if (!client) {
      client = { tag: body.slice(0, ID_BYTES), received: 0, sent: 0, groups: undefined };
      this.known.set(id, client);
      this.stream.push({ type: "joined", id });
    }
    return client;
  }

  private forget(id: ClientId): boolean {
    for (const group of this.known.get(id)?.groups ?? []) this.leave(group, id);
    return this.known.delete(id);
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
    const bytes = bytesOf(data);
    if (bytes.length > this.maxPacket) return Promise.reject(new TooLong(bytes.length, this.maxPacket));
    if (typeof to === "symbol" || this.isGroup(to)) return this.sendAll(to, bytes, options?.without);
    return this.put<Sent>(() => {
      const client = this.known.get(to);
      this.enqueue(frame(client?.tag ?? tagOf(to), DATA, bytes));
      return { id: to, session: 1, number: client ? ++client.sent : 0 };
    });
  }

  /** Sends a packet to a client if there is room. Returns undefined if there is none. Throws TooLong. */
  trySend(to: ClientId, data: Data): Sent | undefined {
    const bytes = bytesOf(data);
    if (bytes.length > this.maxPacket) throw new TooLong(bytes.length, this.maxPacket);
    if (this.isClosed || this.waiting.length > 0 || this.queueBytes >= MAX_QUEUE_BYTES) return undefined;
    const client = this.known.get(to);
    this.enqueue(frame(client?.tag ?? tagOf(to), DATA, bytes));
    return { id: to, session: 1, number: client ? ++client.sent : 0 };
  }

  private sendAll(to: Group | Everyone, bytes: Bytes, without: Iterable<ClientId> = []): Promise<void> {
    const left = new Set(without);
    const ids = typeof to === "symbol" ? [...this.known.keys()] : this.members(to);
    return this.put<void>(() => {
      for (const id of ids) {
        const client = this.known.get(id);
        if (!client || left.has(id)) continue;
        client.sent += 1;
        this.enqueue(frame(client.tag, DATA, bytes));
      }
    });
  }

  /**
   * Ends a session. The client is told 401, behind what was sent to it.
   *
   * The link of version 2 carries neither a code nor a text.
   */
  kick(id: ClientId): Promise<void> {
    const tag = this.known.get(id)?.tag ?? tagOf(id);
    return this.put<void>(() => this.enqueue(frame(tag, KICK, new Uint8Array(0))));
  }

  private put<T>(put: () => T): Promise<T> {
    if (this.isClosed) {
      const rejected = Promise.reject<T>(new VoltlaneError("the backend is closed"));
      rejected.catch(() => undefined);
      return rejected;
    }
    if (this.waiting.length === 0 && this.queueBytes < MAX_QUEUE_BYTES) return Promise.resolve(put());
    if (this.waiting.length >= MAX_WAITING_SENDS) return Promise.reject(new NoRoom(`${MAX_WAITING_SENDS} calls of send wait`));
    const waiting = new Promise<T>((resolve, reject) => {
      this.waiting.push({ put: () => resolve(put()), reject });
    });
    waiting.catch(() => undefined);
    return waiting;
  }

  private enqueue(bytes: Bytes): void {
    this.queue.push(bytes);
    this.queueBytes += bytes.length;
    if (this.isFlushing || !this.link) return;
    this.isFlushing = true;
    // What is sent in one go leaves together.
    queueMicrotask(() => {
      this.isFlushing = false;
      this.flush();
    });
  }

  /** Drops the frames of which the link took the last byte. */
  private takeWritten(link: Link): void {
    const taken = this.writtenBytes - link.transport.pending();
    let bytes = 0;
    let count = 0;
    while (count < this.written && bytes + this.queue[this.first + count]!.length <= taken) {
      bytes += this.queue[this.first + count]!.length;
      count += 1;
    }
    this.queue.fill(undefined as unknown as Bytes, this.first, this.first + count);
    this.first += count;
    this.queueBytes -= bytes;
    this.written -= count;
    this.writtenBytes -= bytes;
    if (this.first > 4_096 || this.first === this.queue.length) {
      this.queue = this.queue.slice(this.first);
      this.first = 0;
    }
  }

  private flush(): void {
    const { link } = this;
    if (!link) return;
    this.takeWritten(link);
    // While the transport holds a part of a write, nobody can tell how much: the next one waits.
    while (this.written === 0 && this.queue.length > this.first) {
      let bytes = 0;
      let at = this.first;
      while (at < this.queue.length && (bytes === 0 || bytes + this.queue[at]!.length <= WRITE_BYTES)) {
        bytes += this.queue[at++]!.length;
        if (bytes >= WRITE_BYTES - LARGE_BYTES) break;
      }
      const frames = at === this.first + 1 ? this.queue[this.first]! : concat(...this.queue.slice(this.first, at));
      this.written = at - this.first;
      this.writtenBytes = bytes;
      link.transport.write(frames);
      this.takeWritten(link);
    }
    this.admit();
  }

  private admit(): void {
    while (this.waiting.length > 0 && this.queueBytes < MAX_QUEUE_BYTES) this.waiting.shift()!.put();
    if (this.queue.length === this.first) for (const wake of this.drained.splice(0)) wake();
  }

  // ---- groups, which are the library's own with this link

  /** A group of clients, by its name. */
  group(name: string): Group {
    return `group:${name}` as Group;
  }

  private isGroup(to: string): to is Group {
    return to.startsWith("group:");
  }

  /** Makes a client a member of a group. Who has ended has left. */
  add(group: Group, id: ClientId): Promise<void> {
    const client = this.known.get(id);
    if (client) {
      (client.groups ??= new Set()).add(group);
      const members = this.groups.get(group) ?? new Set();
      this.groups.set(group, members.add(id));
    }
    return Promise.resolve();
  }

  /** Ends that. */
  remove(group: Group, id: ClientId): Promise<void> {
    this.known.get(id)?.groups?.delete(group);
    this.leave(group, id);
    return Promise.resolve();
  }

  private leave(group: Group, id: ClientId): void {
    const members = this.groups.get(group);
    members?.delete(id);
    if (members?.size === 0) this.groups.delete(group);
  }

  /** The members of a group. */
  members(group: Group): ClientId[] {
    return [...(this.groups.get(group) ?? [])];
  }

  // ---- ends

  /** Sends what waits, for 5 s at most, and ends. Events that have come can still be read. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    clearInterval(this.timer);
    this.server.close();
    if (this.link && this.queue.length > this.first) {
      await new Promise<void>((resolve) => {
        this.drained.push(resolve);
        setTimeout(resolve, CLOSE_MS).unref();
      });
    }
    for (const { reject } of this.waiting.splice(0)) reject(new VoltlaneError("the backend is closed"));
    this.successor?.destroy();
    this.successor = undefined;
    this.lose("the backend was closed");
    this.stream.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const CLOSE_MS = 5_000;
const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function idOf(body: Bytes): ClientId {
  let digits = "";
  for (let at = ID_BYTES - 1; at >= 0; at--) digits += DIGITS[body[at]!];
  return digits as ClientId;
}

function tagOf(id: ClientId): Bytes {
  if (!/^[0-9a-f]{16}$/.test(id)) throw new ConfigError(`${id}: no id of a client`);
  return u64(BigInt(`0x${id}`));
}

function frame(tag: Bytes, flag: number, data: Bytes): Bytes {
  const bytes = new Uint8Array(LENGTH_BYTES + TAG_BYTES + data.length);
  bytes.set(u32(TAG_BYTES + data.length));
  bytes.set(tag, LENGTH_BYTES);
  bytes[LENGTH_BYTES + ID_BYTES] = flag;
  bytes.set(data, LENGTH_BYTES + TAG_BYTES);
  return bytes;
}
