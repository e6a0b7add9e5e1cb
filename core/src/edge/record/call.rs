//! The records: what an edge was told (SPEC 42.2).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::borrow::Cow;

use ipnet::IpNet;

use crate::Closed;
use crate::edge::config::EdgeConfig;
use crate::edge::conns::conn::ConnKey;
use crate::edge::lifecycle::last_words::GoAwayCode;
use crate::edge::table::slab::Key;
use crate::id::ClientId;
use crate::link::v3::LinkSecret;

/// In a record, the connection that was named or polled last.
const SAME_CONN: u64 = 0;
/// No connection.
pub(super) const NO_CONN: ConnKey = ConnKey(Key {
    index: u32::MAX,
    generation: 0,
});
/// The kind of [`Call::NoDuty`].
pub(super) const NO_DUTY: u8 = 34;
/// The kind of [`Call::PollClient`].
pub(super) const POLL_CLIENT: u8 = 11;
/// The bit of a record's kind that says that time has gone on.
const LATER: u8 = 0x80;
/// In the place of the length of a secret: there is none.
const NO_SECRET: u64 = 0;

/// A call of the adapter, with what it told. Each is described at the method of [`Edge`](crate::edge::Edge) of nearly its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call<'a> {
    /// The machine was made.
    Begin {
        /// Its configuration.
        config: Cow<'a, EdgeConfig>,
        /// Its secret key.
        keys: &'a [u8; 32],
        /// Its seed.
        seed: &'a [u8; 32],
    },
    /// `set_term`
    Term(u32),
    /// `set_earlier_runs`, one behind the other.
    EarlierRuns(&'a [u8]),
    /// `keep_sessions`
    KeepSessions,
    /// `restore`, with the snapshot as it was opened.
    Restore(&'a [u8]),
    /// `handle_accepted_at`. The answer tells the number of the connection, or why there is none.
    Accepted {
        /// The number of the listener.
        listener: usize,
        /// The address of the peer.
        peer: IpAddr,
        /// Whether a PROXY header comes, if the adapter tells.
        introduced: Option<bool>,
    },
    /// `handle_client_bytes`
    ClientBytes {
        /// The connection.
        conn: ConnKey,
        /// What was read.
        bytes: &'a [u8],
    },
    /// `handle_client_ending`
    ClientEnding {
        /// The connection.
        conn: ConnKey,
    },
    /// `handle_client_closed`
    ClientClosed {
        /// The connection.
        conn: ConnKey,
        /// How it ended.
        cause: Closed,
    },
    /// `client_duty`. There is a record of it only where the adapter asks otherwise than it should: not of the connection that was polled, or
    /// of which something was written.
    ClientDuty {
        /// The connection.
        conn: ConnKey,
    },
    /// `handle_client_written`. The answer is a digest of the bytes.
    ClientWritten {
        /// The connection.
        conn: ConnKey,
        /// How many bytes its transport took.
        bytes: usize,
    },
    /// `poll_client`. The answer is 1 more than the number of the connection, or 0.
    PollClient,
    /// `handle_client_overhead`
    Overhead {
        /// The connection.
        conn: ConnKey,
        /// How many bytes.
        bytes: usize,
    },
    /// `handle_client_held`
    Held {
        /// The connection.
        conn: ConnKey,
        /// How many bytes.
        bytes: usize,
    },
    /// `admit_handshake`. The answer is 1 if it was.
    AdmitHandshake,
    /// `handle_entropy`
    Entropy {
        /// The connection.
        conn: ConnKey,
        /// The entropy.
        random: &'a [u8; 32],
    },
    /// `handle_timeout`
    Timeout,
    /// `handle_config`
    Config(Cow<'a, EdgeConfig>),
    /// `handle_leaving`
    Leaving {
        /// Whether it restarts.
        restarts: bool,
        /// Within what time.
        within: Duration,
    },
    /// `handle_shutdown`
    Shutdown {
        /// Within what time.
        within: Duration,
    },
    /// `handle_kick`. The answer is 1 if there was one.
    Kick {
        /// The session.
        id: ClientId,
        /// The code.
        code: u16,
        /// How long its client is to wait.
        wait_ms: u32,
        /// Words for people.
        text: &'a str,
    },
    /// `handle_ban`. The answer is 1 if it is banned.
    Ban {
        /// The network.
        network: IpNet,
        /// For how long.
        within: Option<Duration>,
        /// Words for people.
        note: &'a str,
    },
    /// `handle_unban`. The answer is 1 if it was banned.
    Unban(IpNet),
    /// `handle_drain`
    Drain(Option<Duration>),
    /// `handle_link_connecting`
    LinkConnecting,
    /// `handle_link_connected`
    LinkConnected,
    /// `handle_link_closed`
    LinkClosed(Closed),
    /// `handle_link_bytes`
    LinkBytes(&'a [u8]),
    /// `handle_link_written`. The answer is a digest of the bytes.
    LinkWritten {
        /// How many bytes the link took.
        bytes: usize,
    },
    /// `save`
    Save,
    /// No call: the answer is a digest of all counters.
    Check,
    /// No call: the recording ends here.
    End,
    /// No call: the segment ends here. The answer is a digest of the image with which the next one begins.
    Turn,
    /// No call: a later segment begins, with this image of the machine.
    Image(&'a [u8]),
    /// No call: the adapter has not asked for the duty for which it should have.
    NoDuty,
}

/// Appends a number: seven bits in a byte, the lowest first, and the highest bit where more follow.
#[inline(always)]
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        Ok(low @ ..0x80) => out.push(low),
        _ => put_large(out, number),
    }
}

#[inline(never)]
fn put_large(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[inline(always)]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a connection: its number, from 1, and the number of those before it that had the same; or [`SAME_CONN`]. It is the last one now.
#[inline(always)]
fn put_conn(out: &mut Vec<u8>, conn: ConnKey, last: &mut ConnKey) {
    if core::mem::replace(last, conn) == conn {
        return put_number(out, SAME_CONN);
    }
    put_number(out, u64::from(conn.0.index) + 1);
    put_number(out, conn.0.generation.into());
}

#[inline(always)]
fn put_sized(out: &mut Vec<u8>, conn: ConnKey, bytes: usize, last: &mut ConnKey) {
    put_conn(out, conn, last);
    put_number(out, bytes as u64);
}

#[inline(always)]
fn put_time(out: &mut Vec<u8>, time: Duration) {
    put_number(out, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// Appends 0, or 1 and the time.
fn put_maybe_time(out: &mut Vec<u8>, time: Option<Duration>) {
    match time {
        None => out.push(0),
        Some(time) => {
            out.push(1);
            put_time(out, time);
        }
    }
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
}

fn put_network(out: &mut Vec<u8>, network: IpNet) {
    put_address(out, network.addr());
    out.push(network.prefix_len());
}

pub(super) fn put_config(out: &mut Vec<u8>, config: &EdgeConfig) {
    let json = serde_json::to_vec(config).expect("a configuration has names and numbers");
    put_bytes(out, &json);
    match &config.master.secret {
        None => put_number(out, NO_SECRET),
        Some(secret) => put_bytes(out, secret.bytes()),
    }
}

const fn of_closed(cause: Closed) -> u8 {
    match cause {
        Closed::Eof => 0,
        Closed::Error => 1,
        Closed::Asked => 2,
        Closed::Violation => 3,
    }
}

impl<'a> Call<'a> {
    /// Returns the number of its kind.
    const fn kind(&self) -> u8 {
        match self {
            Call::Begin { .. } => 0,
            Call::Term(_) => 1,
            Call::EarlierRuns(_) => 2,
            Call::KeepSessions => 3,
            Call::Restore(_) => 4,
            Call::Accepted { .. } => 5,
            Call::ClientBytes { .. } => 6,
            Call::ClientEnding { .. } => 7,
            Call::ClientClosed { .. } => 8,
            Call::ClientDuty { .. } => 9,
            Call::ClientWritten { .. } => 10,
            Call::PollClient => POLL_CLIENT,
            Call::Overhead { .. } => 12,
            Call::Held { .. } => 13,
            Call::AdmitHandshake => 14,
            Call::Entropy { .. } => 15,
            Call::Timeout => 16,
            Call::Config(_) => 17,
            Call::Leaving { .. } => 18,
            Call::Shutdown { .. } => 19,
            Call::Kick { .. } => 20,
            Call::Ban { .. } => 21,
            Call::Unban(_) => 22,
            Call::Drain(_) => 23,
            Call::LinkConnecting => 24,
            Call::LinkConnected => 25,
            Call::LinkClosed(_) => 26,
            Call::LinkBytes(_) => 27,
            Call::LinkWritten { .. } => 28,
            Call::Save => 29,
            Call::Check => 30,
            Call::End => 31,
            Call::Turn => 32,
            Call::Image(_) => 33,
            Call::NoDuty => NO_DUTY,
        }
    }

    /// Returns whether the machine's answer follows.
    pub(super) const fn has_answer(&self) -> bool {
        matches!(
            self,
            Call::Accepted { .. }
                | Call::ClientWritten { .. }
                | Call::PollClient
                | Call::AdmitHandshake
                | Call::Kick { .. }
                | Call::Ban { .. }
                | Call::Unban(_)
                | Call::LinkWritten { .. }
                | Call::Check
                | Call::Turn
        )
    }

    /// Appends the record, `later` than the one before. `last` is the connection that was named or polled last.
    #[inline(always)]
    pub(super) fn encode(&self, later: Duration, last: &mut ConnKey, out: &mut Vec<u8>) {
        match later.is_zero() {
            true => out.push(self.kind()),
            false => {
                out.push(self.kind() | LATER);
                put_time(out, later);
            }
        }
        match *self {
            Call::Begin {
                ref config,
                keys,
                seed,
            } => {
                put_config(out, config);
                out.extend_from_slice(keys);
                out.extend_from_slice(seed);
            }
            Call::Term(term) => put_number(out, term.into()),
            Call::EarlierRuns(bytes)
            | Call::Restore(bytes)
            | Call::LinkBytes(bytes)
            | Call::Image(bytes) => {
                put_bytes(out, bytes);
            }
            Call::Accepted {
                listener,
                peer,
                introduced,
            } => {
                put_number(out, listener as u64);
                put_address(out, peer);
                out.push(introduced.map_or(2, u8::from));
            }
            Call::ClientBytes { conn, bytes } => {
                put_conn(out, conn, last);
                put_bytes(out, bytes);
            }
            Call::ClientEnding { conn } | Call::ClientDuty { conn } => {
                put_conn(out, conn, last);
            }
            Call::ClientClosed { conn, cause } => {
                put_conn(out, conn, last);
                out.push(of_closed(cause));
            }
            Call::ClientWritten { conn, bytes }
            | Call::Overhead { conn, bytes }
            | Call::Held { conn, bytes } => put_sized(out, conn, bytes, last),
            Call::Entropy { conn, random } => {
                put_conn(out, conn, last);
                out.extend_from_slice(random);
            }
            Call::Config(ref config) => put_config(out, config),
            Call::Leaving { restarts, within } => {
                out.push(restarts.into());
                put_time(out, within);
            }
            Call::Shutdown { within } => put_time(out, within),
            Call::Kick {
                id,
                code,
                wait_ms,
                text,
            } => {
                put_number(out, id.as_u64());
                put_number(out, code.into());
                put_number(out, wait_ms.into());
                put_bytes(out, text.as_bytes());
            }
            Call::Ban {
                network,
                within,
                note,
            } => {
                put_network(out, network);
                put_maybe_time(out, within);
                put_bytes(out, note.as_bytes());
            }
            Call::Unban(network) => put_network(out, network),
            Call::Drain(within) => put_maybe_time(out, within),
            Call::LinkClosed(cause) => out.push(of_closed(cause)),
            Call::LinkWritten { bytes } => put_number(out, bytes as u64),
            Call::KeepSessions
            | Call::PollClient
            | Call::AdmitHandshake
            | Call::Timeout
            | Call::LinkConnecting
            | Call::LinkConnected
            | Call::Save
            | Call::Check
            | Call::End
            | Call::Turn
            | Call::NoDuty => {}
        }
    }

    /// Reads a record from the front of `bytes`. `last` is the connection that was named or polled last. Returns the call, how much later it is
    /// than the one before, and the answer. `None`: it is none that is written.
    pub(super) fn decode(
        bytes: &mut &'a [u8],
        last: ConnKey,
    ) -> Option<(Call<'a>, Duration, Option<u64>)> {
        let fields = &mut Fields { rest: bytes, last };
        let kind = fields.byte()?;
        let later = match kind & LATER {
            0 => Duration::ZERO,
            _ => fields.time()?,
        };
        let call = fields.call(kind & !LATER)?;
        let answer = match call.has_answer() {
            true => Some(fields.number()?),
            false => None,
        };
        *bytes = fields.rest;
        Some((call, later, answer))
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Call::Begin { .. } => "begin",
            Call::Term(_) => "set_term",
            Call::EarlierRuns(_) => "set_earlier_runs",
            Call::KeepSessions => "keep_sessions",
            Call::Restore(_) => "restore",
            Call::Accepted { .. } => "handle_accepted_at",
            Call::ClientBytes { .. } => "handle_client_bytes",
            Call::ClientEnding { .. } => "handle_client_ending",
            Call::ClientClosed { .. } => "handle_client_closed",
            Call::ClientDuty { .. } => "client_duty",
            Call::ClientWritten { .. } => "handle_client_written",
            Call::PollClient => "poll_client",
            Call::Overhead { .. } => "handle_client_overhead",
            Call::Held { .. } => "handle_client_held",
            Call::AdmitHandshake => "admit_handshake",
            Call::Entropy { .. } => "handle_entropy",
            Call::Timeout => "handle_timeout",
            Call::Config(_) => "handle_config",
            Call::Leaving { .. } => "handle_leaving",
            Call::Shutdown { .. } => "handle_shutdown",
            Call::Kick { .. } => "handle_kick",
            Call::Ban { .. } => "handle_ban",
            Call::Unban(_) => "handle_unban",
            Call::Drain(_) => "handle_drain",
            Call::LinkConnecting => "handle_link_connecting",
            Call::LinkConnected => "handle_link_connected",
            Call::LinkClosed(_) => "handle_link_closed",
            Call::LinkBytes(_) => "handle_link_bytes",
            Call::LinkWritten { .. } => "handle_link_written",
            Call::Save => "save",
            Call::Check => "check",
            Call::End => "end",
            Call::Turn => "turn",
            Call::Image(_) => "image",
            Call::NoDuty => "no duty",
        }
    }
}

/// Reads the fields of a record from the front.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    last: ConnKey,
}

impl<'a> Fields<'a> {
    /// Those of a record that names no connection.
    pub(super) fn new(rest: &'a [u8]) -> Self {
        let last = NO_CONN;
        Fields { rest, last }
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(array)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    fn time(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_nanos)
    }

    fn maybe_time(&mut self) -> Option<Option<Duration>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.time().map(Some),
            _ => None,
        }
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn conn(&mut self) -> Option<ConnKey> {
        let index = match self.number()? {
            SAME_CONN => return Some(self.last),
            next => (next - 1).try_into().ok()?,
        };
        let generation = self.number()?.try_into().ok()?;
        Some(ConnKey(Key { index, generation }))
    }

    fn closed(&mut self) -> Option<Closed> {
        Some(match self.byte()? {
            0 => Closed::Eof,
            1 => Closed::Error,
            2 => Closed::Asked,
            3 => Closed::Violation,
            _ => return None,
        })
    }

    fn address(&mut self) -> Option<IpAddr> {
        Some(match self.byte()? {
            4 => Ipv4Addr::from(*self.array()?).into(),
            6 => Ipv6Addr::from(*self.array()?).into(),
            _ => return None,
        })
    }

    fn network(&mut self) -> Option<IpNet> {
        let address = self.address()?;
        IpNet::new(address, self.byte()?).ok()
    }

    pub(super) fn config(&mut self) -> Option<Cow<'static, EdgeConfig>> {
        let mut config: EdgeConfig = serde_json::from_slice(self.bytes()?).ok()?;
        config.master.secret = match self.bytes()? {
            [] => None,
            secret => Some(LinkSecret::new(secret).ok()?),
        };
        Some(Cow::Owned(config))
    }

    /// Reads the rest of a record of this kind.
    fn call(&mut self, kind: u8) -> Option<Call<'a>> {
        Some(match kind {
            0 => Call::Begin {
                config: self.config()?,
                keys: self.array()?,
                seed: self.array()?,
            },
            1 => Call::Term(self.number()?.try_into().ok()?),
            2 => Call::EarlierRuns(self.bytes()?),
            3 => Call::KeepSessions,
            4 => Call::Restore(self.bytes()?),
            5 => Call::Accepted {
                listener: self.size()?,
                peer: self.address()?,
                introduced: match self.byte()? {
                    0 => Some(false),
                    1 => Some(true),
                    2 => None,
                    _ => return None,
                },
            },
            6 => Call::ClientBytes {
                conn: self.conn()?,
                bytes: self.bytes()?,
            },
            7 => Call::ClientEnding { conn: self.conn()? },
            8 => Call::ClientClosed {
                conn: self.conn()?,
                cause: self.closed()?,
            },
            9 => Call::ClientDuty { conn: self.conn()? },
            10 => Call::ClientWritten {
                conn: self.conn()?,
                bytes: self.size()?,
            },
            POLL_CLIENT => Call::PollClient,
            12 => Call::Overhead {
                conn: self.conn()?,
                bytes: self.size()?,
            },
            13 => Call::Held {
                conn: self.conn()?,
                bytes: self.size()?,
            },
            14 => Call::AdmitHandshake,
            15 => Call::Entropy {
                conn: self.conn()?,
                random: self.array()?,
            },
            16 => Call::Timeout,
            17 => Call::Config(self.config()?),
            18 => Call::Leaving {
                restarts: self.flag()?,
                within: self.time()?,
            },
            19 => Call::Shutdown {
                within: self.time()?,
            },
            20 => Call::Kick {
                id: ClientId::from_u64(self.number()?),
                code: self.number()?.try_into().ok()?,
                wait_ms: self.number()?.try_into().ok()?,
                text: self.text()?,
            },
            21 => Call::Ban {
                network: self.network()?,
                within: self.maybe_time()?,
                note: self.text()?,
            },
            22 => Call::Unban(self.network()?),
            23 => Call::Drain(self.maybe_time()?),
            24 => Call::LinkConnecting,
            25 => Call::LinkConnected,
            26 => Call::LinkClosed(self.closed()?),
            27 => Call::LinkBytes(self.bytes()?),
            28 => Call::LinkWritten {
                bytes: self.size()?,
            },
            29 => Call::Save,
            30 => Call::Check,
            31 => Call::End,
            32 => Call::Turn,
            33 => Call::Image(self.bytes()?),
            NO_DUTY => Call::NoDuty,
            _ => return None,
        })
    }
}

/// Returns whether clients leave for a restart.
pub(in crate::edge) const fn restarts(code: GoAwayCode) -> bool {
    matches!(code, GoAwayCode::Restart)
}
