//! The table of planted bugs, and how it changes the core's source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

/// The module with the switch. [`Table::switch`] adds the names.
const SWITCH: &str = include_str!("../../planted/planted.rs");

/// What a run needs to show a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// One edge.
    #[default]
    Edge,
    /// Several shards (SPEC 9.9).
    Shards,
    /// A crowd (SPEC 10.4, 10.5).
    Crowds,
    /// Clients of version 3 (SPEC 18 to 26).
    V3,
    /// Crowds of clients of both versions, and floods (SPEC 27.3).
    V3Crowds,
    /// Clients within TLS and WebSocket (SPEC 16).
    Doors,
    /// Version 3 of the backend link (SPEC 33 to 38).
    Link3,
    /// Several edges at one backend (SPEC 40).
    Fleet,
    /// Clients with tickets at several edges (SPEC 44).
    Roaming,
    /// Several backends of one edge (SPEC 45).
    Pins,
}

/// A bug and its changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bug {
    /// Its name, a variant of `voltlane_core::planted::Bug`.
    pub name: String,
    /// What is wrong, as a sentence.
    pub why: String,
    /// What a run needs to show it.
    #[serde(skip)]
    pub group: Group,
    /// The changes that plant it.
    #[serde(rename = "change")]
    pub changes: Vec<Change>,
}

/// What the simulator runs besides the core: the shipped exchange between a shard and the trunk, and the threads that it plays.
const OTHERS: [&str; 2] = ["driver/src/exchange.rs", "sim/src/shards/threads.rs"];
/// As well: the source of the core, and the layers around a client's link.
const FOLDERS: [&str; 2] = ["core/src/", "doors/src/"];

/// A replacement in the source of the core, or of a file that the simulator runs besides.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A source file of the core, or one of the others, by its path in the workspace.
    pub file: String,
    /// The text to replace. It occurs once, ignoring white space.
    pub find: String,
    /// The text that takes its place.
    pub replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    #[serde(default)]
    group: Group,
    #[serde(rename = "bug")]
    bugs: Vec<Bug>,
}

/// All planted bugs.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The bugs, sorted by file name and then in the order of the rows.
    pub bugs: Vec<Bug>,
}

impl Table {
    /// Reads `sim/planted/*.toml` of the workspace at `root`.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed, with the line.
    pub fn read(root: &Path) -> Result<Self, String> {
        let folder = root.join("sim/planted");
        let failed =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let entries = fs::read_dir(&folder).map_err(|error| failed(&folder, &error))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(&folder, &error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                paths.push(path);
            }
        }
        paths.sort();
        let mut table = Self::default();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            table.add(&text).map_err(|error| failed(&path, &error))?;
        }
        Ok(table)
    }

    /// Adds the bugs of one file.
    ///
    /// # Errors
    /// A malformed row, with the line.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let topic: Topic = toml::from_str(text).map_err(|error| error.to_string())?;
        let bugs = topic.bugs.into_iter();
        self.bugs.extend(bugs.map(|bug| Bug {
            group: topic.group,
            ..bug
        }));
        Ok(())
    }

    /// Returns the files that the table changes, by their paths in the workspace, with all bugs in them. `read` returns the text of a file.
    ///
    /// # Errors
    /// One line for each row that does not match, with the bug, the file and the text.
    pub fn apply(
        &self,
        mut read: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut faults = self.faults();
        let mut files: BTreeMap<&str, Vec<(&Bug, &Change)>> = BTreeMap::new();
        for bug in &self.bugs {
            for change in &bug.changes {
                files.entry(&change.file).or_default().push((bug, change));
            }
        }
        let mut changed = BTreeMap::new();
        for (file, changes) in files {
            match read(file) {
                Ok(text) => {
                    changed.insert(file.to_owned(), replaced(&text, &changes, &mut faults));
                }
                Err(error) => faults.push(format!("{}: {file}: {error}", changes[0].0.name)),
            }
        }
        if faults.is_empty() {
            Ok(changed)
        } else {
            Err(faults.join("\n"))
        }
    }

    /// Returns the faults of the rows themselves.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        for bug in &self.bugs {
            let name = &bug.name;
            if !names.insert(name) {
                faults.push(format!("{name}: there are two bugs of this name"));
            }
            if bug.why.trim().is_empty() {
                faults.push(format!("{name}: `why` is empty"));
            }
            if bug.changes.is_empty() {
                faults.push(format!("{name}: it has no `[[bug.change]]`"));
            }
            for change in &bug.changes {
                let mut fault = |what: &str| {
                    let place = format!("{name}: {}: `{}`", change.file, one_line(&change.find));
                    faults.push(format!("{place}: {what}"));
                };
                let is_changed = FOLDERS.iter().any(|own| change.file.starts_with(own));
                if !is_changed && !OTHERS.contains(&&*change.file) {
                    fault(&format!(
                        "only files in {FOLDERS:?}, and {OTHERS:?}, are changed"
                    ));
                }
                if one_line(&change.find).is_empty() {
                    fault("`find` is empty");
                }
                if mentions(&change.replace) != BTreeSet::from([name.as_str()]) {
                    fault(&format!(
                        "`replace` must ask `planted!({name})`, and for no other bug"
                    ));
                }
            }
        }
        faults
    }

    /// Returns the source of the module `planted` in the copy's core.
    #[must_use]
    pub fn switch(&self) -> String {
        let mut text = format!(
            "{SWITCH}\n/// What can be wrong.\n#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]\npub enum Bug {{\n"
        );
        for Bug { name, why, .. } in &self.bugs {
            let _ = writeln!(text, "    /// {}\n    {name},", one_line(why));
        }
        text.push_str("}\n\nimpl Bug {\n");
        let groups = [
            (Group::Edge, "ALL", "All that one edge alone can have."),
            (
                Group::Shards,
                "OF_SHARDS",
                "Those that take several shards to show.",
            ),
            (
                Group::Crowds,
                "OF_CROWDS",
                "Those that take a crowd to show.",
            ),
            (
                Group::V3,
                "OF_VERSION_3",
                "Those that take clients of version 3 to show.",
            ),
            (
                Group::V3Crowds,
                "OF_CROWDS_OF_BOTH",
                "Those that take a crowd of clients of both versions to show.",
            ),
            (
                Group::Doors,
                "OF_DOORS",
                "Those that take clients within TLS or WebSocket to show.",
            ),
            (
                Group::Link3,
                "OF_LINK_3",
                "Those that take version 3 of the backend link to show.",
            ),
            (
                Group::Fleet,
                "OF_FLEET",
                "Those that take several edges at one backend to show.",
            ),
            (
                Group::Roaming,
                "OF_ROAMING",
                "Those that take clients with tickets at several edges to show.",
            ),
            (
                Group::Pins,
                "OF_PINS",
                "Those that take several backends of one edge to show.",
            ),
        ];
        for (group, name, doc) in groups {
            let _ = writeln!(
                text,
                "    /// {doc}\n    pub const {name}: &'static [Bug] = &["
            );
            for bug in self.bugs.iter().filter(|bug| bug.group == group) {
                let _ = writeln!(text, "        Bug::{},", bug.name);
            }
            text.push_str("    ];\n");
        }
        text.push_str("}\n");
        text
    }
}

/// Applies all `changes` to `text`. Changes that do not match are added to `faults`.
fn replaced(text: &str, changes: &[(&Bug, &Change)], faults: &mut Vec<String>) -> String {
    let squeezed = Squeezed::new(text);
    let mut places = Vec::new();
    for &(bug, change) in changes {
        let found = squeezed.places(&change.find);
        if let [place] = &found[..] {
            places.push((place.clone(), bug, change));
        } else {
            faults.push(format!(
                "{}: {}: `{}`: it is there {} times and must be there once; if the core has changed, give `find` the \
                 new text",
                bug.name,
                change.file,
                one_line(&change.find),
                found.len()
            ));
        }
    }
    places.sort_by_key(|(place, ..)| place.start);
    let (mut changed, mut end, mut before) = (String::new(), 0, "");
    for (place, bug, change) in places {
        if place.start < end {
            faults.push(format!(
                "{}: {}: `{}`: a change of {before} touches the same text",
                bug.name,
                change.file,
                one_line(&change.find)
            ));
            continue;
        }
        changed.push_str(&text[end..place.start]);
        let core = if change.file.starts_with("core/") {
            "crate"
        } else {
            "voltlane_core"
        };
        let asks = format!("{core}::planted!(");
        changed.push_str(&change.replace.replace("planted!(", &asks));
        (end, before) = (place.end, &bug.name);
    }
    changed.push_str(&text[end..]);
    changed
}

/// Returns the bugs that `replace` tests for.
fn mentions(replace: &str) -> BTreeSet<&str> {
    let asked = replace.split("planted!(").skip(1);
    asked
        .filter_map(|rest| rest.split_once(')'))
        .map(|(name, _)| name)
        .collect()
}

/// Collapses a text to one line, for messages.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text without its white space.
struct Squeezed {
    bytes: Vec<u8>,
    /// The position of each byte in the original text.
    at: Vec<usize>,
}

impl Squeezed {
    fn new(text: &str) -> Self {
        let kept = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| !byte.is_ascii_whitespace());
        let (at, bytes) = kept.unzip();
        Self { bytes, at }
    }

    /// Returns the positions in the original text at which `find` occurs.
    fn places(&self, find: &str) -> Vec<Range<usize>> {
        let find = Self::new(find).bytes;
        if find.is_empty() {
            return Vec::new();
        }
        let windows = self.bytes.windows(find.len()).enumerate();
        windows
            .filter(|(_, window)| *window == find)
            .map(|(first, _)| self.at[first]..self.at[first + find.len() - 1] + 1)
            .collect()
    }
}
