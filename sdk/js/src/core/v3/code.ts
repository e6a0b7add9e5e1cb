// Codes of version 3 (SPEC 25.2).

/** Why a session ended, or a connection. The hundreds say what to do about it. */
export const Code = {
  goodbye: 0,
  cold: 1,
  goingAway: 101,
  parked: 201,
  busy: 204,
  notHere: 206,
  gone: 301,
  expired: 302,
  stale: 310,
  ahead: 311,
  takenOver: 402,
  protocol: 403,
  tooLong: 404,
  /** The library's own, never on the wire: the edge has another key than the pinned one. */
  otherEdge: 490,
  /** The library's own, never on the wire: somebody else resumed the session. */
  conflict: 491,
} as const;

export function isCode(code: number): boolean {
  return code === 0 || (code >= 100 && code <= 699);
}

/** Returns whether a new session may begin after an end with this code. */
export function mayStartOver(code: number): boolean {
  const hundreds = Math.floor(code / 100);
  return hundreds === 3 || hundreds === 5;
}

const NAMES = new Map<number, string>([
  [0, "goodbye"],
  [101, "going away"],
  [104, "edge restarts"],
  [201, "parked"],
  [202, "backend down"],
  [203, "source too fast"],
  [204, "busy"],
  [206, "not here"],
  [301, "gone"],
  [302, "expired"],
  [303, "ring full"],
  [304, "said goodbye"],
  [305, "numbers do not fit"],
  [306, "memory limit"],
  [307, "too many away"],
  [310, "stale"],
  [311, "ahead"],
  [401, "kicked"],
  [402, "taken over"],
  [403, "protocol error"],
  [404, "packet too long"],
  [405, "token refused"],
  [406, "version"],
  [490, "other edge"],
  [491, "conflict"],
]);

/** Returns the code with its name, for people. */
export function codeName(code: number): string {
  const name = NAMES.get(code) ?? (code >= 500 && code < 700 ? "of the application" : undefined);
  return name === undefined ? `${code}` : `${code} ${name}`;
}
