//! Formats the table of keys: the default file, the output of `check`, the table of the README.

use super::keys::{Key, Limits, SECTIONS, Settings, Unit, keys};
use super::load::Loaded;
use super::problem::Origin;
use super::value::Enforce;
use super::worst_case::WorstCase;

/// Returns the file that is written if there is none: every key with its default and a comment. The keys are commented out, so that `check`
/// shows what somebody changed and the defaults of newer versions apply.
#[must_use]
pub fn default_file() -> String {
    let defaults = Settings::default();
    let mut out = String::from(
        "# The configuration of a Voltlane edge. Every key is here with its default; to change one, remove the \"#\"\n\
         # before it.\n\
         # Every key is an environment variable as well: VOLTLANE_ and the section and the key in capitals, as in\n\
         # VOLTLANE_CLIENTS_STALE_TIMEOUT_SECS. The command line wins over the environment, that over a file .env in\n\
         # the working directory, and that over this file. The command `check` shows what is in effect.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        for line in section.comment {
            out.push_str(&format!("#{line}\n"));
        }
        out.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            out.push('\n');
            for line in key.comment {
                out.push_str(&format!("#{line}\n"));
            }
            out.push_str(&format!("# Must be {}.\n", key.expected()));
            out.push_str(&format!(
                "#{} = {}{}\n",
                key.name(),
                key.show(&defaults),
                in_mib(key, &defaults)
            ));
        }
    }
    out
}

/// Returns every key with its default and its meaning, as a Markdown table.
#[must_use]
pub fn markdown_table() -> String {
    let defaults = Settings::default();
    let mut out = String::from("| key | default | meaning |\n| --- | --- | --- |\n");
    for key in keys() {
        let comment = key.comment.concat();
        out.push_str(&format!(
            "| `{}` | `{}` | {} |\n",
            key.path,
            key.show(&defaults),
            comment.trim()
        ));
    }
    out
}

impl Loaded {
    /// Formats every key with its value and its origin, as TOML; then what the limits add up to.
    #[must_use]
    pub fn describe(&self) -> String {
        let defaults = Settings::default();
        let has_one = self.settings.more_listeners.is_empty();
        let mut lines = Vec::new();
        let mut section = "";
        let of_all = self
            .entries()
            .filter(|(key, _)| has_one || !key.is_of_listener());
        for (key, origin) in of_all {
            let this = key.path.split('.').next().unwrap_or_default();
            if !section.is_empty() && section != this {
                lines.push(Line::default());
            }
            section = this;
            lines.push(Line::new(key.path, key, origin, &self.settings, &defaults));
        }
        for (index, _) in self.settings.listeners().enumerate().filter(|_| !has_one) {
            lines.push(Line::default());
            lines.push(Line::heading("[[listener]]"));
            let view = self.settings.view(index);
            let entries = self.listener_entries(index);
            lines.extend(
                entries.map(|(key, origin)| Line::new(key.name(), key, origin, &view, &defaults)),
            );
        }
        let width = lines.iter().map(|line| line.assignment.chars().count());
        let width = width.max().unwrap_or(0);
        let mut out = String::new();
        for Line {
            assignment,
            comment,
        } in lines
        {
            if comment.is_empty() {
                out.push_str(&format!("{assignment}\n"));
                continue;
            }
            let gap = " ".repeat(width - assignment.chars().count());
            out.push_str(&format!("{assignment}{gap}  # {comment}\n"));
        }
        out.push_str(&self.describe_worst_case());
        out
    }

    fn describe_worst_case(&self) -> String {
        let WorstCase {
            client,
            clients,
            away,
            link,
        } = WorstCase::of(&self.settings);
        let clients = clients.map_or_else(
            || format!("{} for each connected client", bytes(client)),
            |all| {
                format!(
                    "{} for {} connected clients",
                    bytes(all),
                    self.settings.limits.max_connections
                )
            },
        );
        let away = match away {
            0 => "nothing for clients that are away".to_owned(),
            all => format!(
                "{} for {} clients that are away",
                bytes(all),
                self.settings.clients.max_stale_clients
            ),
        };
        let bound = match self.settings.limits {
            Limits {
                enforce_memory: Enforce::On,
                max_memory_bytes: 0,
                ..
            } => {
                "# Never more than half of the memory that the process may use (limits.max_memory_bytes).\n"
                    .to_owned()
            }
            Limits {
                enforce_memory: Enforce::On,
                max_memory_bytes: most,
                ..
            } => format!(
                "# Never more than {} in all (limits.max_memory_bytes).\n",
                bytes(most.into())
            ),
            _ => String::new(),
        };
        format!(
            "\n# At most, with every queue full: {clients}, {away}, {} for the backend.\n{bound}",
            bytes(link)
        )
    }
}

/// A line of the output of `check`.
#[derive(Default)]
struct Line {
    assignment: String,
    comment: String,
}

impl Line {
    fn heading(text: &str) -> Line {
        Line {
            assignment: text.to_owned(),
            comment: String::new(),
        }
    }

    fn new(
        name: &str,
        key: &Key,
        origin: &Origin,
        settings: &Settings,
        defaults: &Settings,
    ) -> Line {
        let (value, default) = (key.show(settings), key.show(defaults));
        let changed = match origin {
            Origin::Default if default != value => {
                format!(" {default}, less because of other keys")
            }
            Origin::Default => String::new(),
            _ if default == value => String::new(),
            _ => format!(", default {default}"),
        };
        Line {
            assignment: format!("{name} = {value}"),
            comment: format!("{origin}{changed}"),
        }
    }
}

/// Returns a comment with a number of bytes in a larger unit, if that is a whole number.
fn in_mib(key: &Key, settings: &Settings) -> String {
    match (key.unit(), key.show(settings).parse::<u128>()) {
        (Some(Unit::Bytes), Ok(count)) if count >= 1024 && count % 1024 == 0 => {
            format!(" # {}", bytes(count))
        }
        _ => String::new(),
    }
}

/// Formats a size for people: `32 MiB`.
fn bytes(count: u128) -> String {
    let mut value = count;
    let mut rest = 0;
    for unit in ["bytes", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024 || unit == "TiB" {
            return match rest * 10 / 1024 {
                0 => format!("{value} {unit}"),
                tenths => format!("{value}.{tenths} {unit}"),
            };
        }
        (value, rest) = (value / 1024, value % 1024);
    }
    unreachable!("the last unit returns")
}
