// Sessions that are kept over a reload of the page or a restart of the process.

/**
 * A place for a session: a tab, a file, a keychain, a table. Whoever can read it can be this client.
 *
 * `load` gives what `store` was given last, whole: the content of a session file of SPEC 46.3. A client loads once. It stores before anything
 * leaves that needs it, one thing after the other, and nothing leaves until it is stored: a store that fails is like a network that is down.
 */
export interface SessionStore {
  load(): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  store(bytes: Uint8Array): void | Promise<void>;
  /** The most bytes that it takes. What waits to be sent is bounded by it, too. Default: no bound. */
  readonly maxBytes?: number;
  /** The client is over, and stores no more. */
  release?(): void;
}

/** What the store of a tab takes: in some browsers 5 MB of text with two bytes for each character. */
const MAX_TAB_BYTES = 1_572_864;
/** Digits that are made of bytes at once. */
const PIECE_BYTES = 8_192;

/**
 * Keeps a session in the tab's `sessionStorage`: it lives through a reload of the page, and ends with the tab. Every script of the page's
 * origin can read it there, and be this client.
 */
export function tabStore(key = "voltlane"): SessionStore {
  return {
    maxBytes: MAX_TAB_BYTES,
    load() {
      const text = sessionStorage.getItem(key);
      return text === null ? undefined : Uint8Array.from(atob(text), (digit) => digit.charCodeAt(0));
    },
    store(bytes) {
      let text = "";
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) text += String.fromCharCode(...bytes.subarray(at, at + PIECE_BYTES));
      sessionStorage.setItem(key, btoa(text));
    },
  };
}
