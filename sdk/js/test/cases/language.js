// The language of sim/cases (see its README.md).
import { readFileSync } from "node:fs";
import { frame } from "../../dist/core/wire.js";
import { encode } from "../../dist/core/handshake.js";

export class Failed extends Error {}

export function expect(isRight, what) {
  if (!isRight) throw new Failed(what);
}

const UNITS = { us: 0.001, ms: 1, s: 1_000, h: 3_600_000 };

export function duration(text) {
  const [, number, unit] = /^(\d+)(\w+)$/.exec(text);
  return Number(number) * UNITS[unit];
}

/** Splits at blanks outside of quotes and brackets; # begins a comment. */
function words(line) {
  const found = [];
  let word = "";
  let closing;
  for (const character of line) {
    if (!closing && character === "#" && !word) break;
    if (!closing && character === " ") {
      if (word) found.push(word);
      word = "";
      continue;
    }
    if (!closing) closing = { '"': '"', "[": "]" }[character];
    else if (character === closing) closing = undefined;
    word += character;
  }
  return word ? [...found, word] : found;
}

/** Returns { name, config, steps } of each case, once for each of its values. */
export function readCases(file) {
  const cases = [];
  for (const [at, text] of readFileSync(file, "utf8").split("\n").entries()) {
    const line = words(text);
    const last = cases[cases.length - 1];
    if (line.length === 0) continue;
    if (line[0] === "case") cases.push({ name: line[1], config: {}, each: undefined, steps: [] });
    else if (line[0] === "each") last.each = [line[1], line.slice(3)];
    else if (line[0] === "config") last.config[line[1]] = line.slice(3).join(" ");
    else if (!["spec", "row", "core", "uncut"].includes(line[0])) last.steps.push({ number: at + 1, line });
  }
  return cases.flatMap(expanded);
}

function expanded({ name, config, each, steps }) {
  const [variable, values] = each ?? ["", [""]];
  return values.map((value) => {
    const put = (text) => (variable ? text.replaceAll(`$${variable}`, () => value) : text);
    return {
      name: `${name} ${value}`,
      config: Object.fromEntries(Object.entries(config).map(([key, text]) => [key, put(text)])),
      steps: steps.map(({ number, line }) => ({ number, line: line.map(put) })),
    };
  });
}

/** The bytes of "text" or [hex], each with an optional *N; undefined for another word. */
export function literal(word) {
  const match = /^(?:"([^"]*)"|\[([0-9a-fA-F_ ]*)\])(?:\*(\d+))?$/.exec(word);
  if (!match) return undefined;
  const [, text, digits, times] = match;
  const one = text !== undefined ? Buffer.from(text) : Buffer.from(digits.replace(/[_ ]/g, ""), "hex");
  return new Uint8Array(Buffer.concat(Array(Number(times ?? 1)).fill(one)));
}

/** The bytes of an item that does not depend on the run. */
export function plain(word) {
  const bytes = literal(word);
  if (bytes) return bytes;
  const [name, argument] = [word.split(":")[0], word.slice(word.indexOf(":") + 1)];
  switch (name) {
    case "len": {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, Number(argument), true);
      return length;
    }
    case "frame":
      return frame(plain(argument));
    case "version":
      return encode({ name: "ProtocolVersion", version: Number(argument) });
    case "ping":
      return encode({ name: "Ping" });
    case "response":
      return encode({ name: "ChallengeResponse", sealed: new Uint8Array(72) });
    case "challenge":
      return encode({ name: "Challenge", sealed: new Uint8Array(72) });
    case "claim":
      return encode({ name: "ClientId", id: BigInt(argument) });
    case "key":
      return encode({ name: "PubKey", point: literal(argument) });
  }
  throw new Failed(`${word} is no item`);
}

/** NAME:ARGUMENT,OPTION=VALUE,.../CHANGE=N/... */
export function parts(word) {
  const [head, ...changes] = word.split("/");
  const [first, ...options] = head.split(",");
  const at = first.indexOf(":");
  const [name, argument] = at < 0 ? [first, ""] : [first.slice(0, at), first.slice(at + 1)];
  return { name, argument, options: Object.fromEntries(options.map((option) => option.split("="))), changes };
}

export function spoil(body, changes) {
  let bytes = Uint8Array.from(body);
  for (const change of changes) {
    const [what, text] = change.split("=");
    const amount = Number(text);
    if (what === "flip") bytes[amount >> 3] ^= 1 << (amount & 7);
    else if (what === "cut") bytes = bytes.slice(0, amount);
    else bytes = Uint8Array.from([...bytes, ...new Uint8Array(amount)]);
  }
  return bytes;
}

/** Frames of a stream, one after the other. */
export class Bodies {
  bytes = Buffer.alloc(0);

  push(more) {
    this.bytes = Buffer.concat([this.bytes, more]);
  }

  next() {
    if (this.bytes.length < 4) return undefined;
    const length = this.bytes.readUInt32LE(0);
    if (this.bytes.length < 4 + length) return undefined;
    const body = Uint8Array.from(this.bytes.subarray(4, 4 + length));
    this.bytes = this.bytes.subarray(4 + length);
    return body;
  }
}

/** The client's end of a run: the machine, its output and its events, in virtual time. */
export class Side {
  now = 0;
  bodies = new Bodies();
  events = [];
  /** Makes bytes for the machine of others. */
  form = (bytes) => Uint8Array.from(bytes);

  constructor(machine, chunk, tell) {
    Object.assign(this, { machine, chunk, tell });
  }

  /** Completes this instant. */
  settle() {
    const { machine } = this;
    for (let turn = 0; turn < 1_000; turn++) {
      const output = machine.output(this.now).slice();
      this.bodies.push(output);
      machine.written(this.now, output.length);
      for (let event = machine.pollEvent(); event; event = machine.pollEvent()) this.events.push(...this.tell(event));
      if (machine.wantsClose()) machine.closed(this.now, true);
      else if (output.length === 0) return;
    }
    throw new Failed("there is always more to do");
  }

  deliver(bytes) {
    for (let at = 0; at < bytes.length; at += this.chunk) {
      this.machine.bytes(this.now, this.form(bytes.subarray(at, at + this.chunk)));
      this.settle();
    }
  }

  wait(time) {
    const { machine } = this;
    const until = this.now + time;
    for (let due = machine.nextTimeout(); due !== undefined && due <= until; due = machine.nextTimeout()) {
      this.now = Math.max(this.now, due);
      machine.timeout(this.now);
      this.settle();
      if (machine.state === "connecting") break;
    }
    this.now = until;
    if (machine.state !== "connecting") machine.timeout(this.now);
    this.settle();
  }

  waitUntilItDials() {
    for (let turn = 0; turn < 10_000; turn++) {
      if (this.machine.wantsConnect(this.now)) return;
      this.now += 1;
      this.machine.timeout(this.now);
      this.settle();
    }
    throw new Failed("it does not dial");
  }
}

/** Randomness for pauses: always the middle. */
export function middle(length) {
  return new Uint8Array(length).fill(0x80);
}

/** Plays cases whole and in pieces. Returns how many were played, and what failed. */
export function playAll(cases, chunks, play) {
  const failures = [];
  let played = 0;
  for (const { name, config, steps } of cases) {
    for (const chunk of chunks) {
      played += 1;
      const world = play(config, chunk);
      let failure;
      for (const { number, line } of steps) {
        try {
          world.step(line);
        } catch (error) {
          failure = `line ${number} \`${line.join(" ")}\`: ${error instanceof Failed ? error.message : error.stack}`;
          break;
        }
      }
      failure ??= world.left();
      if (failure) {
        failures.push(`${name}, in pieces of ${chunk}: ${failure}`);
        break;
      }
    }
  }
  return { played, failures };
}
