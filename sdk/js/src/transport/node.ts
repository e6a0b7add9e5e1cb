// Connections of Node.js: TCP, TLS and Unix sockets.

import * as net from "node:net";
import * as tls from "node:tls";

import { type Transport, type TransportEvents, hostAndPort } from "../transport.js";
import type { Address } from "../transport.js";

/** The name for ALPN (SPEC 16.1(b)). */
const ALPN = "voltlane/2";

/** What Node.js takes of TLS: an authority of one's own, a name, a client's certificate. */
export type TlsOptions = Pick<tls.ConnectionOptions, "ca" | "servername" | "cert" | "key" | "rejectUnauthorized">;

export function openSocket({ scheme, at }: Address, events: TransportEvents, tlsOptions?: TlsOptions): Transport {
  const socket = scheme === "unix" ? net.connect(at) : scheme === "tls" ? openTls(at, tlsOptions) : openTcp(at);
  const transport = onSocket(socket, events);
  socket.once(scheme === "tls" ? "secureConnect" : "connect", () => {
    if (isOwn(socket)) {
      // Where nobody listens, TCP may choose that very port as the local one (SPEC 7.6(h)).
      transport.close();
      events.closed(false, "nobody listens there");
    } else events.opened();
  });
  return transport;
}

function openTcp(at: string): net.Socket {
  return net.connect({ ...hostAndPort(at), noDelay: true });
}

function openTls(at: string, options: TlsOptions | undefined): tls.TLSSocket {
  const { host, port } = hostAndPort(at);
  const name = net.isIP(host) ? {} : { servername: host };
  const socket = tls.connect({ host, port, minVersion: "TLSv1.2", ALPNProtocols: [ALPN], ...name, ...options });
  socket.setNoDelay(true);
  return socket;
}

function isOwn(socket: net.Socket): boolean {
  return socket.localPort !== undefined && socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress;
}

/** Reads and writes a socket. It tells `closed` once. */
export function onSocket(socket: net.Socket, events: Omit<TransportEvents, "opened">): Transport {
  let isOrderly = false;
  let words: string | undefined;
  socket.on("data", (bytes: Buffer) => events.data(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)));
  socket.on("end", () => (isOrderly = true));
  socket.on("error", (error) => {
    words = error.message;
    isOrderly = false;
  });
  socket.on("close", () => {
    // What was not taken stays so: its callbacks have not come.
    events.closed(isOrderly, words);
  });
  return {
    pending: () => socket.writableLength,
    write(bytes) {
      socket.write(bytes, () => events.writable());
    },
    end() {
      socket.end();
    },
    close() {
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      // What was written goes, and an end of the stream behind it. Nobody waits for the other side.
      socket.end();
      socket.resume();
      const timer = setTimeout(() => socket.destroy(), CLOSE_MS);
      timer.unref();
      socket.once("close", () => clearTimeout(timer));
    },
    hold(isHeld) {
      if (isHeld) socket.pause();
      else socket.resume();
    },
  };
}

/** So long after the last word a socket may stay. */
const CLOSE_MS = 1_000;
