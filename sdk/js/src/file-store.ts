// A session in a file.

import * as fs from "node:fs";

import { SessionInUse } from "./events.js";
import type { SessionStore } from "./store.js";

/** Keeps a session in a file of mode 0600, which is replaced by a rename. A file beside it, with `.lock` behind its name, has the pid. */
export class FileStore implements SessionStore {
  private readonly lock: string;

  constructor(private readonly path: string) {
    this.lock = `${path}.lock`;
    this.take();
  }

  private take(): void {
    for (;;) {
      try {
        fs.writeFileSync(this.lock, `${process.pid}\n`, { flag: "wx", mode: 0o600 });
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const owner = this.owner();
      if (owner !== undefined) throw new SessionInUse(this.path, owner);
      // Its process is gone.
      fs.rmSync(this.lock, { force: true });
    }
  }

  private owner(): number | undefined {
    let pid: number;
    try {
      pid = Number(fs.readFileSync(this.lock, "utf8"));
    } catch {
      return undefined;
    }
    if (pid === process.pid) return pid;
    try {
      process.kill(pid, 0);
      return pid;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EPERM" ? pid : undefined;
    }
  }

  load(): Uint8Array | undefined {
    try {
      return new Uint8Array(fs.readFileSync(this.path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  store(bytes: Uint8Array): void {
    const fresh = `${this.path}.new`;
    fs.writeFileSync(fresh, bytes, { mode: 0o600 });
    fs.renameSync(fresh, this.path);
  }

  release(): void {
    fs.rmSync(this.lock, { force: true });
  }
}
