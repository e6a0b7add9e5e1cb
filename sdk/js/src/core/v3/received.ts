// What a session has received, taken and acknowledged down (SPEC 24.1 to 24.3).

import { Breach } from "../leave.js";
import { type Counts, MAX_NUMBER } from "./items.js";
import type { Settings } from "./opening.js";

interface Hole {
  readonly type: "gap" | "superseded";
  readonly first: bigint;
  readonly last: bigint;
}

/** The counts that are saved. */
export interface ReceivedCounts {
  got: bigint;
  taken: bigint;
  superseded: bigint;
  gapped: bigint;
  skipped: bigint;
}

export class Received {
  private counts: ReceivedCounts = { got: 0n, taken: 0n, superseded: 0n, gapped: 0n, skipped: 0n };
  /** The highest number of which an ACK was written on any connection. */
  private told = 0n;
  /** Packets that came since, and their bytes. */
  private untold: { readonly number: bigint; readonly size: number }[] = [];
  private untoldBytes = 0;
  /** Numbers above `taken` that no packet comes for. */
  private holes: Hole[] = [];

  /** The highest number received. */
  get got(): bigint {
    return this.counts.got;
  }

  /** The highest number that an ACK may cover. */
  get taken(): bigint {
    return this.counts.taken;
  }

  /** Counts a packet of so many bytes. Throws Breach beyond the ring (SPEC 24.2(c)). */
  packet(bytes: number, { ringPackets, ringBytes }: Settings): bigint {
    const { counts } = this;
    if (counts.got === MAX_NUMBER) throw new Breach("numbers are used up");
    const count = this.untold.length + 1;
    const fits = count <= ringPackets && this.untoldBytes + bytes <= ringBytes;
    if (!fits && count > 1) throw new Breach("more than the ring is unacknowledged");
    counts.got += 1n;
    this.untold.push({ number: counts.got, size: bytes });
    this.untoldBytes += bytes;
    return counts.got;
  }

  /** Counts numbers that no packet comes for. Returns the first of them. Throws Breach beyond the highest number. */
  hole(type: Hole["type"], count: bigint): bigint {
    const { counts, holes } = this;
    const [first, last] = [counts.got + 1n, counts.got + count];
    if (last > MAX_NUMBER) throw new Breach("numbers are used up");
    counts.got = last;
    counts[type === "gap" ? "gapped" : "superseded"] += count;
    const before = holes[holes.length - 1];
    if (counts.taken + 1n === first) counts.taken = last;
    else if (before?.type === type && before.last + 1n === first) holes[holes.length - 1] = { type, first: before.first, last };
    else holes.push({ type, first, last });
    return first;
  }

  skipped(count: bigint): void {
    this.counts.skipped += count;
  }

  /** The application has come back for more after it got the packet `number`. Returns whether that is news. */
  take(number: bigint): boolean {
    const { counts } = this;
    let taken = number < counts.got ? number : counts.got;
    for (let [hole] = this.holes; hole && hole.first <= taken + 1n; [hole] = this.holes) {
      if (hole.last > taken) taken = hole.last;
      this.holes.shift();
    }
    if (taken <= counts.taken) return false;
    counts.taken = taken;
    return true;
  }

  /** Whether a quarter of the ring can be acknowledged (SPEC 24.3(d)). */
  quarterIsDue({ ringPackets, ringBytes }: Settings): boolean {
    const { taken } = this.counts;
    const due = taken - this.told;
    if (due <= 0n) return false;
    if (4n * due >= BigInt(ringPackets)) return true;
    if (4 * this.untoldBytes < ringBytes) return false;
    let bytes = 0;
    for (const { number, size } of this.untold) {
      if (number > taken) break;
      bytes += size;
    }
    return 4 * bytes >= ringBytes;
  }

  /** An ACK of all that was taken was written. */
  acknowledged(): void {
    const { taken } = this.counts;
    if (taken > this.told) this.told = taken;
    let at = 0;
    for (; at < this.untold.length && this.untold[at]!.number <= this.told; at++) this.untoldBytes -= this.untold[at]!.size;
    this.untold.splice(0, at);
  }

  ledger(): Counts {
    const { got, taken, superseded, gapped, skipped } = this.counts;
    let open = 0n;
    for (const { number } of this.untold) if (number > taken) open += 1n;
    const acknowledged = got - superseded - gapped - open;
    return { numbered: got, acknowledged, superseded, gapped, openSent: open, openUnsent: 0n, skipped };
  }

  /** The counts without what was not taken: the edge has that, and sends it again. */
  save(): ReceivedCounts {
    const saved = { ...this.counts, got: this.counts.taken };
    for (const { type, first, last } of this.holes) saved[type === "gap" ? "gapped" : "superseded"] -= last - first + 1n;
    return saved;
  }

  static restore(saved: ReceivedCounts): Received {
    const received = new Received();
    received.counts = { ...saved };
    received.told = saved.taken;
    return received;
  }
}
