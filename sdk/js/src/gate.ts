// Clients of which the application hears nothing before somebody has verified them.

import type { BackendEvent, Joined } from "./backend-events.js";
import { type ClientId, VoltlaneError } from "./events.js";

/** Clients that are verified at a time. Further ones wait for their turn. */
const MAX_VERIFYING = 64;
/** Events, and bytes of them, that wait for the verdict on one client. One that sends more before is refused. */
const MAX_HELD = 1_024;
const MAX_HELD_BYTES = 1_048_576;
/** Bytes that wait for verdicts on all clients. A client whose packet exceeds it is refused. */
const MAX_HELD_BYTES_OF_ALL = 67_108_864;
/** What an event counts beside its packet. */
const EVENT_BYTES = 64;

/** Thrown by `verify`: the client is kept out with a code (401, 405, or 500 to 699) and a text, which it sees. */
export class Refuse extends VoltlaneError {
  override name = "Refuse";

  constructor(
    readonly code = 405,
    readonly text = "",
  ) {
    super(`${code}: ${text}`);
  }
}

/** Looks at a client that joins. Returns its note, perhaps nothing. */
export type Verify = (joined: Joined) => string | void | Promise<string | void>;

/** The place of a frame among those that came. */
export interface Mark {
  readonly picture: number;
  readonly count: number;
}

export interface HeldEvent {
  readonly event: BackendEvent;
  readonly bytes: number;
  readonly mark: Mark | undefined;
}

interface Held {
  readonly joined: HeldEvent & { readonly event: Joined };
  readonly events: HeldEvent[];
  bytes: number;
  weight: number;
}

export class Gate {
  private readonly held = new Map<ClientId, Held>();
  private readonly refused = new Set<ClientId>();
  private readonly asks = new Set<ClientId>();
  private verifying = 0;
  private bytes = 0;

  /** `judged` is told each verdict: a note, or why the client is kept out. */
  constructor(
    private readonly verify: Verify,
    private readonly judged: (id: ClientId, verdict: string | Refuse) => void,
  ) {}

  /** Whether the application hears of an event now. */
  passes(heard: HeldEvent): boolean {
    const { event } = heard;
    if (!("id" in event)) return true;
    const { id } = event;
    // What an earlier life of the backend has noted was its verdict.
    if (event.type === "joined" && event.note === "") {
      this.held.set(id, { joined: heard as Held["joined"], events: [], bytes: 0, weight: 0 });
      this.asks.add(id);
      this.begin();
      return false;
    }
    const ends = event.type === "ended";
    if (this.refused.has(id)) {
      if (ends) this.refused.delete(id);
      return false;
    }
    const held = this.held.get(id);
    if (!held) return true;
    held.bytes += heard.bytes;
    const weight = heard.bytes + EVENT_BYTES;
    if (ends) this.drop(id);
    else if (held.events.length >= MAX_HELD || held.bytes > MAX_HELD_BYTES || this.bytes + weight > MAX_HELD_BYTES_OF_ALL) {
      this.keepOut(id);
      this.judged(id, new Refuse(405, "too much before the token was verified"));
    } else {
      held.events.push(heard);
      held.weight += weight;
      this.bytes += weight;
    }
    return false;
  }

  private begin(): void {
    for (const id of this.asks) {
      if (this.verifying >= MAX_VERIFYING) return;
      this.asks.delete(id);
      this.verifying += 1;
      void this.judge(id, this.held.get(id)!);
    }
  }

  private async judge(id: ClientId, held: Held): Promise<void> {
    let verdict: string | Refuse;
    try {
      // What the check does comes behind what was heard in the same read.
      await undefined;
      verdict = (await this.verify(held.joined.event)) ?? "";
    } catch (error) {
      // Nobody is let in for want of a verdict.
      verdict = error instanceof Refuse ? error : new Refuse();
      if (!(error instanceof Refuse)) {
        setTimeout(() => {
          throw error;
        });
      }
    }
    this.verifying -= 1;
    if (this.held.get(id) === held) this.judged(id, verdict);
    this.begin();
  }

  /** Lets a client in. Returns what the application hears of it now. */
  letIn(id: ClientId): [Held["joined"], ...HeldEvent[]] | undefined {
    const held = this.drop(id);
    return held && [held.joined, ...held.events];
  }

  /** Nothing is heard of a client any more. */
  keepOut(id: ClientId): void {
    if (this.drop(id)) this.refused.add(id);
  }

  private drop(id: ClientId): Held | undefined {
    const held = this.held.get(id);
    if (!held) return undefined;
    this.held.delete(id);
    this.asks.delete(id);
    this.bytes -= held.weight;
    return held;
  }

  /** The first frame of which something waits here. */
  get firstWaiting(): Mark | undefined {
    for (const { joined } of this.held.values()) if (joined.mark) return joined.mark;
    return undefined;
  }
}
