//! Violations: the rules that a run can break.

use std::fmt;

/// The first rule that a run broke, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The id of the rule in [`RULES`].
    pub id: &'static str,
    /// The section of SPEC.txt that requires it, or `-`.
    pub section: &'static str,
    /// Virtual nanoseconds since the start.
    pub at_nanos: u64,
    /// What happened, and what had to happen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_us = self.at_nanos / 1_000;
        write!(
            f,
            "{} (SPEC {}) at {at_us} us: {}",
            self.id, self.section, self.text
        )
    }
}

/// Each rule in one line.
pub const RULES: &[(&str, &str)] = &[
    (
        "S1",
        "what goes up carries the id of the client that sent it",
    ),
    (
        "S2",
        "what goes down to a connection is of the session attached to it",
    ),
    ("S3", "an id is issued once"),
    (
        "S4",
        "one connection for a session, one session for a connection",
    ),
    (
        "S5",
        "the end of a connection that was replaced changes nothing",
    ),
    (
        "S6",
        "nobody comes back without the proof for this session on this connection",
    ),
    (
        "S7",
        "a failed or unfinished attempt leaves the session as it was",
    ),
    (
        "S8",
        "a connection that is not established causes no byte on the link",
    ),
    ("S9", "up: in order, whole, nothing twice, nothing missing"),
    (
        "S10",
        "down: in order, whole, nothing twice, missing only what a dead transport had taken",
    ),
    (
        "S11",
        "what is accepted is delivered, waits, or its loss is reported",
    ),
    (
        "S12",
        "0x03 before the data of a new connection, 0x01 once and nothing after it",
    ),
    ("S13", "every end has a reason and the reason is true"),
    ("S14", "a packet for nobody is answered once at most"),
    ("S15", "nothing happens without a cause"),
    ("S16", "every cause has its effect in the same step"),
    ("B1", "an unfinished handshake holds no more than its bytes"),
    ("B2", "what waits for a client that is away is bounded"),
    ("B3", "what waits for a client is bounded"),
    ("B4", "what waits for the backend is bounded"),
    ("B5", "the bytes that the edge holds are bounded"),
    (
        "B6",
        "the edge's account of what it holds is the model's, byte for byte",
    ),
    ("B7", "bounds on all clients hold for all shards together"),
    ("T1", "nothing fires early"),
    ("T2", "what is due happens when the edge is told the time"),
    (
        "T3",
        "the edge asks to be told the time before the first thing is due",
    ),
    ("T5", "a deadline that was served is not asked for again"),
    ("H1", "no panic, no overflow"),
    ("H2", "when all is over, nothing is left"),
    ("H3", "what the edge counts is what happened"),
    ("L1", "the link comes up again"),
    ("L2", "every healthy client gets a session"),
    ("L3", "packets of healthy clients arrive, both ways"),
    ("L5", "a client whose packets all fit is read"),
    ("L6", "who comes during a flood gets in"),
    (
        "L7",
        "an edge that ends waits for what is queued, and not for longer than its time",
    ),
    (
        "L8",
        "after all connections were lost at once, all are back",
    ),
    (
        "A1",
        "the adapter is told of every connection that it must serve",
    ),
    ("A2", "calls of the adapter are bounded"),
];
