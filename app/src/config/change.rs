//! Computes the change from the configuration in effect to the next one.

use super::keys::{Key, Listener, Master, Settings, keys};
use super::listeners::ListenerName;

/// Keys that are read only when a process starts, those of a listener also when it moves to another address. All others can change while
/// the process runs.
const AT_START: &[&str] = &[
    "general.key_file",
    "general.snapshot_file",
    #[cfg(feature = "upgrade")]
    "general.upgrade_socket",
    "general.shards",
    "general.watch_secs",
    "listener.socket_mode",
    "listener.peer_uids",
    "listener.backlog",
    "listener.keep_alive_secs",
    "listener.user_timeout_secs",
    "listener.send_buffer_bytes",
    "listener.receive_buffer_bytes",
    "listener.unsent_bytes",
    "master.protocol",
    "master.required_at_start",
    #[cfg(feature = "backends")]
    "master.addresses",
    #[cfg(feature = "cluster")]
    "cluster.home",
    #[cfg(feature = "cluster")]
    "cluster.engine",
    #[cfg(feature = "cluster")]
    "cluster.name",
    #[cfg(feature = "cluster")]
    "cluster.credentials_file",
    #[cfg(feature = "cluster")]
    "cluster.lease_secs",
    #[cfg(feature = "cluster")]
    "cluster.wait_secs",
    #[cfg(feature = "cluster")]
    "cluster.share_bans",
    "metrics.address",
    "admin.address",
    "admin.socket_mode",
    "admin.peer_uids",
    "admin.token_file",
    "admin.read_only",
    "admin.ban_file",
];

/// A configuration that was read while another one is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The settings in effect from now on: the new values, except for those that need a restart or were refused.
    pub settings: Settings,
    /// The keys whose new values are in effect, and the listeners that came or went.
    pub taken: Vec<String>,
    /// The keys whose new values need a restart.
    pub needs_restart: Vec<String>,
    /// The keys whose new values could not be put into effect.
    pub refused: Vec<String>,
    /// For each listener of the configuration that was read, the place of the one in effect that it continues.
    predecessors: Vec<Option<usize>>,
    /// Whether keys of listeners are told with the names of these.
    has_several: bool,
}

impl Change {
    /// Returns the change that `read` makes while `current` is in effect.
    #[must_use]
    pub fn between(current: &Settings, read: Settings) -> Change {
        let has_several = |settings: &Settings| !settings.more_listeners.is_empty();
        let mut change = Change {
            has_several: has_several(current) || has_several(&read),
            predecessors: predecessors(current, &read),
            settings: read,
            taken: Vec::new(),
            needs_restart: Vec::new(),
            refused: Vec::new(),
        };
        for key in keys().filter(|key| !key.is_of_listener()) {
            if !key.differs(current, &change.settings) {
                continue;
            }
            if key.is_for_the_start() {
                key.copy(current, &mut change.settings);
                change.needs_restart.push(key.path.to_owned());
            } else {
                change.taken.push(key.path.to_owned());
            }
        }
        change.compare_listeners(current);
        change
    }

    fn compare_listeners(&mut self, current: &Settings) {
        // Keys read the first listener, so each pair is compared while it is first.
        let mut before = current.clone();
        for (index, predecessor) in self.predecessors.clone().into_iter().enumerate() {
            self.settings.swap_listener(index);
            match predecessor {
                None => self.taken.push(whole(&self.settings.listener.name)),
                Some(at) => {
                    before.swap_listener(at);
                    self.compare_listener(&before);
                    before.swap_listener(at);
                }
            }
            self.settings.swap_listener(index);
        }
        let listeners = current.listeners().enumerate();
        let gone = listeners.filter(|(at, _)| !self.predecessors.contains(&Some(*at)));
        let gone = gone.map(|(_, listener)| whole(&listener.name));
        self.taken.extend(gone);
    }

    /// Compares the first listener with the first of `before`.
    fn compare_listener(&mut self, before: &Settings) {
        let moves = self.settings.listener.address != before.listener.address;
        let prefix = self.prefix(&self.settings.listener.name);
        for key in keys().filter(|key| key.is_of_listener()) {
            if !key.differs(before, &self.settings) {
                continue;
            }
            let label = format!("{prefix}{}", key.name());
            // Another address has a new socket, which starts with the new values.
            if key.is_for_the_start() && !moves {
                key.copy(before, &mut self.settings);
                self.needs_restart.push(label);
            } else {
                self.taken.push(label);
            }
        }
    }

    /// Returns each listener that was read, with the place of the one in effect that it continues.
    pub(crate) fn listeners(&self) -> Vec<(Listener, Option<usize>)> {
        let listeners = self.settings.listeners().cloned();
        listeners.zip(self.predecessors.iter().copied()).collect()
    }

    /// Returns what is in front of the keys of a listener.
    fn prefix(&self, name: &ListenerName) -> String {
        match self.has_several {
            true => format!("listener[{name}]."),
            false => "listener.".to_owned(),
        }
    }

    /// Takes back the new values about the backend, in favour of those `before`.
    pub fn refuse_master(&mut self, before: &Master) {
        let of_master = |label: &mut String| label.starts_with("master.");
        self.refused.extend(self.taken.extract_if(.., of_master));
        self.settings.master = before.clone();
    }

    /// Takes back all listeners, in favour of those `before`.
    pub fn refuse_listeners(&mut self, before: Vec<Listener>) {
        let of_listeners = |label: &mut String| label.starts_with("listener");
        self.refused.extend(self.taken.extract_if(.., of_listeners));
        self.settings.set_listeners(before);
    }

    /// Takes back the new values of the listener with this name, in favour of those `before`. One that was not there before does not come.
    pub fn refuse(&mut self, name: &ListenerName, before: Option<&Listener>) {
        let prefix = self.prefix(name);
        let whole = whole(name);
        let of_listener = self
            .taken
            .extract_if(.., |label| *label == whole || label.starts_with(&prefix));
        self.refused.extend(of_listener);
        let all = self.settings.listeners().cloned();
        let all = all.filter_map(|listener| match listener.name == *name {
            true => before.cloned(),
            false => Some(listener),
        });
        let all = all.collect();
        self.settings.set_listeners(all);
    }
}

/// Returns what a whole listener is called in a list of keys.
fn whole(name: &ListenerName) -> String {
    format!("listener[{name}]")
}

/// Finds the listener that each one of `read` continues: it has its name, or else its place under a new name.
fn predecessors(current: &Settings, read: &Settings) -> Vec<Option<usize>> {
    let is_named = |name: &ListenerName| read.listeners().any(|one| one.name == *name);
    let mut left: Vec<(usize, &Listener)> = current.listeners().enumerate().collect();
    let find = |new: &Listener| {
        let is_predecessor = |(_, before): &(usize, &Listener)| {
            // Two with port 0 have different ports.
            let has_place = new.address == before.address && new.address.is_definite();
            new.name == before.name || has_place && !is_named(&before.name)
        };
        let found = left.iter().position(is_predecessor)?;
        Some(left.remove(found).0)
    };
    read.listeners().map(find).collect()
}

impl Key {
    /// Returns whether a new value needs a restart.
    fn is_for_the_start(&self) -> bool {
        AT_START.contains(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use voltlane_core::edge::EdgeConfig;

    use super::super::place::Place;
    use super::super::value::Raw;
    use super::*;
    use crate::Resources;

    /// Returns the defaults with another value for this key.
    fn with_another(key: &Key) -> Settings {
        let values = [
            "7",
            "4097",
            "false",
            "true",
            "Debug",
            "Off",
            "report",
            "all",
            "required",
            "192.0.2.0/24",
            "192.0.2.1:9",
            "key.pem",
            "more.pem:more.key",
            "tls",
            "1.2",
            "strict",
            "forwarded",
            "/path",
            "nats://127.0.0.1:4222",
            "https://example.com",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "0600",
            "3",
            "json",
        ];
        let mut tries = values.into_iter().filter_map(|value| {
            let mut settings = Settings::default();
            key.apply(&mut settings, Raw::Text(value)).ok()?;
            key.differs(&Settings::default(), &settings)
                .then_some(settings)
        });
        tries.next().unwrap_or_else(|| panic!("{}", key.path))
    }

    /// Returns the part of the settings that a running edge can change.
    fn live(settings: &Settings) -> impl PartialEq + std::fmt::Debug {
        let mut config = settings.edge_config(Resources::default());
        // The machine takes these at the start alone.
        config.master.protocol = EdgeConfig::default().master.protocol;
        #[cfg(feature = "cluster")]
        {
            config.home = EdgeConfig::default().home;
        }
        #[cfg(feature = "backends")]
        {
            config.backends = EdgeConfig::default().backends;
        }
        (
            config,
            (settings.master.address.clone(), settings.master_options()),
            (settings.general.log_level, settings.general.log_format),
            (
                settings.general.pre_stop_secs,
                settings.general.shutdown_timeout_secs,
                settings.general.drain_secs,
            ),
            door(&settings.listener),
            link(&settings.master),
        )
    }

    /// Returns what the connector to the backend is made of.
    fn link(master: &Master) -> impl PartialEq + std::fmt::Debug {
        let files = [
            master.tls_ca_file.clone(),
            master.tls_certificate_file.clone(),
            master.tls_key_file.clone(),
            master.token_file.clone(),
        ];
        let name = master.tls_server_name.clone();
        (master.tls, files, name, master.tls_spki_sha256.clone())
    }

    /// Returns what doors are made of.
    fn door(listener: &Listener) -> impl PartialEq + std::fmt::Debug {
        let place = (listener.name.clone(), listener.address.clone());
        (
            tls(listener),
            websocket(listener),
            listener.transport,
            place,
        )
    }

    fn websocket(listener: &Listener) -> impl PartialEq + std::fmt::Debug {
        let paths = (listener.path.clone(), listener.health_path.clone());
        let origins = (listener.origins.clone(), listener.origin_required);
        (
            paths,
            origins,
            listener.forwarded,
            listener.max_message_bytes,
            (listener.ping_secs, listener.pong_timeout_secs),
        )
    }

    fn tls(listener: &Listener) -> impl PartialEq + std::fmt::Debug {
        let files = [
            listener.certificate_file.clone(),
            listener.key_file.clone(),
            listener.client_ca_file.clone(),
            listener.client_crl_file.clone(),
        ];
        let choices = (listener.min_version, listener.sni, listener.client_auth);
        let more = listener.certificate.clone();
        (files, more, choices, listener.alpn, listener.tickets)
    }

    #[test]
    fn every_key_changes_the_running_edge_or_needs_a_restart() {
        let current = Settings::default();
        for key in keys() {
            let read = with_another(key);
            let changes_what_runs = live(&read) != live(&current);
            let change = Change::between(&current, read.clone());
            if key.is_for_the_start() {
                assert!(!changes_what_runs, "{} could change", key.path);
                assert_eq!(change.needs_restart, [key.path]);
                assert_eq!((&change.settings, change.taken.len()), (&current, 0));
            } else {
                assert!(changes_what_runs, "{} changes nothing", key.path);
                assert_eq!(change.taken, [key.path]);
                assert_eq!((change.settings, change.needs_restart.len()), (read, 0));
            }
        }
        for path in AT_START {
            assert!(keys().any(|key| key.path == *path), "{path} is no key");
        }
    }

    #[test]
    fn refused_values_of_a_section_are_taken_back() {
        let current = Settings::default();
        let mut read = Settings::default();
        read.listener.tickets = false;
        read.listener.alpn = false;
        read.clients.max_frame_bytes = 7;
        let mut change = Change::between(&current, read);
        change.refuse(&current.listener.name, Some(&current.listener));
        assert_eq!(change.taken, ["clients.max_frame_bytes"]);
        assert_eq!(change.refused, ["listener.alpn", "listener.tickets"]);
        assert_eq!(change.settings.listener, current.listener);
        assert_eq!(change.settings.clients.max_frame_bytes, 7);
    }

    #[test]
    fn listeners_come_go_and_change_by_their_names() {
        let named = |name: &'static str, port| Listener {
            name: ListenerName::of(name),
            address: Place::loopback(port),
            ..Listener::default()
        };
        let with = |listeners: Vec<Listener>| {
            let mut settings = Settings::default();
            settings.set_listeners(listeners);
            settings
        };
        let current = with(vec![named("a", 1), named("b", 2), named("c", 3)]);
        let mut slow = named("c", 3);
        (slow.backlog, slow.tickets) = (7, false);
        let read = with(vec![slow.clone(), named("d", 4), named("new", 1)]);
        let mut change = Change::between(&current, read);
        let taken = [
            "listener[c].tickets",
            "listener[d]",
            "listener[new].name",
            "listener[b]",
        ];
        assert_eq!(change.taken, taken);
        assert_eq!(change.needs_restart, ["listener[c].backlog"]);
        let continued = change.listeners().into_iter().map(|(_, place)| place);
        assert_eq!(continued.collect::<Vec<_>>(), [Some(2), None, Some(0)]);
        slow.backlog = 4_096;
        let expected = vec![slow, named("d", 4), named("new", 1)];
        assert_eq!(change.settings, with(expected));
        change.refuse(&ListenerName::of("d"), None);
        change.refuse(&ListenerName::of("c"), Some(&named("c", 3)));
        assert_eq!(change.refused, ["listener[d]", "listener[c].tickets"]);
        assert_eq!(change.taken, ["listener[new].name", "listener[b]"]);
        assert_eq!(change.settings, with(vec![named("c", 3), named("new", 1)]));
    }

    #[test]
    fn a_listener_that_moves_takes_the_keys_of_its_new_socket() {
        let current = Settings::default();
        let mut read = Settings::default();
        let new = [
            ("listener.address", "unix:@edge"),
            ("listener.backlog", "7"),
            ("listener.peer_uids", "7"),
            ("listener.socket_mode", "0600"),
        ];
        for (path, value) in new {
            let key = keys().find(|key| key.path == path).expect(path);
            key.apply(&mut read, Raw::Text(value)).expect(value);
        }
        let change = Change::between(&current, read.clone());
        assert_eq!((&change.settings, change.needs_restart.len()), (&read, 0));
        assert_eq!(change.taken.len(), new.len());
        for (path, _) in new {
            assert!(change.taken.iter().any(|key| key == path), "{path}");
        }
    }

    #[test]
    fn equal_values_are_no_change() {
        let current = Settings::default();
        let change = Change::between(&current, current.clone());
        assert_eq!((change.taken.len(), change.needs_restart.len()), (0, 0));
    }
}
