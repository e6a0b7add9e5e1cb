//! The listeners of a configuration: the table `[listener]`, or an array `[[listener]]`.
//!
//! The first one is stored where a single listener would be, so that every key, rule and variable applies to it. Each further one takes its
//! place while it is read, checked or shown.

use std::fmt;
use std::iter::once;
use std::mem::swap;

use serde::{Deserialize as _, Deserializer};

use super::keys::{Key, Listener, Settings, keys};
use super::load::Build;
use super::problem::{Fault, Origin};
use super::value::{Data, Kind, Value};

/// The maximum number of listeners.
pub const MAX_LISTENERS: usize = 16;
/// The maximum length of a listener's name.
const MAX_NAME: usize = 32;

/// The name of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerName(String);

impl ListenerName {
    /// Returns a name that is known to be one.
    pub(crate) fn of(name: &'static str) -> ListenerName {
        ListenerName(name.to_owned())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for ListenerName {
    type Allowed = ();

    const KIND: Kind = Kind::Text;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(ListenerName)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        let is_of_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_fine = (1..=MAX_NAME).contains(&self.0.len()) && self.0.bytes().all(is_of_name);
        is_fine.then_some(()).ok_or_else(String::new)
    }

    fn expected((): &(), _unit: &str) -> String {
        format!("up to {MAX_NAME} small letters, digits and \"-\"")
    }

    fn data(&self) -> Data {
        Data::Text(self.0.clone())
    }
}

impl Key {
    /// Returns whether each listener has a value of its own.
    #[must_use]
    pub fn is_of_listener(&self) -> bool {
        self.path.starts_with("listener.")
    }
}

impl Settings {
    /// Returns all listeners, at least one.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        once(&self.listener).chain(&self.more_listeners)
    }

    /// Replaces all listeners, unless there are none.
    pub(crate) fn set_listeners(&mut self, listeners: Vec<Listener>) {
        let mut listeners = listeners.into_iter();
        if let Some(first) = listeners.next() {
            self.listener = first;
            self.more_listeners = listeners.collect();
        }
    }

    /// Returns these settings with the listener at `index` in the place of the first.
    pub(super) fn view(&self, index: usize) -> Settings {
        let mut view = self.clone();
        view.swap_listener(index);
        view
    }

    /// Exchanges the first listener and the one at `index`.
    pub(super) fn swap_listener(&mut self, index: usize) {
        if let Some(at) = index.checked_sub(1) {
            swap(&mut self.listener, &mut self.more_listeners[at]);
        }
    }
}

/// The origins of a further listener's values. Its vectors have an entry for each key, as those of [`Build`] have, but only keys of
/// listeners are used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Beside {
    pub(super) origins: Vec<Origin>,
    pub(super) spoilt: Vec<bool>,
    place: Origin,
}

impl Default for Beside {
    fn default() -> Self {
        let count = keys().count();
        Beside {
            origins: vec![Origin::Default; count],
            spoilt: vec![false; count],
            place: Origin::Default,
        }
    }
}

impl Build {
    /// Adds a listener, with the defaults.
    pub(super) fn add_listener(&mut self) {
        self.settings.more_listeners.push(Listener::default());
        self.beside.push(Beside::default());
    }

    /// Returns the number of listeners.
    pub(super) fn listeners(&self) -> usize {
        1 + self.beside.len()
    }

    /// Does something while the listener at `index` is in the place of the first.
    pub(super) fn with_listener<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Build) -> T,
    ) -> T {
        self.swap_listener(index);
        let outcome = act(self);
        self.swap_listener(index);
        outcome
    }

    /// Exchanges the first listener and the one at `index`.
    pub(super) fn swap_listener(&mut self, index: usize) {
        self.settings.swap_listener(index);
        if let Some(at) = index.checked_sub(1) {
            swap(&mut self.place, &mut self.beside[at].place);
            for (key, of_key) in keys().enumerate() {
                if of_key.is_of_listener() {
                    let beside = &mut self.beside[at];
                    swap(&mut self.origins[key], &mut beside.origins[key]);
                    swap(&mut self.spoilt[key], &mut beside.spoilt[key]);
                }
            }
        }
    }

    /// Returns a fault that names the listener that is in the place of the first, if there are several.
    pub(super) fn of_listener(&self, fault: Fault) -> Fault {
        match self.listeners() {
            1 => fault,
            _ => fault.about(format_args!("listener \"{}\"", self.settings.listener.name)),
        }
    }
}
