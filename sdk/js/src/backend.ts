// The backend of an edge, over the link of version 2 (SPEC 7).

import * as net from "node:net";
import * as tls from "node:tls";

import { bytesOf } from "./data.js";
import { type Bytes, EMPTY, readU32, text, u64 } from "./core/bytes.js";
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
/** Frames that are given to the link at once: the most bytes, but for a longer packet, and the least that are set aside. */
const BATCH_BYTES = 65_536;
const LEAST_BATCH_BYTES = 1_024;

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
  readonly id: ClientId;
  readonly tag: Bytes;
  /** The upper half of the id. */
  readonly high: number;
  received: number;
  sent: number;
  groups: Set<Group> | undefined;
}

/** Whole frames, one behind the other, in `bytes` from `start` to `length`. */
interface Batch {
  readonly bytes: Bytes;
  start: number;
  length: number;
  readonly ends: number[];
  isWritten: boolean;
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
  /** The same by the lower half of their ids: a number is found faster than a text is made. */
  private readonly byLow = new Map<number, Known[]>();
  private readonly groups = new Map<Group, Set<ClientId>>();
  /** What is sent and not taken by the link. The first batch may be with the transport. */
  private readonly batches: Batch[] = [];
  private queueBytes = 0;
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
    for (const batch of this.batches) batch.isWritten = false;
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
    const flag = body[ID_BYTES];
    switch (flag) {
      case DATA: {
        const client = this.know(body);
        client.received += 1;
        // A copy, so that a small packet does not keep all that was read with it.
        const data = body.slice(TAG_BYTES);
        this.stream.push(new ClientPacket(client.id, data, client.received), data.length);
        return true;
      }
      case RESUMED:
        if (body.length > TAG_BYTES) return false;
        this.stream.push({ type: "resumed", id: this.know(body).id });
        return true;
      case FAILURE: {
        const id = idOf(body);
        const reason = text(body.subarray(TAG_BYTES));
        // "unknown client" may follow another end (SPEC 7.4(c)).
        if (this.forget(id)) this.stream.push({ type: "ended", id, reason });
        return true;
      }
      default:
        return false;
    }
  }

  private know(body: Bytes): Known {
    const [low, high] = [readU32(body, 0), readU32(body, 4)];
    const ones = this.byLow.get(low);
    if (ones) for (const one of ones) if (one.high === high) return one;
    const id = idOf(body);
    const client: Known = { id, tag: body.slice(0, ID_BYTES), high, received: 0, sent: 0, groups: undefined };
    if (ones) ones.push(client);
    else this.byLow.set(low, [client]);
    this.known.set(id, client);
    this.stream.push({ type: "joined", id });
    return client;
  }

  private forget(id: ClientId): boolean {
    const client = this.known.get(id);
    if (!client) return false;
    for (const group of client.groups ?? []) this.leave(group, id);
    const low = readU32(client.tag, 0);
    const others = this.byLow.get(low)!.filter((one) => one !== client);
    if (others.length > 0) this.byLow.set(low, others);
    else this.byLow.delete(low);
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
    const isNow = this.hasRoom;
    // What waits is a copy: what the application does with its buffer then is its own.
    const bytes = isNow ? viewOf(data) : bytesOf(data);
    if (bytes.length > this.maxPacket) return Promise.reject(new TooLong(bytes.length, this.maxPacket));
    if (typeof to === "symbol" || this.isGroup(to)) return this.sendAll(to, bytes, options?.without);
    return isNow ? Promise.resolve(this.sendOne(to, bytes)) : this.put(() => this.sendOne(to, bytes));
  }

  /** Sends a packet to a client if there is room. Returns undefined if there is none. Throws TooLong. */
  trySend(to: ClientId, data: Data): Sent | undefined {
    const bytes = viewOf(data);
    if (bytes.length > this.maxPacket) throw new TooLong(bytes.length, this.maxPacket);
    return this.hasRoom ? this.sendOne(to, bytes) : undefined;
  }

  private get hasRoom(): boolean {
    return !this.isClosed && this.waiting.length === 0 && this.queueBytes < MAX_QUEUE_BYTES;
  }

  private sendOne(to: ClientId, bytes: Bytes): Sent {
    const client = this.known.get(to);
    this.enqueue(client?.tag ?? tagOf(to), DATA, bytes);
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
        this.enqueue(client.tag, DATA, bytes);
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
    return this.put<void>(() => this.enqueue(tag, KICK, EMPTY));
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
    const length = LENGTH_BYTES + TAG_BYTES + data.length;
    let last = this.batches[this.batches.length - 1];
    if (!last || last.isWritten || last.bytes.length - last.length < length) {
      const size = Math.max(length, Math.min(BATCH_BYTES, Math.max(2 * (last?.length ?? 0), LEAST_BATCH_BYTES)));
      last = { bytes: new Uint8Array(size), start: 0, length: 0, ends: [], isWritten: false };
      this.batches.push(last);
    }
    const { bytes } = last;
    let at = last.length;
    const count = TAG_BYTES + data.length;
    bytes[at++] = count;
    bytes[at++] = count >>> 8;
    bytes[at++] = count >>> 16;
    bytes[at++] = count >>> 24;
    for (let part = 0; part < ID_BYTES; part++) bytes[at++] = tag[part]!;
    bytes[at++] = flag;
    bytes.set(data, at);
    last.length += length;
    last.ends.push(last.length);
    this.queueBytes += length;
    if (this.isFlushing || !this.link) return;
    this.isFlushing = true;
    // What is sent in one go leaves together.
    setImmediate(() => {
      this.isFlushing = false;
      this.flush();
    });
  }

  /** Drops what the link has taken of the first batch: whole frames. One that was taken in part goes again whole (SPEC 7.8(f)). */
  private takeWritten(link: Link): void {
    const [batch] = this.batches;
    if (!batch?.isWritten) return;
    const taken = batch.length - link.transport.pending();
    if (taken === batch.length) {
      this.queueBytes -= batch.length - batch.start;
      this.batches.shift();
      return;
    }
    let count = 0;
    while (batch.ends[count]! <= taken) count += 1;
    if (count === 0) return;
    const start = batch.ends[count - 1]!;
    batch.ends.splice(0, count);
    this.queueBytes -= start - batch.start;
    batch.start = start;
  }

  private flush(): void {
    const { link } = this;
    if (!link) return;
    this.takeWritten(link);
    // While the transport holds a part of a write, nobody can tell how much: the next one waits.
    for (let [batch] = this.batches; batch && !batch.isWritten; [batch] = this.batches) {
      batch.isWritten = true;
      link.transport.write(batch.bytes.subarray(batch.start, batch.length));
      this.takeWritten(link);
    }
    this.admit();
  }

  private admit(): void {
    while (this.waiting.length > 0 && this.queueBytes < MAX_QUEUE_BYTES) this.waiting.shift()!.put();
    if (this.batches.length === 0) for (const wake of this.drained.splice(0)) wake();
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
    if (this.link && this.batches.length > 0) {
      this.flush();
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

/** The bytes themselves, which are copied at once. */
function viewOf(data: Data): Bytes {
  return data instanceof Uint8Array ? data : bytesOf(data);
}
