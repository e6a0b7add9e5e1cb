//! The problems of a configuration: one [`Problem`] for each of them, all reported at once.

use std::borrow::Cow;
use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::text::excerpt;

/// The maximum number of characters shown of a written value.
const SHOWN: usize = 80;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum Origin {
    /// It was not set.
    Default,
    /// The configuration file, by its given name, and the line, from 1.
    File {
        /// The file.
        #[serde(rename = "file")]
        name: String,
        /// The line, from 1; 0 for the file as a whole.
        #[serde(skip_serializing_if = "is_zero")]
        line: usize,
        /// The character of the line, from 1; 0 for the line or the file as a whole.
        #[serde(skip_serializing_if = "is_zero")]
        column: usize,
    },
    /// The `.env` file.
    DotEnv {
        /// The variable; empty for the file as a whole.
        #[serde(skip_serializing_if = "String::is_empty")]
        variable: String,
        /// The line, from 1; 0 for the file as a whole.
        #[serde(skip_serializing_if = "is_zero")]
        line: usize,
    },
    /// The environment of the process.
    Environment {
        /// The variable.
        variable: String,
    },
    /// The command line.
    Argument {
        /// The option, such as `--listen`.
        option: &'static str,
    },
}

impl Origin {
    /// Returns the origin of a file as a whole.
    pub(super) fn whole_file(name: &str) -> Origin {
        Origin::File {
            name: name.to_owned(),
            line: 0,
            column: 0,
        }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl fmt::Display for Origin {
    /// Formats the origin as `check` prints it after a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line, .. } => write!(f, "from {name}:{line}"),
            Origin::DotEnv { variable, line } => write!(f, "from .env:{line} {variable}"),
            Origin::Environment { variable } => write!(f, "from env {variable}"),
            Origin::Argument { option } => write!(f, "from {option}"),
        }
    }
}

/// An error and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The error. May be empty if the remedy says everything.
    what: Cow<'static, str>,
    /// The text between the two, for people.
    joint: &'static str,
    /// The remedy. Empty if there is none.
    remedy: Cow<'static, str>,
}

impl Fault {
    /// Creates a fault without a remedy.
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            what: what.into(),
            joint: "; ",
            remedy: "".into(),
        }
    }

    /// Adds a remedy.
    pub(crate) fn remedy(self, remedy: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            remedy: remedy.into(),
            ..self
        }
    }

    /// Adds a remedy that follows a colon, for people.
    pub(super) fn remedy_after_colon(self, remedy: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            joint: ": ",
            ..self.remedy(remedy)
        }
    }
}

impl Fault {
    /// Adds what it is about, in front.
    pub(super) fn about(self, subject: fmt::Arguments<'_>) -> Fault {
        Fault {
            what: format!("{subject}: {}", self.what).into(),
            ..self
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.what.is_empty() && !self.remedy.is_empty() {
            f.write_str(self.joint)?;
        }
        f.write_str(&self.remedy)
    }
}

/// An error or a warning: its place, the written text, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Its place.
    pub origin: Origin,
    /// The key or the variable as written, if it concerns one.
    pub written: Option<String>,
    /// The value as written, if it concerns one.
    pub value: Option<String>,
    /// The error and its remedy.
    pub fault: Fault,
    /// The key that it concerns, if there is such a key.
    pub key: Option<&'static str>,
}

impl Problem {
    /// Creates a problem with a file as a whole.
    pub(super) fn of_file(origin: Origin, fault: Fault) -> Problem {
        Problem {
            origin,
            written: None,
            value: None,
            fault,
            key: None,
        }
    }
}

impl Problem {
    /// Leaves out of what was written what may be a password: that of an address such as `redis://user:password@host:6379`.
    pub(super) fn without_password(mut self) -> Problem {
        let is_of = |key: &str| key.starts_with("cluster.") || key.starts_with("VOLTLANE_CLUSTER_");
        // Also if the key is misspelt.
        let is_of = self.key.is_some_and(is_of) || self.written.as_deref().is_some_and(is_of);
        let may_have_one = |text: &str| text.contains('@') && (is_of || text.contains("://"));
        self.value.take_if(|value| may_have_one(value));
        if let Some(written) = self.written.take_if(|written| may_have_one(written)) {
            // A line that cannot be read: its key is left.
            let key = written.split(['=', ':', '@']).next().unwrap_or_default();
            self.written = Some(key.trim_end().to_owned()).filter(|key| !key.is_empty());
        }
        self
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = |text: &Option<String>| text.as_ref().map(|text| excerpt(text, SHOWN));
        let what: &str = match &*self.fault.what {
            "" => "the value is not allowed",
            what => what,
        };
        let remedy = &*self.fault.remedy;
        let mut fields = serializer.serialize_struct("Problem", 7)?;
        fields.serialize_field("key", &self.key)?;
        fields.serialize_field("place", &self.origin)?;
        fields.serialize_field("written", &shown(&self.written))?;
        fields.serialize_field("value", &shown(&self.value))?;
        fields.serialize_field("what", what)?;
        fields.serialize_field("remedy", &(!remedy.is_empty()).then_some(remedy))?;
        fields.serialize_field("text", &self.to_string())?;
        fields.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str("defaults")?,
            Origin::File { name, line: 0, .. } => f.write_str(name)?,
            Origin::File { name, line, .. } => write!(f, "{name}:{line}")?,
            Origin::DotEnv { line: 0, .. } => f.write_str(".env")?,
            Origin::DotEnv { line, .. } => write!(f, ".env:{line}")?,
            Origin::Environment { .. } => f.write_str("environment")?,
            Origin::Argument { .. } => f.write_str("command line")?,
        }
        if let Some(written) = &self.written {
            write!(f, ": {}", excerpt(written, SHOWN))?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {}", excerpt(value, SHOWN))?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// All errors of a configuration, sorted by place. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The maximum number of problems printed. More of them, as a binary file has, would not help.
    const PRINTED: usize = 50;

    /// Returns `Ok` if there are none.
    pub(super) fn none_or(mut problems: Vec<Problem>) -> Result<(), Problems> {
        if problems.is_empty() {
            return Ok(());
        }
        // Sorted by `Origin`: the file, `.env`, the environment, the command line, each from the top.
        problems.sort();
        Err(Problems(problems))
    }

    /// Returns all problems.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// Iterates over the problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// Writes one line for each, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(Self::PRINTED).enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        match self.0.len().saturating_sub(Self::PRINTED) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}
