/**
 * The client for pages and workers.
 * @module
 */
import { Client } from "./client.js";
import type { ClientOptions } from "./options.js";
import { ConfigError } from "./events.js";
import { type Socket, openWebSocket } from "./transport/websocket.js";

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
  return Client.begin(
    address,
    ({ scheme, at }, events) => {
      if (scheme !== "ws" && scheme !== "wss") throw new ConfigError(`${at}: a page connects with ws:// or wss://`);
      return openWebSocket(at, events, (url, subprotocol) => new WebSocket(url, subprotocol) as unknown as Socket);
    },
    options,
  );
}
