// A client link in the messages of a WebSocket (SPEC 16.2, 16.3): that of a browser, of Node.js, or of the package ws.

import { type Transport, type TransportEvents, WRITE_AHEAD } from "../transport.js";

const SUBPROTOCOL = "voltlane.v2";
/** A WebSocket does not tell when it has sent. */
const LOOK_AGAIN_MS = 4;

/** What the three have in common. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array): void;
  close(code?: number): void;
}

export type SocketOf = (url: string, subprotocol: string) => Socket;

const OPEN = 1;

export function openWebSocket(url: string, events: TransportEvents, make: SocketOf): Transport {
  const socket = make(url, SUBPROTOCOL);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = 0;
  let words: string | undefined;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => events.opened();
  socket.onmessage = ((message: { data: unknown }) => {
    if (message.data instanceof ArrayBuffer) events.data(new Uint8Array(message.data));
  }) as Socket["onmessage"];
  socket.onerror = ((error: { message?: string }) => {
    words = error.message;
  }) as Socket["onerror"];
  socket.onclose = ((end: { code: number; wasClean: boolean; reason?: string }) => {
    release();
    const isOrderly = end.wasClean && end.code !== 1006;
    events.closed(isOrderly, words ?? (end.code === 1006 ? undefined : `close code ${end.code}`));
  }) as Socket["onclose"];

  /** Headers of messages count in the package ws, and in no browser. */
  const pending = () => Math.min(socket.bufferedAmount, last);

  function release(): void {
    clearTimeout(timer);
    timer = undefined;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // The package ws throws errors that nobody listens to.
    socket.onerror = () => undefined;
  }

  function look(): void {
    timer = undefined;
    const waits = pending();
    if (waits < last) {
      last = waits;
      events.writable();
    }
    if (timer === undefined && last > 0 && socket.readyState === OPEN) timer = setTimeout(look, LOOK_AGAIN_MS);
  }

  return {
    pending,
    write(bytes) {
      // The sender keeps its buffer, and what is sent is a view of it.
      socket.send(bytes);
      last = Math.min(socket.bufferedAmount, last + bytes.length);
      if (last > 0) timer ??= setTimeout(look, last > WRITE_AHEAD ? LOOK_AGAIN_MS : 0);
    },
    end() {
      // It closes both directions, behind what was sent.
      socket.close(1000);
    },
    close() {
      release();
      socket.close(1000);
    },
  };
}
