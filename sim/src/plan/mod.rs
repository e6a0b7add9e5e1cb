//! Plans: everything a run depends on, as text.
//!
//! A plan is a header (every option that the seed drew) and a list of operations with their times. A run is a pure function of its plan.
//! Failures are kept as plans and not as seeds: a changed generator draws something else from a seed, but a plan stays the same.

mod extras;
mod generate;
mod pairs;
mod stories;
mod text;

pub use generate::generate;
pub use pairs::{FAULTS, Pairs};
pub use text::PlanError;

/// A run, before it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The header.
    pub options: Options,
    /// The operations, in order of time.
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Microseconds of virtual time since the start.
    pub at_us: u64,
    /// The action.
    pub action: Action,
}

/// Declares the header: a struct, its names for the text form, and access by name.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident = $default:expr;)*) => {
        /// The header of a plan: every option that the seed drew. Times and sizes carry their unit in the name.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "a second number of a pair is documented with the first")]
        pub struct Options {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Options {
            fn default() -> Self {
                Options { $($name: $default,)* }
            }
        }

        impl Options {
            /// Returns every option with its name, in the order of declaration.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Sets an option by its name. Returns false if there is no such option.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

options! {
    /// The seed for everything that the plan does not list: delays, cuts of reads, keys of strangers.
    seed = 0;
    /// Number of simulated clients.
    clients = 3;
    /// The longest one-way delay of a connection.
    delay_max_us = 2_000;
    /// Maximum bytes per read of the edge; 0 for no maximum.
    read_chunk = 0;
    /// Maximum bytes per write of the edge; 0 for no maximum.
    write_chunk = 0;
    /// Bytes that a client connection's transport buffers per direction before a writer must wait.
    client_socket_bytes = 65_536;
    /// Bytes that the backend link's transport buffers per direction.
    link_socket_bytes = 65_536;
    /// The maximum delay of a timer.
    tick_us = 0;
    /// The time from accept to established.
    handshake_timeout_ms = 5_000;
    /// The time from the first to the last byte of one frame.
    frame_timeout_ms = 10_000;
    /// The time for which a write to a client may make no progress.
    write_timeout_ms = 10_000;
    /// How long a session that is away may be resumed.
    stale_timeout_ms = 300_000;
    /// How often expired sessions are collected.
    reap_interval_ms = 15_000;
    /// The maximum number of sessions that are away.
    max_stale_clients = 65_535;
    /// Packets kept for a session that is away.
    missed_packets = 256;
    /// Bytes kept for a session that is away.
    missed_bytes = 1_048_576;
    /// Packets waiting for one client.
    client_queue_packets = 8_192;
    /// Bytes waiting for one client.
    client_queue_bytes = 1_048_576;
    /// Packets waiting for the backend.
    link_queue_packets = 32_768;
    /// Bytes waiting for the backend.
    link_queue_bytes = 33_554_432;
    /// Longest body from a client.
    max_up_bytes = 1_048_576;
    /// Longest data from the backend.
    max_down_bytes = 8_388_608;
    /// Packets each way for each healthy client, once the faults are over.
    closing_packets = 3;
    /// 1: every new link begins with a 0x03 for each attached session.
    announce_all = 0;
    /// Number of addresses that clients come from, IPv4 and IPv6 in turn; 0: each connection has its own.
    sources = 0;
    /// Maximum number of connections.
    max_connections = 1_048_576;
    /// Maximum number of half-open connections.
    max_half_open = 1_024;
    /// Accepted connections per second, and the burst.
    accept_rate = 2_000;
    accept_burst = 4_000;
    /// Maximum number of connections of the listener, its accepted connections per second, and the burst; 0 for no limit of its own.
    listener_connections = 0;
    listener_rate = 0;
    listener_burst = 0;
    /// Whether the limits on all accepts are enforced: 0 on, 1 report, 2 off.
    enforce_accepts = 0;
    /// Maximum number of connections of one source, and of a wider one.
    source_connections = 256;
    wide_connections = 4_096;
    /// Accepted connections per second of one source, and the burst; then those of a wider one.
    source_rate = 50;
    source_burst = 200;
    wide_rate = 400;
    wide_burst = 1_600;
    /// Maximum number of sessions away of one source, and of a wider one.
    source_stale = 256;
    wide_stale = 4_096;
    /// 1: a source gets a penalty for malformed input.
    penalties = 1;
    /// Whether the limits on sources are enforced: 0 on, 1 report, 2 off.
    enforce_sources = 0;
    /// Maximum number of sessions.
    max_sessions = 2_097_152;
    /// Frames per second of one client, and the burst; 0 for no limit.
    pace_frames = 0;
    pace_frames_burst = 1_000;
    /// Bytes per second of one client, and the burst; 0 for no limit.
    pace_bytes = 0;
    pace_bytes_burst = 262_144;
    /// How long a client may be beyond its pace; 0: for ever.
    pace_patience_ms = 5_000;
    /// Whether the pace is enforced: 0 on, 1 report, 2 off.
    enforce_pace = 0;
    /// How long a client may be silent; 0: for ever.
    idle_timeout_ms = 0;
    /// The edge's memory limit in bytes; 0 for none.
    max_memory_bytes = 0;
    /// 1: connections come through a proxy that names their address; 2: some bypass it, and some headers are malformed.
    proxy = 0;
}

/// A value of an operation in its text form.
trait Word: Sized {
    fn print(&self) -> String;
    fn read(word: &str) -> Option<Self>;
}

impl Word for u64 {
    fn print(&self) -> String {
        self.to_string()
    }

    fn read(word: &str) -> Option<u64> {
        word.parse().ok()
    }
}

impl Word for usize {
    fn print(&self) -> String {
        self.to_string()
    }

    fn read(word: &str) -> Option<usize> {
        word.parse().ok()
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)* }

        impl $type {
            /// All variants.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];
        }

        impl Word for $type {
            fn print(&self) -> String {
                match self { $($type::$variant => $word,)* }.to_string()
            }

            fn read(word: &str) -> Option<$type> {
                match word { $($word => Some($type::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// How a peer ends a connection.
    Drop {
        /// An orderly end: what was sent still arrives.
        Fin = "fin",
        /// A reset: what is in flight is lost, both ways.
        Rst = "rst",
        /// Silence: nothing arrives any more, and no end.
        Silent = "silent",
    }
}

words! {
    /// How a new client opens its connection.
    Join {
        /// As SPEC requires.
        Normal = "normal",
        /// As SPEC requires, one byte at a time, 40 ms apart.
        Slow = "slow",
        /// Connects and never sends anything.
        Mute = "mute",
        /// Sends its version and nothing more.
        StallAfterVersion = "stall-after-version",
        /// Sends version 1.
        OldVersion = "old-version",
        /// Sends the largest version number.
        NewVersion = "new-version",
        /// Sends an invalid public key.
        BadKey = "bad-key",
        /// Sends its version twice.
        VersionTwice = "version-twice",
        /// Begins with data.
        DataFirst = "data-first",
        /// Sends an HTTP request.
        Http = "http",
        /// Sends half a frame and waits.
        HalfFrame = "half-frame",
        /// Sends a version with an extra byte in its frame.
        Trailing = "trailing",
        /// Leaves after the edge's key.
        GoneAfterKey = "gone-after-key",
        /// Sends data right behind its key, before it knows its id.
        Eager = "eager",
    }
}

words! {
    /// How somebody without the key, or without the patience, tries to resume a session.
    Attempt {
        /// Seals the wrong bytes with a key of its own.
        Wrong = "wrong",
        /// Sends the challenge back unchanged.
        Echo = "echo",
        /// Sends a response that was good for an earlier challenge.
        Replay = "replay",
        /// Cannot open the challenge, and answers with its own session's key.
        Cross = "cross",
        /// The right key, one byte of the challenge wrong.
        Altered = "altered",
        /// A response that is too short.
        Short = "short",
        /// Claims the session and then stops.
        Stall = "stall",
        /// Claims the session and leaves before the challenge.
        Vanish = "vanish",
        /// Answers correctly, and leaves before the final Ping.
        NoPing = "no-ping",
        /// Answers the challenge with a Ping.
        PingOnly = "ping-only",
        /// Claims an id that was never assigned.
        Unknown = "unknown",
    }
}

impl Attempt {
    /// Returns whether the attempt uses the key of its target session.
    #[must_use]
    pub fn has_the_key(self) -> bool {
        matches!(self, Attempt::Altered | Attempt::NoPing)
    }
}

words! {
    /// What strangers do on each connection of a flood.
    Flood {
        /// Nothing.
        Silent = "silent",
        /// Send a version and wait.
        Version = "version",
        /// Send half a frame and wait.
        Half = "half",
        /// Join, one byte at a time.
        Drip = "drip",
        /// Join, and leave.
        Churn = "churn",
        /// Join, and stay.
        Stay = "stay",
        /// Claim a client's session, and prove nothing.
        Wrong = "wrong",
        /// Claim a client's session, and wait.
        Stall = "stall",
        /// Claim ids at random.
        Guess = "guess",
    }
}

/// Declares the operations: an enum, and its text form word by word.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident { $($field:ident: $type:ty),* } = $word:literal;)*) => {
        /// The action of one operation.
        ///
        /// `client` counts from 0, `count` is a number of packets, and `bytes` is the data length of each.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are documented once, above")]
        pub enum Action {
            $($(#[$doc])* $variant { $($field: $type),* },)*
        }

        impl Action {
            /// Returns the name of the operation's kind.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Action::$variant { .. } => $word,)* }
            }

            fn print(&self) -> String {
                match self {
                    $(Action::$variant { $($field),* } => {
                        #[allow(unused_mut)]
                        let mut words = vec![$word.to_string()];
                        $(words.push($field.print());)*
                        words.join(" ")
                    })*
                }
            }

            fn read<'a>(name: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Action> {
                let action = match name {
                    $($word => Action::$variant { $($field: Word::read(words.next()?)?),* },)*
                    _ => return None,
                };
                words.next().is_none().then_some(action)
            }
        }
    };
}

actions! {
    /// A client opens a connection as a new client; the session it had, if any, is left behind.
    Connect { client: usize, join: Join } = "connect";
    /// A client sends packets.
    Send { client: usize, count: u64, bytes: u64 } = "send";
    /// A client's connection ends.
    Drop { client: usize, how: Drop } = "drop";
    /// A client reads no more.
    Stall { client: usize } = "stall";
    /// A client reads again.
    Unstall { client: usize } = "unstall";
    /// A client resumes its session correctly. While its connection is alive this is a takeover.
    Resume { client: usize } = "resume";
    /// Somebody tries to resume the client's session.
    Attempt { client: usize, how: Attempt } = "attempt";
    /// A client sends the beginning of a frame and then stops.
    Half { client: usize } = "half";
    /// A client announces a frame above the limit.
    TooLong { client: usize } = "too-long";
    /// The backend sends packets to a client.
    BackendSend { client: usize, count: u64, bytes: u64 } = "b-send";
    /// The backend kicks a client.
    Kick { client: usize } = "b-kick";
    /// The backend kicks an unknown client.
    KickUnknown {} = "b-kick-unknown";
    /// The backend sends data for an unknown client.
    SendUnknown {} = "b-send-unknown";
    /// The backend sends a kick with data.
    KickWithData { client: usize } = "b-kick-data";
    /// The backend sends a frame whose body is too short for a tag.
    ShortFrame { bytes: u64 } = "b-short";
    /// The backend sends a flag that is not allowed.
    BadFlag { client: usize, flag: u64 } = "b-flag";
    /// The backend announces a frame above the limit.
    BackendTooLong {} = "b-too-long";
    /// The backend ends the link.
    LinkDrop { how: Drop } = "b-drop";
    /// The backend sends half a frame, then resets the link.
    LinkHalf { client: usize } = "b-half";
    /// The backend refuses connections.
    Refuse {} = "b-refuse";
    /// The backend takes connections again.
    Accept {} = "b-accept";
    /// The backend reads no more.
    BackendStall {} = "b-stall";
    /// The backend reads again.
    BackendUnstall {} = "b-unstall";
    /// The edge is not scheduled for a while. Everything happens late and in order.
    Pause { ms: u64 } = "pause";
    /// Strangers open `count` connections from `sources` addresses, spread over a time.
    Flood { kind: Flood, sources: u64, count: u64, ms: u64 } = "flood";
    /// A visitor from an address of its own joins, and must be admitted in spite of a flood.
    Visit {} = "visit";
    /// All clients send packets.
    SendAll { count: u64, bytes: u64 } = "send-all";
    /// All clients lose their connections at once and come back, each in its own time. This is the last operation.
    Herd { how: Drop } = "herd";
    /// The edge is asked to shut down in order within a time. No other operation follows closely, as the run ends with the edge.
    Shutdown { ms: u64 } = "shutdown";
}
