// What the client and the backend do with bytes, errors and counts.

import { type Bytes, utf8 } from "./core/bytes.js";
import type { MachineEnd } from "./core/machine.js";
import type { Counts, Data, End } from "./events.js";

export function bytesOf(data: Data): Bytes {
  if (typeof data === "string") return utf8(data);
  // A copy: what the application does with its buffer then is its own.
  return data instanceof ArrayBuffer ? new Uint8Array(data.slice(0)) : new Uint8Array(data);
}

export function randomBytes(length: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(length));
}

export function quietly(error: Error): Promise<never> {
  const rejected = Promise.reject(error);
  // Whoever awaits it is told. Whoever does not, reads of the end in the events.
  rejected.catch(() => undefined);
  return rejected;
}

export function ledgerOf(ledger: MachineEnd["ledger"]): End["ledger"] {
  const counts = (of: MachineEnd["ledger"]["up"]): Counts => ({
    numbered: Number(of.numbered),
    acknowledged: Number(of.acknowledged),
    superseded: Number(of.superseded),
    gapped: Number(of.gapped),
    inDoubt: Number(of.openSent),
    lost: Number(of.openUnsent),
    skipped: Number(of.skipped),
  });
  return { up: counts(ledger.up), down: counts(ledger.down) };
}
