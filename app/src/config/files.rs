//! Reads the sources of a configuration from the disk and from the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::link_secret;
use super::load::{Argument, Loaded, Sources};
use super::problem::{Fault, Origin, Problem, Problems};
use super::render::default_file;
use super::value::quoted;
use super::variables;
use crate::disk::{self, Readers};
use crate::key_file;

/// The file that is read when none is named, in the working directory.
pub const DEFAULT_FILE: &str = "connserver.toml";

/// The maximum size of a configuration. A larger file is something else.
const MAX_FILE_BYTES: usize = 256 << 10;

/// The problem of a file that may be half-written.
const UNENDED: &str = "does not end with a line break: is it being written?";

/// The treatment of a configuration file that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissing {
    /// Write it, with a comment on every key, and continue with it.
    Write,
    /// Write nothing. The defaults apply, unless the file was named.
    Leave,
    /// Keep the configuration in effect unless the new one is complete: a truncated file is an error, and so is a missing or empty one.
    Keep {
        /// Whether the configuration in effect came from a file ([`Loaded::has_file`]). If it did not, because the environment has
        /// everything, no file is needed now.
        has_file: bool,
        /// Whether the configuration in effect has values of `.env` ([`Loaded::has_dotenv`]). They stay if it is missing or empty.
        has_dotenv: bool,
    },
}

/// An event while reading the configuration that is worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The file was missing and is there now.
    Wrote(PathBuf),
    /// The file is missing, and was not to be written.
    NotThere(PathBuf),
    /// The file is missing and could not be written, so the defaults apply.
    CouldNotWrite(PathBuf, String),
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::Wrote(path) => write!(
                f,
                "{} was missing: written, with the defaults",
                path.display()
            ),
            Note::NotThere(path) => write!(f, "{} is missing: the defaults hold", path.display()),
            Note::CouldNotWrite(path, error) => {
                write!(
                    f,
                    "{} is missing and cannot be written ({error}): the defaults hold",
                    path.display()
                )
            }
        }
    }
}

/// Loads the configuration of this process: `config`, or [`DEFAULT_FILE`]; `.env` in `directory`; the environment; `arguments`. Relative
/// paths start from `directory`.
///
/// # Errors
/// Everything that is wrong with any of them, as in [`Loaded::from_sources`], and a file that cannot be read.
pub fn load(
    directory: &Path,
    config: Option<&Path>,
    when_missing: WhenMissing,
    arguments: Vec<Argument>,
) -> Result<(Loaded, Option<Note>), Problems> {
    let named = config.is_some();
    let shown = config.unwrap_or(Path::new(DEFAULT_FILE));
    let path = directory.join(shown);
    let name = shown.display().to_string();
    let mut problems = Vec::new();
    let mut note = None;
    let of_file = |fault| Problem::of_file(Origin::whole_file(&name), fault);

    // `--config <(sops -d …)` is a pipe that can be read once.
    let may_be_a_pipe = named && !matches!(when_missing, WhenMissing::Keep { .. });
    let mut file = read(&path, may_be_a_pipe).unwrap_or_else(|message| {
        problems.push(of_file(Fault::new(message)));
        Some(Vec::new())
    });
    if file.is_none() {
        match when_missing {
            WhenMissing::Keep { has_file: true, .. } => {
                problems.push(of_file(Fault::new("there is no such file")));
            }
            WhenMissing::Keep {
                has_file: false, ..
            } => {}
            WhenMissing::Leave if named => {
                let what =
                    "there is no such file to check; an edge would write it, with the defaults";
                problems.push(of_file(Fault::new(what)));
            }
            WhenMissing::Leave => note = Some(Note::NotThere(shown.to_owned())),
            WhenMissing::Write => {
                match disk::write_new(&path, default_file().as_bytes(), Readers::Usual) {
                    Ok(()) => {
                        note = Some(Note::Wrote(shown.to_owned()));
                        file = Some(default_file().into_bytes());
                    }
                    Err(error) if named => {
                        let what = format!("does not exist and cannot be written: {error}");
                        problems.push(of_file(Fault::new(what)));
                    }
                    Err(error) => {
                        note = Some(Note::CouldNotWrite(shown.to_owned(), error.to_string()))
                    }
                }
            }
        }
    }
    // An editor that writes in place may be in the middle of a value, and a part of a number is a number.
    if matches!(when_missing, WhenMissing::Keep { .. })
        && let Some(bytes) = &file
        && bytes.last().is_some_and(|&last| last != b'\n')
    {
        problems.push(of_file(Fault::new(UNENDED)));
    }
    let of_dotenv = |line, fault| {
        let variable = String::new();
        Problem::of_file(Origin::DotEnv { variable, line }, fault)
    };
    let dotenv_path = directory.join(".env");
    // A directory of that name is more often than not a Python environment.
    let dotenv = if dotenv_path.is_dir() {
        Ok(None)
    } else {
        read(&dotenv_path, false)
    }
    .map_err(|message| problems.push(of_dotenv(0, Fault::new(message))));
    if let (WhenMissing::Keep { has_dotenv, .. }, Ok(bytes)) = (when_missing, &dotenv) {
        let bytes = bytes.as_deref().unwrap_or_default();
        if has_dotenv && bytes.trim_ascii().is_empty() {
            let fault = Fault::new("it is missing or empty: is it being written?");
            let remedy = "to go on without its variables, leave a comment in it";
            problems.push(of_dotenv(0, fault.remedy(remedy)));
        } else if let Some(line) = variables::unended_line(bytes) {
            problems.push(of_dotenv(line, Fault::new(UNENDED)));
        }
    }

    let file = file.map(|bytes| (name.clone(), bytes));
    let sources = Sources {
        file,
        dotenv: dotenv.ok().flatten(),
        environment: std::env::vars_os().collect(),
        arguments,
    };
    let mut loaded = Loaded::from_sources(&sources);
    match &mut loaded {
        Ok(loaded) => {
            let is_emptied = matches!(when_missing, WhenMissing::Keep { has_file: true, .. })
                && sources.file.is_some()
                && !loaded.has_file();
            if is_emptied && problems.is_empty() {
                let what = "there is neither a section nor a key in it: is it being written? For the defaults alone, \
                            leave one [section]";
                problems.push(of_file(Fault::new(what)));
            }
            look_at_key_file(directory, when_missing, loaded, &mut problems);
            #[cfg(feature = "snapshot")]
            look_at_snapshot_file(directory, loaded, &mut problems);
            look_at_secret(directory, loaded, &mut problems);
        }
        Err(others) => problems.extend(others.iter().cloned()),
    }
    Problems::none_or(problems)?;
    Ok((loaded?, note))
}

fn is_null_device(path: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|path| path == Path::new("/dev/null"))
}

/// Adds the problem of the key file, or the warning about it. So `check` finds it before clients are refused.
fn look_at_key_file(
    directory: &Path,
    when_missing: WhenMissing,
    loaded: &mut Loaded,
    problems: &mut Vec<Problem>,
) {
    const KEY: &str = "general.key_file";
    let Some(shown) = &loaded.settings.general.key_file else {
        return;
    };
    let path = directory.join(shown);
    let problem = |fault| Problem {
        origin: loaded.origin(KEY).cloned().unwrap_or(Origin::Default),
        written: Some(KEY.to_owned()),
        value: Some(quoted(&shown.to_string_lossy())),
        fault,
        key: Some(KEY),
    };
    let is_created = !matches!(when_missing, WhenMissing::Keep { .. });
    match key_file::read_key(&path) {
        Err(error) => problems.push(problem(error.fault())),
        // A start creates it.
        Ok(None) if is_created => {
            if let Err(error) = key_file::can_make(&path) {
                problems.push(problem(error.fault()));
            }
        }
        Ok(_) => {}
    }
    if let Some(mode) = key_file::mode_for_group(&path) {
        let what = format!("{} (mode {mode:04o})", key_file::READABLE_BY_GROUP);
        let fault = Fault::new(what).remedy("make it mode 0600 unless the group is to have it");
        loaded.warnings.push(problem(fault));
    }
}

/// Adds the problem of the file for saved sessions. So `check` finds it before an end at which they would be lost.
#[cfg(feature = "snapshot")]
fn look_at_snapshot_file(directory: &Path, loaded: &Loaded, problems: &mut Vec<Problem>) {
    const KEY: &str = "general.snapshot_file";
    let Some(shown) = &loaded.settings.general.snapshot_file else {
        return;
    };
    if let Err(error) = disk::can_write_new(&directory.join(shown)) {
        problems.push(Problem {
            origin: loaded.origin(KEY).cloned().unwrap_or(Origin::Default),
            written: Some(KEY.to_owned()),
            value: Some(quoted(&shown.to_string_lossy())),
            fault: Fault::new(format!("cannot be written: {error}")),
            key: Some(KEY),
        });
    }
}

/// Adds the problem of the secret of the link. So `check` finds it before the backend is refused.
fn look_at_secret(directory: &Path, loaded: &Loaded, problems: &mut Vec<Problem>) {
    const KEY: &str = "master.token_file";
    let master = &loaded.settings.master;
    if let (Some(shown), Err(error)) = (&master.token_file, link_secret::read(directory, master)) {
        problems.push(Problem {
            origin: loaded.origin(KEY).cloned().unwrap_or(Origin::Default),
            written: Some(KEY.to_owned()),
            value: Some(quoted(&shown.to_string_lossy())),
            fault: error.fault(),
            key: Some(KEY),
        });
    }
}

/// Returns the bytes of a file, or `None` if there is none. The null device counts as an empty file, and a pipe may be read.
fn read(path: &Path, may_be_a_pipe: bool) -> Result<Option<Vec<u8>>, String> {
    match fs::metadata(path) {
        Ok(metadata) => match disk::kind_unless_file(&metadata) {
            None => {}
            Some("a pipe") if may_be_a_pipe => {}
            Some("a device") if is_null_device(path) => return Ok(Some(Vec::new())),
            Some(kind) => return Err(format!("this is {kind}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(target) => Err(format!(
                    "this is a link to {}, which does not exist",
                    target.display()
                )),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let mut bytes = Vec::new();
    match disk::read_at_most(MAX_FILE_BYTES, path, &mut bytes) {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(false) => Err(format!(
            "larger than {} KiB, so this is no configuration",
            MAX_FILE_BYTES >> 10
        )),
        Ok(true) => Ok(Some(bytes)),
    }
}
