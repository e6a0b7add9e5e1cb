//! From all the places that a value can come from to the one that is in effect. Pure: what is read from the disk and
//! from the process is handed in.

use std::ffi::OsString;

use super::keys::{Key, Settings, keys};
use super::problem::{Origin, Problem, Problems};
use super::value::Raw;
use super::{contradictions, document, variables};

/// The sources of a configuration, from the weakest to the strongest.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name as it shall be printed, and what is in it. `None`: there is none.
    pub file: Option<(String, Vec<u8>)>,
    /// The contents of `.env`. Variables that do not begin with `VOLTLANE_` are ignored.
    pub dotenv: Option<Vec<u8>>,
    /// The environment of the process. Variables that do not begin with `VOLTLANE_` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Values of the command line.
    pub arguments: Vec<Argument>,
}

/// A value of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The option: `--listen`.
    pub option: &'static str,
    /// The key that it sets: `listener.address`.
    pub path: &'static str,
    /// The value, as it was given.
    pub value: String,
}

/// A configuration without a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Where they come from, in the order of [`keys`].
    origins: Vec<Origin>,
    has_file: bool,
    /// What is taken, and somebody should know of.
    pub(super) warnings: Vec<Problem>,
}

impl Loaded {
    /// Merges `sources`.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, also a value that a stronger one would have replaced, and values that
    /// contradict each other.
    pub fn from_sources(sources: &Sources) -> Result<Loaded, Problems> {
        let mut build = Build::default();
        let has_file = match &sources.file {
            Some((name, bytes)) => document::read(name, bytes, &mut build),
            None => false,
        };
        if let Some(bytes) = &sources.dotenv {
            variables::read_dotenv(bytes, &mut build);
        }
        variables::read_environment(&sources.environment, &mut build);
        for Argument {
            option,
            path,
            value,
        } in &sources.arguments
        {
            let shown = super::value::quoted(value);
            build.assign(
                path,
                Raw::Text(value),
                Origin::Argument { option },
                option,
                shown,
            );
        }
        build.defaults_give_way();
        contradictions::check(&mut build);
        Problems::none_or(build.problems)?;
        Ok(Loaded {
            settings: build.settings,
            origins: build.origins,
            has_file,
            warnings: Vec::new(),
        })
    }

    /// What is taken, and somebody should know of: only what is seen without the disk is missing after [`from_sources`](Self::from_sources).
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Whether there was a file with a section or a key in it, be they all at their defaults.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.has_file
    }

    /// Every key with the place that its value comes from.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, &Origin)> {
        keys().zip(&self.origins)
    }

    /// Where the value of `path` comes from; `None` if there is no such key.
    #[must_use]
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.entries()
            .find(|(key, _)| key.path == path)
            .map(|(_, origin)| origin)
    }
}

/// A configuration in the making.
pub(super) struct Build {
    pub(super) settings: Settings,
    pub(super) origins: Vec<Origin>,
    problems: Vec<Problem>,
    /// Keys of which some value was refused, so that what is in effect is not what anybody meant.
    spoilt: Vec<bool>,
}

impl Default for Build {
    fn default() -> Build {
        let count = keys().count();
        let (origins, spoilt) = (vec![Origin::Default; count], vec![false; count]);
        Build {
            settings: Settings::default(),
            origins,
            problems: Vec::new(),
            spoilt,
        }
    }
}

impl Build {
    /// Sets the key `path` and remembers where from; `written` and `shown` are what a problem names.
    pub(super) fn assign(
        &mut self,
        path: &str,
        raw: Raw<'_>,
        origin: Origin,
        written: &str,
        shown: String,
    ) {
        let Some((index, key)) = find(path) else {
            unreachable!("{path} is looked up in the table before it is assigned");
        };
        match key.apply(&mut self.settings, raw) {
            Ok(()) => self.origins[index] = origin,
            Err(fault) => {
                self.spoilt[index] = true;
                self.problem(Problem {
                    origin,
                    written: Some(written.to_owned()),
                    value: Some(shown),
                    fault,
                    key: Some(key.path),
                });
            }
        }
    }

    /// Adjusts defaults that contradict a value that was set: a small queue alone is a good configuration.
    fn defaults_give_way(&mut self) {
        let size_is_free = self.origin("clients.missed_packets_buffer_size") == Origin::Default;
        let bytes_are_free = self.origin("clients.missed_packets_buffer_bytes") == Origin::Default;
        let clients = &mut self.settings.clients;
        if size_is_free {
            let half = (clients.channel_capacity / 2).max(1);
            clients.missed_packets_buffer_size = clients.missed_packets_buffer_size.min(half);
        }
        if bytes_are_free {
            let most = clients.channel_bytes;
            clients.missed_packets_buffer_bytes = clients.missed_packets_buffer_bytes.min(most);
        }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The key was set, but its value could not be read.
    pub(super) fn spoil(&mut self, path: &str) {
        if let Some((index, _)) = find(path) {
            self.spoilt[index] = true;
        }
    }

    /// Whether the value of `path` is what somebody meant.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        find(path).is_some_and(|(index, _)| !self.spoilt[index])
    }

    /// Where the value of `path` comes from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        find(path).map_or(Origin::Default, |(index, _)| self.origins[index].clone())
    }
}

fn find(path: &str) -> Option<(usize, &'static Key)> {
    keys().enumerate().find(|(_, key)| key.path == path)
}
