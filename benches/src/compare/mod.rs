//! The comparison: the same loads for all programs, in turn within one run, so that every figure is next to the yardstick's from the same
//! minute and machine.

pub mod record;
pub mod rows;
pub mod svg;

use std::time::Duration;

use serde_json::{Value, json};

use crate::circumstances::Circumstances;
use crate::load::carriage::{Carriage, name_of};
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
    /// The figures of each round.
    pub rounds: Vec<Vec<f64>>,
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
    /// The time of each measurement, unless its row has a time of its own.
    pub measure: Duration,
    /// The number of measurements, whose median counts, unless the row has more.
    pub rounds: usize,
}

/// Runs every row against every program, `rounds` times or more, on the row's part of `cpus`. The programs take turns within a round, and
/// each round begins with another one.
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
        measure: options.measure,
        rounds: rounds.max(1),
    };
    for row in rows {
        eprintln!("{}, {}", row.scenario, name_of(row.carriage));
        let mut figures = vec![Vec::new(); programs.len()];
        let mut wrong = 0;
        let options = Options {
            carriage: row.carriage,
            program_cpus: cpus.place(row.placement)?,
            measure: row.metric.measure(options.measure),
            ..options.clone()
        };
        for round in 0..row.metric.rounds(rounds) {
            for turn in 0..programs.len() {
                let column = (round + turn) % programs.len();
                let program = &programs[column];
                if !row.suits(program) {
                    continue;
                }
                if let Some(outcome) = comparison.attempt(program, row, &options)? {
                    wrong += outcome.wrong;
                    figures[column].extend(row.metric.of(&outcome));
                }
            }
        }
        comparison.measured.push(Measured {
            row: row.clone(),
            figures: figures.iter().cloned().map(median).collect(),
            rounds: figures,
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

    fn column(&self, program: &Program) -> Option<usize> {
        let mut programs = self.programs.iter();
        programs.position(|candidate| candidate == program)
    }

    fn figure(&self, measured: &Measured, program: &Program) -> Option<f64> {
        measured.figures[self.column(program)?]
    }

    /// Returns the figures of a program's rounds, if there are any.
    fn rounds<'a>(&self, measured: &'a Measured, program: &Program) -> Option<&'a [f64]> {
        let rounds = &measured.rounds[self.column(program)?];
        (!rounds.is_empty()).then_some(rounds)
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
            Goal::NoLater(other) => Some(is_no_later(
                self.rounds(measured, program)?,
                self.rounds(measured, other)?,
            )),
        };
        let goals = measured.row.goals(program);
        let verdicts: Vec<bool> = goals.iter().filter_map(under).collect();
        (!verdicts.is_empty()).then(|| verdicts.iter().all(|within| *within))
    }

    /// Renders both Markdown tables, with what is to be known of all runs.
    pub fn table(&self, circumstances: &Circumstances) -> String {
        let mut out = String::new();
        for placement in [Placement::Shared, Placement::Apart] {
            if self.has(placement) {
                out += &record::section(self, placement, circumstances);
                out += "\n";
            }
        }
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
    pub fn json(&self, circumstances: &Circumstances) -> Value {
        let rows = self.measured.iter().map(|measured| {
            let columns = measured.figures.iter().zip(&measured.rounds);
            let figures = self.programs.iter().zip(columns).map(|(program, (figure, rounds))| {
                json!({
                    "program": program.to_string(),
                    "figure": figure,
                    "rounds": rounds,
                    "times_bare": figure.zip(self.yardstick(measured)).map(|(figure, bare)| figure / bare),
                    "times_plain": figure.zip(self.plain(measured, program)).map(|(figure, plain)| figure / plain),
                    "within_goal": self.verdict(measured, program),
                })
            });
            json!({
                "load": measured.row.scenario.to_string(),
                "carriage": name_of(measured.row.carriage),
                "unit": measured.row.metric.unit(),
                "cpus": how(measured.row.placement),
                "wrong_packets": measured.wrong,
                "programs": figures.collect::<Vec<_>>(),
            })
        });
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "notes": self.notes,
            "circumstances": circumstances.to_string(),
        })
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

/// Returns whether the rounds of a program are no later than those of another one.
///
/// A p99 has no ratio that means anything: from round to round it differs by a factor of ten, for each program (benches/README.md). So the
/// rounds of one are compared with those of the other. A program is later if it is so in more than three quarters of all pairs. Two
/// programs that do not differ fail this about once in twenty-five comparisons of nine rounds.
fn is_no_later(rounds: &[f64], others: &[f64]) -> bool {
    let mut later = 0;
    for figure in rounds {
        later += others.iter().filter(|other| figure > other).count();
    }
    later * 4 <= rounds.len() * others.len() * 3
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(programs: &[Program], measured: Vec<Measured>) -> Comparison {
        Comparison {
            programs: programs.to_vec(),
            measured,
            notes: Vec::new(),
            measure: Duration::from_secs(1),
            rounds: 1,
        }
    }

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
            rounds: figures
                .iter()
                .map(|figure| figure.iter().copied().collect())
                .collect(),
            wrong: 0,
        };
        of(programs, vec![measured])
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
            rounds: vec![vec![ours], vec![others]],
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
                let both = vec![measured(plain, 10.0, 50.0), measured(row, ours, others)];
                let comparison = of(&programs, both);
                let verdict = comparison.verdict(&comparison.measured[1], &Program::Voltlane);
                assert_eq!(verdict, Some(within));
            }
        }
    }

    #[test]
    fn a_program_is_later_if_it_is_so_in_more_than_three_quarters_of_all_pairs() {
        let others = [1.0, 2.0, 3.0, 4.0];
        // One round that is late by much counts as one that is late by little.
        for (rounds, no_later) in [
            ([0.5, 3.5, 4.5, 99.0], true),
            ([1.5, 3.5, 4.5, 4.6], true),
            ([2.5, 3.5, 4.5, 4.6], false),
            ([1.0, 2.0, 3.0, 4.0], true),
            ([4.1, 4.2, 4.3, 4.4], false),
        ] {
            assert_eq!(is_no_later(&rounds, &others), no_later, "{rounds:?}");
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
