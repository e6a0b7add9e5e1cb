//! Plans: everything a run depends on, as text.
//!
//! A plan is a header (every option that the seed drew) and a list of operations with their times. A run is a pure
//! function of its plan. Failures are kept as plans and not as seeds: a changed generator reads a seed differently,
//! a plan stays what it was.

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
    /// What happens, in the order of time.
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Microseconds of virtual time since the start.
    pub at_us: u64,
    /// What happens then.
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
            /// Every option with its name, in the order of declaration.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Sets an option by its name; false when there is none of that name.
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
    /// What everything that is not written in the plan is drawn from: delays, cuts of reads, keys of strangers.
    seed = 0;
    /// Number of simulated clients.
    clients = 3;
    /// The longest one-way delay of a connection.
    delay_max_us = 2_000;
    /// Most bytes of one read by the edge; 0: all there is.
    read_chunk = 0;
    /// Most bytes of one write by the edge; 0: all that fits.
    write_chunk = 0;
    /// Bytes that a client connection's transport holds in one direction before a writer must wait.
    client_socket_bytes = 65_536;
    /// The same for the backend link.
    link_socket_bytes = 65_536;
    /// How late, at most, a due time is acted on.
    tick_us = 0;
    /// From accept to established.
    handshake_timeout_ms = 5_000;
    /// From the first to the last byte of one frame.
    frame_timeout_ms = 10_000;
    /// A write to a client without any progress.
    write_timeout_ms = 10_000;
    /// How long a client that is away may come back.
    stale_timeout_ms = 300_000;
    /// How often expired clients are looked for.
    reap_interval_ms = 15_000;
    /// Clients that may be away at once.
    max_stale_clients = 65_535;
    /// Packets kept for a client that is away.
    missed_packets = 256;
    /// Bytes kept for a client that is away.
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
    /// Healthy packets each way, for each client, once the faults are over.
    closing_packets = 3;
    /// 1: every new link begins with a 0x03 for each attached session.
    announce_all = 0;
    /// Addresses that clients come from, IPv4 and IPv6 in turn; 0: each connection has its own.
    sources = 0;
    /// Connections at one time.
    max_connections = 1_048_576;
    /// Connections at one time that are not established.
    max_half_open = 1_024;
    /// Connections taken in a second, and at once.
    accept_rate = 2_000;
    accept_burst = 4_000;
    /// Whether the limits on all accepts hold: 0 on, 1 report, 2 off.
    enforce_accepts = 0;
    /// Connections of one source at one time; of a wider one.
    source_connections = 256;
    wide_connections = 4_096;
    /// Connections of one source taken in a second, and at once; of a wider one.
    source_rate = 50;
    source_burst = 200;
    wide_rate = 400;
    wide_burst = 1_600;
    /// Sessions of one source that may be away; of a wider one.
    source_stale = 256;
    wide_stale = 4_096;
    /// 1: nonsense costs its source time.
    penalties = 1;
    /// Whether the limits on sources hold: 0 on, 1 report, 2 off.
    enforce_sources = 0;
    /// Sessions at one time.
    max_sessions = 2_097_152;
    /// Frames of one client in a second, and at once; 0: any number.
    pace_frames = 0;
    pace_frames_burst = 1_000;
    /// The same for its bytes.
    pace_bytes = 0;
    pace_bytes_burst = 262_144;
    /// How long a client may be beyond its pace; 0: for ever.
    pace_patience_ms = 5_000;
    /// Whether the pace holds: 0 on, 1 report, 2 off.
    enforce_pace = 0;
    /// How long a client may say nothing; 0: for ever.
    idle_timeout_ms = 0;
    /// Bytes that may wait in the edge in all; 0: any number.
    max_memory_bytes = 0;
    /// 1: connections come by a proxy that says from where; 2: not all do, and some say nonsense.
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
            /// Every one there is.
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
    /// How a connection ends from the peer's side.
    Drop {
        /// An orderly end: what was sent still arrives.
        Fin = "fin",
        /// A reset: what is under way is lost, both ways.
        Rst = "rst",
        /// Nothing is ever heard again.
        Silent = "silent",
    }
}

words! {
    /// How a client opens a connection as a new client.
    Join {
        /// As SPEC says.
        Normal = "normal",
        /// As SPEC says, one byte at a time, 40 ms apart.
        Slow = "slow",
        /// Connects and never says anything.
        Mute = "mute",
        /// Sends its version and nothing more.
        StallAfterVersion = "stall-after-version",
        /// Sends version 1.
        OldVersion = "old-version",
        /// Sends the largest version there is.
        NewVersion = "new-version",
        /// Sends a public key that is none.
        BadKey = "bad-key",
        /// Sends its version twice.
        VersionTwice = "version-twice",
        /// Begins with data.
        DataFirst = "data-first",
        /// Sends an HTTP request.
        Http = "http",
        /// Sends half a frame and waits.
        HalfFrame = "half-frame",
        /// Sends a version with a byte too many in its frame.
        Trailing = "trailing",
        /// Goes away after the edge's key.
        GoneAfterKey = "gone-after-key",
        /// Sends data right behind its key, before it knows its id.
        Eager = "eager",
    }
}

words! {
    /// How somebody without the right, or without the patience, tries to come back as a client.
    Attempt {
        /// Seals the wrong bytes with a key of its own.
        Wrong = "wrong",
        /// Sends the challenge back unchanged.
        Echo = "echo",
        /// Sends a response that was good for an earlier challenge.
        Replay = "replay",
        /// Opens nothing, answers with its own session's key.
        Cross = "cross",
        /// The right key, one byte of the challenge wrong.
        Altered = "altered",
        /// A response of few bytes.
        Short = "short",
        /// Claims and says nothing more.
        Stall = "stall",
        /// Claims and goes away before the challenge.
        Vanish = "vanish",
        /// Answers rightly, and goes away before the closing Ping.
        NoPing = "no-ping",
        /// Answers the challenge with a Ping.
        PingOnly = "ping-only",
        /// Claims an id that never was.
        Unknown = "unknown",
    }
}

impl Attempt {
    /// Whether it is made with the key of the session that it is aimed at.
    #[must_use]
    pub fn has_the_key(self) -> bool {
        matches!(self, Attempt::Altered | Attempt::NoPing)
    }
}

words! {
    /// What strangers do with each of the connections of a flood.
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
        /// What one operation does.
        ///
        /// `client` counts from 0, `count` is a number of packets, `bytes` the length of each one's data.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are documented once, above")]
        pub enum Action {
            $($(#[$doc])* $variant { $($field: $type),* },)*
        }

        impl Action {
            /// The name of the operation's kind.
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
    /// A client comes back, rightly; while its connection lives this is a takeover.
    Resume { client: usize } = "resume";
    /// Somebody tries to come back as the client.
    Attempt { client: usize, how: Attempt } = "attempt";
    /// A client sends the beginning of a frame and no more.
    Half { client: usize } = "half";
    /// A client announces a frame above the bound.
    TooLong { client: usize } = "too-long";
    /// The backend sends packets to a client.
    BackendSend { client: usize, count: u64, bytes: u64 } = "b-send";
    /// The backend ends a client.
    Kick { client: usize } = "b-kick";
    /// The backend ends a client that never was.
    KickUnknown {} = "b-kick-unknown";
    /// The backend sends data for a client that never was.
    SendUnknown {} = "b-send-unknown";
    /// The backend sends a kick with data in it.
    KickWithData { client: usize } = "b-kick-data";
    /// The backend sends a frame whose body is too short for a tag.
    ShortFrame { bytes: u64 } = "b-short";
    /// The backend sends a flag that it must not send.
    BadFlag { client: usize, flag: u64 } = "b-flag";
    /// The backend announces a frame above the bound.
    BackendTooLong {} = "b-too-long";
    /// The backend link ends from the backend's side.
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
    /// The edge is not scheduled for a while; everything happens late, in order.
    Pause { ms: u64 } = "pause";
    /// Strangers open `count` connections from so many addresses, spread over a time.
    Flood { kind: Flood, sources: u64, count: u64, ms: u64 } = "flood";
    /// Somebody from an address of its own joins, and must get in although there is a flood.
    Visit {} = "visit";
    /// All clients send packets.
    SendAll { count: u64, bytes: u64 } = "send-all";
    /// All clients lose their connections at once and come back, each in its own time. It is the last thing that happens.
    Herd { how: Drop } = "herd";
    /// The edge is asked to end in order, within a time. Nothing comes right after it: the run ends with the edge.
    Shutdown { ms: u64 } = "shutdown";
}
