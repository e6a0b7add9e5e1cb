//! Computes the change from the configuration in effect to the next one.

use super::keys::{Key, Settings, keys};

/// Keys that are read only when a process starts. All others can change while it runs.
const AT_START: &[&str] = &[
    "general.key_file",
    "general.shards",
    "listener.address",
    "listener.backlog",
    "listener.keep_alive_secs",
    "listener.user_timeout_secs",
    "listener.send_buffer_bytes",
    "listener.receive_buffer_bytes",
    "listener.unsent_bytes",
    "master.required_at_start",
    "metrics.address",
];

/// A configuration that was read while another one is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The settings in effect from now on: the new values, except for those that need a restart.
    pub settings: Settings,
    /// The keys whose new values are in effect.
    pub taken: Vec<&'static str>,
    /// The keys whose new values need a restart.
    pub needs_restart: Vec<&'static str>,
    /// The keys whose new values could not be put into effect.
    pub refused: Vec<&'static str>,
}

impl Change {
    /// Returns the change that `read` makes while `current` is in effect.
    #[must_use]
    pub fn between(current: &Settings, read: Settings) -> Change {
        let mut change = Change {
            settings: read,
            taken: Vec::new(),
            needs_restart: Vec::new(),
            refused: Vec::new(),
        };
        for key in keys() {
            if !key.differs(current, &change.settings) {
                continue;
            }
            if key.is_for_the_start() {
                key.copy(current, &mut change.settings);
                change.needs_restart.push(key.path);
            } else {
                change.taken.push(key.path);
            }
        }
        change
    }

    /// Takes back the new values of a section, in favour of those in `current`.
    pub fn refuse(&mut self, section: &str, current: &Settings) {
        let is_of_section = |path: &str| path.split('.').next() == Some(section);
        let of_section = self.taken.extract_if(.., |path| is_of_section(path));
        self.refused.extend(of_section);
        for key in keys().filter(|key| is_of_section(key.path)) {
            key.copy(current, &mut self.settings);
        }
    }
}

impl Key {
    /// Returns whether a new value needs a restart.
    fn is_for_the_start(&self) -> bool {
        AT_START.contains(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Listener;
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
            "tls",
            "1.2",
            "strict",
            "forwarded",
            "/path",
            "https://example.com",
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
        (
            settings.edge_config(Resources::default()),
            (settings.master.address.clone(), settings.master_options()),
            settings.general.log_level,
            settings.general.shutdown_timeout_secs,
            door(&settings.listener),
        )
    }

    /// Returns what doors are made of.
    fn door(listener: &Listener) -> impl PartialEq + std::fmt::Debug {
        (tls(listener), websocket(listener), listener.transport)
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
        (files, choices, listener.alpn, listener.tickets)
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
        change.refuse("listener", &current);
        assert_eq!(change.taken, ["clients.max_frame_bytes"]);
        assert_eq!(change.refused, ["listener.alpn", "listener.tickets"]);
        assert_eq!(change.settings.listener, current.listener);
        assert_eq!(change.settings.clients.max_frame_bytes, 7);
    }

    #[test]
    fn equal_values_are_no_change() {
        let current = Settings::default();
        let change = Change::between(&current, current.clone());
        assert_eq!((change.taken.len(), change.needs_restart.len()), (0, 0));
    }
}
