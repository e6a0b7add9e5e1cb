//! Merges the values of all sources into the ones in effect. Pure: the contents of the disk and of the process are arguments.

use std::ffi::OsString;

use super::keys::{Key, Listener, Settings, keys};
use super::listeners::Beside;
use super::problem::{Fault, Origin, Problem, Problems};
use super::value::Raw;
use super::{contradictions, document, variables};

/// The sources of a configuration, from the weakest to the strongest.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name as it is printed, and its contents. `None` if there is none.
    pub file: Option<(String, Vec<u8>)>,
    /// The contents of `.env`. Variables that do not begin with `VOLTLANE_`, in capitals or not, are ignored.
    pub dotenv: Option<Vec<u8>>,
    /// The environment of the process. Variables that do not begin with `VOLTLANE_`, in capitals or not, are ignored.
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

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// The origins of the values, in the order of [`keys`].
    origins: Vec<Origin>,
    /// Those of the listeners after the first.
    beside: Vec<Beside>,
    has_file: bool,
    has_dotenv: bool,
    /// Accepted values that somebody should know about.
    pub(super) warnings: Vec<Problem>,
}

impl Loaded {
    /// Merges `sources`.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, even in a value that a stronger source replaces, and values that contradict each other.
    pub fn from_sources(sources: &Sources) -> Result<Loaded, Problems> {
        let mut build = Build::default();
        let has_file = match &sources.file {
            Some((name, bytes)) => document::read(name, bytes, &mut build),
            None => false,
        };
        let has_dotenv = match &sources.dotenv {
            Some(bytes) => variables::read_dotenv(bytes, &mut build),
            None => false,
        };
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
            beside: build.beside,
            has_file,
            has_dotenv,
            warnings: Vec::new(),
        })
    }

    /// Returns warnings about accepted values. After [`from_sources`](Self::from_sources) only those are missing that need the disk.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Adds the outcome of reading the certificates of each listener: what should not stay as it is, or the first fault.
    pub(crate) fn with_certificates(
        mut self,
        read: impl Fn(&Listener) -> Result<Vec<String>, String>,
    ) -> Result<Loaded, Problems> {
        let (mut problems, mut told) = (Vec::new(), Vec::new());
        for (index, listener) in self.settings.listeners().enumerate() {
            let mut of_listener = self.listener_entries(index);
            let origin = of_listener.find(|(key, origin)| {
                let names = ["listener.certificate_file", "listener.certificate"];
                names.contains(&key.path) && **origin != Origin::Default
            });
            let origin = origin.map_or(Origin::Default, |(_, origin)| origin.clone());
            let problem = |what: String| Problem::of_file(origin.clone(), Fault::new(what));
            match read(listener) {
                Ok(warnings) => told.extend(warnings.into_iter().map(problem)),
                Err(fault) => problems.push(problem(fault)),
            }
        }
        Problems::none_or(problems)?;
        self.warnings.extend(told);
        Ok(self)
    }

    /// Adds the outcome of reading the certificates of the link to the backend.
    pub(crate) fn with_link(
        self,
        read: impl Fn(&Settings) -> Result<(), String>,
    ) -> Result<Loaded, Problems> {
        let origin = self.origin("master.tls").cloned();
        let origin = origin.unwrap_or(Origin::Default);
        let wrong = read(&self.settings).err();
        let problem = wrong.map(|what| Problem::of_file(origin, Fault::new(what)));
        Problems::none_or(problem.into_iter().collect())?;
        Ok(self)
    }

    /// Returns whether there was a file with a section or a key, even if all are at their defaults.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.has_file
    }

    /// Returns whether there was a `.env` with a variable of ours.
    #[must_use]
    pub fn has_dotenv(&self) -> bool {
        self.has_dotenv
    }

    /// Returns every key with the origin of its value. If there are several listeners, those of the first.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, &Origin)> {
        keys().zip(&self.origins)
    }

    /// Returns every key of the listener at `index`, of which there is at least one, with the origin of its value.
    pub fn listener_entries(&self, index: usize) -> impl Iterator<Item = (&'static Key, &Origin)> {
        let origins = match index.checked_sub(1) {
            None => &self.origins,
            Some(at) => &self.beside[at].origins,
        };
        keys().zip(origins).filter(|(key, _)| key.is_of_listener())
    }

    /// Returns the origin of the value of `path`, or `None` if there is no such key.
    #[must_use]
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.entries()
            .find(|(key, _)| key.path == path)
            .map(|(_, origin)| origin)
    }
}

/// A configuration under construction.
pub(super) struct Build {
    pub(super) settings: Settings,
    pub(super) origins: Vec<Origin>,
    problems: Vec<Problem>,
    /// Keys with a refused value, so that the value in effect is not the intended one.
    pub(super) spoilt: Vec<bool>,
    /// The place where the listener begins in the file, if it is one of an array.
    pub(super) place: Origin,
    /// The origins of further listeners' values.
    pub(super) beside: Vec<Beside>,
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
            place: Origin::Default,
            beside: Vec::new(),
        }
    }
}

impl Build {
    /// Sets the key `path` and records its origin. `written` and `shown` are what a problem names.
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

    /// Adjusts defaults that contradict a value that was set: a small queue alone is a valid configuration.
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
        self.problems.push(problem.without_password());
    }

    /// Records that the key was set, but its value could not be read.
    pub(super) fn spoil(&mut self, path: &str) {
        if let Some((index, _)) = find(path) {
            self.spoilt[index] = true;
        }
    }

    /// Returns whether the value of `path` is the intended one.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        find(path).is_some_and(|(index, _)| !self.spoilt[index])
    }

    /// Returns the origin of the value of `path`.
    pub(super) fn origin(&self, path: &str) -> Origin {
        find(path).map_or(Origin::Default, |(index, _)| self.origins[index].clone())
    }
}

fn find(path: &str) -> Option<(usize, &'static Key)> {
    keys().enumerate().find(|(_, key)| key.path == path)
}
