/**
 * The client as a machine without sockets, clock and randomness: for another transport, another loop, or a test.
 *
 * Bytes, times in ms and randomness go in; bytes and events come out.
 * @module
 */
export { DEFAULTS, Machine } from "./core/machine.js";
export type { Config, Counts, Ledger, MachineEnd, MachineEvent, Random, State, Versions } from "./core/machine.js";
export type { DropCause } from "./core/leave.js";
