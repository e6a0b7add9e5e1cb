// Sessions that are kept over a reload of the page or a restart of the process.

import { type Bytes, EMPTY, concat, readU32, u32 } from "./core/bytes.js";

/**
 * A place for a session: a tab, a file, a keychain, a table. Whoever can read it can be this client.
 *
 * `load` gives what `store` was given last. A client loads once, and stores at its start, before each attempt to come back, when a session
 * has begun or goes on, at most once a second as it changes, and at its end.
 */
export interface SessionStore {
  load(): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  store(bytes: Uint8Array): void | Promise<void>;
  /** The client is over, and stores no more. */
  release?(): void;
}

/** The most bytes of an application's own state. */
export const MAX_STATE_BYTES = 65_536;

const FORMAT = 0x56;

/** What is stored: the application's state, and the session if there is one. */
export function pack(state: Bytes, session: Bytes | undefined): Bytes {
  return concat(Uint8Array.of(FORMAT), u32(state.length), state, session ?? EMPTY);
}

/** Returns undefined for bytes that `pack` did not write. */
export function unpack(bytes: Bytes): { state: Bytes; session: Bytes | undefined } | undefined {
  if (bytes.length < 5 || bytes[0] !== FORMAT) return undefined;
  const length = readU32(bytes, 1);
  if (length > bytes.length - 5) return undefined;
  const session = bytes.slice(5 + length);
  return { state: bytes.slice(5, 5 + length), session: session.length > 0 ? session : undefined };
}

/**
 * Keeps a session in the tab's `sessionStorage`: it lives through a reload of the page, and ends with the tab. Every script of the page's
 * origin can read it there, and be this client.
 */
export function tabStore(key = "voltlane"): SessionStore {
  return {
    load() {
      const text = sessionStorage.getItem(key);
      return text === null ? undefined : Uint8Array.from(atob(text), (digit) => digit.charCodeAt(0));
    },
    store(bytes) {
      let text = "";
      for (const byte of bytes) text += String.fromCharCode(byte);
      sessionStorage.setItem(key, btoa(text));
    },
  };
}
