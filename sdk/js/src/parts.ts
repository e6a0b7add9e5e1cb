/**
 * What a page can be without: {@link version2} and {@link savedSessions} for the `connect` of voltlane/small.
 * @module
 */
import { Session2 } from "./core/handshake.js";
import type { Parts } from "./core/machine.js";
import { decodeSaved, encodeSaved } from "./core/saved.js";

export { tabStore } from "./store.js";

/** A part of a client. */
export interface Part {
  readonly __voltlane: "Part";
}

/** Version 2 of the protocol, for edges that have no other. */
export const version2 = { two: Session2 } satisfies Parts as unknown as Part;

/** Sessions that outlive their client: the options `sessionStore`, `session` and `ack`, and the calls `export` and `suspend`. */
export const savedSessions = { saved: { encode: encodeSaved, decode: decodeSaved } } satisfies Parts as unknown as Part;

/** Puts parts together. @internal */
export function partsOf(parts: readonly Part[]): Parts {
  return Object.assign({}, ...parts) as Parts;
}

/** All of them. @internal */
export const ALL: readonly Part[] = [version2, savedSessions];
