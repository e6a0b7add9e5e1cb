//! The comparison: the same loads for all programs, in turn within one run, so that every figure is next to the yardstick's from the same
//! minute and machine.

pub mod record;
pub mod rows;
pub mod svg;

use serde_json::{Value, json};

use crate::load::carriage::Carriage;
use crate::load::meter::Outcome;
use crate::load::process::{Cpus, Placement};
use crate::load::program::{Program, StartError};
use crate::load::{self, LoadError, Options};
use crate::report;
use rows::{Goal, Row};

/// The result of one row: a figure for each program, in the order of the programs, if there is one.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The load and the goals.
    pub row: Row,
    /// Medians over the rounds.
    pub figures: Vec<Option<f64>>,
    /// Packets lost, duplicated or misdelivered, over all programs and rounds.
    pub wrong: u64,
}

/// A whole comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The columns.
    pub programs: Vec<Program>,
    /// The rows.
    pub measured: Vec<Measured>,
    /// Why figures are missing, each reason once.
    pub notes: Vec<String>,
}

/// Runs every row against every program, `rounds` times, on the row's part of `cpus`. The programs take turns within a round.
pub fn run(
    programs: &[Program],
    rows: &[Row],
    rounds: usize,
    cpus: &Cpus,
    options: &Options,
) -> Result<Comparison, LoadError> {
    let mut comparison = Comparison {
        programs: programs.to_vec(),
        measured: Vec::new(),
        notes: Vec::new(),
    };
    for row in rows {
        eprintln!("{}, {}", row.scenario, row.carriage);
        let mut figures = vec![Vec::new(); programs.len()];
        let mut wrong = 0;
        let options = Options {
            carriage: row.carriage,
            program_cpus: cpus.place(row.placement)?,
            ..options.clone()
        };
        for _ in 0..rounds.max(1) {
            let programs = programs.iter().zip(&mut figures);
            for (program, figures) in programs.filter(|(program, _)| row.suits(program)) {
                if let Some(outcome) = comparison.attempt(program, row, &options)? {
                    wrong += outcome.wrong;
                    figures.extend(row.metric.of(&outcome));
                }
            }
        }
        let figures = figures.into_iter().map(median).collect();
        comparison.measured.push(Measured {
            row: row.clone(),
            figures,
            wrong,
        });
    }
    Ok(comparison)
}

impl Comparison {
    /// Runs one load once. A program that is not installed or fails leaves a gap and a note, since the other figures are still useful.
    fn attempt(
        &mut self,
        program: &Program,
        row: &Row,
        options: &Options,
    ) -> Result<Option<Outcome>, LoadError> {
        let note = match load::run(program, &row.scenario, options) {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(LoadError::NotApplicable(_)) => return Ok(None),
            Err(LoadError::Io(error)) => return Err(error.into()),
            Err(LoadError::Start(StartError::Io(error))) => return Err(error.into()),
            Err(LoadError::Start(error @ StartError::NotInstalled(_))) => error.to_string(),
            Err(error) => format!("{program}, {}: {error}", row.scenario),
        };
        if !self.notes.contains(&note) {
            eprintln!("{note}");
            self.notes.push(note);
        }
        Ok(None)
    }

    fn figure(&self, measured: &Measured, program: &Program) -> Option<f64> {
        let column = self
            .programs
            .iter()
            .position(|candidate| candidate == program)?;
        measured.figures[column]
    }

    /// Returns the figure that a program's figure in a row is compared with: that of the bare forwarder, which has neither TLS nor WebSocket,
    /// and otherwise its own without them.
    fn reference(&self, measured: &Measured, program: &Program) -> Option<f64> {
        match measured.row.carriage {
            Carriage::Tcp => self.yardstick(measured),
            _ => self.plain(measured, program),
        }
    }

    /// Returns a program's figure for the load of a row without TLS and WebSocket.
    fn plain(&self, measured: &Measured, program: &Program) -> Option<f64> {
        let mut rows = self.measured.iter();
        let plain = rows.find(|other| other.row.is_plain_of(&measured.row));
        self.figure(plain?, program)
    }

    /// Returns the yardstick's figure in a row.
    pub fn yardstick(&self, measured: &Measured) -> Option<f64> {
        self.figure(measured, &Program::Bare)
    }

    /// Returns whether one of our programs meets its goal, or `None` without a goal or a figure.
    pub fn verdict(&self, measured: &Measured, program: &Program) -> Option<bool> {
        let figure = self.figure(measured, program)?;
        let under = |goal: &Goal| match goal {
            Goal::AtMost(most) => Some(figure <= *most),
            Goal::TimesPlain(times) => Some(figure <= times * self.plain(measured, program)?),
            Goal::TimesOf(other, times) => Some(figure <= times * self.figure(measured, other)?),
            Goal::Under(other) => self.figure(measured, other).map(|other| figure < other),
        };
        let goals = measured.row.goals(program);
        let verdicts: Vec<bool> = goals.iter().filter_map(under).collect();
        (!verdicts.is_empty()).then(|| verdicts.iter().all(|within| *within))
    }

    /// Renders both Markdown tables, with what is to be known of all runs.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for placement in [Placement::Shared, Placement::Apart] {
            if self.has(placement) {
                let (how, table) = (how(placement), self.table_of(placement));
                out += &format!("{how} {RATIOS}\n\n{table}\n");
            }
        }
        let wrong: u64 = self.measured.iter().map(|measured| measured.wrong).sum();
        out += &format!("Packets lost, doubled, out of order or misled, in all runs: {wrong}.\n");
        for note in &self.notes {
            out += &format!("{note}\n");
        }
        out
    }

    fn rows(&self, placement: Placement) -> impl Iterator<Item = &Measured> {
        let is_there = move |measured: &&Measured| measured.row.placement == placement;
        self.measured.iter().filter(is_there)
    }

    fn has(&self, placement: Placement) -> bool {
        self.rows(placement).next().is_some()
    }

    /// Renders a Markdown table of the rows with this placement: the figure, its ratio to the yardstick, and for our programs whether it
    /// meets the goal. Programs without a figure are left out.
    fn table_of(&self, placement: Placement) -> String {
        let columns: Vec<(usize, &Program)> = self
            .programs
            .iter()
            .enumerate()
            .filter(|(column, _)| {
                self.rows(placement)
                    .any(|row| row.figures[*column].is_some())
            })
            .collect();
        let mut head = vec!["load".to_owned(), "unit".to_owned()];
        head.extend(columns.iter().map(|(_, program)| short(program)));
        head.push("goal for voltlane".to_owned());
        let mut lines = vec![head];
        for measured in self.rows(placement) {
            let mut line = vec![
                measured.row.title.to_owned(),
                measured.row.metric.unit().to_owned(),
            ];
            for &(column, program) in &columns {
                line.push(measured.figures[column].map_or("–".to_owned(), |figure| {
                    self.cell(measured, program, figure)
                }));
            }
            let goals = measured.row.goals(&Program::Voltlane);
            let goals: Vec<String> = goals.iter().map(Goal::to_string).collect();
            line.push(goals.join(", "));
            lines.push(line);
        }
        report::markdown(&lines)
    }

    fn cell(&self, measured: &Measured, program: &Program, figure: f64) -> String {
        let mut cell = report::figure(figure);
        if let Some(reference) = self
            .reference(measured, program)
            .filter(|_| *program != Program::Bare)
        {
            cell += &format!(" ({:.2} ×)", figure / reference);
        }
        match self.verdict(measured, program) {
            Some(true) => cell + " ✓",
            Some(false) => cell + " ✗",
            None => cell,
        }
    }

    /// Renders the same data as JSON.
    pub fn json(&self) -> Value {
        let rows = self.measured.iter().map(|measured| {
            let figures = self.programs.iter().zip(&measured.figures).map(|(program, figure)| {
                json!({
                    "program": program.to_string(),
                    "figure": figure,
                    "times_bare": figure.zip(self.yardstick(measured)).map(|(figure, bare)| figure / bare),
                    "times_plain": figure.zip(self.plain(measured, program)).map(|(figure, plain)| figure / plain),
                    "within_goal": self.verdict(measured, program),
                })
            });
            json!({
                "load": measured.row.scenario.to_string(),
                "carriage": measured.row.carriage.to_string(),
                "unit": measured.row.metric.unit(),
                "cpus": how(measured.row.placement),
                "wrong_packets": measured.wrong,
                "programs": figures.collect::<Vec<_>>(),
            })
        });
        json!({"rows": rows.collect::<Vec<_>>(), "notes": self.notes})
    }
}

/// Returns how the figures of a placement are taken.
const fn how(placement: Placement) -> &'static str {
    match placement {
        Placement::Shared => {
            "Every program in its own default on all processors: nothing is pinned, and the load runs beside it."
        }
        Placement::Apart => "The load on the first processor, every program on the others.",
    }
}

/// What the ratios in a table are to.
const RATIOS: &str =
    "Ratios are to `bare`. With TLS or WebSocket they are to the program's own row without.";

/// Returns the last part of a path, for a column's heading.
fn short(program: &Program) -> String {
    let name = program.to_string();
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first row with this placement.
    fn comparison(
        programs: &[Program],
        figures: &[Option<f64>],
        placement: Placement,
    ) -> Comparison {
        let mut rows = rows::all().into_iter();
        let measured = Measured {
            row: rows.find(|row| row.placement == placement).unwrap(),
            figures: figures.to_vec(),
            wrong: 0,
        };
        Comparison {
            programs: programs.to_vec(),
            measured: vec![measured],
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_goal_is_judged_against_the_yardstick_of_the_same_row() {
        for (placement, yardstick) in [
            (Placement::Apart, Program::Bare),
            (Placement::Shared, Program::OneShard),
        ] {
            let programs = [yardstick, Program::Voltlane];
            for (ours, within) in [(11.4, true), (11.6, false)] {
                let comparison = comparison(&programs, &[Some(10.0), Some(ours)], placement);
                assert_eq!(
                    comparison.verdict(&comparison.measured[0], &Program::Voltlane),
                    Some(within)
                );
            }
        }
    }

    #[test]
    fn a_row_with_tls_is_judged_against_the_own_row_without() {
        let programs = [Program::Voltlane, Program::Haproxy];
        let measured = |row: &Row, ours, others| Measured {
            row: row.clone(),
            figures: vec![Some(ours), Some(others)],
            wrong: 0,
        };
        let all = rows::all();
        let title = "TLS: 100 clients";
        let carried: Vec<_> = all
            .iter()
            .filter(|row| row.title.starts_with(title))
            .collect();
        assert_eq!(carried.len(), 4, "two loads in both placements");
        for row in carried {
            let plain = all.iter().find(|other| other.is_plain_of(row));
            let plain = plain.expect("there is nothing to compare with");
            for (ours, others, within) in
                [(12.9, 30.0, true), (13.1, 30.0, false), (12.9, 25.0, false)]
            {
                let comparison = Comparison {
                    programs: programs.to_vec(),
                    measured: vec![measured(plain, 10.0, 50.0), measured(row, ours, others)],
                    notes: Vec::new(),
                };
                let verdict = comparison.verdict(&comparison.measured[1], &Program::Voltlane);
                assert_eq!(verdict, Some(within));
            }
        }
    }

    #[test]
    fn without_a_yardstick_there_is_no_verdict() {
        let programs = [Program::Bare, Program::Voltlane];
        let comparison = comparison(&programs, &[None, Some(1.0)], Placement::Apart);
        assert_eq!(
            comparison.verdict(&comparison.measured[0], &Program::Voltlane),
            None
        );
    }

    #[test]
    fn the_median_of_none_is_none() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
