// The options of a client.

import { type Bytes, equal, unhex } from "./core/bytes.js";
import { compressed } from "./core/keys.js";
import { type Config, DEFAULTS, type Parts } from "./core/machine.js";
import { ConfigError, type Data } from "./events.js";
import { MAX_STATE_BYTES } from "./core/saved.js";
import type { SessionStore } from "./store.js";
import type { Address } from "./transport.js";

/** What can be said of a client when it begins. */
export interface ClientOptions {
  /** What the client shows when it joins: a ticket, a JWT. It goes to an edge whose key is pinned, or over tls:// and wss://. */
  token?: Data | (() => Data | Promise<Data>);
  /** The keys of which the edge must have one, as `voltlane key` prints them. With any, the client speaks version 3 alone. */
  edgeKeys?: readonly string[];
  /** Where the session is kept over a reload or a restart. See `tabStore`. */
  sessionStore?: SessionStore;
  /** A session that {@link Client.export} or {@link Client.suspend} gave, or a saved session of version 2 of another library. */
  session?: Uint8Array;
  /**
   * "saved": a packet is acknowledged when {@link Client.save} was called behind it, and not when the next event is asked for. What is sent
   * waits for it, too: so each packet counts once in both directions, however often the process is killed.
   */
  ack?: "taken" | "saved";
  /** Whether a new session begins by itself after one that ended with 3xx or 5xx. Default: false. */
  startOver?: boolean;
  /** Whether the client goes on when somebody else has resumed its session. Default: false, and it ends with 491. */
  takeOver?: boolean;
  /** How long the client tries to begin its first session, in ms. Default: 30,000. null: for ever. */
  giveUpAfter?: number | null;
  /** How often there is a tick, in ms. Default: never. */
  tick?: number;
  /** Ends the client without a goodbye, as if the network had failed. */
  signal?: AbortSignal;
  /** The versions of the protocol that the client speaks. Default: "3 or 2": 3, and 2 with an edge that has no other. */
  versions?: "2" | "3" | "3 or 2";
  /** Whether records of version 3 are padded, so that their length tells less. Default: false. */
  padding?: boolean;
  /** The longest packet that the client takes, in bytes. Default: 8 MiB. */
  maxReceive?: number;
}

/** What is stored beside the state and the packets: keys, marks, numbers, lengths. */
const STORED_BESIDE_BYTES = 8_192;

export const NEEDS_SAVED = "a kept session needs { with: [savedSessions] }";

/** Throws ConfigError. */
export function configOf(options: ClientOptions, addresses: readonly Address[], parts: Parts): Config {
  if (!parts.saved && (options.sessionStore || options.session || options.ack === "saved")) throw new ConfigError(NEEDS_SAVED);
  const versions = options.versions ?? (parts.two ? DEFAULTS.versions : "3");
  if (!parts.two && versions !== "3") throw new ConfigError("version 2 needs { with: [version2] }");
  const edgeKeys = (options.edgeKeys ?? []).map(edgeKeyOf);
  const most = (options.sessionStore?.maxBytes ?? Infinity) - MAX_STATE_BYTES - STORED_BESIDE_BYTES;
  return {
    ...DEFAULTS,
    versions: edgeKeys.length > 0 ? "3" : versions,
    edgeKeys,
    trustFirstUse: addresses.every(({ scheme }) => scheme === "tls" || scheme === "wss"),
    takeOver: options.takeOver ?? false,
    padding: options.padding ?? false,
    saving: options.ack === "saved" ? "saved" : options.sessionStore && "taken",
    queueBytes: Math.min(DEFAULTS.queueBytes, most),
    maxReceive: options.maxReceive ?? DEFAULTS.maxReceive,
  };
}

/** A key as `voltlane key` prints it: 66 hexadecimal digits, perhaps behind other words. */
function edgeKeyOf(text: string): Bytes {
  const bytes = unhex(text.trim());
  const key = bytes && compressed(bytes);
  if (!key || !equal(key, bytes)) throw new ConfigError(`${text}: no edge key. One has 66 hexadecimal digits`);
  return key;
}
