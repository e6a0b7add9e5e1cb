// A session in a file (SPEC 46.3(c)).

import * as fs from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

import { VoltlaneError, SessionInUse } from "./events.js";
import type { SessionStore } from "./store.js";

/** The longest file that is taken for a session. It has all packets that wait. */
const MAX_FILE_BYTES = 1 << 28;

/** The locks of this process. */
const held = new Set<string>();

/**
 * A file that nobody else can read, which is replaced by a rename: it is whole whenever its process is killed, and there after a loss of
 * power.
 *
 * A file beside it, with `.lock` behind its name, says which process has it. Node.js has no locks that end with their process, so it is
 * found out whether that process lives. The lock of a library in another language is seen on Linux; that one does not see this one.
 */
export class FileStore implements SessionStore {
  private readonly lock: string;
  private readonly me = `${process.pid} ${beginningOf(process.pid)}\n`;

  constructor(private readonly path: string) {
    this.lock = `${path}.lock`;
    this.take();
  }

  private take(): void {
    if (held.has(this.lock)) throw new SessionInUse(this.path, process.pid);
    const own = `${this.lock}.${process.pid}`;
    fs.rmSync(own, { force: true });
    fs.writeFileSync(own, this.me, { flag: "wx", mode: 0o600 });
    try {
      this.put(own);
    } finally {
      fs.rmSync(own, { force: true });
    }
    held.add(this.lock);
  }

  private put(own: string): void {
    try {
      // Whole, or not at all.
      return fs.linkSync(own, this.lock);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = this.owner();
    if (owner !== undefined) throw new SessionInUse(this.path, owner);
    // Its process is gone. Of two that find this out at once, the second one has it, and the first one will not store.
    fs.renameSync(own, this.lock);
  }

  private owner(): number | undefined {
    const [pid, since] = this.says().trim().split(" ", 2);
    if (Number(pid) > 0) return lives(Number(pid), since) ? Number(pid) : undefined;
    return lockedBy(this.lock);
  }

  private says(): string {
    try {
      return fs.readFileSync(this.lock, "utf8");
    } catch {
      return "";
    }
  }

  load(): Uint8Array | undefined {
    let length: number;
    try {
      length = fs.statSync(this.path).size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    if (length > MAX_FILE_BYTES) throw new VoltlaneError(`${this.path}: a file of more than ${MAX_FILE_BYTES} bytes is no saved session`);
    return new Uint8Array(fs.readFileSync(this.path));
  }

  async store(bytes: Uint8Array): Promise<void> {
    if (this.says() !== this.me) throw new SessionInUse(this.path, this.owner() ?? 0);
    const fresh = `${this.path}.new`;
    // One of a process that was killed while it wrote may have another mode.
    await rm(fresh, { force: true });
    const file = await open(fresh, "wx", 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, this.path);
    // Windows syncs no directory.
    if (process.platform === "win32") return;
    const directory = await open(dirname(this.path), "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }

  release(): void {
    if (!held.delete(this.lock) || this.says() !== this.me) return;
    // It stays, as those of the other libraries do.
    fs.writeFileSync(this.lock, "");
  }
}

/** When a process began, as far as the system tells: its number is given again, in a container at once. */
function beginningOf(pid: number): string {
  try {
    // The name of the program is in parentheses, and may have some of its own.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").pop()!.split(" ");
    return `${fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}/${fields[19]}`;
  } catch {
    return "-";
  }
}

function lives(pid: number, since: string | undefined): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return since === undefined || since === "-" || since === beginningOf(pid);
}

/** The process that has a lock of the system on the file, if that is told. */
function lockedBy(path: string): number | undefined {
  try {
    const { ino } = fs.statSync(path);
    for (const line of fs.readFileSync("/proc/locks", "utf8").split("\n")) {
      const [, kind, , , pid, file] = line.split(/ +/);
      if (kind === "FLOCK" && file?.endsWith(`:${ino}`)) return Number(pid);
    }
  } catch {
    // There is no such list elsewhere.
  }
  return undefined;
}
