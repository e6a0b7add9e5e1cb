//! The comparison: the same loads for all programs, in turn within one run, so that every figure is next to the yardstick's from the same
//! minute and machine.

pub mod rows;
pub mod svg;

use serde_json::{Value, json};

use crate::load::meter::Outcome;
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

/// Runs every row against every program, `rounds` times. The programs take turns within a round.
pub fn run(
    programs: &[Program],
    rows: &[Row],
    rounds: usize,
    options: &Options,
) -> Result<Comparison, LoadError> {
    let mut comparison = Comparison {
        programs: programs.to_vec(),
        measured: Vec::new(),
        notes: Vec::new(),
    };
    for row in rows {
        eprintln!("{}", row.scenario);
        let mut figures = vec![Vec::new(); programs.len()];
        let mut wrong = 0;
        for _ in 0..rounds.max(1) {
            for (program, figures) in programs.iter().zip(&mut figures) {
                if let Some(outcome) = comparison.attempt(program, row, options)? {
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

    /// Returns the yardstick's figure in a row.
    pub fn yardstick(&self, measured: &Measured) -> Option<f64> {
        self.figure(measured, &Program::Bare)
    }

    /// Returns whether one of our programs meets its goal, or `None` without a goal or a figure.
    pub fn verdict(&self, measured: &Measured, program: &Program) -> Option<bool> {
        let figure = self.figure(measured, program)?;
        let tokio = Program::Voltlane;
        let under = |goal: &Goal| match goal {
            Goal::TimesBare(times) => Some(figure <= times * self.yardstick(measured)?),
            Goal::AtMost(most) => Some(figure <= *most),
            Goal::TimesTokio(times) => Some(figure <= times * self.figure(measured, &tokio)?),
            Goal::Under(other) => self.figure(measured, other).map(|other| figure < other),
        };
        let goals = measured.row.goals(program);
        let verdicts: Vec<bool> = goals.iter().filter_map(under).collect();
        (!verdicts.is_empty()).then(|| verdicts.iter().all(|within| *within))
    }

    /// Renders a Markdown table: the figure, its ratio to the yardstick, and for our programs whether it meets the goal.
    pub fn table(&self) -> String {
        let mut head = vec!["load".to_owned(), "unit".to_owned()];
        head.extend(self.programs.iter().map(short));
        head.push("goal for voltlane".to_owned());
        let mut lines = vec![head];
        for measured in &self.measured {
            let mut line = vec![
                measured.row.title.to_owned(),
                measured.row.metric.unit().to_owned(),
            ];
            for (program, figure) in self.programs.iter().zip(&measured.figures) {
                line.push(figure.map_or("–".to_owned(), |figure| {
                    self.cell(measured, program, figure)
                }));
            }
            let goals = measured.row.goals(&Program::Voltlane);
            line.push(
                goals
                    .iter()
                    .map(Goal::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            );
            lines.push(line);
        }
        let mut out = report::markdown(&lines);
        let wrong: u64 = self.measured.iter().map(|measured| measured.wrong).sum();
        out += &format!("\nPackets lost, doubled, out of order or misled, in all runs: {wrong}.\n");
        for note in &self.notes {
            out += &format!("{note}\n");
        }
        out
    }

    fn cell(&self, measured: &Measured, program: &Program, figure: f64) -> String {
        let mut cell = report::figure(figure);
        if let Some(bare) = self
            .yardstick(measured)
            .filter(|_| *program != Program::Bare)
        {
            cell += &format!(" ({:.2} ×)", figure / bare);
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
                    "within_goal": self.verdict(measured, program),
                })
            });
            json!({
                "load": measured.row.scenario.to_string(),
                "unit": measured.row.metric.unit(),
                "wrong_packets": measured.wrong,
                "programs": figures.collect::<Vec<_>>(),
            })
        });
        json!({"rows": rows.collect::<Vec<_>>(), "notes": self.notes})
    }
}

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

    fn comparison(programs: &[Program], figures: &[Option<f64>], row: usize) -> Comparison {
        let measured = Measured {
            row: rows::all()[row].clone(),
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
        let programs = [Program::Bare, Program::Voltlane];
        for (ours, within) in [(11.4, true), (11.6, false)] {
            let comparison = comparison(&programs, &[Some(10.0), Some(ours)], 0);
            assert_eq!(
                comparison.verdict(&comparison.measured[0], &Program::Voltlane),
                Some(within)
            );
        }
    }

    #[test]
    fn without_a_yardstick_there_is_no_verdict() {
        let comparison = comparison(&[Program::Bare, Program::Voltlane], &[None, Some(1.0)], 0);
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
