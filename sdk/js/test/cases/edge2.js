// The edge's end of the cases of a client of version 2 (sim/cases/client.txt).
import { DEFAULTS, Machine } from "../../dist/machine.js";
import { decode, encode, openWithNonce, sealWithNonce, sessionKey } from "../../dist/core/handshake.js";
import { KeyPair } from "../../dist/core/keys.js";
import { Failed, Side, duration, expect, middle, plain } from "./language.js";

const ID = 0x0102030405060708n;
const SECRET = new Uint8Array(32).fill(0x5c);
const STATES = {
  AwaitKey: "key",
  AwaitId: "id",
  AwaitChallenge: "challenge",
  AwaitPing: "ping",
  Established: "open",
  Waiting: "waiting",
  Ended: "over",
};
const same = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0;

function tell(event) {
  switch (event.type) {
    case "connected":
      return ["id"];
    case "resumed":
      return ["return"];
    case "packet":
      return [Buffer.from(event.data).toString("hex")];
    default:
      return [];
  }
}

export class World2 {
  keys = KeyPair.of(new Uint8Array(32).fill(0x11));
  other = KeyPair.of(new Uint8Array(32).fill(0x22));
  theirs;
  challenges = 0;

  constructor(_config, chunk) {
    this.machine = new Machine({ ...DEFAULTS, versions: "2" }, middle);
    this.side = new Side(this.machine, chunk, tell);
  }

  shared() {
    return sessionKey(this.keys.agree(this.theirs ?? this.keys.public));
  }

  item(word) {
    switch (word) {
      case "key":
        return encode({ name: "PubKey", point: this.keys.public });
      case "key:other":
        return encode({ name: "PubKey", point: this.other.public });
      case "id":
        return encode({ name: "ClientId", id: ID });
      case "challenge":
      case "challenge:wrong":
      case "challenge:short": {
        this.challenges += 1;
        const key = word === "challenge:wrong" ? sessionKey(this.other.agree(this.keys.public)) : this.shared();
        const secret = word === "challenge:short" ? SECRET.slice(1) : SECRET;
        const sealed = sealWithNonce(key, new Uint8Array(24).fill(this.challenges), secret);
        return encode({ name: "Challenge", sealed });
      }
      default:
        return plain(word);
    }
  }

  sends(word) {
    const body = this.side.bodies.next();
    const came = body && Buffer.from(body).toString("hex");
    if (word === "nothing") return expect(!body, `${came} came`);
    expect(body, "nothing came");
    expect(this.isSent(word, body), `${came} came`);
  }

  isSent(word, body) {
    switch (word) {
      case "key":
        this.theirs = decode(body).point;
        return this.theirs.length === 33;
      case "claim":
        return decode(body).id === ID;
      case "response": {
        const { sealed } = decode(body);
        const isFresh = !same(sealed.slice(48), new Uint8Array(24).fill(this.challenges));
        return isFresh && same(openWithNonce(this.shared(), sealed), SECRET);
      }
      default:
        return same(plain(word).slice(4), body);
    }
  }

  step(line) {
    const { machine, side } = this;
    const [who, verb, ...rest] = line;
    switch (`${who} ${verb}`) {
      case "client connects":
        side.waitUntilItDials();
        side.bodies = new side.bodies.constructor();
        machine.connected(side.now, side.form(new Uint8Array(32).fill(8)));
        break;
      case "client cannot":
        side.waitUntilItDials();
        machine.connectFailed(side.now);
        break;
      case "client sends":
        return rest.forEach((word) => this.sends(word));
      case "client is":
        return expect(machine.state === STATES[rest[0]] || this.isConnecting(rest[0]), `it is ${machine.state}`);
      case "client gets": {
        const found = side.events.shift();
        const wanted = ["id", "return"].includes(rest[0]) ? rest[0] : Buffer.from(plain(rest[0])).toString("hex");
        return expect(found === wanted, `it got ${found}`);
      }
      case "application sends":
        machine.send(plain(rest[0]));
        break;
      case "application starts":
        expect(machine.startOver(), "it may not start over");
        break;
      case "edge sends":
        side.deliver(Buffer.concat(rest.map((word) => this.item(word))));
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

  isConnecting(state) {
    return state === "Waiting" && this.machine.state === "connecting";
  }

  left() {
    const { events, bodies } = this.side;
    return events.length > 0 || bodies.next() ? `${events} came` : undefined;
  }
}
