// What waits for a link of version 2, or for the picture of one of version 3.

import type { Bytes } from "./core/bytes.js";
import { LENGTH_BYTES } from "./core/wire.js";
import type { ClientId } from "./events.js";
import { ID_BYTES, TAG_BYTES, idOf } from "./tagged.js";
import type { Transport } from "./transport.js";

/** Frames that are given to the link at once: the most bytes, but for a longer packet, and the least that are set aside. */
const BATCH_BYTES = 65_536;
const LEAST_BATCH_BYTES = 1_024;

/** Whole frames, one behind the other, in `bytes` from `start` to `length`. */
interface Batch {
  readonly bytes: Bytes;
  start: number;
  length: number;
  readonly ends: number[];
  isWritten: boolean;
}

export class FrameQueue {
  /** What is sent and not taken by the link. The first batch may be with the transport. */
  private readonly batches: Batch[] = [];
  /** The bytes of it. */
  bytes = 0;
  /** Frames that were put in, and those that links have taken. */
  private queuedFrames = 0;
  private takenFrames = 0;
  private takers: { readonly frame: number; readonly taken: () => void }[] = [];

  get isEmpty(): boolean {
    return this.batches.length === 0;
  }

  put(tag: Bytes, flag: number, data: Bytes): void {
    const length = LENGTH_BYTES + TAG_BYTES + data.length;
    let last = this.batches[this.batches.length - 1];
    if (!last || last.isWritten || last.bytes.length - last.length < length) {
      const size = Math.max(length, Math.min(BATCH_BYTES, Math.max(2 * (last?.length ?? 0), LEAST_BATCH_BYTES)));
      last = { bytes: new Uint8Array(size), start: 0, length: 0, ends: [], isWritten: false };
      this.batches.push(last);
    }
    const { bytes } = last;
    let at = last.length;
    const count = TAG_BYTES + data.length;
    bytes[at++] = count;
    bytes[at++] = count >>> 8;
    bytes[at++] = count >>> 16;
    bytes[at++] = count >>> 24;
    for (let part = 0; part < ID_BYTES; part++) bytes[at++] = tag[part]!;
    bytes[at++] = flag;
    bytes.set(data, at);
    last.length += length;
    last.ends.push(last.length);
    this.bytes += length;
    this.queuedFrames += 1;
  }

  *frames(): Generator<{ id: ClientId; flag: number; data: Bytes }> {
    for (const { bytes, start, ends } of this.batches) {
      let at = start;
      for (const end of ends) {
        const body = bytes.subarray(at + LENGTH_BYTES, end);
        yield { id: idOf(body), flag: body[ID_BYTES]!, data: body.subarray(TAG_BYTES) };
        at = end;
      }
    }
  }

  /** All of it goes another way. */
  clear(): void {
    this.takenFrames = this.queuedFrames;
    this.batches.length = this.bytes = 0;
  }

  /** The link is gone, with what it had not taken. */
  lose(): void {
    for (const batch of this.batches) batch.isWritten = false;
  }

  /** Waits until all that was put in so far is taken by a link. */
  taken(): Promise<void> {
    const frame = this.queuedFrames;
    if (this.takenFrames >= frame) return Promise.resolve();
    return new Promise((taken) => this.takers.push({ frame, taken }));
  }

  write(transport: Transport): void {
    this.takeWritten(transport);
    // While the transport holds a part of a write, nobody can tell how much: the next one waits.
    for (let [batch] = this.batches; batch && !batch.isWritten; [batch] = this.batches) {
      batch.isWritten = true;
      transport.write(batch.bytes.subarray(batch.start, batch.length));
      this.takeWritten(transport);
    }
  }

  /** Drops what the link has taken of the first batch: whole frames. One that was taken in part goes again whole (SPEC 7.8(f)). */
  takeWritten(transport: Transport): void {
    const [batch] = this.batches;
    if (!batch?.isWritten) return;
    const taken = batch.length - transport.pending();
    if (taken === batch.length) {
      this.bytes -= batch.length - batch.start;
      this.batches.shift();
      this.took(batch.ends.length);
      return;
    }
    let count = 0;
    while (batch.ends[count]! <= taken) count += 1;
    if (count === 0) return;
    this.took(count);
    const start = batch.ends[count - 1]!;
    batch.ends.splice(0, count);
    this.bytes -= start - batch.start;
    batch.start = start;
  }

  private took(frames: number): void {
    this.takenFrames += frames;
    while (this.takers.length > 0 && this.takers[0]!.frame <= this.takenFrames) this.takers.shift()!.taken();
  }
}
