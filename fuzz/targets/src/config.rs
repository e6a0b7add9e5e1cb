//! Fuzzes the configuration.

use std::ffi::OsString;

use voltlane_app::Resources;
use voltlane_app::config::{Loaded, Sources, keys};
use voltlane_core::edge::Edge;

use crate::keys::edge_pair;

/// The first byte chooses where the rest comes from: the file, `.env`, or the value of one variable.
///
/// A valid configuration describes itself as a configuration with the same values. An invalid one gives a reason.
pub fn config_file(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else {
        return;
    };
    let mut sources = Sources::default();
    match kind {
        0..192 => sources.file = Some(("connserver.toml".to_owned(), bytes.to_vec())),
        192..224 => sources.dotenv = Some(bytes.to_vec()),
        _ => {
            let number = usize::from(kind - 224) % keys().count();
            let key = keys().nth(number).expect("it is below their number");
            let value = String::from_utf8_lossy(bytes).into_owned();
            sources.environment = vec![(OsString::from(key.variable()), OsString::from(value))];
        }
    }
    match Loaded::from_sources(&sources) {
        Ok(loaded) => {
            let described = Sources {
                file: Some(("described".to_owned(), loaded.describe().into_bytes())),
                ..Sources::default()
            };
            // The machine accepts any settings that passed the checks.
            drop(Edge::new(
                loaded.settings.edge_config(Resources::default()),
                edge_pair(),
                [0; 32],
            ));
            let again = Loaded::from_sources(&described).expect("its own description is valid");
            assert_eq!(again.settings, loaded.settings);
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}
