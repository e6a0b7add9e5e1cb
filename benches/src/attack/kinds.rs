//! The attacks.

use std::time::Duration;

use super::strangers::{First, Plan, Then};

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// How.
    pub means: Means,
    /// Limit of open descriptors of the program, where that is what is attacked.
    pub max_descriptors: Option<u64>,
}

/// How an attack is made.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    /// By connections that do not behave.
    Strangers(Plan),
    /// By so many sessions that drop and come back all the time.
    Reconnects {
        /// Sessions.
        sessions: usize,
        /// Loopback addresses that they come from.
        sources: u32,
    },
    /// By connections to the metrics address that do not behave; there is a health check beside them.
    Scrapers(Plan),
    /// By the backend, which stops reading for the time of the attack.
    StalledBackend,
}

const QUIET: Plan = Plan {
    first: First::Silence,
    then: Then::Silence,
    sources: 200,
    hold: 2000,
    per_second: 1000,
    reset: false,
};
/// Four gigabytes less one byte.
const HUGE: &[u8] = &[0xff; 4];

const fn strangers(name: &'static str, what: &'static str, plan: Plan) -> Kind {
    Kind {
        name,
        what,
        means: Means::Strangers(plan),
        max_descriptors: None,
    }
}

/// All of them.
pub const ALL: [Kind; 18] = [
    strangers(
        "silent",
        "2,000 connections that never speak, from 200 sources",
        QUIET,
    ),
    strangers(
        "drip",
        "2,000 connections that say one byte a second",
        Plan {
            then: Then::Drip(Duration::from_secs(1)),
            ..QUIET
        },
    ),
    strangers(
        "flood-one",
        "5,000 connections a second from one source",
        Plan {
            sources: 1,
            hold: 500,
            per_second: 5000,
            ..QUIET
        },
    ),
    strangers(
        "flood-many",
        "5,000 connections a second from 10,000 sources",
        Plan {
            sources: 10_000,
            hold: 500,
            per_second: 5000,
            ..QUIET
        },
    ),
    strangers(
        "tiny-frames",
        "20 clients that send empty packets as fast as they can",
        Plan {
            first: First::Join,
            then: Then::Pour {
                body: 0,
                reads: true,
            },
            hold: 20,
            per_second: 100,
            ..QUIET
        },
    ),
    strangers(
        "huge-length",
        "clients that announce a packet of 4 GiB, 500 a second",
        Plan {
            first: First::JoinThen(HUGE),
            hold: 100,
            per_second: 500,
            ..QUIET
        },
    ),
    strangers(
        "huge-hello",
        "strangers whose first packet is announced with 4 GiB, 500 a second",
        Plan {
            first: First::Bytes(HUGE),
            hold: 100,
            per_second: 500,
            ..QUIET
        },
    ),
    strangers(
        "slow-readers",
        "50 clients that make 16 KiB answers and read none of them",
        Plan {
            first: First::Join,
            then: Then::Pour {
                body: 16 * 1024,
                reads: false,
            },
            hold: 50,
            per_second: 200,
            ..QUIET
        },
    ),
    strangers(
        "reset-storm",
        "clients that join and are reset, 1,000 a second",
        Plan {
            first: First::Join,
            hold: 50,
            reset: true,
            ..QUIET
        },
    ),
    Kind {
        name: "reconnect-storm",
        what: "1,000 sessions from 250 sources that drop and come back all the time",
        means: Means::Reconnects {
            sessions: 1000,
            sources: 250,
        },
        max_descriptors: None,
    },
    strangers(
        "stale-hoard",
        "clients that join and leave, 2,000 a second from 10,000 sources",
        Plan {
            first: First::Join,
            sources: 10_000,
            hold: 50,
            per_second: 2000,
            ..QUIET
        },
    ),
    strangers(
        "id-scan",
        "claims of guessed ids, 1,000 a second from 10,000 sources",
        Plan {
            first: First::GuessedId,
            sources: 10_000,
            hold: 100,
            ..QUIET
        },
    ),
    strangers(
        "claim-hoard",
        "2,000 connections that claim a guessed id and say nothing more, from 200 sources",
        Plan {
            first: First::GuessedId,
            ..QUIET
        },
    ),
    strangers(
        "random-bytes",
        "random bytes for a handshake, 1,000 a second from 10,000 sources",
        Plan {
            first: First::Random,
            sources: 10_000,
            hold: 100,
            ..QUIET
        },
    ),
    Kind {
        name: "descriptors",
        what: "1,000 connections to a program that may have 300 descriptors",
        means: Means::Strangers(Plan {
            hold: 1000,
            ..QUIET
        }),
        max_descriptors: Some(300),
    },
    strangers(
        "flooding-client",
        "one client that sends 1 KiB packets as fast as it can",
        Plan {
            first: First::Join,
            then: Then::Pour {
                body: 1024,
                reads: true,
            },
            hold: 1,
            per_second: 10,
            ..QUIET
        },
    ),
    Kind {
        name: "slow-scrapers",
        what: "200 half heads at the metrics address, 1,000 a second from 200 sources",
        means: Means::Scrapers(Plan {
            first: First::Bytes(b"GET /healthz HTTP/1.1\r\nHost: "),
            hold: 200,
            ..QUIET
        }),
        max_descriptors: None,
    },
    Kind {
        name: "stalled-backend",
        what: "the backend stops reading",
        means: Means::StalledBackend,
        max_descriptors: None,
    },
];
