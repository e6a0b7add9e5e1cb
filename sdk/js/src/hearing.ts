// What the frames of an edge say: who is there, what came, and who has ended.

import { type Bytes, EMPTY, concat, readU16, readU32, strictText, text } from "./core/bytes.js";
import { codeName } from "./core/v3/code.js";
import { type BackendEvent, ClientPacket, Joined } from "./backend-events.js";
import type { Book, Known } from "./book.js";
import type { ClientId, End } from "./events.js";
import type { Groups } from "./groups.js";
import { Feature, Flag, type Links, number64 } from "./link.js";
import type { FrameQueue } from "./queue.js";
import {
  DATA,
  ELSEWHERE,
  ENDED_BYTES,
  EVERYONE,
  FAILURE,
  GONE,
  ID_BYTES,
  JOINED_BYTES,
  OWN_BYTES,
  RESUMED,
  RESUMED_BYTES,
  TAG_BYTES,
  addressOf,
  codeOf,
  counts,
  countsOf,
  idOf,
  settledBy,
} from "./tagged.js";

/** Ids in one frame. */
const MAX_IDS = 131_072;

/** What a backend does about it. */
export interface Hears {
  readonly tell: (event: BackendEvent, bytes?: number) => void;
  readonly admit: (id: ClientId) => void;
  readonly pushPolicy: (client: Known) => void;
  readonly pushKick: (client: Known) => void;
  readonly letSend: () => void;
  readonly wakeRooms: () => void;
}

export class Hearing {
  constructor(
    private readonly backend: Hears,
    private readonly book: Book,
    private readonly groups: Groups,
    private readonly queue: FrameQueue,
    private readonly links: Links | undefined,
    private readonly maxPacket: number,
    /** Whether packets are given up where there is no room. */
    private readonly gaps: boolean,
    /** Whether somebody verifies clients. */
    private readonly verifies: boolean,
  ) {}

  private get hasGroups(): boolean {
    return this.links?.isReady === true && this.links.has(Feature.groups);
  }

  allAreGone(): void {
    for (const client of this.book.all()) this.gone(client, "the edge began again");
  }

  private gone(client: Known, why: string): void {
    this.over(client.id, GONE, why, undefined);
  }

  /** The picture is complete. */
  complete(): void {
    const links = this.links!;
    links.owns = undefined;
    for (const client of this.book.all()) if (client.picture < links.picture) this.gone(client, "the edge has it no longer");
    const waiting = [...this.queue.frames()];
    // Whom the picture lacks, the edge does not have.
    this.book.forgetStrangers();
    this.queue.clear();
    // Groups end with the boot, and so do keys.
    if (links.has(Feature.groups)) {
      this.addAll(EVERYONE, this.book.shown());
      for (const [group, members] of this.groups.all()) this.addAll(group, members);
    }
    // So do pauses (SPEC 36.4).
    for (const client of this.book.all()) {
      if (client.paused === undefined || client.paused >= links.picture || !links.has(Feature.settled)) continue;
      client.paused = links.picture;
      links.push(client.tag, Flag.pause);
    }
    for (const { id, flag, data } of waiting) {
      const client = this.book.get(id);
      if (!client) continue;
      if (flag === DATA) links.push(client.tag, Flag.data, EMPTY, data);
      else if (client.kick) this.backend.pushKick(client);
    }
    this.backend.tell({ type: "caughtUp" });
    this.backend.letSend();
  }

  private addAll(group: Bytes, members: Known[]): void {
    const most = Math.max(1, Math.min(MAX_IDS, Math.floor(this.maxPacket / ID_BYTES)));
    for (let at = 0; at < members.length; at += most) {
      this.links!.push(group, Flag.groupAdd, concat(...members.slice(at, at + most).map(({ tag }) => tag)));
    }
  }

  /** Handles a frame. */
  heard(body: Bytes): true {
    const links = this.links!;
    links.count(body);
    const before = links.picture;
    const flag = body.length < TAG_BYTES ? -1 : body[ID_BYTES]!;
    const data = body.subarray(TAG_BYTES);
    if (flag === Flag.linkAck) {
      links.hearAck(data);
      this.backend.letSend();
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
        const client = this.book.find(data.subarray(at));
        if (client) this.settle(client, number64(data, at + 8));
      }
      this.backend.wakeRooms();
      return false;
    }
    const client = this.book.find(body);
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
        this.backend.tell(new ClientPacket(id, packet, number), packet.length);
        return true;
      }
      case Flag.away:
        if (data.length !== 6) return false;
        client.isAway = true;
        this.backend.tell({ type: "away", id, expiresIn: readU32(data, 2) });
        return true;
      case Flag.resumed:
        if (data.length !== RESUMED_BYTES) return false;
        client.isAway = false;
        this.backend.tell({ type: "resumed", id, away: number64(data, 8), missed: number64(data, 16) });
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
        this.backend.tell({ type: "gap", id, direction, first, count, bytes: number64(data, 17), reason: data[25]! });
        return true;
      }
      case Flag.token:
        this.backend.tell({ type: "token", id, token: data.slice() }, data.length);
        return true;
      default:
        // The edge refused a frame, or it is a later one.
        return false;
    }
  }

  private hearJoined(body: Bytes, data: Bytes): boolean {
    const client = this.book.find(body) ?? this.book.enter(body);
    client.picture = this.links!.picture;
    if (client.isTold) return false;
    client.isTold = true;
    if (client.nextUp === 0) client.nextUp = 1;
    // A client of version 2 cannot be told of a gap.
    if (this.gaps && data[0]! > 2) this.backend.pushPolicy(client);
    const token = data.slice(JOINED_BYTES);
    this.join(client, new Joined(client.id, token, "", false, addressOf(data), client.sent - client.waiting), token.length);
    return true;
  }

  private join(client: Known, joined: Joined, bytes = 0): void {
    if (!this.verifies) this.backend.admit(client.id);
    this.backend.tell(joined, bytes);
  }

  private hearOwn(body: Bytes, data: Bytes): boolean {
    const links = this.links!;
    if (links.owns !== undefined && links.owns > 0) links.owns -= 1;
    const note = strictText(data.subarray(OWN_BYTES));
    const client = this.book.find(body) ?? this.book.enter(body);
    client.picture = links.picture;
    // What this process numbered and the edge does not have is lost: the edge's numbers count.
    client.nextUp = number64(data, 8);
    const numbered = number64(data, 16);
    client.sent = numbered + client.waiting;
    client.settled = 0;
    this.settle(client, Math.min(number64(data, 24), numbered));
    client.isAway = (data[32]! & 0x7f) === 1;
    if (note !== undefined && !client.isNoted) client.note = note;
    if (this.gaps || client.note !== (note ?? "")) this.backend.pushPolicy(client);
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

  // ---- a link of version 2

  tagged(body: Bytes): boolean {
    if (body.length < TAG_BYTES) return false;
    const flag = body[ID_BYTES];
    switch (flag) {
      case DATA: {
        const client = this.know(body);
        client.received += 1;
        // A copy, so that a small packet does not keep all that was read with it.
        const data = body.slice(TAG_BYTES);
        this.backend.tell(new ClientPacket(client.id, data, client.received), data.length);
        return true;
      }
      case RESUMED:
        if (body.length > TAG_BYTES) return false;
        this.backend.tell({ type: "resumed", id: this.know(body).id, away: 0, missed: 0 });
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

  private know(body: Bytes): Known {
    const found = this.book.find(body);
    if (found?.isTold) return found;
    const client = found ?? this.book.enter(body);
    client.isTold = true;
    this.join(client, new Joined(client.id, EMPTY, "", body[ID_BYTES] === RESUMED, undefined));
    return client;
  }

  /** A session is over. One of which nothing is known is passed over. */
  private over(id: ClientId, code: number, words: string, ledger: End["ledger"] | undefined): void {
    const client = this.book.get(id);
    if (!client) return;
    // The edge has it in its groups until it is told (SPEC 45.6(b)). It knows itself who has ended.
    if (code === ELSEWHERE && this.hasGroups) for (const group of this.groups.tagsOf(client)) this.links!.push(group, Flag.groupRemove, client.tag);
    this.groups.forget(client);
    this.book.forget(client);
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
    this.book.remember(client, end);
    this.backend.wakeRooms();
    this.backend.tell({ type: "ended", id, reason: ledger && words === "" ? codeName(code) : words, end });
  }
}
