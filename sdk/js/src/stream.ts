// Events that wait for the application, in order: for a loop, or for handlers.

import { VoltlaneError } from "./events.js";

type Handler<E> = (event: E) => void;

interface Entry<E> {
  readonly event: E;
  readonly bytes: number;
  /** Called when the application is given the event. */
  readonly given: (() => void) | undefined;
}

/** The most entries at the front of the list that are gone. */
const MOST_GONE = 1_024;

export class Stream<E extends { readonly type: string }> {
  private entries: Entry<E>[] = [];
  private first = 0;
  private handlers = new Map<string, Set<Handler<E>>>();
  private reader: { wake: (() => void) | undefined; readonly since: string } | undefined;
  private hasEnded = false;
  private isPumping = false;
  private hasGiven = false;
  bytes = 0;

  /** `cameBack` is called when the application asks for more after it was given an event. */
  constructor(private readonly cameBack: () => void) {}

  get length(): number {
    return this.entries.length - this.first;
  }

  push(event: E, bytes = 0, given?: () => void): void {
    if (this.hasEnded) return;
    this.entries.push({ event, bytes, given });
    this.bytes += bytes;
    this.wake();
  }

  /** Pushes an event unless one of its type waits. */
  pushOnce(event: E): void {
    for (let at = this.first; at < this.entries.length; at++) {
      if (this.entries[at]!.event.type === event.type) return;
    }
    this.push(event);
  }

  /** Nothing follows. What waits can be read. */
  end(): void {
    this.hasEnded = true;
    this.wake();
  }

  private wake(): void {
    const wake = this.reader?.wake;
    if (wake) {
      this.reader!.wake = undefined;
      wake();
    } else if (!this.reader && this.handlers.size > 0) this.pumpSoon();
  }

  private shift(): E {
    const { event, bytes, given } = this.entries[this.first]!;
    this.entries[this.first++] = undefined as unknown as Entry<E>;
    this.bytes -= bytes;
    if (this.first >= MOST_GONE || this.first === this.entries.length) {
      this.entries = this.entries.slice(this.first);
      this.first = 0;
    }
    given?.();
    this.hasGiven = true;
    return event;
  }

  private back(): void {
    if (!this.hasGiven) return;
    this.hasGiven = false;
    this.cameBack();
  }

  iterate(): AsyncIterator<E> {
    if (this.reader) throw new VoltlaneError(`events have one reader, and it began${this.reader.since}`);
    const since = new Error().stack?.split("\n").find((line) => / at /.test(line) && !/voltlane|Stream|stream\.js|client\.js|backend\.js/.test(line));
    const reader = { wake: undefined as (() => void) | undefined, since: since ?? " elsewhere" };
    this.reader = reader;
    const over: IteratorResult<E> = { done: true, value: undefined };
    // No async function: where an event waits, it costs one promise.
    const next = (): Promise<IteratorResult<E>> => {
      if (this.reader !== reader) return Promise.resolve(over);
      this.back();
      if (this.length > 0) return Promise.resolve({ done: false, value: this.shift() });
      if (this.hasEnded) {
        this.reader = undefined;
        return Promise.resolve(over);
      }
      return new Promise<void>((wake) => (reader.wake = wake)).then(next);
    };
    return {
      next,
      return: async () => {
        if (this.reader === reader) this.reader = undefined;
        reader.wake?.();
        if (this.handlers.size > 0) this.pumpSoon();
        return { done: true, value: undefined };
      },
    };
  }

  on(type: string, handler: Handler<E>): () => void {
    const handlers = this.handlers.get(type) ?? new Set();
    this.handlers.set(type, handlers.add(handler));
    if (!this.reader) this.pumpSoon();
    return () => {
      handlers.delete(handler);
      if (handlers.size === 0 && this.handlers.get(type) === handlers) this.handlers.delete(type);
    };
  }

  /** Handlers that are attached in one go all see the first event. */
  private pumpSoon(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    queueMicrotask(() => {
      this.isPumping = false;
      this.pump();
    });
  }

  private pump(): void {
    while (!this.reader && this.handlers.size > 0 && this.length > 0) {
      const event = this.shift();
      for (const handler of [...(this.handlers.get(event.type) ?? [])]) {
        try {
          handler(event);
        } catch (error) {
          // It is reported as any uncaught error is, and stops nothing.
          setTimeout(() => {
            throw error;
          });
        }
      }
      this.back();
    }
  }
}
