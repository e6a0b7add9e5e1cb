// The bounds of a client.

import type { Bytes } from "./bytes.js";

/** The versions that a client speaks. "3 or 2": version 2 with an edge that has no other (SPEC 18.4(d)). */
export type Versions = "2" | "3" | "3 or 2";

/** The bounds of a client. */
export interface Config {
  readonly versions: Versions;
  /** The keys of which the edge must have one, compressed: 33 bytes. With any, the client speaks version 3 alone. */
  readonly edgeKeys: readonly Bytes[];
  /** Whether a token may go to the first edge that answers. */
  readonly trustFirstUse: boolean;
  /** Whether the client goes on when somebody else has resumed its session. */
  readonly takeOver: boolean;
  /** Whether records are padded. */
  readonly padding: boolean;
  /**
   * Lets nothing leave before it is saved (SPEC 46.1). "taken": a packet counts when it was taken. "saved": when the application's state was
   * set behind it, and what is sent leaves then.
   */
  readonly saving?: "taken" | "saved" | undefined;
  /** The longest packet up and down, in bytes. */
  readonly maxSend: number;
  readonly maxReceive: number;
  /** What may wait to be sent and acknowledged: packets, and bytes with four more for each. */
  readonly queuePackets: number;
  readonly queueBytes: number;
  /** In ms. */
  readonly connectTimeout: number;
  readonly handshakeTimeout: number;
  readonly goodbyeTimeout: number;
  readonly backoffMin: number;
  readonly backoffMax: number;
}

export const DEFAULTS: Config = {
  versions: "3 or 2",
  edgeKeys: [],
  trustFirstUse: false,
  takeOver: false,
  padding: false,
  maxSend: 1_048_576,
  maxReceive: 8_388_608,
  queuePackets: 8_192,
  queueBytes: 8_388_608,
  connectTimeout: 10_000,
  handshakeTimeout: 5_000,
  goodbyeTimeout: 5_000,
  backoffMin: 100,
  backoffMax: 5_000,
};
