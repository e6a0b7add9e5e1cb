// What waits in a client, and how much of it may.

import type { Bytes } from "./core/bytes.js";
import type { Sent } from "./events.js";

/** Packets and other events that came and were not taken. Beyond, the client reads no more. */
export const MAX_INBOX_EVENTS = 16_384;
export const MAX_INBOX_BYTES = 67_108_864;
/** Calls of `send` that wait for room. */
export const MAX_WAITING_SENDS = 65_536;
/** Ended sessions of which `acknowledged` knows. */
export const PAST_SESSIONS = 8;

/** Waits for an acknowledgement. */
export interface Waiter {
  readonly session: number;
  readonly number: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Waits until so many states are stored. */
export interface StateWaiter {
  readonly count: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Waits for room. */
export interface WaitingSend {
  readonly data: Bytes;
  readonly resolve: (sent: Sent) => void;
  readonly reject: (error: Error) => void;
}
