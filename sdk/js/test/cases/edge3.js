// The edge's end of the cases of a client of version 3 (sim/cases/v3/client.txt).
import { DEFAULTS, Machine } from "../../dist/machine.js";
import { Writer, concat, readU32, readU64, u32, u64, utf8 } from "../../dist/core/bytes.js";
import { KeyPair, Lane, derive, extract, open, seal, sha256 } from "../../dist/core/keys.js";
import { Type, writeType } from "../../dist/core/v3/items.js";
import { Reader, frame } from "../../dist/core/wire.js";
import { readItemUp } from "./items.js";
import { Bodies, Failed, Side, duration, expect, literal, middle, parts, plain, spoil } from "./language.js";

const RUN = new Uint8Array(8).fill(0x77);
const ID = 0x0102030405060708n;
const SUITE = utf8("voltlane 3 k256 xchacha20poly1305 sha256");
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const filled = (length, byte) => new Uint8Array(length).fill(byte);
const pair = (name) => KeyPair.of(filled(32, name === "other" ? 0x22 : 0x11));
const u16 = (value) => u32(value).slice(0, 2);

function tell(event) {
  switch (event.type) {
    case "packet":
      return [hex(event.data)];
    case "gap":
      return [`gap:${event.first}:${event.count}:${event.reason}`];
    case "skipped":
      return [`skipped:${event.count}`];
    case "resumed":
      return [`resumed:${event.missed}:${event.away}`];
    case "caughtUp":
      return ["caught_up"];
    case "ended":
      return [`end:${{ 490: "other_edge", 491: "conflict" }[event.end.code] ?? event.end.code}`];
    case "connected":
      return ["connected"];
    default:
      return [];
  }
}

/** The bytes of an item, and how many numbers it takes. */
function encode(word) {
  if (word.startsWith("times:")) {
    const [, times, ...rest] = word.split(":");
    const one = encode(rest.join(":"));
    return { bytes: concat(...Array(Number(times)).fill(one.bytes)), numbers: one.numbers * BigInt(times) };
  }
  const data = literal(word);
  const item = new Writer();
  if (data) return { bytes: item.varint(2 * data.length).put(data).take(), numbers: 1n };
  const at = word.indexOf(":");
  const [name, rest] = at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
  const fields = rest.split(":");
  let numbers = 0n;
  switch (name) {
    case "raw":
      item.put(literal(rest));
      break;
    case "pad":
      item.byte(1).zeros(Number(rest) - 1);
      break;
    case "early_end":
      writeType(item, Type.earlyEnd);
      break;
    case "ack_now":
      writeType(item, Type.ackNow);
      break;
    case "ack":
    case "skipped":
    case "superseded":
      writeType(item, Type[name]).varint(BigInt(rest));
      if (name === "superseded") numbers = BigInt(rest);
      break;
    case "token":
    case "part":
    case "volatile":
      writeType(item, Type[name]).string(literal(rest));
      break;
    case "gap":
      writeType(item, Type.gap);
      for (const field of fields) item.varint(BigInt(field));
      numbers = BigInt(fields[0]);
      break;
    case "latest":
      writeType(item, Type.latest).byte(Number(fields[0])).string(literal(fields.slice(1).join(":")));
      numbers = 1n;
      break;
    case "ping":
    case "pong":
      writeType(item, Type[name]).put(literal(rest));
      break;
    case "goaway":
      writeType(item, Type.goAway);
      for (const field of fields) item.varint(BigInt(field));
      item.byte(0);
      break;
    case "close": {
      const { argument, options } = parts(word);
      writeType(item, Type.close).varint(Number(argument));
      for (const field of ["wait", "jitter", "detail"]) item.varint(BigInt(options[field] ?? 0));
      item.zeros(14).string(literal(options.text ?? '""'));
      break;
    }
    case "item":
      item.varint(2 * Number(fields[0]) + 1).string(literal(fields.slice(1).join(":")));
      break;
    default:
      throw new Failed(`${word} is no item`);
  }
  return { bytes: item.take(), numbers };
}

/** An item as words that can be compared. */
function shown(item) {
  switch (item.type) {
    case "packet":
    case "part":
    case "volatile":
    case "token":
      return `${item.type}:${hex(item.data)}`;
    case "ping":
    case "pong":
      return `${item.type}:${hex(item.bytes)}`;
    case "close":
      return `close:${item.code}:${item.detail}`;
    default:
      return item.type;
  }
}

export class World3 {
  draws = 0;
  ids = 0;
  session;
  line = { come: [], acked: 0n };
  marks = { join: filled(8, 0), foreign: filled(8, 0xff) };

  constructor(config, chunk) {
    this.config = config;
    this.machine = new Machine(
      {
        ...DEFAULTS,
        versions: config.versions ? "3 or 2" : "3",
        edgeKeys: config.pin ? [pair(config.pin).public] : [],
        trustFirstUse: config.token !== undefined,
        takeOver: config.takes_over === "true",
        maxReceive: Number(config.longest ?? DEFAULTS.maxReceive),
        padding: config.padding === "true",
      },
      middle,
    );
    if (config.token) this.machine.setToken(literal(config.token));
    this.side = new Side(this.machine, chunk, tell);
  }

  random(length) {
    this.draws += 1;
    return filled(length, 0x32 + this.draws);
  }

  // What the client sends.

  body() {
    return this.side.bodies.next();
  }

  /** The next item; "empty" for a record without one. */
  item() {
    while (this.line.come.length === 0) {
      const body = this.body();
      if (!body) return undefined;
      expect(this.line.opener, `${hex(body)} came`);
      this.record(body);
    }
    return this.line.come.shift();
  }

  record(body) {
    const { line, session } = this;
    const opened = line.opener.open(line.nextUp, body);
    expect(opened, "a record that does not open");
    const reader = new Reader(opened);
    if (reader.rest === 0) line.come.push({ type: "empty" });
    let endsEarly = false;
    while (reader.rest > 0) {
      const one = readItemUp(reader);
      if (one.type === "packet") line.nextUp += 1n;
      if (line.nextUp - 1n > session.received) session.received = line.nextUp - 1n;
      if (one.type === "ack") line.acked += one.count;
      else if (!["ackNow", "pad", "ignored"].includes(one.type)) line.come.push(one);
      endsEarly ||= one.type === "earlyEnd";
    }
    if (!endsEarly) return;
    const last = line.nextUp - 1n;
    line.opener = new Lane(line.up);
    line.nextUp = (line.toldUp > last ? line.toldUp : last) + 1n;
    session.accepted = session.accepted.slice(-1);
  }

  sends(word) {
    const { name, argument, options } = literal(word) ? {} : parts(word);
    if (word === "nothing") {
      const one = this.item();
      return expect(!one, `${one && shown(one)} came`);
    }
    if (name === "version") {
      const body = this.body();
      return expect(body && hex(frame(body)) === hex(plain(word)), `${body && hex(body)} came`);
    }
    if (name === "hello") return this.hello(options);
    if (name === "claim") return this.claim(options);
    if (name === "joined") return this.joined(literal(argument));
    const one = this.item();
    expect(one, "nothing came");
    if (name === "close") {
      expect(one.type === "close" && one.code === Number(argument), `${shown(one)} came`);
      const { up, down } = one;
      for (const counts of [up, down]) {
        const { numbered, acknowledged, superseded, gapped, openSent, openUnsent } = counts;
        const sum = acknowledged + superseded + gapped + openSent + openUnsent;
        expect(numbered === sum, `a ledger that does not add up: ${numbered} and ${sum}`);
      }
      return expect(!options.detail || one.detail === BigInt(options.detail), `${shown(one)} came`);
    }
    if (word === "empty" || word === "ping") return expect(one.type === word, `${shown(one)} came`);
    const wanted = shown(readItemUp(new Reader(encode(word).bytes)));
    expect(shown(one) === wanted, `${shown(one)} came`);
  }

  joined(whole) {
    const pieces = [];
    let one = this.item();
    for (; one?.type === "part"; one = this.item()) pieces.push(one.data);
    expect(one?.type === "packet" && hex(concat(...pieces, one.data)) === hex(whole), "other bytes came");
  }

  hello(options) {
    const body = this.body();
    expect(body && body[0] === 0x10 && body.length >= 42, "no Hello came");
    const features = readU32(body, 1);
    expect((features & 0xffffff) === 0 && Math.log2(features) % 1 === 0, "the features");
    if (options.hint) expect(hex(body.slice(5, 9)) === hex(literal(options.hint)), "the hint");
    if (options.longest) {
      expect(hex(body.slice(42)) === hex(concat(Uint8Array.of(1, 4), u32(Number(options.longest)))), "the extension");
    }
    this.line.hello = body;
  }

  claim(options) {
    const { line, session } = this;
    const body = this.body();
    expect(body && body[0] === 0x12 && body.length === 109, "no Claim came");
    expect(hex(body.slice(1, 5)) === hex(sha256(pair("edge").public).slice(0, 4)), "the hint");
    const key = derive(session.claimKey, "seal");
    const position = open(key, body.slice(21, 45), body.slice(0, 45), body.slice(45));
    expect(position, "a Claim that does not open");
    expect(readU64(position, 8) === 0n && readU64(position, 40) === 0n, "a reserved field");
    expect(hex(position.slice(16, 24)) === hex(RUN), "the run");
    const found = { counter: readU64(position, 0), first: readU64(position, 24), received: readU64(position, 32) };
    for (const [option, value] of Object.entries(options)) {
      expect(found[option] === BigInt(value), `${option} is ${found[option]}`);
    }
    const tc = sha256(utf8("voltlane 3 resume"), body);
    while (BigInt(session.chain.length) < found.counter) session.chain.push(derive(session.chain.at(-1), "next"));
    const secret = session.chain[Number(found.counter) - 1];
    this.marks[found.counter] = tc.slice(0, 8);
    line.opener = new Lane(derive(secret, "early", tc));
    line.nextUp = found.first;
    line.claim = { tc, secret, received: found.received };
  }

  // What the edge sends.

  packet(word) {
    const { name, argument, options, changes } = literal(word) ? {} : parts(word);
    switch (name) {
      case "welcome":
        return frame(spoil(this.welcome(argument), changes));
      case "answer":
        return frame(spoil(this.answer(Number(argument), options, changes), changes));
      case "busy":
        return frame(concat(Uint8Array.of(0x14), u16(Number(argument)), u32(Number(options.wait ?? 0))));
      default:
        return plain(word);
    }
  }

  welcome(whose) {
    const edge = pair(whose || "edge");
    const ephemeral = KeyPair.of(this.random(32));
    const { hello } = this.line;
    const th = sha256(utf8("voltlane 3 join"), hello, ephemeral.public, edge.public);
    const theirs = hello.slice(9, 42);
    const prk = extract(SUITE, concat(ephemeral.agree(theirs), edge.agree(theirs)));
    const set = (name, usual) => Number(this.config[`welcome.${name}`] ?? usual);
    const claimKey = filled(32, 0xc0 + this.ids);
    const ints = [
      ["features", 0],
      ["longest", 1 << 20],
      ["ring_packets", 8_192],
      ["ring_bytes", 1 << 20],
      ["window", 300],
    ];
    const settings = concat(
      concat(u64(ID + BigInt(this.ids)), claimKey, filled(16, 0xa1), RUN, u64(BigInt(set("reserved", 0)))),
      ...ints.map(([name, usual]) => u32(set(name, usual))),
      concat(u16(set("ack_delay", 250)), u16(set("keep_alive", 20)), filled(set("more", 0), 0xee)),
    );
    this.ids += 1;
    this.session = {
      claimKey,
      chain: [derive(prk, "rs1", th)],
      received: 0n,
      sent: 0n,
      accepted: [this.marks.join],
    };
    const { line } = this;
    line.opener = new Lane(derive(prk, "up", th));
    line.sealer = new Lane(derive(prk, "down", th));
    line.nextUp = line.nextDown = 1n;
    const sealed = seal(derive(prk, "hs", th), filled(24, 0), th, settings);
    return concat(Uint8Array.of(0x11), ephemeral.public, edge.public, sealed);
  }

  answer(code, options, changes) {
    const { line, session } = this;
    const { tc, secret, received } = line.claim;
    const handle = filled(16, 0xa1 + this.draws);
    const field = (name) => BigInt(options[name] ?? 0);
    const verdict = concat(
      concat(u16(code), u16(0), u64(field("highest")), u32(Number(field("wait"))), u32(Number(field("jitter")))),
      concat(RUN, handle, u64(field("up")), u64(field("down")), filled(68 + Number(field("more")), 0)),
    );
    const nonce = this.random(24);
    const head = concat(Uint8Array.of(0x13), nonce);
    const body = concat(head, seal(derive(session.claimKey, "answer", tc), nonce, head, verdict));
    if (code !== 0 || changes.length > 0) return body;
    // The early records count from here.
    for (let early = this.body(); early; early = this.body()) this.record(early);
    const tr = sha256(tc, body);
    line.up = derive(secret, "up", tr);
    line.sealer = new Lane(derive(secret, "down", tr));
    line.nextDown = received + 1n;
    session.accepted.push(tc.slice(0, 8));
    return body;
  }

  resumed(word) {
    const { options } = parts(word);
    const { session, line } = this;
    const named = options.marks?.split("+").map((name) => this.marks[name]);
    const marks = concat(...(named ?? session.accepted.slice(0, -1)));
    line.toldUp = BigInt(options.up ?? session.received);
    const item = writeType(new Writer(), Type.resumed);
    item.varint(BigInt(options.until ?? session.sent)).varint(line.toldUp);
    return item.varint(BigInt(options.away ?? 0)).varint(BigInt(options.cause ?? 0)).string(marks).take();
  }

  seals(how, words) {
    const { line, session } = this;
    const bit = how === "spoils" ? words.shift() : undefined;
    let numbers = 0n;
    const items = words.map((word) => {
      if (word === "nothing") return new Uint8Array(0);
      if (word.startsWith("resumed")) return this.resumed(word);
      const one = encode(word);
      numbers += one.numbers;
      return one.bytes;
    });
    let body = line.sealer.seal(line.nextDown + (how === "miscounts" ? 1n : 0n), concat(...items));
    line.nextDown += numbers;
    if (line.nextDown - 1n > session.sent) session.sent = line.nextDown - 1n;
    if (bit !== undefined) body = spoil(body, [`flip=${bit}`]);
    line.last = frame(body);
    if (how !== "skips") this.side.deliver(line.last);
  }

  step(line) {
    const { machine, side } = this;
    const [who, verb, ...rest] = line;
    switch (`${who} ${verb}`) {
      case "client connects":
        side.waitUntilItDials();
        this.line = { come: [], acked: 0n };
        side.bodies = new Bodies();
        machine.connected(side.now, side.form(this.random(32)));
        break;
      case "client cannot":
        side.waitUntilItDials();
        machine.connectFailed(side.now);
        break;
      case "client dials":
        return expect(machine.wantsConnect(side.now), `it is ${machine.state}`);
      case "client rests":
        return expect(!machine.wantsConnect(side.now) && machine.state === "waiting", `it is ${machine.state}`);
      case "client sends":
        return rest.forEach((word) => this.sends(word));
      case "client acknowledges":
        for (let body = this.body(); body; body = this.body()) this.record(body);
        return expect(this.line.acked === BigInt(rest[0]), `${this.line.acked} is acknowledged`);
      case "client is": {
        const found = machine.state === "connecting" ? "waiting" : machine.state;
        return expect(found === rest[0], `it is ${found}`);
      }
      case "client gets":
        if (rest[0] === "nothing") return expect(side.events.length === 0, `it got ${side.events}`);
        for (const word of rest) {
          const data = literal(word);
          const found = side.events.shift();
          expect(found === (data ? hex(data) : word), `it got ${found}`);
        }
        return;
      case "application sends":
        for (const word of rest) machine.send(literal(word));
        break;
      case "application takes":
        machine.take(side.now, BigInt(rest[0]));
        break;
      case "application closes":
        machine.close(side.now);
        break;
      case "application starts":
        expect(machine.startOver(), "it may not start over");
        break;
      case "edge sends":
        side.deliver(Buffer.concat(rest.map((word) => this.packet(word))));
        break;
      case "edge seals":
      case "edge spoils":
      case "edge skips":
      case "edge miscounts":
        this.seals(verb, rest);
        break;
      case "edge repeats":
        side.deliver(this.line.last);
        break;
      case "edge ends":
      case "edge breaks":
        machine.closed(side.now, verb === "ends");
        break;
      default:
        if (who !== "wait") throw new Failed("this line means nothing");
        side.wait(duration(verb));
    }
    side.settle();
  }

  left() {
    const { events } = this.side;
    if (events.length > 0) return `${events} came`;
    const one = this.item();
    return one && `${shown(one)} came`;
  }
}
