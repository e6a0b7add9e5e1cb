// The clients that a backend knows, and how the last ones have ended.

import { type Bytes, readU32 } from "./core/bytes.js";
import type { Group } from "./backend-events.js";
import type { ClientId, End } from "./events.js";
import { ID_BYTES, idOf } from "./tagged.js";

/** Ended sessions of which `acknowledged` knows. */
export const MAX_ENDED = 8_192;

/** What is known of a client. */
export interface Known {
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

/** How a session ended, and up to which number everything to it was settled. */
export interface Past {
  readonly settled: number;
  readonly end: End;
}

export class Book {
  private readonly byId = new Map<ClientId, Known>();
  /** The same by the lower half of their ids: a number is found faster than a text is made. */
  private readonly byLow = new Map<number, Known[]>();
  /** Packets that wait for the picture, for sessions of which nobody has told yet. */
  private readonly strangers = new Map<ClientId, number>();
  private readonly ended = new Map<ClientId, Past>();

  get(id: ClientId): Known | undefined {
    return this.byId.get(id);
  }

  all(): Known[] {
    return [...this.byId.values()];
  }

  /** Those whom the application has let in. */
  shown(): Known[] {
    return this.all().filter((client) => client.isShown);
  }

  /** The client whose id is at the begin of a frame's body. */
  find(body: Bytes): Known | undefined {
    const [low, high] = [readU32(body, 0), readU32(body, 4)];
    const ones = this.byLow.get(low);
    if (ones) for (const one of ones) if (one.high === high) return one;
    return undefined;
  }

  enter(body: Bytes): Known {
    const [low, high] = [readU32(body, 0), readU32(body, 4)];
    const id = idOf(body);
    // What was sent to it before it was told of has numbers behind those of the edge.
    const early = this.strangers.get(id) ?? 0;
    this.strangers.delete(id);
    this.ended.delete(id);
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
    this.byId.set(id, client);
    return client;
  }

  forget({ id, tag }: Known): void {
    const low = readU32(tag, 0);
    const others = this.byLow.get(low)!.filter((one) => one.id !== id);
    if (others.length > 0) this.byLow.set(low, others);
    else this.byLow.delete(low);
    this.byId.delete(id);
  }

  /** Counts a packet that waits for the picture, also one to a session that the edge has not told of yet. */
  countEarly(id: ClientId): void {
    const client = this.byId.get(id);
    if (client) client.waiting += 1;
    else this.strangers.set(id, (this.strangers.get(id) ?? 0) + 1);
  }

  forgetStrangers(): void {
    this.strangers.clear();
  }

  /** How a session ended, if it is one of the last ones that did. */
  past(id: ClientId): Past | undefined {
    return this.ended.get(id);
  }

  remember({ id, settled }: Known, end: End): void {
    this.ended.set(id, { settled, end });
    if (this.ended.size > MAX_ENDED) this.ended.delete(this.ended.keys().next().value!);
  }
}
