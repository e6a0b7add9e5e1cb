// What a client and a backend tell their application.

import { text } from "./core/bytes.js";
import type { DropCause } from "./core/leave.js";
import { codeName } from "./core/v3/code.js";

/** Bytes, or text that goes as UTF-8. */
export type Data = Uint8Array | ArrayBuffer | string;

/** The id of a client: 16 hexadecimal digits. It is never used for another one, and two ids can be compared with `===`. */
export type ClientId = string & { readonly __voltlane: "ClientId" };

export function clientId(id: bigint): ClientId {
  return id.toString(16).padStart(16, "0") as ClientId;
}

/** A packet that was sent, as a value to ask with: see {@link Client.acknowledged}. */
export interface Sent {
  readonly id: ClientId;
  /** The session among those of this client, from 1. */
  readonly session: number;
  /** The place of the packet among those of its session in its direction, from 1. */
  readonly number: number;
}

/** What became of the packets of one direction, in counts (SPEC 24.7). */
export interface Counts {
  readonly numbered: number;
  readonly acknowledged: number;
  readonly superseded: number;
  readonly gapped: number;
  /** Sent, and not acknowledged: they may have arrived. */
  readonly inDoubt: number;
  /** Never sent. */
  readonly lost: number;
  /** Volatile packets that were not sent. */
  readonly skipped: number;
}

/** How a session ended. */
export interface End {
  /** Its hundreds say what to do: 0 goodbye; 3xx and 5xx join afresh; 4xx and 6xx stop. */
  readonly code: number;
  /** Words for people, perhaps none. */
  readonly text: string;
  /** What became of the packets to the edge and from it. */
  readonly ledger: { readonly up: Counts; readonly down: Counts };
}

/** A packet that came. */
export class Packet {
  readonly type = "packet";

  constructor(
    readonly data: Uint8Array,
    /** Its place among the packets of its session in its direction, from 1. A volatile packet has none, which is 0. */
    readonly number: number,
  ) {}

  /** The bytes as UTF-8. */
  get text(): string {
    return text(this.data);
  }
}

/** What happens to a client, in order. */
export type ClientEvent =
  /** A session began. The edge and the backend know this client by `id`. */
  | { readonly type: "connected"; readonly id: ClientId }
  | Packet
  /** A connection, or an attempt to make one, ended. It is no error: the client comes back by itself, in `retryIn` ms. */
  | { readonly type: "dropped"; readonly cause: DropCause; readonly retryIn: number }
  /** The client is back, as the same client. Version 2 tells neither how many packets come now nor how long it was away, in ms. */
  | { readonly type: "resumed"; readonly missed: number; readonly away: number }
  /** Everything that was missed has come. Version 2 does not tell it. */
  | { readonly type: "caughtUp" }
  /** Packets that will not come: `count` from the number `first` on. */
  | {
      readonly type: "gap";
      readonly first: number;
      readonly count: number;
      readonly bytes: number;
      readonly reason: number;
    }
  /** Volatile packets that were not sent before the next one. */
  | { readonly type: "skipped"; readonly count: number }
  /** The time of the option `tick` has passed. `late`: how much more, in ms. Ticks that nobody waited for are left out. */
  | { readonly type: "tick"; readonly late: number }
  /** The session is over. It is the last event, unless the options say that another one begins. */
  | { readonly type: "ended"; readonly end: End };

/** The base of all errors of this library. */
export class VoltlaneError extends Error {
  override name = "VoltlaneError";
}

/** A packet is longer than its receiver takes. */
export class TooLong extends VoltlaneError {
  override name = "TooLong";

  constructor(
    readonly length: number,
    readonly max: number,
  ) {
    super(`packet of ${length} bytes, ${max} allowed (max_frame_bytes in the edge's configuration)`);
  }
}

/** Too much waits to be sent. */
export class NoRoom extends VoltlaneError {
  override name = "NoRoom";
}

/** The session is over, or a goodbye was said. */
export class SessionEnded extends VoltlaneError {
  override name = "SessionEnded";

  constructor(readonly end: End) {
    super(`the session is over: ${codeName(end.code)}${end.text ? `: ${end.text}` : ""}`);
  }
}

/** No session began. */
export class ConnectError extends VoltlaneError {
  override name = "ConnectError";

  constructor(
    message: string,
    /** Why the last attempt ended, if there was one. */
    override readonly cause?: DropCause,
    /** How the session ended, if the edge did not want it. */
    readonly end?: End,
  ) {
    super(message);
  }
}

/** An option, or an address, cannot be. */
export class ConfigError extends VoltlaneError {
  override name = "ConfigError";
}

/** Another process, or another client, has the session. */
export class SessionInUse extends VoltlaneError {
  override name = "SessionInUse";

  constructor(
    readonly path: string,
    readonly pid: number,
  ) {
    super(`${path}: the process ${pid} has this session`);
  }
}
