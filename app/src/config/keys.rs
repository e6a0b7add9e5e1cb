//! The table of every key. To add one, write its entry below: comment, name, type, default, what is allowed. The
//! structs, the commented default file, the parser, the environment variables, `check`, the suggestions and the table of
//! the README all come from it.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "comments go to the file as they are, where [[listener]] is no link"
)]

use std::path::PathBuf;

use serde::Serialize;
use voltlane_driver::unix::SOCKET_MODE;

use voltlane_core::protocol::OfferedVersions;

use super::certificates::CertificateList;
#[cfg(feature = "cluster")]
use super::cluster::{ClusterName, EngineServers};
use super::link_tls::{PinList, ServerName};
use super::listeners::ListenerName;
use super::metrics_address::MetricsAddress;
use super::networks::Networks;
#[cfg(feature = "backends")]
use super::place::PlaceList;
use super::place::{FileMode, Place, UserIds};
use super::problem::Fault;
use super::value::{
    self, Announce, ClientAuth, Data, Enforce, Forwarded, Kind, LinkProtocol, LogFormat, LogLevel,
    MinVersion, ProxyProtocol, Raw, Restriction, Sni, Transport, Value,
};
use super::web::{OriginList, UrlPath};

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Section and name: `clients.channel_capacity`.
    pub path: &'static str,
    /// Its meaning, line by line, as in the comment above the key in the default file.
    pub comment: &'static [&'static str],
    section: &'static str,
    apply: fn(&mut Settings, Raw<'_>) -> Result<(), String>,
    data: fn(&Settings) -> Data,
    differs: fn(&Settings, &Settings) -> bool,
    copy: fn(&Settings, &mut Settings),
    expected: fn(&str) -> String,
    kind: Kind,
    restriction: fn() -> Restriction,
}

/// One `[section]` of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name, without brackets.
    pub name: &'static str,
    /// Its subject, line by line.
    pub comment: &'static [&'static str],
    /// Its keys, in the order of the file.
    pub keys: &'static [Key],
}

impl Key {
    /// The name without the section: `channel_capacity`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        &self.path[self.section.len() + 1..]
    }

    /// The environment variable: `VOLTLANE_CLIENTS_CHANNEL_CAPACITY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.path.replace('.', "_").to_ascii_uppercase()
        )
    }

    /// The values that are allowed, in words that follow "must be".
    #[must_use]
    pub fn expected(&self) -> String {
        (self.expected)(match self.unit() {
            Some(Unit::Seconds) => "of seconds",
            Some(Unit::Bytes) => "of bytes",
            None => "",
        })
    }

    /// The value in `settings`, as TOML.
    #[must_use]
    pub fn show(&self, settings: &Settings) -> String {
        self.data(settings).to_string()
    }

    /// The value in `settings`, as data.
    pub(super) fn data(&self, settings: &Settings) -> Data {
        (self.data)(settings)
    }

    /// Whether two configurations have different values.
    pub(super) fn differs(&self, one: &Settings, other: &Settings) -> bool {
        (self.differs)(one, other)
    }

    /// Sets the value to that of another configuration.
    pub(super) fn copy(&self, from: &Settings, to: &mut Settings) {
        (self.copy)(from, to);
    }

    /// The TOML type of the value.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The restriction of the value, as far as a schema can express it.
    pub(super) fn restriction(&self) -> Restriction {
        (self.restriction)()
    }

    /// The unit that the name says.
    #[must_use]
    pub(super) fn unit(&self) -> Option<Unit> {
        if self.path.ends_with("_secs") {
            Some(Unit::Seconds)
        } else if self.path.ends_with("_bytes") {
            Some(Unit::Bytes)
        } else {
            None
        }
    }

    /// Sets the value, or says what would be right.
    pub(super) fn apply(&self, settings: &mut Settings, raw: Raw<'_>) -> Result<(), Fault> {
        (self.apply)(settings, raw)
            .map_err(|hint| Fault::new(hint).remedy(format!("must be {}", self.expected())))
    }
}

/// The unit of a number, which the suffix of the key names.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Seconds,
    Bytes,
}

/// The beginning of every variable of ours.
pub const VARIABLE_PREFIX: &str = "VOLTLANE_";

/// Every key with its index, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $(#[cfg($gate:meta)])?
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])+ $(#[cfg($only:meta)])? $key:ident: $Type:ty = $default:expr, $allowed:expr; )+
        }
    )+) => {
        /// Every value that is in effect, section by section as in the file.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings {
            $( $(#[doc = $about])+ $(#[cfg($gate)])? pub $section: $Section, )+
            /// The listeners after the first, if there are several.
            pub more_listeners: Vec<Listener>,
        }

        $(
            $(#[doc = $about])+
            $(#[cfg($gate)])?
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section { $( $(#[doc = $doc])+ $(#[cfg($only)])? pub $key: $Type, )+ }

            $(#[cfg($gate)])?
            impl Default for $Section {
                fn default() -> $Section {
                    $Section { $( $(#[cfg($only)])? $key: $default, )+ }
                }
            }
        )+

        /// The whole table.
        pub static SECTIONS: &[Section] = &[ $( $(#[cfg($gate)])? Section {
            name: stringify!($section),
            comment: &[$($about),+],
            keys: &[ $( $(#[cfg($only)])? Key {
                path: concat!(stringify!($section), ".", stringify!($key)),
                comment: &[$($doc),+],
                section: stringify!($section),
                apply: |settings, raw| {
                    settings.$section.$key = value::read(raw, &$allowed)?;
                    Ok(())
                },
                data: |settings| settings.$section.$key.data(),
                differs: |one, other| one.$section.$key != other.$section.$key,
                copy: |from, to| to.$section.$key.clone_from(&from.$section.$key),
                expected: |unit| <$Type as Value>::expected(&$allowed, unit),
                kind: <$Type as Value>::KIND,
                restriction: || <$Type as Value>::restriction(&$allowed),
            }, )+ ],
        }, )+ ];
    };
}

/// Packets in a queue, sessions, connections: no count is larger.
pub(super) const MAX_COUNT: u32 = 1 << 24;
/// An id has 8 bits for its shard; more threads than processors are of no use.
pub(super) const MAX_SHARDS: u32 = 128;
/// The largest frame that can be allowed: 1 GiB.
const MAX_FRAME: u32 = 1 << 30;
/// The largest queue: 1 TiB.
const MAX_QUEUE: u64 = 1 << 40;
/// The largest buffer of one socket: 1 GiB.
const MAX_SOCKET_BUFFER: u32 = 1 << 30;
/// The longest time that one step may take: an hour.
const HOUR: u32 = 3_600;

/// An id has 12 bits for its home.
#[cfg(feature = "cluster")]
const MAX_HOME: u32 = 4_095;

settings! {
    /// The process.
    general: General {
        /// Level of the log, which goes to standard error. Debug and Trace report changes of state and never packets,
        /// at most 1,000 lines a second from one place in the code. The next line counts those that were left out.
        log_level: LogLevel = LogLevel::Info, ();
        /// "text": a line of the log is for people. "json": it is an object with ts, level, msg, target and the fields of
        /// the event, of at most 8 KiB. "auto": text on a terminal and in the journal of systemd, JSON elsewhere.
        log_format: LogFormat = LogFormat::Text, ();
        /// File with the edge's private key. It is created with mode 0600 if it is missing. With it clients recognise
        /// the edge after a restart. Empty: a new key at every start. Beside it, in the same name with .runs, the edge
        /// names its runs, so that clients of version 3 learn at once that their session is gone.
        key_file: Option<PathBuf> = None, ();
        /// File in which the edge saves its sessions when it ends in order, sealed with its key, so that they go on when it
        /// starts again. It is read once and removed. Needs key_file. Empty: sessions end with the process.
        snapshot_file: Option<PathBuf> = None, ();
        /// Path of the Unix socket at which a new process of the same user takes over listeners, connections and sessions
        /// (`voltlane upgrade`). Needs key_file and Linux. Empty: none can.
        #[cfg(feature = "upgrade")]
        upgrade_socket: Option<PathBuf> = None, ();
        /// Shards, each with a part of the clients, on as many threads as the load needs. 0: one for each processor.
        shards: u32 = 0, 0..=MAX_SHARDS;
        /// How long a shutdown may take to deliver queued packets. 0: it does not wait.
        shutdown_timeout_secs: u32 = 5, 0..=HOUR;
        /// How long the edge accepts clients after it was asked to end, while /readyz tells that it ends: as long as a load
        /// balancer needs to notice. What follows comes afterwards.
        pre_stop_secs: u32 = 0, 0..=HOUR;
        /// How long the edge goes on serving when it is asked to end. It accepts nobody then, and asks each client of
        /// version 3 to leave, and closes each one of version 2, at another instant of that time. 0: it ends at once.
        drain_secs: u32 = 0, 0..=HOUR;
        /// How often the files of certificates are looked at. Those that have changed are read again. 0: on SIGHUP alone.
        watch_secs: u32 = 30, 0..=HOUR;
    }

    /// The port that clients connect to. For several, write each below a line [[listener]] in place of this section, with
    /// a name of its own; up to 16. A key that is left out has its default.
    listener: Listener {
        /// Name of the listener, in the log and in the metrics.
        name: ListenerName = ListenerName::of("main"), ();
        /// Address to listen on. For a name, each of its addresses that this machine has, up to 8. Port 0: any free
        /// port, which the log names. A Unix socket has a path ("unix:/run/voltlane.sock") or an abstract name
        /// ("unix:@name"). Its clients count as 127.0.0.1. "fd:NAME": the TCP sockets that systemd passes under this name
        /// (FileDescriptorName), up to 8, which the shards share.
        address: Place = Place::loopback(42000), 0..=u16::MAX;
        /// Mode of the file of a Unix socket: who may write to it may connect.
        socket_mode: FileMode = FileMode(SOCKET_MODE), ();
        /// Ids of the users that may connect to a Unix socket. Empty: all that may open it. In a variable: separated by
        /// commas.
        peer_uids: UserIds = UserIds::default(), ();
        /// Whether clients come through a proxy that tells their addresses. "required": every connection must begin
        /// with a PROXY header, version 1 or 2, and the limits on sources apply to the address in it; "off": none
        /// may.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, ();
        /// Networks of these proxies. With a PROXY header required, connections from other networks are refused. In a
        /// variable: separated by commas.
        trusted_proxies: Networks = Networks::default(), ();
        /// Versions of the client link that clients may speak. Version 3 encrypts everything and loses nothing over a
        /// drop. In a variable: separated by commas.
        versions: OfferedVersions = OfferedVersions::default(), ();
        /// Connections of this listener at once, established or not, within limits.max_connections. A client that comes back
        /// may need a second one until its first is given up, so leave some room. 0: those of the limit.
        max_connections: u32 = 0, 0..=MAX_COUNT;
        /// New connections a second at this listener, within limits.accept_rate. 0: those of the limit.
        accept_rate: u32 = 0, 0..=MAX_COUNT;
        /// New connections that may come at once before accept_rate of the listener applies. 0: as many as accept_rate.
        accept_burst: u32 = 0, 0..=MAX_COUNT;
        /// How clients are carried. "tcp": as they are; "tls": within TLS; "ws": in WebSocket messages; "wss": in both.
        transport: Transport = Transport::Tcp, ();
        /// Certificate for TLS, in PEM, and behind it those that lead to an authority. SIGHUP reads it again.
        certificate_file: Option<PathBuf> = None, ();
        /// Private key of the certificate, in PEM. SIGHUP reads it again.
        key_file: Option<PathBuf> = None, ();
        /// Further certificates, up to 64, each for clients that ask for one of its names. Write each below a line
        /// [[listener.certificate]], behind the other keys of the listener, with "file" and "key" as above. "names", a list, is
        /// needed only if those in the certificate are not meant; "*" stands for the first label. An exact name goes before one
        /// with a star. The first certificate of all is shown where no name fits. SIGHUP reads them again. In a variable:
        /// CERTIFICATE:KEY, separated by commas.
        certificate: CertificateList = CertificateList::default(), ();
        /// Lowest version of TLS. "1.2" is for old devices only.
        min_version: MinVersion = MinVersion::Tls13, ();
        /// How a client is answered that asks for a name that is in no certificate. "first": with the first of them;
        /// "strict": it is refused.
        sni: Sni = Sni::First, ();
        /// Whether clients show certificates of their own. "optional": those that have one; it must be valid.
        client_auth: ClientAuth = ClientAuth::Off, ();
        /// Certificates of who issues those of clients, in PEM.
        client_ca_file: Option<PathBuf> = None, ();
        /// Lists of revoked certificates of clients, in PEM, each by an authority in client_ca_file. One that is out of
        /// date still counts, and the log says so daily. SIGHUP reads it again. Empty: none is revoked.
        client_crl_file: Option<PathBuf> = None, ();
        /// Whether a client that offers only other protocols by ALPN is refused. Ours is "voltlane/2", with WebSocket
        /// "http/1.1".
        alpn: bool = true, ();
        /// Whether clients get tickets, with which a later TLS handshake is shorter. Never with client_auth.
        tickets: bool = true, ();
        /// Path of a URL that WebSocket clients connect to.
        path: UrlPath = UrlPath::of("/"), ();
        /// Path that answers load balancers 200 while the edge serves, on the port of WebSocket clients. Empty: none.
        health_path: Option<UrlPath> = Some(UrlPath::of("/healthz")), ();
        /// Origins of pages that may connect, each with its scheme. "*" stands for the first label of a name, or alone for any.
        /// Empty: that of the host that they connect to. In a variable: separated by commas.
        origins: OriginList = OriginList::default(), ();
        /// Whether a WebSocket request without an origin, which does not come from a page, is refused.
        origin_required: bool = false, ();
        /// Header in which the proxies of trusted_proxies tell where a WebSocket request comes from: "x-forwarded-for" or
        /// "forwarded". The limits on sources hold for that address. "off": such headers are ignored.
        forwarded: Forwarded = Forwarded::Off, ();
        /// Longest message of a WebSocket client. 0: any, since none is held as a whole.
        max_message_bytes: u32 = 0, 0..=MAX_FRAME;
        /// How long a WebSocket client may be silent before it is sent a PING, which proxies in between see as well. 0: never.
        ping_secs: u32 = 25, 0..=HOUR;
        /// How long a WebSocket client may take to answer a PING before its connection is closed.
        pong_timeout_secs: u32 = 20, 1..=HOUR;
        /// Connections that may wait to be accepted. The system may have a lower limit (net.core.somaxconn).
        backlog: u32 = 4_096, 1..=65_535;
        /// How long a client may be silent before the system sends it a TCP keep-alive probe. 0: never.
        keep_alive_secs: u32 = 20, 0..=HOUR;
        /// How long data sent to a client may stay unacknowledged, or a client may have no room, before its
        /// connection is closed. So is that of a client that answers no probe for that time; with a value up to
        /// keep_alive_secs + 5 a single lost probe is enough. 0: the system decides.
        user_timeout_secs: u32 = 35, 0..=HOUR;
        /// Bytes for one client that the system may hold until they are acknowledged. 0: the system decides, up to several MiB.
        send_buffer_bytes: u32 = 262_144, 0..=MAX_SOCKET_BUFFER;
        /// Bytes of one client that the system may hold until they are read. 0: the system decides, up to several MiB.
        receive_buffer_bytes: u32 = 262_144, 0..=MAX_SOCKET_BUFFER;
        /// Bytes for one client that the system may hold before they are on the wire. 0: as many as send_buffer_bytes.
        unsent_bytes: u32 = 131_072, 0..=MAX_SOCKET_BUFFER;
    }

    /// The backend, and the one stream to it that carries every client.
    master: Master {
        /// The backend's address, or its Unix socket ("unix:/run/backend.sock"). A name is resolved again at every attempt.
        address: Place = Place::loopback(42001), 1..=u16::MAX;
        /// Addresses of several backends, up to 16, in place of address. A client gets one of them when its session begins, and
        /// keeps it. The bounds of this section hold for each. In a variable: separated by commas. Empty: there is one backend.
        #[cfg(feature = "backends")]
        addresses: PlaceList = PlaceList::default(), ();
        /// Whether the link to the backend is within TLS.
        tls: bool = false, ();
        /// Authorities that issue the backend's certificate, in PEM. Those of the system do not count. Read at every attempt
        /// to connect, as the other files of the link.
        tls_ca_file: Option<PathBuf> = None, ();
        /// Public keys of the backend, in place of an authority: the SHA-256 of each SubjectPublicKeyInfo, in hexadecimal.
        /// In a variable: separated by commas.
        tls_spki_sha256: PinList = PinList::default(), ();
        /// Name or IP address that the backend's certificate is for. Empty: the host of the address.
        tls_server_name: Option<ServerName> = None, ();
        /// Certificate that the edge shows the backend, in PEM. Empty: none.
        tls_certificate_file: Option<PathBuf> = None, ();
        /// Private key of tls_certificate_file, in PEM.
        tls_key_file: Option<PathBuf> = None, ();
        /// File with a secret that edge and backend prove to each other: 32 to 512 characters on one line. It needs protocol
        /// "3". Others than its owner and its group must not be able to use it. Empty: none.
        token_file: Option<PathBuf> = None, ();
        /// Packets that may wait for the backend. When the queue is full, clients are read more slowly; nothing is dropped.
        channel_capacity: u32 = 32_768, 1..=MAX_COUNT;
        /// Bytes that may wait for the backend. An empty queue takes one packet of any size.
        channel_bytes: u64 = 32 << 20, 4_096..=MAX_QUEUE;
        /// Largest packet that the backend may send. Published clients take no more than 8 MiB.
        max_frame_bytes: u32 = 8 << 20, 1..=MAX_FRAME;
        /// Notices that the backend gets when its link is opened again. "none": none; "all": one for every connected client
        /// (0x03) and one for every client that ended meanwhile (0x01).
        announce: Announce = Announce::None, ();
        /// Versions of the link that the backend may ask for: "2", "auto" (2 until it asks for 3), or "3": nothing is sent to a
        /// backend that does not ask. Version 3 tells it who comes and goes, and has groups, credit and acknowledgements.
        protocol: LinkProtocol = LinkProtocol::V2, ();
        /// Whether a backend that cannot be reached at the start ends the process with an error. false: the edge serves
        /// and keeps trying.
        required_at_start: bool = false, ();
        /// How long the backend may be silent before the system sends it a TCP keep-alive probe. 0: never.
        keep_alive_secs: u32 = 20, 0..=HOUR;
        /// How long data sent to the backend may stay unacknowledged before the link is given up. The edge waits for
        /// a backend that acknowledges but has no room. 0: the system decides, after about a quarter of an hour.
        user_timeout_secs: u32 = 35, 0..=HOUR;
        /// How long one of several backends may be down until its sessions go to the others, with all that it has not
        /// acknowledged. Both need version 3 of the link, with acknowledgements. 0: they wait for it.
        #[cfg(feature = "backends")]
        repin_secs: u32 = 0, 0..=HOUR;
    }

    /// Several edges at one backend.
    #[cfg(feature = "cluster")]
    cluster: Cluster {
        /// Number of this edge among several at one backend, another one for each: it is in the ids of its clients. It needs
        /// protocol "3" of the link. Edges of several backends name the same ones. 0: it is the only one.
        home: u32 = 0, 0..=MAX_HOME;
        /// Engine by which edges agree on who has a home: "none", or up to 8 servers, of NATS with JetStream or of Redis.
        /// With it a process waits at its start until the home is free, and its term grows even if a clock was set back.
        /// While the engine cannot be reached, all go on. The link to it is not encrypted.
        engine: EngineServers = EngineServers::default(), ();
        /// Name of the cluster at the engine. Clusters of different names share nothing.
        name: ClusterName = ClusterName::of("voltlane"), ();
        /// File with what the engine is told to let the edge in, on one line: USER:PASSWORD, or a token of NATS or a password
        /// of Redis. Others than its owner and its group must not be able to use it. Empty: nothing.
        credentials_file: Option<PathBuf> = None, ();
        /// How long the home is held after each renewal, so how long the next process waits for one that was killed.
        lease_secs: u32 = 10, 3..=300;
        /// How long the start waits for the home. If it is not free by then, or the engine cannot be reached, the process ends
        /// with an error. 0: it waits without a bound.
        wait_secs: u32 = 60, 0..=HOUR;
        /// Whether bans by `ctl ban` are shared with the other edges of the cluster by the engine, as are those lifted.
        share_bans: bool = true, ();
    }

    /// Clients: their queues, and the rules while they are away.
    clients: Clients {
        /// Packets that may wait for one client. One more ends its session.
        channel_capacity: u32 = 8_192, 1..=MAX_COUNT;
        /// Bytes that may wait for one client. An empty queue takes one packet of any size.
        channel_bytes: u64 = 1 << 20, 4_096..=MAX_QUEUE;
        /// Largest packet that a client may send. Published backends take no more than 8 MiB.
        max_frame_bytes: u32 = 1 << 20, 1..=MAX_FRAME;
        /// How long a client that is away may come back. 0: not at all.
        stale_timeout_secs: u32 = 300, 0..=31_536_000;
        /// How often expired sessions are ended. 0: each at its own deadline.
        stale_reap_interval_secs: u32 = 15, 0..=HOUR;
        /// Clients that may be away. One more ends a session of the wider source that has most away. 0: none may be
        /// away.
        max_stale_clients: u32 = 65_535, 0..=MAX_COUNT;
        /// Packets that are kept for a client that is away, and sent when it is back. 0: none; a packet for a client
        /// that is away ends its session at once. Left out, it is at most half of channel_capacity.
        missed_packets_buffer_size: u32 = 256, 0..=MAX_COUNT;
        /// Bytes that are kept for a client that is away. No effect while missed_packets_buffer_size is 0. Left out,
        /// it is at most channel_bytes.
        missed_packets_buffer_bytes: u64 = 1 << 20, 1..=MAX_QUEUE;
        /// Packets that either side of a session of version 3 may have sent without an acknowledgement. For a client that
        /// is away so many are kept besides channel_capacity.
        ring_packets: u32 = 8_192, 1..=MAX_COUNT;
        /// Bytes of such packets. One packet alone may be of any size.
        ring_bytes: u32 = 1 << 20, 4_096..=MAX_FRAME;
        /// Milliseconds after which packets of a client of version 3 are acknowledged at the latest.
        ack_delay_ms: u32 = 250, 1..=10_000;
        /// Whether records to clients of version 3 are padded, so that their length tells less of what is in them.
        padding: bool = false, ();
        /// How long a client of version 3 may hear nothing before it asks whether the edge is there. The edge asks after
        /// twice that, and takes the client for gone after two and a half times that. 0: nobody asks.
        keep_alive_secs: u32 = 20, 0..=HOUR;
        /// How long a client may take no byte while packets wait for it. Then its session ends; one of version 3 is away.
        /// 0: as long as its connection lasts, see listener.user_timeout_secs.
        write_timeout_secs: u32 = 10, 0..=HOUR;
        /// How long a packet may take from its first to its last byte. 0: for ever.
        frame_timeout_secs: u32 = 10, 0..=HOUR;
        /// How long a client may send nothing before its connection is closed. 0: for ever.
        idle_timeout_secs: u32 = 0, 0..=86_400;
        /// Packets a second that one client may send; a game may want 500. A faster client is read more slowly. 0:
        /// any number.
        pace_packets_per_sec: u32 = 0, 0..=MAX_COUNT;
        /// Packets that may come at once before pace_packets_per_sec applies.
        pace_packets_burst: u32 = 1_000, 1..=MAX_COUNT;
        /// Bytes a second that one client may send; a game may want 262144. 0: any number.
        pace_bytes_per_sec: u32 = 0, 0..=MAX_FRAME;
        /// Bytes that may come at once before pace_bytes_per_sec applies.
        pace_burst_bytes: u32 = 256 << 10, 1..=MAX_FRAME;
        /// How long a client may exceed its pace before its connection is closed. 0: for ever.
        pace_patience_secs: u32 = 5, 0..=HOUR;
        /// Whether the pace is enforced. "on": faster clients are read more slowly, then disconnected; "report": they
        /// are only counted; "off": neither.
        enforce_pace: Enforce = Enforce::On, ();
    }

    /// Limits on the cost of strangers, each of them and all together.
    limits: Limits {
        /// How long a handshake may take in all. 0: for ever.
        handshake_timeout_secs: u32 = 5, 0..=HOUR;
        /// Half-open connections at once; a quarter is kept for clients that come back, one for newcomers. 0: any
        /// number.
        max_half_open: u32 = 1_024, 0..=MAX_COUNT;
        /// Bytes that a connection may send before it is established. The longest handshake takes 103.
        handshake_max_bytes: u32 = 512, 128..=65_536;
        /// Connections at once; an eighth, at most max_half_open, is kept for clients that come back. 0: as
        /// descriptors allow.
        max_connections: u32 = 0, 0..=MAX_COUNT;
        /// New connections a second, of all sources together. 0: any number.
        accept_rate: u32 = 2_000, 0..=MAX_COUNT;
        /// New connections that may come at once before accept_rate applies.
        accept_burst: u32 = 4_000, 1..=MAX_COUNT;
        /// Sessions of version 3 that begin in a second, of all sources together. Those beyond it wait. 0: any number.
        join_rate: u32 = 1_000, 0..=MAX_COUNT;
        /// Sessions of version 3 that begin at once before join_rate applies.
        join_burst: u32 = 2_000, 1..=MAX_COUNT;
        /// TLS handshakes a second, of all sources together. Those beyond it wait. 0: any number.
        tls_handshake_rate: u32 = 2_000, 0..=MAX_COUNT;
        /// TLS handshakes at once before tls_handshake_rate applies.
        tls_handshake_burst: u32 = 4_000, 1..=MAX_COUNT;
        /// Whether accept_rate, max_half_open, join_rate and tls_handshake_rate are enforced. "on": connections beyond them are
        /// refused, and joins and handshakes wait; "report": they are counted and accepted; "off": neither.
        enforce_accepts: Enforce = Enforce::On, ();
        /// Connections at once from one source: an IPv4 address or an IPv6 /64. 0: any number.
        source_connections: u32 = 256, 0..=MAX_COUNT;
        /// Connections at once from one wider source, an IPv4 /24 or an IPv6 /48; from an IPv6 /56 a quarter. 0: any number.
        source_wide_connections: u32 = 4_096, 0..=MAX_COUNT;
        /// New connections a second from one source. 0: any number.
        source_rate: u32 = 50, 0..=MAX_COUNT;
        /// New connections that may come at once from one source before source_rate applies.
        source_burst: u32 = 200, 1..=MAX_COUNT;
        /// New connections a second from one wider source; from an IPv6 /56 a quarter. 0: any number.
        source_wide_rate: u32 = 400, 0..=MAX_COUNT;
        /// New connections at once from one wider source before source_wide_rate applies; from an IPv6 /56 a quarter.
        source_wide_burst: u32 = 1_600, 1..=MAX_COUNT;
        /// Clients of one source that may be away. One more ends a session of that source. 0: any number.
        source_stale_clients: u32 = 256, 0..=MAX_COUNT;
        /// Clients of one wider source that may be away; of an IPv6 /56 a quarter. 0: any number.
        source_wide_stale_clients: u32 = 4_096, 0..=MAX_COUNT;
        /// Whether a source that sends malformed input, fails a proof or lets handshakes time out may begin only few
        /// sessions for a while.
        source_penalties: bool = true, ();
        /// Sources that are remembered at once, wider ones included. Beyond that, only the wider one is remembered.
        source_table_size: u32 = 262_144, 1..=MAX_COUNT;
        /// Whether the limits on one source are enforced, as enforce_accepts says.
        enforce_sources: Enforce = Enforce::On, ();
        /// Networks to which the limits on one source do not apply. In a variable: separated by commas.
        exempt: Networks = Networks::loopback(), ();
        /// Bytes that all queues and buffers together may hold. At 80 % the queues of clients shrink, at 90 %
        /// newcomers are refused, at 95 % the sessions with the largest queues end. 0: half of the memory that the
        /// process may use.
        max_memory_bytes: u64 = 0, 0..=MAX_QUEUE;
        /// Whether max_memory_bytes is enforced, as enforce_accepts says.
        enforce_memory: Enforce = Enforce::On, ();
    }

    /// Metrics of the edge for Prometheus, and its health.
    metrics: Metrics {
        /// Address to answer HTTP on: /metrics, /healthz (the edge runs) and /readyz (and has a backend). It shows
        /// only totals; still, keep it inside your network. "auto": 127.0.0.1:42002, or none if that port is taken. An
        /// address that is taken keeps the edge from starting. Empty: none.
        address: Option<MetricsAddress> = Some(MetricsAddress::Auto), 0..=u16::MAX;
    }

    /// Interface by which an operator looks at the edge and steers it: `voltlane ctl`, `voltlane top`. It shows no packet
    /// and no secret, and each change is a line of the log.
    admin: Admin {
        /// Where it listens: a Unix socket ("unix:/run/voltlane/admin.sock"), or an address, which needs token_file. Empty:
        /// none.
        address: Option<Place> = None, 0..=u16::MAX;
        /// Mode of the file of its Unix socket: who may write to it may steer the edge.
        socket_mode: FileMode = FileMode(SOCKET_MODE), ();
        /// Ids of the users that may connect to its Unix socket. Empty: all that may open it. In a variable: separated by
        /// commas.
        peer_uids: UserIds = UserIds::default(), ();
        /// File with the token that callers over TCP show: at least 32 characters, as `voltlane admin-token` makes them.
        /// Others than its owner and its group must not be able to use it.
        token_file: Option<PathBuf> = None, ();
        /// Whether it only shows, and changes nothing.
        read_only: bool = false, ();
        /// File in which bans outlive a restart. It is made at the first ban. Empty: a restart forgets them.
        ban_file: Option<PathBuf> = None, ();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_variables_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for key in keys() {
            assert!(seen.insert(key.path.to_owned()), "{}", key.path);
            assert!(seen.insert(key.variable()), "{}", key.variable());
            assert!(
                key.path.ends_with(&format!(".{}", key.name())),
                "{}",
                key.path
            );
            assert!(
                key.comment
                    .iter()
                    .all(|line| line.starts_with(' ') && line.len() < 118),
                "{}",
                key.path
            );
        }
        let variable = keys()
            .find(|key| key.path == "clients.stale_timeout_secs")
            .map(Key::variable);
        assert_eq!(
            variable.as_deref(),
            Some("VOLTLANE_CLIENTS_STALE_TIMEOUT_SECS")
        );
    }
}
