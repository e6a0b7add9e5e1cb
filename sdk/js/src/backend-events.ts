// What can be said of a backend, and what it tells.

import type * as tls from "node:tls";

import { text } from "./core/bytes.js";
import { type ClientId, type Data, type End, Packet } from "./events.js";
import type { Verify } from "./gate.js";

/** What can be said of a backend. */
export interface BackendOptions {
  /** How often there is a tick, in ms. Default: never. */
  tick?: number;
  /** Ends the backend. */
  signal?: AbortSignal;
  /** With a certificate of its own and, to keep strangers out, the authority of the edge's (SPEC 16.6). */
  tls?: Pick<tls.TlsOptions, "cert" | "key" | "ca" | "requestCert">;
  /** The version of the link for which the edge is asked. Default: 2. An edge grants version 3 with `master.protocol = "auto"`. */
  version?: 2 | 3;
  /** The secret of the edge's `master.token_file`, 32 to 512 bytes: each proves it to the other, and the link has version 3. */
  secret?: Data;
  /**
   * Looks at each client that joins, with its token, and returns the note of the client, perhaps nothing; or it throws {@link Refuse}. It runs
   * beside everything else, for up to 64 clients at a time, and nothing is heard of a client before. It bounds its own time. If it throws
   * something else, the client is refused. Over a link of version 2 there are no tokens.
   */
  verify?: Verify;
  /**
   * Goes on where an earlier process of the application ended, so that each packet counts once even if that process was killed: the number of
   * the last packet of each client that the application has saved with what came of it. Those packets are not told again. What it sent it
   * compares with {@link Joined.sent}. A client that is not there any more ends. Version 3 of the link.
   */
  restore?: Iterable<readonly [ClientId, number]>;
  /**
   * What becomes of a client for which there is no room, since it takes less than it is sent. "end", the default: its session ends with 303.
   * "gap": the oldest packets for it are given up, it and this backend are told with `gap`, and it goes on. Over a link of version 2, and for a
   * client of version 2, the session ends in any case.
   */
  overflow?: "end" | "gap";
  /** The longest packet to a client and from one, in bytes. Default: 8 MiB, as max_frame_bytes of the edge. */
  maxPacket?: number;
}

/** A name to send to instead of an id. */
export type Group = string & { readonly __voltlane: "Group" };

/** All clients that the backend has heard of and that have not ended. */
export const everyone = Symbol("everyone");
export type Everyone = typeof everyone;

/** A packet of a client. */
export class ClientPacket extends Packet {
  constructor(
    readonly id: ClientId,
    data: Uint8Array,
    number: number,
  ) {
    super(data, number);
  }
}

/** A client's first sign. It comes right before its first packet, or its return. */
export class Joined {
  readonly type = "joined";

  constructor(
    readonly id: ClientId,
    /** What the client shows. A link of version 2 does not tell it. */
    readonly token: Uint8Array,
    /** What is noted of it, or nothing. */
    readonly note: string,
    /** Whether the client is older than what this backend knows: the backend is new, the client is not. */
    readonly again: boolean,
    /** Where it comes from, if the edge tells. */
    readonly address: string | undefined,
    /** The packets to it that the edge has numbered for earlier processes of the backend: the next one has the number behind. */
    readonly sent = 0,
  ) {}

  /** The token as UTF-8. */
  get tokenText(): string {
    return text(this.token);
  }
}

/** What is known of a client that is there. */
export interface ClientInfo {
  readonly id: ClientId;
  /** What is noted of it, or nothing. */
  readonly note: string;
  /** Whether it has a connection. Over a link of version 2: true. */
  readonly isConnected: boolean;
  /** What became of its packets so far. Over a link of version 2 nobody tells what arrived at the client. */
  readonly ledger: End["ledger"];
}

/** What happens to a backend, in order. */
export type BackendEvent =
  | { readonly type: "edgeConnected"; readonly address: string }
  /** The edge is gone. Its clients are not: they stay, and so does what is sent to them. */
  | { readonly type: "edgeLost"; readonly reason: string }
  /** Every session that the edge has was told. Version 3 of the link. */
  | { readonly type: "caughtUp" }
  | Joined
  | ClientPacket
  /** The connection of a client is gone. Its session expires in so many ms. Version 3 of the link. */
  | { readonly type: "away"; readonly id: ClientId; readonly expiresIn: number }
  /** The client is back on another connection. Version 2 of the link tells neither how long it was away, in ms, nor what it missed. */
  | { readonly type: "resumed"; readonly id: ClientId; readonly away: number; readonly missed: number }
  /** Packets that will not come: `count` from the number `first` on. Version 3 of the link. */
  | {
      readonly type: "gap";
      readonly id: ClientId;
      readonly direction: "up" | "down";
      readonly first: number;
      readonly count: number;
      readonly bytes: number;
      readonly reason: number;
    }
  /** A client shows another token. Version 3 of the link. */
  | { readonly type: "token"; readonly id: ClientId; readonly token: Uint8Array }
  | { readonly type: "tick"; readonly late: number }
  /** The session is over. The id is not used again. `reason`: the text of `end`, or words for its code. */
  | { readonly type: "ended"; readonly id: ClientId; readonly reason: string; readonly end: End };
