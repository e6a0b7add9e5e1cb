// The backend of an edge, over the links of version 2 (SPEC 7) and 3 (SPEC 33 to 38).

import * as net from "node:net";
import * as tls from "node:tls";

import {
  type BackendEvent,
  type BackendOptions,
  type ClientInfo,
  ClientPacket,
  type Everyone,
  type Group,
  Joined,
  everyone,
} from "./backend-events.js";
import { bytesOf, quietly } from "./data.js";
import { type Bytes, EMPTY, concat, readU16, readU32, strictText, text, u32, u64, utf8 } from "./core/bytes.js";
import { codeName } from "./core/v3/code.js";
import { FrameReader, LENGTH_BYTES } from "./core/wire.js";
import { type ClientId, ConfigError, type Data, type End, NoRoom, SessionEnded, type Sent, TooLong, VoltlaneError } from "./events.js";
import { Gate, type HeldEvent, type Mark, Refuse } from "./gate.js";
import { ASK_MS, Feature, Flag, GRANT_MS, type Grant, LinkError, Links, grantOf, number64 } from "./link.js";
import { Stream } from "./stream.js";
import {
  DATA,
  ELSEWHERE,
  ENDED_BYTES,
  EVERYONE,
  FAILURE,
  GOING_AWAY,
  GONE,
  ID_BYTES,
  JOINED_BYTES,
  KICK,
  OWN_BYTES,
  RESUMED,
  RESUMED_BYTES,
  TAG_BYTES,
  addressOf,
  codeOf,
  counts,
  countsOf,
  cut,
  idOf,
  isKick,
  settledBy,
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
/** Groups that have members, and groups of a client, beside that of everyone. */
const MAX_GROUPS = 65_535;
const MAX_GROUPS_OF_CLIENT = 63;
/** Ids in one frame. */
const MAX_IDS = 131_072;
/** The longest note, and text of a kick, in bytes of UTF-8. */
const MAX_NOTE_BYTES = 64;
const MAX_TEXT_BYTES = 256;
/** Packets to one client that are not settled. Beyond, it has no room. */
const MAX_UNSETTLED = 8_192;
/** Ended sessions of which `acknowledged` knows. */
export const MAX_ENDED = 8_192;
/** Frames that are given to the link at once: the most bytes, but for a longer packet, and the least that are set aside. */
const BATCH_BYTES = 65_536;
const LEAST_BATCH_BYTES = 1_024;

interface Known {
  readonly id: ClientId;
  readonly tag: Bytes;
  /** The upper half of the id. */
  readonly high: number;
  received: number;
  sent: number;
  groups: Set<Group> | undefined;
  /** The number of the packet that the edge sends next. (Version 3) */
  nextUp: number;
  /** The number up to which everything sent is settled. (Version 3) */
  settled: number;
  /** The picture in which the edge was told not to read it, as long as that holds. */
  paused: number | undefined;
  /** Packets of `sent` that wait for the picture of the edge. */
  waiting: number;
  /** The picture in which it was last. */
  picture: number;
  note: string;
  /** Whether this process has noted that. Then no note of the edge is newer (SPEC 36.6(d)). */
  isNoted: boolean;
  /** Whether it has no connection, as far as the edge tells. */
  isAway: boolean;
  kick: { readonly code: number; readonly text: string } | undefined;
  /** Who waits for `settled`: a number, and what to call. */
  waits: { readonly number: number; readonly settle: () => void; readonly fail: (end: End) => void }[] | undefined;
  /** Whether the application has let it in. */
  isShown: boolean;
  /** Whether the application was told of it, or will be. */
  isTold: boolean;
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
  private readonly known = new Map<ClientId, Known>();
  /** The same by the lower half of their ids: a number is found faster than a text is made. */
  private readonly byLow = new Map<number, Known[]>();
  /** How sessions ended, the last ones, and up to which number everything to them was settled. */
  private readonly past = new Map<ClientId, { readonly settled: number; readonly end: End }>();
  /** Who waits for room. */
  private rooms: { readonly id: ClientId; readonly wake: () => void }[] = [];
  private readonly gaps: boolean;
  private readonly groups = new Map<Group, Set<ClientId>>();
  /** The ids of groups on the link. */
  private readonly groupTags = new Map<Group, Bytes>();
  /** Packets that wait for the picture, for sessions of which nobody has told yet. */
  private readonly strangers = new Map<ClientId, number>();
  private lastGroup = 0n;
  private readonly links: Links | undefined;
  private asking: ReturnType<typeof setTimeout> | undefined;
  private readonly gate: Gate | undefined;
  /** The frame of the last event that the application has got. */
  private got: Mark | undefined;
  /** Frames of version 2 that were put into the queue, and those that links have taken. */
  private queuedFrames = 0;
  private takenFrames = 0;
  private takers: { readonly frame: number; readonly taken: () => void }[] = [];
  /** What is sent and not taken by the link. The first batch may be with the transport. */
  private readonly batches: Batch[] = [];
  private queueBytes = 0;
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
        (this.find(tag) ?? this.enter(tag)).received = number;
      }
    }
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
    return this.shown().map(({ id }) => id);
  }

  private shown(): Known[] {
    return [...this.known.values()].filter((client) => client.isShown);
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
      this.allAreGone();
    }
    this.strangers.clear();
    this.tell({ type: "edgeConnected", address: link.from });
    this.flush();
  }

  private lose(reason: string): void {
    const { link } = this;
    if (!link) return;
    clearTimeout(this.asking);
    if (link.version === 2) this.takeWritten(link);
    this.link = undefined;
    link.transport.close();
    for (const batch of this.batches) batch.isWritten = false;
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
    const client = this.known.get(id);
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
          if (link.version === 3 ? this.heard(body) : this.answered(link, body)) continue;
        } catch (error) {
          if (error instanceof LinkError) return this.lose(error.message);
          throw error;
        }
        if (this.link !== link) return;
      } else if (this.links && grantOf(body)) {
        // The edge counts what this end does not.
        return this.lose("the edge has granted version 3 too late");
      }
      if (!this.tagged(body)) {
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
    if (opened === "afresh") this.allAreGone();
    if (opened !== "resumed") {
      // What waits has numbers behind those of the edge.
      for (const client of this.known.values()) client.waiting = 0;
      this.strangers.clear();
      for (const { flag, id } of this.early()) if (flag === DATA) this.countEarly(id);
    }
    this.tell({ type: "edgeConnected", address: link.from });
    if (links.owns === 0) this.complete();
    this.flush();
  }

  /** Counts a packet that waits for the picture, also one to a session that the edge has not told of yet. */
  private countEarly(id: ClientId): void {
    const client = this.known.get(id);
    if (client) client.waiting += 1;
    else this.strangers.set(id, (this.strangers.get(id) ?? 0) + 1);
  }

  private allAreGone(): void {
    for (const client of [...this.known.values()]) this.gone(client, "the edge began again");
  }

  private gone(client: Known, why: string): void {
    this.over(client.id, GONE, why, undefined);
  }

  /** The frames that wait for a picture, or for a link of version 2. */
  private *early(): Generator<{ id: ClientId; flag: number; data: Bytes }> {
    for (const { bytes, start, ends } of this.batches) {
      let at = start;
      for (const end of ends) {
        const body = bytes.subarray(at + LENGTH_BYTES, end);
        yield { id: idOf(body), flag: body[ID_BYTES]!, data: body.subarray(TAG_BYTES) };
        at = end;
      }
    }
  }

  /** The picture is complete. */
  private complete(): void {
    const links = this.links!;
    links.owns = undefined;
    for (const client of [...this.known.values()]) if (client.picture < links.picture) this.gone(client, "the edge has it no longer");
    const waiting = [...this.early()];
    // Whom the picture lacks, the edge does not have.
    this.strangers.clear();
    this.takenFrames = this.queuedFrames;
    this.batches.length = this.queueBytes = 0;
    // Groups end with the boot, and so do keys.
    if (links.has(Feature.groups)) {
      this.addAll(EVERYONE, this.shown());
      for (const [group, members] of this.groups) this.addAll(this.groupTags.get(group)!, [...members].map((id) => this.known.get(id)!));
    }
    // So do pauses (SPEC 36.4).
    for (const client of this.known.values()) {
      if (client.paused === undefined || client.paused >= links.picture || !links.has(Feature.settled)) continue;
      client.paused = links.picture;
      links.push(client.tag, Flag.pause);
    }
    for (const { id, flag, data } of waiting) {
      const client = this.known.get(id);
      if (!client) continue;
      if (flag === DATA) links.push(client.tag, Flag.data, EMPTY, data);
      else if (client.kick) this.pushKick(client);
    }
    this.tell({ type: "caughtUp" });
    this.letSend();
  }

  private addAll(group: Bytes, members: Known[]): void {
    const most = Math.max(1, Math.min(MAX_IDS, Math.floor(this.maxPacket / ID_BYTES)));
    for (let at = 0; at < members.length; at += most) {
      this.links!.push(group, Flag.groupAdd, concat(...members.slice(at, at + most).map(({ tag }) => tag)));
    }
  }

  /** Handles a frame. */
  private heard(body: Bytes): true {
    const links = this.links!;
    links.count(body);
    const before = links.picture;
    const flag = body.length < TAG_BYTES ? -1 : body[ID_BYTES]!;
    const data = body.subarray(TAG_BYTES);
    if (flag === Flag.linkAck) {
      links.hearAck(data);
      this.letSend();
      return true;
    }
    const isGiven = flag >= 0 && this.noticed(flag, body, data);
    if (before === links.picture) links.note(isGiven);
    if (links.owns === 0) this.complete();
    return true;
  }

  /** Returns whether the application is given something. A malformed frame is passed over. */
  private noticed(flag: number, body: Bytes, data: Bytes): boolean {
    if (flag === Flag.joined) return data.length >= JOINED_BYTES && this.hearJoined(body, data);
    if (flag === Flag.own) return data.length >= OWN_BYTES && this.hearOwn(body, data);
    if (flag === Flag.settled) {
      if (data.length % 16 !== 0) return false;
      for (let at = 0; at < data.length; at += 16) {
        const client = this.find(data.subarray(at));
        if (client) this.settle(client, number64(data, at + 8));
      }
      this.wakeRooms();
      return false;
    }
    const client = this.find(body);
    if (!client) return false;
    const { id } = client;
    switch (flag) {
      case Flag.data: {
        const number = client.nextUp;
        client.nextUp += 1;
        // It came before this picture.
        if (number <= client.received) return false;
        client.received = number;
        const packet = data.slice();
        this.tell(new ClientPacket(id, packet, number), packet.length);
        return true;
      }
      case Flag.away:
        if (data.length !== 6) return false;
        client.isAway = true;
        this.tell({ type: "away", id, expiresIn: readU32(data, 2) });
        return true;
      case Flag.resumed:
        if (data.length !== RESUMED_BYTES) return false;
        client.isAway = false;
        this.tell({ type: "resumed", id, away: number64(data, 8), missed: number64(data, 16) });
        return true;
      case Flag.ended: {
        if (data.length < ENDED_BYTES) return false;
        const words = strictText(data.subarray(ENDED_BYTES));
        if (words === undefined) return false;
        this.over(id, readU16(data, 0), words, { up: countsOf(data, 2), down: countsOf(data, 58) });
        return true;
      }
      case Flag.gap: {
        if (data.length !== 26 || data[0]! > 1) return false;
        const [direction, first, count] = [data[0] === 0 ? ("up" as const) : ("down" as const), number64(data, 1), number64(data, 9)];
        if (direction === "up") client.nextUp = Math.max(client.nextUp, first + count);
        this.tell({ type: "gap", id, direction, first, count, bytes: number64(data, 17), reason: data[25]! });
        return true;
      }
      case Flag.token:
        this.tell({ type: "token", id, token: data.slice() }, data.length);
        return true;
      default:
        // The edge refused a frame, or it is a later one.
        return false;
    }
  }

  private hearJoined(body: Bytes, data: Bytes): boolean {
    const client = this.find(body) ?? this.enter(body);
    client.picture = this.links!.picture;
    if (client.isTold) return false;
    client.isTold = true;
    if (client.nextUp === 0) client.nextUp = 1;
    // A client of version 2 cannot be told of a gap.
    if (this.gaps && data[0]! > 2) this.pushPolicy(client);
    const token = data.slice(JOINED_BYTES);
    this.join(client, new Joined(client.id, token, "", false, addressOf(data), client.sent - client.waiting), token.length);
    return true;
  }

  private join(client: Known, joined: Joined, bytes = 0): void {
    if (!this.gate) this.admit(client.id);
    this.tell(joined, bytes);
  }

  private hearOwn(body: Bytes, data: Bytes): boolean {
    const links = this.links!;
    if (links.owns !== undefined && links.owns > 0) links.owns -= 1;
    const note = strictText(data.subarray(OWN_BYTES));
    const client = this.find(body) ?? this.enter(body);
    client.picture = links.picture;
    // What this process numbered and the edge does not have is lost: the edge's numbers count.
    client.nextUp = number64(data, 8);
    const numbered = number64(data, 16);
    client.sent = numbered + client.waiting;
    client.settled = 0;
    this.settle(client, Math.min(number64(data, 24), numbered));
    client.isAway = (data[32]! & 0x7f) === 1;
    if (note !== undefined && !client.isNoted) client.note = note;
    if (this.gaps || client.note !== (note ?? "")) this.pushPolicy(client);
    if (client.isTold) return false;
    client.received = Math.max(client.received, client.nextUp - 1);
    // JOINED follows.
    if ((data[32]! & 0x80) !== 0) return false;
    client.isTold = true;
    this.join(client, new Joined(client.id, EMPTY, note ?? "", true, undefined, numbered));
    return true;
  }

  private settle(client: Known, number: number): void {
    client.settled = Math.max(client.settled, Math.min(number, client.sent));
    const { waits } = client;
    if (!waits) return;
    while (waits.length > 0 && waits[0]!.number <= client.settled) waits.shift()!.settle();
    if (waits.length === 0) client.waits = undefined;
  }

  private wakeRooms(): void {
    if (this.rooms.length === 0) return;
    this.rooms = this.rooms.filter(({ id, wake }) => {
      const client = this.known.get(id);
      if (client && !this.isClosed && !this.hasRoomOf(client)) return true;
      wake();
      return false;
    });
  }

  // ---- a link of version 2

  private tagged(body: Bytes): boolean {
    if (body.length < TAG_BYTES) return false;
    const flag = body[ID_BYTES];
    switch (flag) {
      case DATA: {
        const client = this.know(body);
        client.received += 1;
        // A copy, so that a small packet does not keep all that was read with it.
        const data = body.slice(TAG_BYTES);
        this.tell(new ClientPacket(client.id, data, client.received), data.length);
        return true;
      }
      case RESUMED:
        if (body.length > TAG_BYTES) return false;
        this.tell({ type: "resumed", id: this.know(body).id, away: 0, missed: 0 });
        return true;
      case FAILURE: {
        const reason = text(body.subarray(TAG_BYTES));
        // "unknown client" may follow another end (SPEC 7.4(c)).
        this.over(idOf(body), codeOf(reason), reason, undefined);
        return true;
      }
      default:
        return false;
    }
  }

  private find(body: Bytes): Known | undefined {
    const [low, high] = [readU32(body, 0), readU32(body, 4)];
    const ones = this.byLow.get(low);
    if (ones) for (const one of ones) if (one.high === high) return one;
    return undefined;
  }

  private enter(body: Bytes): Known {
    const [low, high] = [readU32(body, 0), readU32(body, 4)];
    const id = idOf(body);
    // What was sent to it before it was told of has numbers behind those of the edge.
    const early = this.strangers.get(id) ?? 0;
    this.strangers.delete(id);
    this.past.delete(id);
    const client: Known = {
      id,
      tag: body.slice(0, ID_BYTES),
      high,
      received: 0,
      sent: early,
      groups: undefined,
      nextUp: 0,
      settled: 0,
      paused: undefined,
      waiting: early,
      picture: 0,
      note: "",
      isNoted: false,
      isAway: false,
      kick: undefined,
      waits: undefined,
      isTold: false,
      isShown: false,
    };
    const ones = this.byLow.get(low);
    if (ones) ones.push(client);
    else this.byLow.set(low, [client]);
    this.known.set(id, client);
    return client;
  }

  private know(body: Bytes): Known {
    const found = this.find(body);
    if (found?.isTold) return found;
    const client = found ?? this.enter(body);
    client.isTold = true;
    this.join(client, new Joined(client.id, EMPTY, "", body[ID_BYTES] === RESUMED, undefined));
    return client;
  }

  /** A session is over. One of which nothing is known is passed over. */
  private over(id: ClientId, code: number, words: string, ledger: End["ledger"] | undefined): void {
    const client = this.known.get(id);
    if (!client) return;
    if (code === ELSEWHERE) this.leaveAll(client);
    this.forget(client);
    const { kick } = client;
    // The edge has no words of its own for a kick, and in version 2 no code of it.
    const isKick = kick && (ledger ? kick.code === code && words === "" : code === 401);
    const end: End = {
      code: isKick ? kick.code : code,
      text: isKick ? kick.text : words,
      ledger: ledger ?? { up: counts(client.received, client.received, 0), down: counts(client.sent, 0, client.sent) },
    };
    // What was settled since the last SETTLED (SPEC 36.3(e)).
    if (ledger) this.settle(client, settledBy(ledger.down));
    for (const { fail } of client.waits ?? []) fail(end);
    this.past.set(id, { settled: client.settled, end });
    if (this.past.size > MAX_ENDED) this.past.delete(this.past.keys().next().value!);
    this.wakeRooms();
    this.tell({ type: "ended", id, reason: ledger && words === "" ? codeName(code) : words, end });
  }

  private forget(client: Known): void {
    const { id } = client;
    for (const group of client.groups ?? []) this.leave(group, id, false);
    const low = readU32(client.tag, 0);
    const others = this.byLow.get(low)!.filter((one) => one !== client);
    if (others.length > 0) this.byLow.set(low, others);
    else this.byLow.delete(low);
    this.known.delete(id);
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

  /** Sends a packet to a client if there is {@link room} for it. Returns undefined if there is none. Throws TooLong. */
  trySend(to: ClientId, data: Data): Sent | undefined {
    const bytes = viewOf(data);
    if (bytes.length > this.maxPacket) throw new TooLong(bytes.length, this.maxPacket);
    const client = this.known.get(to);
    return this.hasRoom && (!client || this.hasRoomOf(client)) ? this.sendOne(to, bytes) : undefined;
  }

  /**
   * Waits for room for a client: fewer than 8,192 packets to it are unsettled, and not too much waits for the link. A link of version 2 does
   * not tell what is settled. Rejects with SessionEnded.
   */
  async room(id: ClientId): Promise<void> {
    for (let client = this.known.get(id); ; client = this.known.get(id)) {
      const past = this.past.get(id);
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
    return !this.isClosed && this.waiting.length === 0 && this.queueBytes + (this.links?.outbox.bytes ?? 0) < MAX_QUEUE_BYTES;
  }

  private sendOne(to: ClientId, bytes: Bytes, flag: number = DATA, before: Bytes = EMPTY): Sent {
    const client = this.known.get(to);
    const { links } = this;
    if (links?.isReady) {
      // The edge has told of everybody whom it has.
      if (!client) return { id: to, session: 1, number: 0 };
      links.push(client.tag, flag, before, bytes);
      if (flag !== Flag.volatile) client.sent += 1;
      return { id: to, session: 1, number: client.sent };
    }
    this.enqueue(client?.tag ?? tagOf(to), DATA, bytes);
    if (this.links && this.link?.version !== 2) this.countEarly(to);
    if (!client) return { id: to, session: 1, number: 0 };
    return { id: to, session: 1, number: ++client.sent };
  }

  private sendAll(to: Group | Everyone, bytes: Bytes, without: Iterable<ClientId> = [], kind: "packet" | "volatile" | number = "packet"): Promise<void> {
    const left = new Set(without);
    if (left.size > MAX_LEFT_OUT) return Promise.reject(new TooLong(left.size, MAX_LEFT_OUT));
    const put = (): void => {
      const all = typeof to === "symbol" ? this.shown() : this.members(to).map((id) => this.known.get(id)!);
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
      const group = typeof to === "symbol" ? EVERYONE : this.groupTags.get(to)!;
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
    const client = this.known.get(id);
    if (this.links?.edge === undefined) {
      const frame = this.queuedFrames;
      if (this.takenFrames >= frame) return Promise.resolve();
      return new Promise((taken) => this.takers.push({ frame, taken }));
    }
    if (!client || number === 0) {
      const past = this.past.get(id);
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
      const client = this.known.get(id);
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
    return this.known.get(id)?.note ?? "";
  }

  /** Notes something of a client, in at most 64 bytes. A longer note is cut. The edge keeps it with the session, over a link of version 3. */
  setNote(id: ClientId, note: string): void {
    const client = this.known.get(id);
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
    const client = this.known.get(id);
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
    const client = this.known.get(id);
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
    const client = who === everyone ? undefined : this.known.get(who);
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
    this.queuedFrames += 1;
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

  /** Drops what the link has taken of the first batch: whole frames. One that was taken in part goes again whole (SPEC 7.8(f)). */
  private takeWritten(link: Link): void {
    const [batch] = this.batches;
    if (!batch?.isWritten) return;
    const taken = batch.length - link.transport.pending();
    if (taken === batch.length) {
      this.queueBytes -= batch.length - batch.start;
      this.batches.shift();
      this.took(batch.ends.length);
      return;
    }
    let count = 0;
    while (batch.ends[count]! <= taken) count += 1;
    if (count === 0) return;
    this.took(count);
    const start = batch.ends[count - 1]!;
    batch.ends.splice(0, count);
    this.queueBytes -= start - batch.start;
    batch.start = start;
  }

  private took(frames: number): void {
    this.takenFrames += frames;
    while (this.takers.length > 0 && this.takers[0]!.frame <= this.takenFrames) this.takers.shift()!.taken();
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
      this.takeWritten(link);
      // While the transport holds a part of a write, nobody can tell how much: the next one waits.
      for (let [batch] = this.batches; batch && !batch.isWritten; [batch] = this.batches) {
        batch.isWritten = true;
        link.transport.write(batch.bytes.subarray(batch.start, batch.length));
        this.takeWritten(link);
      }
    }
    this.letSend();
  }

  private letSend(): void {
    while (this.waiting.length > 0 && this.queueBytes + (this.links?.outbox.bytes ?? 0) < MAX_QUEUE_BYTES) this.waiting.shift()!.put();
    if (this.hasWritten) for (const wake of this.drained.splice(0)) wake();
  }

  /** Whether nothing waits for the link. */
  private get hasWritten(): boolean {
    if (this.batches.length > 0) return false;
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
    const client = this.known.get(id);
    if (!client || client.groups?.has(group)) return Promise.resolve();
    const groups = (client.groups ??= new Set());
    if (groups.size >= MAX_GROUPS_OF_CLIENT) return quietly(new NoRoom(`the client is in ${MAX_GROUPS_OF_CLIENT} groups, and no more are allowed`));
    if (this.groups.size >= MAX_GROUPS && !this.groups.has(group)) {
      return quietly(new NoRoom(`${MAX_GROUPS} groups have members, and no more are allowed`));
    }
    groups.add(group);
    const members = this.groups.get(group) ?? new Set();
    this.groups.set(group, members.add(id));
    if (!this.groupTags.has(group)) this.groupTags.set(group, u64((this.lastGroup += 1n)));
    if (this.hasGroups) this.links!.push(this.groupTags.get(group)!, Flag.groupAdd, client.tag);
    return Promise.resolve();
  }

  private get hasGroups(): boolean {
    return this.links?.isReady === true && this.links.has(Feature.groups);
  }

  /** Ends that. */
  remove(group: Group, id: ClientId): Promise<void> {
    if (this.known.get(id)?.groups?.delete(group)) this.leave(group, id, true);
    return Promise.resolve();
  }

  /** A client goes to another backend: takes it out of its groups. The edge has it there until it is told (SPEC 45.6(b)). */
  private leaveAll({ groups, isShown, tag }: Known): void {
    if (!this.hasGroups) return;
    const tags = [...(groups ?? [])].map((group) => this.groupTags.get(group)!);
    if (isShown) tags.push(EVERYONE);
    for (const group of tags) this.links!.push(group, Flag.groupRemove, tag);
  }

  /** `isTold`: whether the edge hears of it. It knows itself who has ended, and was told who goes to another backend (`leaveAll`). */
  private leave(group: Group, id: ClientId, isTold: boolean): void {
    const members = this.groups.get(group);
    const tag = this.groupTags.get(group);
    members?.delete(id);
    if (isTold && this.hasGroups) this.links!.push(tag!, Flag.groupRemove, this.known.get(id)!.tag);
    if (members?.size !== 0) return;
    this.groups.delete(group);
    this.groupTags.delete(group);
    if (isTold && this.hasGroups) this.links!.push(tag!, Flag.groupEnd);
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
