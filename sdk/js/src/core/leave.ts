// Why a connection ends, and what follows.

import { codeName } from "./v3/code.js";

/** Why a connection, or an attempt to make one, ended. */
export interface DropCause {
  readonly kind:
    | "connectFailed"
    | "connectTimeout"
    | "handshakeTimeout"
    | "closedByEdge"
    | "transport"
    | "violation"
    | "local"
    | "told"
    | "moved"
    | "silent"
    | "slow";
  /** The edge's code, of "told" and "moved". */
  readonly code?: number;
  /** Words for people. */
  readonly message: string;
}

const WORDS = {
  connectFailed: "could not connect",
  connectTimeout: "connecting took too long",
  handshakeTimeout: "the handshake took too long",
  closedByEdge: "the edge closed the connection",
  transport: "the connection broke",
  local: "dropped by this client",
  silent: "the edge is silent",
  slow: "the application does not take what comes",
} as const;

export function cause(kind: keyof typeof WORDS, words?: string): DropCause {
  return { kind, message: words ? `${WORDS[kind]}: ${words}` : WORDS[kind] };
}

export function violation(words: string): DropCause {
  return { kind: "violation", message: `protocol violation: ${words}` };
}

export function told(code: number): DropCause {
  return { kind: "told", code, message: `the edge says: ${codeName(code)}` };
}

export function moved(code: number): DropCause {
  return { kind: "moved", code, message: `left, as the edge asked: ${codeName(code)}` };
}

/** What follows the end of a connection. */
export type Ending =
  /** The client comes back after a pause: at least `wait` and up to `jitter` more, in ms. */
  | { readonly then: "pause"; readonly cause: DropCause; readonly wait?: number; readonly jitter?: number }
  /** It comes back at once; if `once`, only once until a connection was steady. */
  | { readonly then: "again"; readonly cause: DropCause; readonly once: boolean }
  /** The session has not begun. The client joins again. */
  | { readonly then: "join"; readonly code: number; readonly wait: number; readonly jitter: number }
  /** The session is over. Another one begins no earlier than `wait` and up to `jitter` more after it, in ms. */
  | {
      readonly then: "over";
      readonly code: number;
      readonly text: string;
      readonly keeps?: boolean;
      readonly wait?: number;
      readonly jitter?: number;
    };

/** Thrown where a connection has to end. */
export class Leave extends Error {
  constructor(readonly ending: Ending) {
    super("the connection ends");
  }
}

export function pause(why: DropCause, wait = 0, jitter = 0): Leave {
  return new Leave({ then: "pause", cause: why, wait, jitter });
}

export function over(code: number, words = ""): Leave {
  return new Leave({ then: "over", code, text: words });
}

/** Thrown where the edge broke the protocol in a record (SPEC 21.3(d)). */
export class Breach extends Error {
  constructor(
    words: string,
    /** The code that the client says. */
    readonly code = 403,
    readonly detail = 0n,
    /** Whether the edge itself sent it. A length can be anybody's. */
    readonly isProven = true,
  ) {
    super(words);
  }
}

/** What follows a code (SPEC 25.2(b)). */
export function byClass(code: number, wait: number, jitter: number, words: string): Leave {
  switch (Math.floor(code / 100)) {
    case 1:
      return new Leave({ then: "again", cause: moved(code), once: true });
    case 2:
      return pause(told(code), wait, jitter);
    default:
      return new Leave({ then: "over", code, text: words, wait, jitter });
  }
}

/** Bytes are not what a client has saved. */
export class SavedError extends Error {
  constructor(
    readonly because: "foreign" | "older" | "newer" | "torn" | "impossible",
    words: string,
  ) {
    super(words);
    this.name = "SavedError";
  }
}
