// What a client needs of a connection, whatever carries it.

import { ConfigError } from "./events.js";

export interface TransportEvents {
  opened(): void;
  data(bytes: Uint8Array): void;
  /** More can be written, or some of what was written was taken. */
  writable(): void;
  /** The connection has ended, or was not made. `isOrderly`: at the end of the stream. */
  closed(isOrderly: boolean, words?: string): void;
}

export interface Transport {
  /** The bytes that were written and that the transport has not taken. */
  pending(): number;
  write(bytes: Uint8Array): void;
  /** Ends this direction after what was written, where the transport can. */
  end(): void;
  /** Ends the connection. Nothing is told of it any more. */
  close(): void;
  /** Stops or goes on reading. Undefined where the transport cannot. */
  readonly hold?: (isHeld: boolean) => void;
}

/** An address and what it stands for. */
export interface Address {
  readonly scheme: "tcp" | "tls" | "ws" | "wss" | "unix";
  /** The address as it was given, without the scheme for tcp, tls and unix. */
  readonly at: string;
}

/** Opens a connection. It tells `opened` or `closed` in any case. */
export type Connector = (address: Address, events: TransportEvents) => Transport;

/** Bytes that may wait in a transport. */
export const WRITE_AHEAD = 65_536;

/** Returns the address that begins with ws:// or wss://, or undefined if it begins with something else. Throws ConfigError. */
export function parseUrl(address: string): Address | undefined {
  const [, scheme] = /^(wss?):\/\//.exec(address) ?? [];
  if (!scheme) return undefined;
  if (!URL.canParse(address)) throw new ConfigError(`${address}: no URL`);
  return { scheme: scheme as "ws" | "wss", at: address };
}

export function parseAddress(address: string): Address {
  if (address.startsWith("unix:")) return { scheme: "unix", at: address.slice(5) };
  const url = parseUrl(address);
  if (url) return url;
  const found = /^(tcp|tls):\/\/(.+)$/.exec(address);
  const at = found?.[2] ?? address;
  hostAndPort(at);
  return { scheme: (found?.[1] ?? "tcp") as Address["scheme"], at };
}

/** Splits "host:port" and "[::1]:port". */
export function hostAndPort(at: string): { host: string; port: number } {
  const found = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(at);
  const port = Number(found?.[3]);
  if (!found || port > 65_535) {
    throw new ConfigError(`${at}: no address. One is host:port, or begins with tcp://, tls://, ws://, wss:// or unix:`);
  }
  return { host: found[1] ?? found[2]!, port };
}
