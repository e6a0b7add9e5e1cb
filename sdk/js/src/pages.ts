// What happens to a page: the network is back, it was frozen, it is restored from the back-forward cache, it goes away.

interface Calls {
  /** A pause of the client is of no use any more. */
  hurry(): void;
  /** A connection from before is gone, whatever it says. */
  thawed(): void;
  /** The page may be gone in a moment. */
  hides(): void;
}

type Target = Pick<EventTarget, "addEventListener" | "removeEventListener">;

export class Pages {
  private readonly listeners: [Target, string, (event: Event) => void][] = [];

  constructor(calls: Calls) {
    const page = globalThis as unknown as Partial<Target>;
    const { document } = globalThis as { document?: Document };
    // Node.js has neither. A worker has "online", and no document.
    if (typeof page.addEventListener !== "function") return;
    this.listen(page as Target, "online", () => calls.hurry());
    if (!document) return;
    this.listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") calls.hurry();
      else calls.hides();
    });
    this.listen(document, "resume", () => calls.hurry());
    this.listen(page as Target, "pagehide", () => calls.hides());
    this.listen(page as Target, "pageshow", (event) => {
      if (!(event as PageTransitionEvent).persisted) return;
      calls.thawed();
      calls.hurry();
    });
  }

  private listen(target: Target, type: string, listener: (event: Event) => void): void {
    target.addEventListener(type, listener);
    this.listeners.push([target, type, listener]);
  }

  release(): void {
    for (const [target, type, listener] of this.listeners.splice(0)) target.removeEventListener(type, listener);
  }
}
