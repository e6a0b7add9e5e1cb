/**
 * The client as a machine without sockets, clock and randomness: for another transport, another loop, or a test.
 *
 * Bytes, times in ms and randomness go in; bytes and events come out.
 * @module
 */
import { type Config, Machine as Core, type Random } from "./core/machine.js";
import { ALL, partsOf } from "./parts.js";

export { DEFAULTS } from "./core/machine.js";
export type { Config, Counts, Ledger, MachineEnd, MachineEvent, Random, State, Versions } from "./core/machine.js";
export type { DropCause } from "./core/leave.js";

/** A client that has all parts. */
export class Machine extends Core {
  constructor(config: Config, random: Random) {
    super(config, random, partsOf(ALL));
  }
}
