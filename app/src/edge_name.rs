//! What an edge is called in answers to health checks: by the address of its first listener.
//!
//! The usual address of the metrics is one for all edges of a machine, and the first of them has it. `voltlane health` of another one has to
//! notice that it does not ask its own.

use std::sync::{Mutex, PoisonError};

use crate::config::Settings;

/// The header that has the name.
pub(crate) const HEADER: &str = "Voltlane-Listener";

static NAME: Mutex<Option<String>> = Mutex::new(None);

/// Returns the name of an edge with these settings. `None`: its port is not in them.
pub(crate) fn of(settings: &Settings) -> Option<String> {
    let place = &settings.listener.address;
    let has_one = place.is_definite().then(|| place.to_string());
    // It stays one line of a header.
    let plain = |of: char| if of.is_control() { '?' } else { of };
    has_one.map(|name| name.chars().map(plain).collect())
}

/// Notes the settings that are in effect in this process.
pub(crate) fn note(settings: &Settings) {
    *NAME.lock().unwrap_or_else(PoisonError::into_inner) = of(settings);
}

/// Returns the name of the edge of this process. `None`: it has none, or there is no edge.
pub(crate) fn get() -> Option<String> {
    let name = NAME.lock().unwrap_or_else(PoisonError::into_inner);
    name.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    #[test]
    fn an_edge_is_called_by_its_first_listener_and_one_with_any_port_is_not() {
        let mut settings = Settings::default();
        settings.listener.address = Place::loopback(42_000);
        assert_eq!(of(&settings).as_deref(), Some("127.0.0.1:42000"));
        settings.listener.address = Place::loopback(0);
        assert_eq!(of(&settings), None);
    }
}
