//! Environment variables and the `.env` file: every `VOLTLANE_…` to its key.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::document::{Unreadable, text_of};
use super::keys::{VARIABLE_PREFIX, keys};
use super::load::Build;
use super::problem::{Origin, Problem};
use super::suggest;
use super::value::{Raw, quoted};

/// Reads the environment of the process into `build`.
pub(super) fn read_environment(variables: &[(OsString, OsString)], build: &mut Build) {
    for (name, value) in variables {
        if !name
            .as_encoded_bytes()
            .starts_with(VARIABLE_PREFIX.as_bytes())
        {
            continue;
        }
        let variable = name.to_string_lossy().into_owned();
        let origin = Origin::Environment {
            variable: variable.clone(),
        };
        match value.to_str() {
            _ if is_service_link(&variable, value) => {}
            Some(value) => assign(&variable, value, origin, build),
            None => build.problem(Problem {
                origin,
                written: Some(variable),
                value: Some(quoted(&value.to_string_lossy())),
                message: "not UTF-8 text".into(),
            }),
        }
    }
}

/// Reads the text of a `.env` file into `build`. The process's own environment is left as it is.
pub(super) fn read_dotenv(bytes: &[u8], build: &mut Build) {
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(Unreadable { line, message }) => {
            let origin = Origin::DotEnv {
                variable: String::new(),
                line,
            };
            build.problem(Problem::of_file(origin, message));
            return;
        }
    };
    let mut lines = Lines::of(text);
    let mut seen = BTreeMap::new();
    for item in dotenvy::Iter::new(text.as_bytes()) {
        match item {
            Ok((variable, value)) if variable.starts_with(VARIABLE_PREFIX) => {
                let line = lines.next_of(&variable);
                let origin = Origin::DotEnv {
                    variable: variable.clone(),
                    line,
                };
                if let Some(first) = seen.insert(variable.clone(), line) {
                    let message =
                        format!("this variable is set a second time, first in line {first}");
                    let value = Some(quoted(&value));
                    build.problem(Problem {
                        origin,
                        written: Some(variable),
                        value,
                        message,
                    });
                } else {
                    assign(&variable, &value, origin, build);
                }
            }
            // The file is shared with other programs: what they write, and how, is their business.
            Ok(_) => {}
            Err(dotenvy::Error::LineParse(content, _)) if content.contains(VARIABLE_PREFIX) => {
                let origin = Origin::DotEnv {
                    variable: String::new(),
                    line: lines.next_like(&content),
                };
                let written = content.trim().lines().next().map(str::to_owned);
                let message =
                    "cannot be read; write NAME=value, with quotes round blanks, and close them"
                        .to_owned();
                build.problem(Problem {
                    origin,
                    written,
                    value: None,
                    message,
                });
            }
            Err(_) => {}
        }
    }
}

fn assign(variable: &str, value: &str, origin: Origin, build: &mut Build) {
    match keys().find(|key| key.variable() == variable) {
        Some(key) => build.assign(key.path, Raw::Text(value), origin, variable, quoted(value)),
        None => build.problem(Problem {
            origin,
            written: Some(variable.to_owned()),
            value: Some(quoted(value)),
            message: format!("unknown variable{}", suggest::for_variable(variable)),
        }),
    }
}

/// Whether this is one of the variables that Kubernetes and Docker set by themselves in every container beside a service
/// that is named voltlane, such as `VOLTLANE_SERVICE_HOST` and `VOLTLANE_PORT_42000_TCP_ADDR`. Nobody wrote them.
fn is_service_link(variable: &str, value: &OsStr) -> bool {
    let numbered_port = variable.rsplit_once("_PORT_").is_some_and(|(_, after)| {
        let mut parts = after.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts
                .next()
                .is_some_and(|transport| matches!(transport, "TCP" | "UDP" | "SCTP"))
    });
    numbered_port
        || variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || variable.ends_with("_PORT") && value.to_str().is_some_and(|value| value.contains("://"))
}

/// Finds the lines of variables in a `.env` file, whose parser does not tell them.
struct Lines<'a> {
    rest: Vec<(usize, &'a str)>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Lines<'a> {
        let rest = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .collect();
        Lines { rest }
    }

    /// The next line that sets `variable`.
    fn next_of(&mut self, variable: &str) -> usize {
        self.next(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("export").map_or(line, str::trim_start);
            line.strip_prefix(variable)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        })
    }

    /// The next line that `content`, which may be several lines, begins with.
    fn next_like(&mut self, content: &str) -> usize {
        let first = content.lines().next().unwrap_or_default().to_owned();
        self.next(|line| line.trim_end() == first.trim_end())
    }

    fn next(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        match self.rest.iter().position(|(_, line)| wanted(line)) {
            Some(index) => {
                let line = self.rest[index].0;
                self.rest.drain(..=index);
                line
            }
            None => 0,
        }
    }
}
