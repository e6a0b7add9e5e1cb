/**
 * The client for pages and workers, without what most of them do not need: version 3 of the protocol, and a session that ends with its page.
 * @module
 */
import { Client } from "./client.js";
import type { ClientOptions } from "./options.js";
import { ConfigError } from "./events.js";
import { type Part, partsOf } from "./parts.js";
import { type Address, type Connector, parseUrl } from "./transport.js";
import { type Socket, openWebSocket } from "./transport/websocket.js";

export { Client } from "./client.js";
export type { ClientOptions } from "./options.js";
export { ConfigError, ConnectError, NoRoom, Packet, SessionEnded, TooLong, VoltlaneError } from "./events.js";
export type { ClientEvent, ClientId, Counts, Data, End, Sent } from "./events.js";
export type { SessionStore } from "./store.js";
export type { DropCause } from "./core/leave.js";
export type { Part } from "./parts.js";

/** What can be said of a client that has only some parts. */
export interface SmallOptions extends ClientOptions {
  /** What the client has beside version 3: of voltlane/parts. */
  with?: readonly Part[];
}

/**
 * Begins a client, and waits until its first session has begun.
 *
 * @param address A URL that begins with ws:// or wss://, or several of the same edge.
 * @throws ConfigError if an option cannot be, or needs a part that `with` does not name; ConnectError after `giveUpAfter`, or if the edge does
 * not want the session.
 */
export function connect(address: string | readonly string[], options: SmallOptions = {}): Promise<Client> {
  const { with: parts = [], ...others } = options;
  return Client.begin(address, parse, open, others, partsOf(parts));
}

function parse(address: string): Address {
  const url = parseUrl(address);
  if (!url) throw new ConfigError(`${address}: a page connects with ws:// or wss://`);
  return url;
}

const open: Connector = ({ at }, events) =>
  openWebSocket(at, events, (url, subprotocol) => new WebSocket(url, subprotocol) as unknown as Socket);
