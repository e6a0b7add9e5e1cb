/**
 * The client for pages and workers.
 * @module
 */
import type { Client } from "./client.js";
import type { ClientOptions } from "./options.js";
import { ALL } from "./parts.js";
import { connect as connectSmall } from "./small.js";

export { Client } from "./client.js";
export type { ClientOptions } from "./options.js";
export * from "./events.js";
export { type SessionStore, tabStore } from "./store.js";
export type { DropCause } from "./core/leave.js";

/**
 * Begins a client, and waits until its first session has begun.
 *
 * @param address A URL that begins with ws:// or wss://, or several of the same edge.
 * @throws ConfigError if an option cannot be; ConnectError after `giveUpAfter`, or if the edge does not want the session.
 */
export function connect(address: string | readonly string[], options: ClientOptions = {}): Promise<Client> {
  return connectSmall(address, { ...options, with: ALL });
}
