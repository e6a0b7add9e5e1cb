// What a session of version 3 has of one connection.

import { type Bytes, wipe } from "../bytes.js";
import type { Lane } from "../keys.js";
import type { Attempt, Joining } from "./opening.js";

/** It goes with its connection. */
export class Connection {
  joining: Joining | undefined;
  attempt: Attempt | undefined;
  sealer: Lane | undefined;
  opener: Lane | undefined;
  /** The secret of the records up behind the early ones. */
  up: Bytes | undefined;
  /** The number of the next packet up. */
  number = 1n;
  isJoin = false;
  /** Whether RESUMED is awaited, and the number that was claimed as received. */
  awaitsResumed = false;
  claimed = 0n;
  /** Whether no record of the session was opened, and no packet of it sent, before this attempt. */
  isUntried = false;
  /** What the ACKs of this connection come to, up and down. */
  told = 0n;
  heard = 0n;
  pieces: Bytes[] = [];
  piecesBytes = 0;
  /** A long packet up that is under way, and how much of it has gone. */
  part: Bytes | undefined;
  partAt = 0;
  pong: Bytes | undefined;
  asksAck = false;
  /** Since when something waits for an ACK. */
  ackableAt: number | undefined;
  heardAt = 0;
  /** The silence after which it asks, with its random part. */
  pingAfter = 0;
  question: { readonly bytes: Bytes; readonly at: number } | undefined;
  hasAsked = false;
  /** Whether it asks at once. */
  mustAsk = false;
  leave: { readonly at: number; readonly code: number } | undefined;
  replayUntil: bigint | undefined;
  /** Whether no record was opened behind RESUMED. */
  isFresh = false;
  isOpen = false;
  hasClosed = false;
  /** Whole frames that go before the next record. */
  ready: Bytes[] = [];

  wipe(): void {
    this.sealer?.wipe();
    this.opener?.wipe();
    this.joining?.wipe();
    wipe(this.up, this.attempt?.secret, this.attempt?.early);
  }
}
