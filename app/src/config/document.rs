//! Parses the TOML file: assigns every value to its key and every mistake to its line.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, SECTIONS, Section};
use super::listeners::MAX_LISTENERS;
use super::load::Build;
use super::problem::{Fault, Origin, Problem};
use super::value::Raw;
use super::{retired, suggest};

/// The parser's message about a repeated key or section.
const DUPLICATE: &str = "duplicate key";

/// Parses a whole file into `build`. Returns whether it has a section or a key.
pub(super) fn read(name: &str, bytes: &[u8], build: &mut Build) -> bool {
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(Unreadable { line, fault }) => {
            let origin = Origin::File {
                name: name.to_owned(),
                line,
                column: 0,
            };
            build.problem(Problem::of_file(origin, fault));
            return false;
        }
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    let line_starts = text
        .bytes()
        .enumerate()
        .filter(|&(_, byte)| byte == b'\n')
        .map(|(at, _)| at + 1);
    let line_starts = std::iter::once(0).chain(line_starts).collect();
    let mut file = File {
        name,
        text,
        build,
        line_starts,
        broken_lines: BTreeMap::new(),
    };
    for error in errors {
        // One problem per line is enough: the others follow from the first.
        let at = error.span().map(|span| span.start);
        let line = at.map_or(0, |at| file.line(at));
        file.broken_lines.entry(line).or_insert_with(|| Broken {
            at,
            complaint: Some(error.message().to_owned()),
        });
    }
    file.root(document.get_ref());
    file.report_broken_lines();
    !document.get_ref().is_empty()
}

/// Why bytes are not text.
struct Unreadable {
    /// The line, from 1; 0 for the whole file.
    line: usize,
    fault: Fault,
}

/// Returns the fault of a text in another encoding.
pub(super) fn utf16() -> Fault {
    Fault::new("this is UTF-16").remedy("save it as UTF-8")
}

/// Decodes UTF-8, with or without the byte order mark that some editors write.
fn text_of(bytes: &[u8]) -> Result<&str, Unreadable> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Unreadable {
            line: 0,
            fault: utf16(),
        });
    }
    let bytes = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| Unreadable {
        line: 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count(),
        fault: Fault::new("not UTF-8 text"),
    })
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
    build: &'a mut Build,
    /// The offset of the first byte of every line.
    line_starts: Vec<usize>,
    /// The lines that are not TOML.
    broken_lines: BTreeMap<usize, Broken>,
}

/// A line that is not TOML.
struct Broken {
    /// The byte of the file that the parser complains about.
    at: Option<usize>,
    /// The parser's complaint; `None` once a problem with the line is reported.
    complaint: Option<String>,
}

impl File<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            let section = SECTIONS
                .iter()
                .find(|section| section.name == name.get_ref());
            match (section, value.get_ref()) {
                (Some(section), DeValue::Table(table)) => self.section(section, table),
                (Some(section), DeValue::Array(list)) if section.name == "listener" => {
                    self.listeners(section, name.span(), list);
                }
                (Some(section), _) => {
                    let remedy = format!("write [{}], and its keys below it", section.name);
                    let fault = Fault::new("is a section").remedy_after_colon(remedy);
                    self.wrong(section.name, name.span(), None, fault);
                }
                (None, _) => self.unknown(name.get_ref(), name.span(), value),
            }
        }
    }

    /// Reads an array of tables, one for each listener.
    fn listeners(&mut self, section: &Section, span: Range<usize>, list: &[Spanned<DeValue<'_>>]) {
        let remedy = "write [[listener]], and its keys below it";
        if list.is_empty() {
            let fault = Fault::new("there is no listener").remedy_after_colon(remedy);
            return self.wrong(section.name, span, None, fault);
        }
        for (index, one) in list.iter().enumerate() {
            let DeValue::Table(table) = one.get_ref() else {
                let fault = Fault::new("is not a table").remedy_after_colon(remedy);
                self.wrong(section.name, one.span(), Some(one), fault);
                if index == 0 {
                    // It is not at its defaults.
                    self.build.spoil("listener.address");
                }
                continue;
            };
            if index == MAX_LISTENERS {
                let what = format!("there are more than {MAX_LISTENERS} listeners");
                return self.wrong(section.name, one.span(), None, Fault::new(what));
            }
            if index > 0 {
                self.build.add_listener();
            }
            // Elements that are not tables add no listener.
            let at = if index == 0 {
                0
            } else {
                self.build.listeners() - 1
            };
            self.build.swap_listener(at);
            self.build.place = self.origin(one.span().start);
            self.section(section, table);
            self.build.swap_listener(at);
        }
    }

    fn section(&mut self, section: &Section, table: &DeTable<'_>) {
        for (name, value) in table {
            match section.keys.iter().find(|key| key.name() == name.get_ref()) {
                Some(key) => self.known(key, name.span(), value),
                None => self.unknown(
                    &format!("{}.{}", section.name, name.get_ref()),
                    name.span(),
                    value,
                ),
            }
        }
    }

    fn known(&mut self, key: &Key, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let line = self.line(span.start);
        let origin = self.origin(span.start);
        let Some(Broken { complaint, .. }) = self.broken_lines.get_mut(&line) else {
            let shown = self.source(value);
            self.build
                .assign(key.path, Raw::Toml(value), origin, key.path, shown);
            return;
        };
        // The parser only guesses at a broken value.
        self.build.spoil(key.path);
        if complaint
            .as_deref()
            .is_some_and(|complaint| complaint != DUPLICATE)
        {
            *complaint = None;
            let source = self.source_line(line);
            let value = source
                .split_once('=')
                .map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty());
            let hint = if value.is_some() {
                "as written it is not TOML"
            } else {
                "the value is missing"
            };
            self.build.problem(Problem {
                origin,
                written: Some(key.path.to_owned()),
                value: value.map(str::to_owned),
                fault: Fault::new(hint).remedy(format!("must be {}", key.expected())),
                key: Some(key.path),
            });
        }
    }

    /// Reports the lines that are not TOML and for which the parser's complaint is the best description.
    fn report_broken_lines(&mut self) {
        for (line, broken) in std::mem::take(&mut self.broken_lines) {
            let Some(complaint) = broken.complaint else {
                continue;
            };
            let source = if line == 0 {
                String::new()
            } else {
                self.source_line(line)
            };
            let is_listener = ["[listener]", "[[listener]]"].contains(&source.as_str());
            self.build.problem(Problem {
                origin: match broken.at {
                    Some(at) => self.origin(at),
                    None => Origin::whole_file(self.name),
                },
                written: (!source.is_empty()).then_some(source),
                value: None,
                fault: match complaint.as_str() {
                    DUPLICATE if is_listener && self.text.contains("[[listener]]") => {
                        Fault::new("there are [listener] and [[listener]]")
                            .remedy("write [[listener]] above the keys of each")
                    }
                    DUPLICATE => Fault::new("this is set a second time"),
                    other => Fault::new(format!("not TOML: {other}")),
                },
                key: None,
            });
        }
    }

    /// Reports every unknown key below `value`, or the section itself if it has none.
    fn unknown(&mut self, path: &str, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            // The remains of a line that is not TOML look like this.
            DeValue::Table(table) if table.is_empty() && !self.broken_lines.is_empty() => {}
            DeValue::Table(table) if table.is_empty() => {
                let sections: Vec<_> = SECTIONS
                    .iter()
                    .map(|section| format!("[{}]", section.name))
                    .collect();
                let remedy = format!("there are {}", sections.join(", "));
                let fault = Fault::new("unknown section").remedy(remedy);
                self.wrong(path, key, None, fault);
            }
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.unknown(&format!("{path}.{}", name.get_ref()), name.span(), value);
                }
            }
            _ => {
                let fault = retired::for_path(path)
                    .unwrap_or_else(|| Fault::new("unknown key").remedy(suggest::for_path(path)));
                self.wrong(path, key, Some(value), fault);
            }
        }
    }

    fn wrong(
        &mut self,
        path: &str,
        key: Range<usize>,
        value: Option<&Spanned<DeValue<'_>>>,
        fault: Fault,
    ) {
        let line = self.line(key.start);
        if self.broken_lines.contains_key(&line) {
            return;
        }
        let value = value.map(|value| self.source(value));
        self.build.problem(Problem {
            origin: self.origin(key.start),
            written: Some(path.to_owned()),
            value,
            fault,
            key: None,
        });
    }

    /// Returns the origin of a byte.
    fn origin(&self, offset: usize) -> Origin {
        let line = self.line(offset);
        let before = self.text.get(self.line_starts[line - 1]..offset);
        Origin::File {
            name: self.name.to_owned(),
            line,
            column: 1 + before.map_or(0, |before| before.chars().count()),
        }
    }

    /// Returns the line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Returns the text of a line, counted from 1.
    fn source_line(&self, line: usize) -> String {
        self.text[self.line_starts[line - 1]..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Returns a value as written in the file.
    fn source(&self, value: &Spanned<DeValue<'_>>) -> String {
        self.text.get(value.span()).unwrap_or_default().to_owned()
    }
}
