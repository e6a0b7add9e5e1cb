// The packets up: numbered, and kept until they are acknowledged (SPEC 24.1, 24.2).

import type { Bytes } from "./bytes.js";
import { LENGTH_BYTES } from "./wire.js";

/** Dropped packets at the front of the list before it is cut. */
const MOST_DROPPED = 1_024;

export class Outbox {
  private packets: Bytes[] = [];
  private first = 0;
  /** All packets up to this number are acknowledged. */
  acked = 0n;
  /** All packets up to this number were sent on this connection. */
  sent = 0n;
  /** The bytes of the packets, with four more for each (SPEC 10.1(a)). */
  bytes = 0;
  /** The same of those that were sent on this connection and are not acknowledged. */
  openBytes = 0;
  /** The packets beyond this number wait until the application has saved its state (SPEC 46.1(e)). */
  until: bigint | undefined;

  /** The number of the last packet. */
  get end(): bigint {
    return this.acked + BigInt(this.length);
  }

  get length(): number {
    return this.packets.length - this.first;
  }

  /** How many packets were sent on this connection and are not acknowledged. */
  get open(): number {
    return Number(this.sent - this.acked);
  }

  push(data: Bytes): bigint {
    this.packets.push(data);
    this.bytes += data.length + LENGTH_BYTES;
    return this.end;
  }

  /** Returns the next packet that may go and was not sent on this connection. */
  next(): Bytes | undefined {
    if (this.until !== undefined && this.sent >= this.until) return undefined;
    return this.packets[this.first + this.open];
  }

  /** Counts the next packet as sent. */
  advance(): void {
    this.openBytes += this.next()!.length + LENGTH_BYTES;
    this.sent += 1n;
  }

  /** Counts the packets up to `number` as sent on this connection. */
  advanceTo(number: bigint): void {
    while (this.sent < number) this.advance();
  }

  /** Drops the packets up to `number`, which is at most the number of the last one. */
  acknowledge(number: bigint): void {
    while (this.acked < number) {
      const bytes = this.packets[this.first]!.length + LENGTH_BYTES;
      this.bytes -= bytes;
      if (this.open > 0) this.openBytes -= bytes;
      // The reference is dropped before the list is.
      this.packets[this.first++] = undefined as unknown as Bytes;
      this.acked += 1n;
      if (this.sent < this.acked) this.sent = this.acked;
    }
    if (this.first >= MOST_DROPPED || this.first === this.packets.length) {
      this.packets = this.packets.slice(this.first);
      this.first = 0;
    }
  }

  /** Another connection begins: what is not acknowledged goes again. */
  rewind(): void {
    this.sent = this.acked;
    this.openBytes = 0;
  }

  /** The number of the last packet that may go. */
  get released(): bigint {
    return this.until ?? this.end;
  }

  /** All that may go and is kept, in order. */
  kept(): Bytes[] {
    return this.packets.slice(this.first, this.first + Number(this.released - this.acked));
  }

  /** The packets that wait may go. */
  release(): void {
    if (this.until !== undefined) this.until = this.end;
  }

  /** Forgets all packets, and counts from the first number again. */
  clear(): void {
    this.packets = [];
    this.first = this.bytes = this.openBytes = 0;
    this.acked = this.sent = 0n;
    this.release();
  }
}
