//! The text form of a plan, for the repository and for bug reports.
//!
//! ```text
//! voltlane-plan 1
//! seed 42
//! clients 3
//! …
//! @0 connect 0 normal
//! @120000 send 0 3 48
//! ```
//! An option that is not named has its default. A line that begins with `#` is a comment.

use std::fmt;
use std::str::FromStr;

use super::{Action, Op, Options, Plan};

const FIRST_LINE: &str = "voltlane-plan 1";

/// Why a text is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The first line does not identify it as a plan.
    #[error("the first line must be `{FIRST_LINE}`")]
    NotAPlan,
    /// A line that is neither an option nor an operation.
    #[error("line {line}: cannot read `{text}`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        for (name, value) in self.options.entries() {
            writeln!(f, "{name} {value}")?;
        }
        for op in &self.ops {
            writeln!(f, "{op}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{} {}", self.at_us, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print())
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Plan, PlanError> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        if lines.next().map(|(_, line)| line.trim()) != Some(FIRST_LINE) {
            return Err(PlanError::NotAPlan);
        }
        let mut plan = Plan {
            options: Options::default(),
            ops: Vec::new(),
        };
        for (number, line) in lines {
            read_line(&mut plan, line).ok_or_else(|| PlanError::Line {
                line: number + 1,
                text: line.to_string(),
            })?;
        }
        plan.ops.sort_by_key(|op| op.at_us);
        Ok(plan)
    }
}

fn read_line(plan: &mut Plan, line: &str) -> Option<()> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if let Some(at) = first.strip_prefix('@') {
        let at_us = at.parse().ok()?;
        let action = Action::read(words.next()?, words)?;
        plan.ops.push(Op { at_us, action });
        return Some(());
    }
    let value = words.next()?.parse().ok()?;
    (words.next().is_none() && plan.options.set(first, value)).then_some(())
}
