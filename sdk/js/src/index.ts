/**
 * The client and the backend for Node.js.
 * @module
 */
import { Client } from "./client.js";
import type { ClientOptions } from "./options.js";
import { ConfigError } from "./events.js";
import { FileStore } from "./file-store.js";
import { ALL, partsOf } from "./parts.js";
import { type TlsOptions, openSocket } from "./transport/node.js";
import { type Socket, openWebSocket } from "./transport/websocket.js";
import { type Connector, parseAddress } from "./transport.js";

export { Client } from "./client.js";
export type { ClientOptions } from "./options.js";
export { Backend, listen } from "./backend.js";
export {
  type BackendEvent,
  type BackendOptions,
  type ClientInfo,
  ClientPacket,
  type Everyone,
  type Group,
  Joined,
  everyone,
} from "./backend-events.js";
export { Refuse, type Verify } from "./gate.js";
export * from "./events.js";
export { type SessionStore, tabStore } from "./store.js";
export type { TlsOptions } from "./transport/node.js";
export type { DropCause } from "./core/leave.js";

/** What can be said of a client on Node.js. */
export interface NodeClientOptions extends ClientOptions {
  /** A file for the session, which nobody else can read. It is locked while the client lives. */
  sessionFile?: string;
  /** For tls:// and wss://. Default: the authorities that Node.js trusts. */
  tls?: TlsOptions;
}

type WebSocketClass = new (url: string, subprotocol: string, options?: object) => Socket;

/**
 * Begins a client, and waits until its first session has begun.
 *
 * @param address "host:port" or tcp://, tls://, ws://, wss://, unix:path, or several of the same edge. For the two of WebSocket, Node.js
 * before version 22 needs the package `ws`.
 * @throws ConfigError if an option cannot be; ConnectError after `giveUpAfter`, or if the edge does not want the session; SessionInUse if
 * another process has the session file.
 */
export async function connect(address: string | readonly string[], options: NodeClientOptions = {}): Promise<Client> {
  const { sessionFile, tls, ...others } = options;
  const isWeb = (typeof address === "string" ? [address] : address).some((one) => /^wss?:/.test(one));
  const WebSocket = isWeb ? await webSocketClass(tls) : undefined;
  const connector: Connector = (to, events) => {
    if (to.scheme !== "ws" && to.scheme !== "wss") return openSocket(to, events, tls);
    return openWebSocket(to.at, events, (url, subprotocol) => new WebSocket!(url, subprotocol, tls));
  };
  const parts = partsOf(ALL);
  if (sessionFile === undefined) return Client.begin(address, parseAddress, connector, others, parts);
  if (others.sessionStore) throw new ConfigError("sessionFile and sessionStore are the same thing");
  return Client.begin(address, parseAddress, connector, { ...others, sessionStore: new FileStore(sessionFile) }, parts);
}

async function webSocketClass(tls: TlsOptions | undefined): Promise<WebSocketClass> {
  const own = (globalThis as { WebSocket?: WebSocketClass }).WebSocket;
  // That of Node.js takes no options of TLS.
  if (own && !tls) return own;
  try {
    // The name is no constant, so that bundlers and the compiler leave it.
    const name = "ws";
    const { WebSocket } = (await import(name)) as { WebSocket: WebSocketClass };
    return class extends (WebSocket as unknown as new (...of: unknown[]) => Socket) {
      constructor(url: string, subprotocol: string, options?: object) {
        super(url, subprotocol, { ...options, perMessageDeflate: false });
      }
    } as WebSocketClass;
  } catch {
    throw new ConfigError("ws:// and wss:// need Node.js 22, or the package ws: npm install ws");
  }
}
