//! Values that are valid each by itself but contradict each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Address;
#[cfg(feature = "cluster")]
use super::cluster::EngineKind;
use super::keys::{Listener, Settings};
use super::load::Build;
use super::metrics_address::MetricsAddress;
use super::place::Place;
use super::problem::{Fault, Origin, Problem};
use super::value::{ClientAuth, Enforce, Forwarded, LinkProtocol, ProxyProtocol};
use super::worst_case::WorstCase;

/// The keys that are compared, and the check.
type Rule = (&'static [&'static str], fn(&Settings) -> Option<Fault>);

/// The admin interface lets in only those that it knows, at a place of its own.
fn admin(settings: &Settings) -> Option<Fault> {
    let admin = settings.admin.address.as_ref()?;
    if cfg!(not(feature = "admin")) {
        return Some(Fault::new(
            "admin.address is set, and this program was built without the admin interface",
        ));
    }
    let metrics = own_metrics(settings);
    let taken = [
        ("listener.address", Some(&settings.listener.address)),
        ("metrics.address", metrics.as_ref()),
    ];
    let taken = taken
        .into_iter()
        .find(|(_, place)| *place == Some(admin) && admin.is_definite());
    if let Some((key, _)) = taken {
        return Some(Fault::new(format!(
            "admin.address and {key} are both {admin}"
        )));
    }
    if let Some((key, _)) = own_backend(settings, admin) {
        return Some(Fault::new(format!(
            "{key} leads to admin.address ({admin}): the edge would be its own backend"
        )));
    }
    match admin {
        Place::Passed(_) => Some(only_listeners("admin.address", admin)),
        Place::Net(_) if settings.admin.token_file.is_none() => {
            let what = format!(
                "admin.address is {admin} and admin.token_file is empty: anybody could steer the edge"
            );
            let remedy = "set a Unix socket, or write a token of `voltlane admin-token` to a file and name it";
            Some(Fault::new(what).remedy(remedy.to_owned()))
        }
        Place::Unix(place) if place.is_abstract() && settings.admin.peer_uids.0.is_empty() => {
            let what = format!(
                "admin.address is {admin}, which no permissions protect, and admin.peer_uids is empty"
            );
            Some(Fault::new(what).remedy("name the users that may steer the edge".to_owned()))
        }
        _ => None,
    }
}

/// Saved sessions are sealed with a key that outlives the process.
fn snapshot(settings: &Settings) -> Option<Fault> {
    let general = &settings.general;
    let snapshot = general.snapshot_file.as_ref()?;
    if cfg!(not(feature = "snapshot")) {
        return Some(Fault::new(
            "general.snapshot_file is set, and this program was built without saved sessions",
        ));
    }
    match &general.key_file {
        None => {
            let what = "general.snapshot_file is set and general.key_file is empty: \
                        nothing would open what was saved";
            Some(Fault::new(what).remedy("name a key file".to_owned()))
        }
        Some(key) if key == snapshot => {
            let what = "general.snapshot_file and general.key_file are the same file";
            Some(Fault::new(what))
        }
        Some(_) => None,
    }
}

/// A hand-over needs a key file, since its state is sealed with that key, and Linux, since sockets go as descriptors.
#[cfg(feature = "upgrade")]
fn upgrade(settings: &Settings) -> Option<Fault> {
    let general = &settings.general;
    let socket = general.upgrade_socket.as_ref()?;
    if cfg!(not(target_os = "linux")) {
        return Some(Fault::new(
            "general.upgrade_socket is set, and a process can take another one over on Linux alone",
        ));
    }
    if !socket.is_absolute() {
        let what = "general.upgrade_socket is no path from the root";
        return Some(Fault::new(what));
    }
    match &general.key_file {
        None => {
            let what = "general.upgrade_socket is set and general.key_file is empty: \
                        no other process has the key of this one";
            Some(Fault::new(what).remedy("name a key file".to_owned()))
        }
        Some(_) => None,
    }
}

/// An engine is for homes.
#[cfg(feature = "cluster")]
fn engine(settings: &Settings) -> Option<Fault> {
    let cluster = &settings.cluster;
    let is_given = !cluster.engine.servers.is_empty();
    if is_given && cfg!(not(feature = "engine")) {
        return Some(Fault::new(
            "cluster.engine is set, and this program was built without engines",
        ));
    }
    if is_given && cluster.engine.kind == EngineKind::Redis && cfg!(not(feature = "redis")) {
        return Some(Fault::new(
            "cluster.engine is Redis, and this program was built without that",
        ));
    }
    if is_given && cluster.home == 0 {
        let what = "cluster.engine is set and cluster.home is 0: there is nothing to agree on";
        let remedy = "set home to a number of this edge alone, or engine to \"none\"";
        return Some(Fault::new(what).remedy(remedy));
    }
    #[cfg(feature = "upgrade")]
    if is_given && settings.general.upgrade_socket.is_some() {
        let what = "cluster.engine and general.upgrade_socket are both set: a process that takes another one over would wait for the home of that";
        return Some(Fault::new(what).remedy("leave one of them out"));
    }
    if !is_given && cluster.credentials_file.is_some() {
        let what = "cluster.credentials_file is set and cluster.engine is \"none\"";
        return Some(Fault::new(what).remedy("set engine, or leave credentials_file out"));
    }
    None
}

/// Several backends are in place of one.
#[cfg(feature = "backends")]
fn backends(settings: &Settings) -> Option<Fault> {
    let backends = &settings.master.addresses.0;
    if backends.is_empty() {
        return None;
    }
    if settings.master.address != Settings::default().master.address {
        let what = "master.address and master.addresses are both set";
        return Some(Fault::new(what).remedy("name all backends in master.addresses"));
    }
    None
}

/// Returns the backend that is at `own`, an address of the edge, and the key that names it.
pub(super) fn own_backend<'a>(
    settings: &'a Settings,
    own: &Place,
) -> Option<(&'static str, &'a Place)> {
    let mut backends = settings.backends().iter();
    let backend = backends.find(|backend| leads_to(own, backend))?;
    #[cfg(feature = "backends")]
    if !settings.master.addresses.0.is_empty() {
        return Some(("master.addresses", backend));
    }
    Some(("master.address", backend))
}

/// Returns the address of the metrics that somebody chose. The usual one gives way to all others.
fn own_metrics(settings: &Settings) -> Option<Place> {
    match settings.metrics.address.clone()? {
        MetricsAddress::At(address) => Some(Place::Net(address)),
        MetricsAddress::Auto => None,
    }
}

/// Sockets of a service manager are listeners' alone.
fn only_listeners(key: &str, place: &Place) -> Fault {
    let what = format!("{key} is {place}, and only a listener takes sockets of a service manager");
    Fault::new(what).remedy("set an address or a Unix socket")
}

const RULES: &[Rule] = &[
    #[cfg(feature = "backends")]
    (
        &[
            "master.addresses",
            "master.address",
            "general.snapshot_file",
            #[cfg(feature = "upgrade")]
            "general.upgrade_socket",
        ],
        backends,
    ),
    (&["general.snapshot_file", "general.key_file"], snapshot),
    #[cfg(feature = "upgrade")]
    (&["general.upgrade_socket", "general.key_file"], upgrade),
    (&["master.address"], |settings| {
        let master = &settings.master.address;
        matches!(master, Place::Passed(_)).then(|| only_listeners("master.address", master))
    }),
    (
        &[
            "clients.missed_packets_buffer_size",
            "clients.channel_capacity",
        ],
        |settings| {
            let (missed, capacity) = (
                settings.clients.missed_packets_buffer_size,
                settings.clients.channel_capacity,
            );
            (missed > capacity).then(|| {
            let what = format!("clients.missed_packets_buffer_size ({missed}) is above clients.channel_capacity ({capacity}): \
                                what was missed has to fit into the client's queue");
            let better = u64::from(missed) * 2;
            Fault::new(what).remedy(format!("the capacity is better at least {better}"))
        })
        },
    ),
    (
        &[
            "clients.missed_packets_buffer_bytes",
            "clients.channel_bytes",
            "clients.missed_packets_buffer_size",
        ],
        |settings| {
            let (missed, queue) = (
                settings.clients.missed_packets_buffer_bytes,
                settings.clients.channel_bytes,
            );
            (settings.clients.missed_packets_buffer_size > 0 && missed > queue).then(|| {
                Fault::new(format!("clients.missed_packets_buffer_bytes ({missed}) is above clients.channel_bytes ({queue}): \
                         what was missed has to fit into the client's queue"))
            })
        },
    ),
    (&["listener.address", "master.address"], |settings| {
        let listener = &settings.listener.address;
        own_backend(settings, listener).map(|(key, master)| {
            let what = match listener == master {
                true => format!("listener.address and {key} are both {master}"),
                false => format!("{key} ({master}) leads to listener.address ({listener})"),
            };
            Fault::new(format!("{what}: the edge would be its own backend"))
        })
    }),
    (&["metrics.address", "master.address"], |settings| {
        let metrics = own_metrics(settings)?;
        own_backend(settings, &metrics).map(|(key, master)| {
            Fault::new(format!(
                "{key} ({master}) leads to metrics.address ({metrics}): the edge would be its own backend"
            ))
        })
    }),
    (&["metrics.address", "listener.address"], |settings| {
        let metrics = own_metrics(settings)?;
        let listener = &settings.listener.address;
        (metrics == *listener && listener.is_definite()).then(|| {
            Fault::new(format!(
                "metrics.address and listener.address are both {listener}"
            ))
        })
    }),
    (
        &[
            "admin.address",
            "admin.token_file",
            "admin.peer_uids",
            "master.address",
            "listener.address",
            "metrics.address",
        ],
        admin,
    ),
    (
        &["listener.proxy_protocol", "listener.trusted_proxies"],
        |settings| {
            let listener = &settings.listener;
            (listener.proxy_protocol == ProxyProtocol::Required && listener.trusted_proxies.0.is_empty()).then(|| {
            Fault::new("listener.proxy_protocol is \"required\" and listener.trusted_proxies is empty: nobody could connect")
        })
        },
    ),
    (&["listener.peer_uids", "listener.address"], unix),
    (
        &[
            "listener.max_connections",
            "listener.accept_rate",
            "listener.accept_burst",
            "limits.max_connections",
            "limits.accept_rate",
            "limits.accept_burst",
            "limits.enforce_accepts",
        ],
        own_limits,
    ),
    (
        &[
            "listener.transport",
            "listener.certificate_file",
            "listener.key_file",
            "listener.certificate",
            "listener.client_auth",
            "listener.client_ca_file",
            "listener.client_crl_file",
            "listener.origins",
            "listener.origin_required",
            "listener.forwarded",
            "listener.trusted_proxies",
            "listener.proxy_protocol",
        ],
        doors,
    ),
    (
        &[
            "master.tls",
            "master.tls_ca_file",
            "master.tls_spki_sha256",
            "master.tls_server_name",
            "master.tls_certificate_file",
            "master.tls_key_file",
        ],
        link,
    ),
    #[cfg(feature = "cluster")]
    (&["cluster.home", "master.protocol"], |settings| {
        let needs = settings.cluster.home > 0 && settings.master.protocol != LinkProtocol::V3;
        needs.then(|| {
            let what = "cluster.home is set and master.protocol is not \"3\": version 2 of the link names no edge";
            Fault::new(what).remedy("set master.protocol to \"3\", or leave home out")
        })
    }),
    #[cfg(feature = "cluster")]
    (
        &[
            "cluster.engine",
            "cluster.home",
            "cluster.credentials_file",
            #[cfg(feature = "upgrade")]
            "general.upgrade_socket",
        ],
        engine,
    ),
    (&["master.token_file", "master.protocol"], |settings| {
        let master = &settings.master;
        let needs = master.token_file.is_some() && master.protocol != LinkProtocol::V3;
        needs.then(|| {
            let what = "master.token_file is set and master.protocol is not \"3\": version 2 of the link proves nothing";
            Fault::new(what).remedy("set master.protocol to \"3\", or leave token_file out")
        })
    }),
    (
        &[
            "limits.max_memory_bytes",
            "master.channel_bytes",
            "master.max_frame_bytes",
            "clients.channel_bytes",
            "clients.max_frame_bytes",
        ],
        |settings| {
            let WorstCase { client, link, .. } = WorstCase::of(settings);
            let (most, needed) = (settings.limits.max_memory_bytes, client + link);
            (most > 0 && u128::from(most) < needed).then(|| {
                Fault::new(format!("limits.max_memory_bytes ({most}) is less than the {needed} bytes that the queues and buffers of the \
                         backend and of a single client may hold"))
            })
        },
    ),
    (
        &[
            "limits.max_connections",
            "clients.channel_bytes",
            "clients.max_frame_bytes",
            "clients.max_stale_clients",
            "clients.missed_packets_buffer_bytes",
            "clients.missed_packets_buffer_size",
            "master.channel_bytes",
            "master.max_frame_bytes",
            "limits.enforce_memory",
        ],
        |settings| {
            if settings.limits.enforce_memory == Enforce::On {
                // limits.max_memory_bytes bounds the sum.
                return None;
            }
            let WorstCase {
                clients,
                away,
                link,
                ..
            } = WorstCase::of(settings);
            let (total, most) = (clients.unwrap_or(0) + away + link, isize::MAX as u128);
            (total > most).then(|| {
                Fault::new(format!("the queues and buffers of limits.max_connections ({}) and clients.max_stale_clients ({}) clients \
                     and of the backend come to {total} bytes in the worst case; a process can address {most}",
                    settings.limits.max_connections, settings.clients.max_stale_clients))
            })
        },
    ),
];

/// Checks that the limits of a listener are within those for all, and are of use.
fn own_limits(settings: &Settings) -> Option<Fault> {
    let (listener, limits) = (&settings.listener, &settings.limits);
    let pairs = [
        (
            "max_connections",
            listener.max_connections,
            limits.max_connections,
        ),
        ("accept_rate", listener.accept_rate, limits.accept_rate),
        ("accept_burst", listener.accept_burst, limits.accept_burst),
    ];
    let is_above = |(_, own, all): &(&str, u32, u32)| *own > *all && *all > 0;
    if let Some((key, own, all)) = pairs.into_iter().find(is_above) {
        let what =
            format!("listener.{key} ({own}) is above limits.{key} ({all}): it would be of no use");
        let remedy = "leave the key of the listener out, or raise that of all";
        return Some(Fault::new(what).remedy(remedy));
    }
    if listener.accept_burst > 0 && listener.accept_rate == 0 {
        let what = format!(
            "listener.accept_burst is {} and listener.accept_rate is 0: it would be of no use",
            listener.accept_burst
        );
        let remedy = "set listener.accept_rate, or leave the key out";
        return Some(Fault::new(what).remedy(remedy));
    }
    if listener.accept_rate > 0 && limits.enforce_accepts == Enforce::Off {
        let what = format!(
            "listener.accept_rate is {} and limits.enforce_accepts is \"off\": it would be of no use",
            listener.accept_rate
        );
        let remedy = "set limits.enforce_accepts to \"on\" or \"report\", or leave the key out";
        return Some(Fault::new(what).remedy(remedy));
    }
    None
}

/// Checks that the keys of Unix sockets fit the place.
fn unix(settings: &Settings) -> Option<Fault> {
    let listener = &settings.listener;
    let is_restricted = !listener.peer_uids.0.is_empty();
    match listener.address.unix() {
        None if is_restricted => {
            let what = format!(
                "listener.address is {} and listener.peer_uids is set: it would be of no use",
                listener.address
            );
            Some(Fault::new(what).remedy("listen at a Unix socket, or leave the key out"))
        }
        Some(place) if place.is_abstract() && !is_restricted => {
            let what = format!(
                "listener.address is {place}, which any user of this machine may open, and listener.peer_uids is empty"
            );
            Some(Fault::new(what).remedy("name the users that may connect"))
        }
        _ => None,
    }
}

/// The addresses of this machine that need no resolver.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Returns whether a connection to `to` reaches a listener at `at`. Names other than `localhost` are not resolved, and other addresses of
/// this machine are not known.
fn leads_to(at: &Place, to: &Place) -> bool {
    let (Place::Net(at), Place::Net(to)) = (at, to) else {
        return at == to;
    };
    let listens = |place: IpAddr| match ip_of(at) {
        Some(IpAddr::V4(own)) if own.is_unspecified() => place.is_ipv4() && place.is_loopback(),
        // A listener at `[::]` takes IPv4 clients, too.
        Some(IpAddr::V6(own)) if own.is_unspecified() => place.is_loopback(),
        Some(own) => own == place,
        None => is_localhost(at) && LOOPBACK.contains(&place),
    };
    let is_reached = match ip_of(to) {
        // A connection to the unspecified address leads to this machine.
        Some(ip) if ip.is_unspecified() => listens(LOOPBACK[usize::from(ip.is_ipv6())]),
        Some(ip) => listens(ip),
        None => is_localhost(to) && LOOPBACK.into_iter().any(listens),
    };
    at.port() == to.port() && at.port() != 0 && (at.host() == to.host() || is_reached)
}

fn ip_of(address: &Address) -> Option<IpAddr> {
    let ip: IpAddr = address.host().parse().ok()?;
    Some(ip.to_canonical())
}

fn is_localhost(address: &Address) -> bool {
    address.host().eq_ignore_ascii_case("localhost")
}

/// Checks that the keys of TLS and of WebSocket fit each other.
fn doors(settings: &Settings) -> Option<Fault> {
    let listener = &settings.listener;
    let transport = listener.transport;
    let fault = |what: &str, remedy: &str| {
        let what = format!("listener.transport is \"{transport}\" and {what}");
        Some(Fault::new(what).remedy(remedy.to_owned()))
    };
    if transport.has_tls() && cfg!(not(feature = "tls")) {
        return fault("this build has no TLS", "build it with the feature \"tls\"");
    }
    if transport.has_websocket() && cfg!(not(feature = "websocket")) {
        let remedy = "build it with the feature \"websocket\"";
        return fault("this build has no WebSocket", remedy);
    }
    if transport.has_tls() {
        let files = (&listener.certificate_file, &listener.key_file);
        let is_complete = match files {
            (Some(_), Some(_)) => true,
            (None, None) => !listener.certificate.0.is_empty(),
            _ => false,
        };
        if !is_complete {
            let remedy = "name the certificate and its key";
            let what = "listener.certificate_file or listener.key_file is empty";
            return fault(what, remedy);
        }
        if listener.client_auth != ClientAuth::Off && listener.client_ca_file.is_none() {
            let what = format!(
                "listener.client_auth is \"{}\" and listener.client_ca_file is empty",
                listener.client_auth
            );
            let remedy = "name the certificates of who issues those of clients";
            return Some(Fault::new(what).remedy(remedy));
        }
        let unused = [
            ("client_ca_file", listener.client_ca_file.is_some()),
            ("client_crl_file", listener.client_crl_file.is_some()),
        ];
        if let Some((key, _)) = unused.into_iter().find(|(_, is_set)| *is_set)
            && listener.client_auth == ClientAuth::Off
        {
            let what = format!(
                "listener.client_auth is \"off\" and listener.{key} is set: no client would be asked for a certificate"
            );
            let remedy =
                "set listener.client_auth to \"optional\" or \"required\", or leave the key out";
            return Some(Fault::new(what).remedy(remedy));
        }
    } else {
        let unused = [
            (
                "listener.certificate_file",
                listener.certificate_file.is_some(),
            ),
            ("listener.key_file", listener.key_file.is_some()),
            ("listener.certificate", !listener.certificate.0.is_empty()),
            ("listener.client_ca_file", listener.client_ca_file.is_some()),
            (
                "listener.client_crl_file",
                listener.client_crl_file.is_some(),
            ),
            (
                "listener.client_auth",
                listener.client_auth != ClientAuth::Off,
            ),
        ];
        if let Some((key, _)) = unused.into_iter().find(|(_, is_set)| *is_set) {
            let remedy = "set the transport to \"tls\" or \"wss\", or leave the key out";
            return fault(&format!("{key} is set: it would be of no use"), remedy);
        }
    }
    if transport.has_websocket() {
        if listener.forwarded != Forwarded::Off && listener.trusted_proxies.0.is_empty() {
            let what = format!(
                "listener.forwarded is \"{}\" and listener.trusted_proxies is empty: the header would never count",
                listener.forwarded
            );
            return Some(Fault::new(what).remedy("name the networks of the proxies"));
        }
    } else {
        let unused = [
            ("listener.origins", !listener.origins.0.is_empty()),
            ("listener.origin_required", listener.origin_required),
            ("listener.forwarded", listener.forwarded != Forwarded::Off),
        ];
        if let Some((key, _)) = unused.into_iter().find(|(_, is_set)| *is_set) {
            let remedy = "set the transport to \"ws\" or \"wss\", or leave the key out";
            return fault(&format!("{key} is set: it would be of no use"), remedy);
        }
    }
    if listener.forwarded != Forwarded::Off && listener.proxy_protocol == ProxyProtocol::Required {
        let what = format!(
            "listener.proxy_protocol is \"required\" and listener.forwarded is \"{}\": only one of them can tell where a client comes from",
            listener.forwarded
        );
        let remedy = "set listener.forwarded to \"off\", or listener.proxy_protocol";
        return Some(Fault::new(what).remedy(remedy));
    }
    None
}

/// Checks that the keys of TLS on the link fit each other.
fn link(settings: &Settings) -> Option<Fault> {
    let master = &settings.master;
    let fault =
        |what: &str, remedy: &str| Some(Fault::new(what.to_owned()).remedy(remedy.to_owned()));
    let given = [
        ("tls_ca_file", master.tls_ca_file.is_some()),
        ("tls_spki_sha256", !master.tls_spki_sha256.is_empty()),
        ("tls_server_name", master.tls_server_name.is_some()),
        (
            "tls_certificate_file",
            master.tls_certificate_file.is_some(),
        ),
        ("tls_key_file", master.tls_key_file.is_some()),
    ];
    let is_given = |key: &str| given.iter().any(|(name, is_set)| *name == key && *is_set);
    if !master.tls {
        let (key, _) = given.into_iter().find(|(_, is_set)| *is_set)?;
        let what = format!("master.tls is false and master.{key} is set: it would be of no use");
        return fault(&what, "set master.tls to true, or leave the key out");
    }
    if cfg!(not(feature = "tls")) {
        let what = "master.tls is true and this build has no TLS";
        return fault(what, "build it with the feature \"tls\"");
    }
    match (is_given("tls_ca_file"), is_given("tls_spki_sha256")) {
        (false, false) => fault(
            "master.tls is true and neither master.tls_ca_file nor master.tls_spki_sha256 is set: no backend would be trusted",
            "name the file of the authority that issued the backend's certificate, or the backend's public key",
        ),
        (true, true) => fault(
            "master.tls_ca_file and master.tls_spki_sha256 are both set",
            "leave one of them out: a pinned key needs no authority",
        ),
        _ if is_given("tls_certificate_file") != is_given("tls_key_file") => fault(
            "one of master.tls_certificate_file and master.tls_key_file is set without the other",
            "name the certificate and its key, or neither",
        ),
        _ => None,
    }
}

/// Adds a problem for every broken rule, unless one of its keys has a problem of its own.
pub(super) fn check(build: &mut Build) {
    for rule in RULES {
        let of_listener = rule.0.iter().any(|path| path.starts_with("listener."));
        let times = if of_listener { build.listeners() } else { 1 };
        for index in 0..times {
            build.with_listener(index, |build| {
                check_rule(rule, of_listener, build);
            });
        }
    }
    check_pairs(build);
}

fn check_rule((paths, broken): &Rule, of_listener: bool, build: &mut Build) {
    if !paths.iter().all(|path| build.is_sound(path)) {
        return;
    }
    let Some(mut fault) = broken(&build.settings) else {
        return;
    };
    if of_listener {
        fault = build.of_listener(fault);
    }
    // Names the first key that somebody set. The others are only what it collides with.
    let path = paths
        .iter()
        .find(|path| build.origin(path) != Origin::Default)
        .unwrap_or(&paths[0]);
    report(build, path, fault);
}

/// Checks that no two listeners have one name, or one place.
fn check_pairs(build: &mut Build) {
    let mut earlier: Vec<Listener> = Vec::new();
    for index in 0..build.listeners() {
        build.with_listener(index, |build| {
            let is_sound = |path| build.is_sound(path);
            if !is_sound("listener.name") || !is_sound("listener.address") {
                return;
            }
            let own = build.settings.listener.clone();
            if earlier.iter().any(|other| other.name == own.name) {
                let what = format!("there are two listeners with the name \"{}\"", own.name);
                let fault = Fault::new(what).remedy("give each one its own");
                report(build, "listener.name", fault);
            }
            let at_place = earlier.iter().find(|other| {
                leads_to(&other.address, &own.address) || leads_to(&own.address, &other.address)
            });
            if let Some(other) = at_place {
                let what = format!(
                    "listener \"{}\" ({}) has the place of listener \"{}\" ({})",
                    own.name, own.address, other.name, other.address
                );
                let fault = Fault::new(what).remedy("give each one its own address");
                report(build, "listener.address", fault);
            }
            earlier.push(own);
        });
    }
}

fn report(build: &mut Build, path: &'static str, fault: Fault) {
    let origin = match build.origin(path) {
        Origin::Default if path.starts_with("listener.") => build.place.clone(),
        origin => origin,
    };
    build.problem(Problem {
        origin,
        written: None,
        value: None,
        fault,
        key: Some(path),
    });
}
