//! The problems of a configuration: one [`Problem`] for each, all reported at once.

use std::fmt;

use crate::text::excerpt;

/// Characters that are shown of what somebody wrote.
const SHOWN: usize = 80;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It was not set.
    Default,
    /// The configuration file, by the name that it was given, and the line, from 1.
    File {
        /// The file.
        name: String,
        /// The line, from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// The `.env` file.
    DotEnv {
        /// The variable; empty when the file as a whole is meant.
        variable: String,
        /// The line, from 1; 0 when the file as a whole is meant.
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

impl fmt::Display for Origin {
    /// As `check` prints it after a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "from {name}:{line}"),
            Origin::DotEnv { variable, line } => write!(f, "from .env:{line} {variable}"),
            Origin::Environment { variable } => write!(f, "from env {variable}"),
            Origin::Argument { option } => write!(f, "from {option}"),
        }
    }
}

/// One thing that is wrong: where, what was written, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key or the variable as it was written, if it is about one.
    pub written: Option<String>,
    /// The value as it was written, if it is about one.
    pub value: Option<String>,
    /// The mistake, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with a file as a whole.
    pub(super) fn of_file(origin: Origin, message: impl Into<String>) -> Problem {
        Problem {
            origin,
            written: None,
            value: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str("defaults")?,
            Origin::File { name, line: 0 } => f.write_str(name)?,
            Origin::File { name, line } => write!(f, "{name}:{line}")?,
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
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of the places. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Problems that are printed. More of them, as a binary file has, would be of no help.
    const PRINTED: usize = 50;

    /// `Ok` if there is nothing wrong.
    pub(super) fn none_or(mut problems: Vec<Problem>) -> Result<(), Problems> {
        if problems.is_empty() {
            return Ok(());
        }
        // The file, `.env`, the environment, the command line, each from the top: the order of Origin.
        problems.sort();
        Err(Problems(problems))
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// One line for each, without a line break at the end.
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
