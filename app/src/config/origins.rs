//! Where each value in effect comes from, while the configuration is read again and again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::keys::{Settings, keys};
use super::load::Loaded;
use super::problem::Origin;

/// Those of the process.
static IN_EFFECT: Mutex<Option<Origins>> = Mutex::new(None);

/// The origins of values, by the paths of their keys.
type ByPath = BTreeMap<&'static str, Origin>;

/// The origins of all values in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    /// Those of keys that no listener has for itself.
    common: ByPath,
    /// Those of each listener, by its name.
    listeners: BTreeMap<String, ByPath>,
}

impl Origins {
    /// Returns those of a configuration that is in effect as it was read.
    pub(crate) fn of(read: &Loaded) -> Origins {
        let entries = read.entries().filter(|(key, _)| !key.is_of_listener());
        let of_listener = |index| {
            let entries = read.listener_entries(index);
            entries.map(|(key, origin)| (key.path, origin.clone()))
        };
        let listeners = read.settings.listeners().enumerate();
        Origins {
            common: entries
                .map(|(key, origin)| (key.path, origin.clone()))
                .collect(),
            listeners: listeners
                .map(|(index, listener)| (listener.name.to_string(), of_listener(index).collect()))
                .collect(),
        }
    }

    /// Returns those of `in_effect`, which came of it that `read` was read while these were in effect. A value that was not put into effect
    /// keeps its origin.
    #[must_use]
    pub(crate) fn after(&self, in_effect: &Settings, read: &Loaded) -> Origins {
        let mut origins = Origins::of(read);
        for key in keys().filter(|key| !key.is_of_listener()) {
            if key.differs(in_effect, &read.settings) {
                let before = self.of_key(key.path).clone();
                origins.common.insert(key.path, before);
            }
        }
        let names = |settings: &Settings| -> Vec<String> {
            let listeners = settings.listeners();
            listeners
                .map(|listener| listener.name.to_string())
                .collect()
        };
        let (all, all_read) = (names(in_effect), names(&read.settings));
        for (index, name) in all.iter().enumerate() {
            let Some(at) = all_read.iter().position(|read| read == name) else {
                let before = self.listeners.get(name).cloned();
                origins
                    .listeners
                    .insert(name.clone(), before.unwrap_or_default());
                continue;
            };
            let (now, then) = (in_effect.view(index), read.settings.view(at));
            for key in keys().filter(|key| key.is_of_listener()) {
                if key.differs(&now, &then) {
                    let before = self.of_listener(name, key.path).clone();
                    let of_one = origins.listeners.entry(name.clone()).or_default();
                    of_one.insert(key.path, before);
                }
            }
        }
        origins.listeners.retain(|name, _| all.contains(name));
        origins
    }

    /// Returns the origin of a key that no listener has for itself.
    pub(crate) fn of_key(&self, path: &str) -> &Origin {
        self.common.get(path).unwrap_or(&Origin::Default)
    }

    /// Returns the origin of a key of a listener.
    pub(crate) fn of_listener(&self, name: &str, path: &str) -> &Origin {
        let of_one = self.listeners.get(name);
        of_one
            .and_then(|of_one| of_one.get(path))
            .unwrap_or(&Origin::Default)
    }

    /// Makes them those of the process.
    pub(crate) fn publish(self) {
        *IN_EFFECT.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// Returns those of the process. None are known before it has a configuration.
    pub(crate) fn in_effect() -> Origins {
        let origins = IN_EFFECT.lock().unwrap_or_else(PoisonError::into_inner);
        origins.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Change;
    use super::super::load::{Argument, Sources};
    use super::*;

    fn load(file: &str) -> Loaded {
        let sources = Sources {
            file: Some(("a.toml".into(), file.into())),
            environment: vec![("VOLTLANE_MASTER_CHANNEL_CAPACITY".into(), "77".into())],
            arguments: vec![Argument {
                option: "--listen",
                path: "listener.address",
                value: "127.0.0.1:7".into(),
            }],
            ..Sources::default()
        };
        Loaded::from_sources(&sources).expect("good")
    }

    /// Returns the origin of a key as `check` shows it.
    fn of(origins: &Origins, path: &str) -> String {
        match path.starts_with("listener.") {
            true => origins.of_listener("main", path).to_string(),
            false => origins.of_key(path).to_string(),
        }
    }

    #[test]
    fn each_value_has_its_origin() {
        let origins = Origins::of(&load(
            "general.log_level = \"Debug\"\nlistener.backlog = 9\n",
        ));
        for (path, expected) in [
            ("general.log_level", "from a.toml:1"),
            ("listener.backlog", "from a.toml:2"),
            ("listener.address", "from --listen"),
            (
                "master.channel_capacity",
                "from env VOLTLANE_MASTER_CHANNEL_CAPACITY",
            ),
            ("general.shards", "default"),
        ] {
            assert_eq!(of(&origins, path), expected, "{path}");
        }
    }

    /// A key that is for the start keeps its value and so its origin, and a line that has moved is told where it is.
    #[test]
    fn what_is_not_put_into_effect_keeps_its_origin() {
        let first = load("general.log_level = \"Debug\"\nlistener.backlog = 9\n");
        let origins = Origins::of(&first);
        let second = load(
            "\n\ngeneral.shards = 7\nlistener.backlog = 10\ngeneral.log_level = \"Debug\"\nlimits.join_rate = 3\n",
        );
        let change = Change::between(&first.settings, second.settings.clone());
        let origins = origins.after(&change.settings, &second);
        for (path, expected) in [
            ("general.log_level", "from a.toml:5"),
            ("listener.backlog", "from a.toml:2"),
            ("general.shards", "default"),
            ("limits.join_rate", "from a.toml:6"),
        ] {
            assert_eq!(of(&origins, path), expected, "{path}");
        }
        let third = load("");
        let change = Change::between(&change.settings, third.settings.clone());
        let origins = origins.after(&change.settings, &third);
        assert_eq!(of(&origins, "limits.join_rate"), "default");
        assert_eq!(of(&origins, "listener.backlog"), "from a.toml:2");
    }

    #[test]
    fn listeners_that_come_and_stay_have_their_own() {
        let two = "[[listener]]\nname = \"main\"\nbacklog = 9\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8\"\nbacklog = 8\n";
        let sources = |file: &str| Sources {
            file: Some(("a.toml".into(), file.into())),
            ..Sources::default()
        };
        let read = |file: &str| Loaded::from_sources(&sources(file)).expect("good");
        let (first, second) = (read(""), read(two));
        let change = Change::between(&first.settings, second.settings.clone());
        let origins = Origins::of(&first).after(&change.settings, &second);
        let web = origins.of_listener("web", "listener.backlog");
        assert_eq!(web.to_string(), "from a.toml:7");
        // It needs a restart where the listener was there before.
        let main = origins.of_listener("main", "listener.backlog");
        assert_eq!(main.to_string(), "default");
        let change = Change::between(&change.settings, first.settings.clone());
        let origins = origins.after(&change.settings, &first);
        assert_eq!(origins.listeners.len(), 1);
        // A listener that could not be taken back has its origins still.
        let origins = Origins::of(&second).after(&second.settings, &first);
        let web = origins.of_listener("web", "listener.backlog");
        assert_eq!(web.to_string(), "from a.toml:7");
    }
}
