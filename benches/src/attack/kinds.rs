//! The attacks.

use std::time::Duration;

use super::strangers::{First, From, Plan, Then};
use crate::load::carriage::Carriage;

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// A short description.
    pub what: &'static str,
    /// How the attack is made.
    pub means: Means,
    /// A limit on the program's open descriptors, if they are the target.
    pub max_descriptors: Option<u64>,
    /// Other clients during the attack.
    pub others: Others,
    /// Additional lines of `connserver.toml`.
    pub config: &'static str,
    /// The carriage of the listener, for ordinary clients and for strangers.
    pub carriage: Carriage,
    /// The minimum duration.
    pub at_least: Duration,
    /// Whether everything goes over IPv6. A machine has only one loopback address there, so it takes a network namespace.
    pub is_over_ipv6: bool,
}

impl Kind {
    /// Returns whether it needs a program whose clients can reconnect.
    pub fn needs_resumes(&self) -> bool {
        let means = matches!(
            self.means,
            Means::Reconnects { .. } | Means::ReconnectsAndStrangers { .. }
        );
        means || !matches!(self.others, Others::Nobody | Others::Newcomers(_))
    }
}

/// Other clients, which must be admitted while the attack goes on. They are at the address of the ordinary clients unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There are none.
    Nobody,
    /// This many clients that went away before it began, and come back in its second half.
    Owners(usize),
    /// This many clients that lose their connections in the middle, and come back at once.
    Dropped(usize),
    /// This many clients that went away before it began, and come back in its second half, each from a network of its own.
    OwnersApart(usize),
    /// Like [`Self::Owners`], but strangers know their ids, and their responses take [`ROUND_TRIP`].
    KnownOwners(usize),
    /// This many newcomers in its second half, from two networks. Attackers that come from many networks have these two as well.
    Newcomers(usize),
}

impl Others {
    /// Returns how many they are.
    pub fn count(self) -> usize {
        match self {
            Others::Nobody => 0,
            Others::Owners(count)
            | Others::Dropped(count)
            | Others::OwnersApart(count)
            | Others::KnownOwners(count)
            | Others::Newcomers(count) => count,
        }
    }
}

/// How an attack is made.
#[derive(Clone, Copy, Debug)]
pub enum Means {
    /// By misbehaving connections.
    Strangers(Plan),
    /// By sessions that keep dropping and coming back.
    Reconnects {
        /// The number of sessions.
        sessions: usize,
        /// The number of loopback addresses that they come from.
        sources: u32,
    },
    /// By misbehaving connections to the metrics address, while a health check runs.
    Scrapers(Plan),
    /// By sessions that keep dropping and coming back, each from an IPv4 /24 of its own, together with misbehaving connections.
    ReconnectsAndStrangers {
        /// The number of sessions.
        sessions: usize,
        /// The number of loopback addresses that they come from.
        sources: u32,
        /// The connections.
        plan: Plan,
    },
    /// By the backend, which stops reading during the attack.
    StalledBackend,
    /// By the backend, which stops reading, and by misbehaving connections.
    StalledBackendBeside(Plan),
}

impl Means {
    /// Returns true if the backend does not read during the attack, so that there is no echo.
    pub fn stalls_backend(&self) -> bool {
        matches!(self, Means::StalledBackend | Means::StalledBackendBeside(_))
    }
}

/// How long [`Others::KnownOwners`] take to answer a challenge.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);

const QUIET: Plan = Plan {
    first: First::Silence,
    then: Then::Silence,
    from: From::Elsewhere,
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
        others: Others::Nobody,
        config: "",
        carriage: Carriage::Tcp,
        at_least: Duration::ZERO,
        is_over_ipv6: false,
    }
}

/// Strangers at a door.
const fn at_door(carriage: Carriage, kind: Kind) -> Kind {
    Kind { carriage, ..kind }
}

/// A PING without a payload, masked with zeros.
const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
/// A fragment without a payload, and not the last.
const FRAGMENT: &[u8] = &[0x00, 0x80, 0, 0, 0, 0];
/// The beginning of a hello of 508 bytes.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

const fn with_others(kind: Kind, others: Others, config: &'static str) -> Kind {
    Kind {
        others,
        config,
        ..kind
    }
}

/// A packet of one byte.
const PACKET: &[u8] = &[1, 0, 0, 0, 7];

/// A packet of 16 KiB, its length first.
const LARGE_PACKET: &[u8] = &{
    let mut frame = [7; 4 + 16 * 1024];
    (frame[0], frame[1], frame[2], frame[3]) = (0, 64, 0, 0);
    frame
};

/// Clients of one network that join, say something and leave.
const STALE_WIDE: Plan = Plan {
    first: First::JoinThen(PACKET),
    from: From::OneNetwork,
    sources: 254,
    hold: 50,
    per_second: 800,
    ..QUIET
};

/// All attacks.
pub const ALL: [Kind; 31] = [
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
        others: Others::Nobody,
        config: "",
        carriage: Carriage::Tcp,
        at_least: Duration::ZERO,
        is_over_ipv6: false,
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
        others: Others::Nobody,
        config: "",
        carriage: Carriage::Tcp,
        at_least: Duration::ZERO,
        is_over_ipv6: false,
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
        others: Others::Nobody,
        config: "",
        carriage: Carriage::Tcp,
        at_least: Duration::ZERO,
        is_over_ipv6: false,
    },
    Kind {
        name: "stalled-backend",
        what: "the backend stops reading",
        means: Means::StalledBackend,
        max_descriptors: None,
        others: Others::Nobody,
        config: "",
        carriage: Carriage::Tcp,
        at_least: Duration::ZERO,
        is_over_ipv6: false,
    },
    with_others(
        strangers(
            "stale-wide",
            "clients that join, say something and leave, 800 a second from one IPv4 /24, where 1,000 may be away",
            STALE_WIDE,
        ),
        Others::Owners(50),
        "[clients]\nmax_stale_clients = 1000\n",
    ),
    Kind {
        is_over_ipv6: true,
        ..with_others(
            strangers(
                "stale-wide-ipv6",
                "clients that join, say something and leave, 800 a second from one IPv6 /48, where 1,000 may be away",
                STALE_WIDE,
            ),
            Others::Owners(50),
            "[clients]\nmax_stale_clients = 1000\n",
        )
    },
    with_others(
        strangers(
            "nat-penalty",
            "random bytes for a handshake, 20 a second from the address of the others",
            Plan {
                first: First::Random,
                from: From::Beside,
                hold: 10,
                per_second: 20,
                ..QUIET
            },
        ),
        Others::Owners(50),
        "",
    ),
    Kind {
        // The first half fills the places.
        at_least: Duration::from_secs(16),
        ..with_others(
            strangers(
                "nat-stale",
                "clients that join and leave, 40 a second from the address of the others, where 256 may be away",
                Plan {
                    first: First::Join,
                    from: From::Beside,
                    hold: 5,
                    per_second: 40,
                    ..QUIET
                },
            ),
            Others::Dropped(50),
            "",
        )
    },
    with_others(
        Kind {
            name: "resume-storm",
            what: "80 sessions that drop and come back all the time from 60 networks, and 600 joins a second from one",
            means: Means::ReconnectsAndStrangers {
                sessions: 80,
                sources: 60,
                plan: Plan {
                    first: First::Join,
                    from: From::OneNetwork,
                    sources: 60,
                    hold: 3000,
                    per_second: 600,
                    ..QUIET
                },
            },
            max_descriptors: None,
            others: Others::Nobody,
            config: "",
            carriage: Carriage::Tcp,
            at_least: Duration::ZERO,
            is_over_ipv6: false,
        },
        Others::Newcomers(50),
        "",
    ),
    with_others(
        strangers(
            "full-house",
            "strangers join and stay until no more get in, 1,500 a second from 200 networks, where 1,800 connections may be",
            Plan {
                first: First::Join,
                from: From::Apart,
                hold: 10_000,
                per_second: 1500,
                ..QUIET
            },
        ),
        Others::OwnersApart(100),
        "max_connections = 1800\n",
    ),
    with_others(
        strangers(
            "claim-void",
            "claims of the ids of clients that come back with a round trip of 100 ms, 1,000 a second from 60 networks",
            Plan {
                first: First::KnownId,
                from: From::Apart,
                sources: 60,
                ..QUIET
            },
        ),
        Others::KnownOwners(10),
        "",
    ),
    with_others(
        Kind {
            means: Means::StalledBackendBeside(Plan {
                first: First::JoinThen(LARGE_PACKET),
                from: From::Apart,
                sources: 60,
                hold: 50,
                per_second: 500,
                ..QUIET
            }),
            ..strangers(
                "close-wait",
                "the backend stops reading, and clients join, say 16 KiB and leave, 500 a second from 60 networks, where 600 connections may be",
                QUIET,
            )
        },
        Others::Newcomers(50),
        "max_connections = 600\n[master]\nchannel_capacity = 200\n",
    ),
    at_door(
        Carriage::Tls,
        strangers(
            "tls-half-hellos",
            "2,000 connections that say half a TLS hello, from 200 sources",
            Plan {
                first: First::Bytes(HALF_HELLO),
                ..QUIET
            },
        ),
    ),
    at_door(
        Carriage::Tls,
        strangers(
            "tls-hellos",
            "TLS hellos that make the edge compute a key exchange, 5,000 a second from 10,000 sources",
            Plan {
                first: First::Hello,
                sources: 10_000,
                hold: 500,
                per_second: 5000,
                ..QUIET
            },
        ),
    ),
    at_door(
        Carriage::WebSocket,
        strangers(
            "ws-half-heads",
            "2,000 connections that say one byte of a header a second, from 200 sources",
            Plan {
                first: First::Bytes(b"GET / HTTP/1.1\r\nHost: edge\r\nX: "),
                then: Then::Drip(Duration::from_secs(1)),
                ..QUIET
            },
        ),
    ),
    at_door(
        Carriage::WebSocket,
        strangers(
            "ws-pings",
            "50 WebSockets that send PINGs as fast as they can, and open again",
            Plan {
                first: First::Upgrade(&[]),
                then: Then::Repeat(PING),
                sources: 10_000,
                hold: 50,
                per_second: 200,
                ..QUIET
            },
        ),
    ),
    at_door(
        Carriage::WebSocket,
        strangers(
            "ws-fragments",
            "50 WebSockets that send empty fragments as fast as they can, and open again",
            Plan {
                first: First::Upgrade(&[0x02, 0x80, 0, 0, 0, 0]),
                then: Then::Repeat(FRAGMENT),
                sources: 10_000,
                hold: 50,
                per_second: 200,
                ..QUIET
            },
        ),
    ),
];
