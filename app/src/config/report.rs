//! The output of `check` as data.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::files::Note;
use super::keys::{Key, Settings, Unit};
use super::load::Loaded;
#[cfg(feature = "admin")]
use super::origins::Origins;
use super::problem::{Origin, Problem, Problems};
use super::value::Data;
use super::worst_case::WorstCase;

/// The output of `check --json`. It contains no secret: the path of the key file, but not the key.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The name of the program.
    program: &'a str,
    /// Its version.
    version: &'static str,
    /// Whether an edge would start.
    good: bool,
    /// The configuration file that was requested.
    file: String,
    /// Set if this file is missing, so that the defaults apply.
    note: Option<String>,
    /// Every key with its value; `None` if anything is wrong.
    values: Option<Values<'a>>,
    /// The keys of each listener with their values; `None` if anything is wrong.
    listeners: Option<Vec<ListenerValues<'a>>>,
    /// The maximum that all queues may hold; `None` if anything is wrong.
    worst_case_bytes: Option<WorstCase>,
    warnings: &'a [Problem],
    errors: &'a [Problem],
}

impl<'a> Report<'a> {
    /// Creates the report on `file`, which was loaded or has problems.
    #[must_use]
    pub fn new(
        program: &'a str,
        file: String,
        loaded: &'a Result<(Loaded, Option<Note>), Problems>,
    ) -> Self {
        let report = Report {
            program,
            version: env!("CARGO_PKG_VERSION"),
            good: loaded.is_ok(),
            file,
            note: None,
            values: None,
            listeners: None,
            worst_case_bytes: None,
            warnings: &[],
            errors: &[],
        };
        match loaded {
            Ok((loaded, note)) => Report {
                note: note.as_ref().map(Note::to_string),
                values: Some(Values(loaded)),
                listeners: Some(ListenerValues::of(loaded)),
                worst_case_bytes: Some(WorstCase::of(&loaded.settings)),
                warnings: loaded.warnings(),
                ..report
            },
            Err(problems) => Report {
                errors: problems.as_slice(),
                ..report
            },
        }
    }

    /// Formats the report as JSON, on several lines.
    ///
    /// # Panics
    /// Never: every key of a map is text, and every value can be serialized.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report is JSON");
        json.push('\n');
        json
    }
}

/// Returns the value of each key that is in effect, whether it is the default, and where it comes from. Those of each listener are apart.
#[cfg(feature = "admin")]
pub(crate) fn values_in_effect(settings: &Settings, origins: &Origins) -> serde_json::Value {
    use serde_json::{Map, Value, json};
    let defaults = Settings::default();
    let shown = |key: &Key, settings: &Settings, place: &Origin| {
        let value = serde_json::to_value(key.data(settings)).unwrap_or(Value::Null);
        let is_default = !key.differs(&defaults, settings);
        json!({ "value": value, "is_default": is_default, "place": place })
    };
    let of = |settings: &Settings, of_listener: bool| -> Map<String, Value> {
        let keys = super::keys::keys().filter(|key| key.is_of_listener() == of_listener);
        let name = settings.listener.name.to_string();
        let place = |key: &Key| match of_listener {
            true => origins.of_listener(&name, key.path),
            false => origins.of_key(key.path),
        };
        keys.map(|key| (key.path.to_owned(), shown(key, settings, place(key))))
            .collect()
    };
    let count = settings.listeners().count();
    let listeners = (0..count).map(|index| of(&settings.view(index), true));
    json!({ "values": of(settings, false), "listeners": listeners.collect::<Vec<_>>() })
}

/// Every key by its path, in the order of the file.
#[derive(Debug)]
struct Values<'a>(&'a Loaded);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = Settings::default();
        let mut map = serializer.serialize_map(None)?;
        for (key, origin) in self.0.entries() {
            map.serialize_entry(
                key.path,
                &Entry::new(key, origin, &self.0.settings, &defaults),
            )?;
        }
        map.end()
    }
}

/// The keys of one listener by their paths, in the order of the file.
#[derive(Debug)]
struct ListenerValues<'a> {
    loaded: &'a Loaded,
    index: usize,
}

impl<'a> ListenerValues<'a> {
    fn of(loaded: &'a Loaded) -> Vec<Self> {
        let listeners = loaded.settings.listeners().enumerate();
        listeners
            .map(|(index, _)| ListenerValues { loaded, index })
            .collect()
    }
}

impl Serialize for ListenerValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = Settings::default();
        let view = self.loaded.settings.view(self.index);
        let mut map = serializer.serialize_map(None)?;
        for (key, origin) in self.loaded.listener_entries(self.index) {
            map.serialize_entry(key.path, &Entry::new(key, origin, &view, &defaults))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    value: Data,
    default: Data,
    unit: Option<Unit>,
    place: &'a Origin,
    /// Whether other keys make it less than its default.
    is_lowered: bool,
}

impl<'a> Entry<'a> {
    fn new(key: &Key, origin: &'a Origin, settings: &Settings, defaults: &Settings) -> Self {
        Entry {
            value: key.data(settings),
            default: key.data(defaults),
            unit: key.unit(),
            place: origin,
            is_lowered: *origin == Origin::Default && key.differs(defaults, settings),
        }
    }
}
