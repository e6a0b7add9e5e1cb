//! Environment variables and the `.env` file: assigns every `VOLTLANE_…` to its key.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::keys::{Key, Listener, VARIABLE_PREFIX, keys};
use super::load::Build;
use super::problem::{Fault, Origin, Problem};
use super::value::{Raw, quoted};
use super::{document, retired, suggest};

const NOT_UTF8: &str = "not UTF-8 text";

/// Reads the process's environment into `build`.
pub(super) fn read_environment(variables: &[(OsString, OsString)], build: &mut Build) {
    for (name, value) in variables {
        if !has_our_prefix(name.as_encoded_bytes()) {
            continue;
        }
        let variable = name.to_string_lossy().into_owned();
        let origin = Origin::Environment {
            variable: variable.clone(),
        };
        let fault = match value.to_str() {
            _ if is_service_link(&variable, value) => continue,
            None => Fault::new(NOT_UTF8),
            Some(value) => match in_small_letters(&variable) {
                Some(fault) => fault,
                None => {
                    assign(&variable, value, origin, build);
                    continue;
                }
            },
        };
        build.problem(Problem {
            key: key_of(&variable.to_ascii_uppercase()).map(|key| key.path),
            origin,
            written: Some(variable),
            value: Some(quoted(&value.to_string_lossy())),
            fault,
        });
    }
}

/// Reads a `.env` file into `build`. The process's own environment is not changed. Returns whether there is a line of ours in it.
///
/// The file is shared with other programs, whose lines and encodings do not matter here. A line of ours is read whatever surrounds it, or
/// it is a problem.
pub(super) fn read_dotenv(bytes: &[u8], build: &mut Build) -> bool {
    if is_utf16(bytes) {
        let without_zeros: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != 0).collect();
        let prefix = VARIABLE_PREFIX.as_bytes();
        if without_zeros
            .windows(prefix.len())
            .any(|part| part == prefix)
        {
            build.problem(Problem::of_file(place(0), document::utf16()));
        }
        return false;
    }
    let bytes = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    // The parser gets one assignment per line, so that an open quote elsewhere does not hide ours.
    let (mut text, mut lines) = (String::new(), Vec::new());
    for (index, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(bytes);
        let is_ours = is_ours(&line);
        let problem = if is_ours && std::str::from_utf8(bytes).is_err() {
            Some(Fault::new(NOT_UTF8))
        } else {
            problem_of_line(&line)
        };
        match problem {
            None => {
                text.push_str(&line);
                text.push('\n');
                lines.extend(is_ours.then_some(index + 1));
            }
            Some(fault) if is_ours => report_line(&line, index + 1, fault, build),
            Some(_) => {}
        }
    }
    let has_ours = !lines.is_empty();
    let assignments = dotenvy::Iter::new(text.as_bytes()).flatten();
    let ours = assignments.filter(|(variable, _)| variable.starts_with(VARIABLE_PREFIX));
    let mut seen = BTreeMap::new();
    for ((variable, value), line) in ours.zip(lines) {
        let origin = Origin::DotEnv {
            variable: variable.clone(),
            line,
        };
        if let Some(first) = seen.insert(variable.clone(), line) {
            let what = format!("this variable is set a second time, first in line {first}");
            build.problem(Problem {
                key: key_of(&variable).map(|key| key.path),
                origin,
                written: Some(variable),
                value: Some(quoted(&value)),
                fault: Fault::new(what),
            });
        } else {
            assign(&variable, &value, origin, build);
        }
    }
    has_ours
}

/// Returns the number of the last line of a `.env` file if the line is ours and has no end. Somebody may be writing it.
pub(super) fn unended_line(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let last = lines.next_back()?;
    is_ours(&String::from_utf8_lossy(last)).then(|| lines.count() + 1)
}

fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF])
}

/// Returns a place in `.env` that concerns no variable.
fn place(line: usize) -> Origin {
    Origin::DotEnv {
        variable: String::new(),
        line,
    }
}

/// Words that shells and other tools write before an assignment. The parser accepts only the first one.
const DECLARATIONS: [&str; 10] = [
    "export", "set", "setenv", "declare", "typeset", "readonly", "local", "env", "ENV", "-",
];
/// PowerShell writes this before a name.
const POWERSHELL: &str = "$env:";

/// Returns the assignment in a line, without a declaration such as `export` or `declare -x` before it.
fn assignment(line: &str) -> &str {
    let mut rest = line.trim();
    let mut is_declared = false;
    while let Some((word, more)) = rest.split_once(char::is_whitespace) {
        let is_option = is_declared && word.starts_with('-');
        if !is_option && !DECLARATIONS.contains(&word) {
            break;
        }
        is_declared = true;
        rest = more.trim_start();
    }
    match rest.split_at_checked(POWERSHELL.len()) {
        Some((start, name)) if start.eq_ignore_ascii_case(POWERSHELL) => name,
        _ => rest,
    }
}

fn is_ours(line: &str) -> bool {
    has_our_prefix(assignment(line).as_bytes())
}

/// Returns whether a variable is ours, even if its name is in small letters by mistake.
fn has_our_prefix(name: &[u8]) -> bool {
    let prefix = VARIABLE_PREFIX.as_bytes();
    let start = name.get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Returns the problem of the name of one of our variables if it is not in capitals.
fn in_small_letters(name: &str) -> Option<Fault> {
    let capitals = name.to_ascii_uppercase();
    (capitals != name).then(|| Fault::new("not in capitals").remedy(format!("write {capitals}")))
}

/// Returns the problem of a line, which is an assignment, blank or a comment.
fn problem_of_line(line: &str) -> Option<Fault> {
    // The parser would ignore the backslash.
    let backslashes = line.bytes().rev().skip_while(u8::is_ascii_whitespace);
    if backslashes.take_while(|&byte| byte == b'\\').count() % 2 == 1 {
        let fault = Fault::new("ends with a backslash");
        return Some(fault.remedy("put the value in single quotes"));
    }
    let whole = format!("{line}\n");
    match dotenvy::Iter::new(whole.as_bytes()).next() {
        Some(Err(_)) => Some(Fault::new("cannot be read").remedy(
            "write NAME=value, put a value with blanks or backslashes in single quotes, and close every quote",
        )),
        Some(Ok((name, _))) if has_our_prefix(name.as_bytes()) => in_small_letters(&name),
        _ => None,
    }
}

fn report_line(line: &str, number: usize, fault: Fault, build: &mut Build) {
    let name = assignment(line).split(['=', ' ', '\t']).next();
    let key = name.and_then(|name| key_of(&name.to_ascii_uppercase()));
    build.problem(Problem {
        origin: place(number),
        written: Some(line.trim().to_owned()),
        value: None,
        fault,
        key: key.map(|key| key.path),
    });
    if let Some(key) = key {
        build.spoil(key.path);
    }
}

/// Returns the key that a variable sets.
fn key_of(variable: &str) -> Option<&'static Key> {
    keys().find(|key| key.variable() == variable)
}

/// The beginning of a variable for one of several listeners, as in `VOLTLANE_LISTENER__WEB__ADDRESS`.
const OF_LISTENER: &str = "VOLTLANE_LISTENER__";

/// Returns the key that a variable sets, and the name of the listener as a variable has it.
fn key_of_listener(variable: &str) -> Option<(&str, &'static Key)> {
    let (name, key) = variable.strip_prefix(OF_LISTENER)?.split_once("__")?;
    Some((name, key_of(&format!("{VARIABLE_PREFIX}LISTENER_{key}"))?))
}

/// Assigns a value to a listener of the file, which is known by then.
fn assign_to_listener(
    (name, key): (&str, &'static Key),
    variable: &str,
    value: &str,
    origin: Origin,
    build: &mut Build,
) {
    let as_variable = |name: &str| name.to_ascii_uppercase().replace('-', "_");
    let named = |listener: &Listener| as_variable(listener.name.as_str()) == name;
    let found = build.settings.listeners().position(named);
    match found {
        Some(index) => build.with_listener(index, |build| {
            build.assign(key.path, Raw::Text(value), origin, variable, quoted(value));
        }),
        None => {
            let names = build.settings.listeners();
            let names: Vec<_> = names.map(|listener| listener.name.to_string()).collect();
            let fault = Fault::new("there is no listener of this name");
            build.problem(Problem {
                origin,
                written: Some(variable.to_owned()),
                value: Some(quoted(value)),
                fault: fault.remedy(format!("the file has {}", names.join(", "))),
                key: Some(key.path),
            });
        }
    }
}

fn assign(variable: &str, value: &str, origin: Origin, build: &mut Build) {
    if let Some(of_listener) = key_of_listener(variable) {
        return assign_to_listener(of_listener, variable, value, origin, build);
    }
    match key_of(variable) {
        Some(key) => build.assign(key.path, Raw::Text(value), origin, variable, quoted(value)),
        None => build.problem(Problem {
            origin,
            written: Some(variable.to_owned()),
            value: Some(quoted(value)),
            fault: retired::for_variable(variable).unwrap_or_else(|| {
                Fault::new("unknown variable").remedy(suggest::for_variable(variable))
            }),
            key: None,
        }),
    }
}

/// Returns whether this is a variable that Kubernetes and Docker set by themselves in every container next to a service named voltlane,
/// such as `VOLTLANE_SERVICE_HOST` and `VOLTLANE_PORT_42000_TCP_ADDR`. Nobody wrote them.
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
