//! What version 3 of the backend link costs a whole program: a packet for many beside one for each, acknowledgements, and a storm of joins.

use std::fmt::Write as _;

use crate::load::program::Program;
use crate::load::{self, Link, LoadError, Options, Scenario};
use crate::shards::median;

/// How something is spoken.
#[derive(Clone, Copy, Debug)]
struct Speech {
    /// Whether clients speak version 3.
    v3: bool,
    link: Link,
}

/// What the second of a pair may cost.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// So many times as much CPU time for each packet as the first.
    Ratio(f64),
    /// So many microseconds of CPU time for each packet more than the first.
    More(f64),
    /// So many times as long at the 99th percentile.
    Later(f64),
}

const V2: Speech = Speech {
    v3: false,
    link: Link::V2,
};
const ASKED: Speech = Speech {
    v3: false,
    link: Link::V3 { acknowledges: true },
};
const UNACKNOWLEDGED: Speech = Speech {
    v3: false,
    link: Link::V3 {
        acknowledges: false,
    },
};
const ALL_V3: Speech = Speech {
    v3: true,
    link: Link::V3 { acknowledges: true },
};

/// Two loads that are compared.
struct Plan {
    title: &'static str,
    pair: [(Scenario, Speech); 2],
    goal: Goal,
}

fn plans() -> [Plan; 7] {
    let many = |title, clients, speech, goal| {
        let load = Scenario::FanOut {
            clients,
            in_flight: 4,
            size: 64,
        };
        let pair = [(load.clone(), V2), (load, speech)];
        Plan { title, pair, goal }
    };
    let acknowledged = |title, in_flight| {
        let load = Scenario::Echo {
            clients: 100,
            in_flight,
            size: 64,
        };
        let pair = [(load.clone(), UNACKNOWLEDGED), (load, ASKED)];
        let goal = Goal::Ratio(1.02);
        Plan { title, pair, goal }
    };
    let others_of = |joins| {
        let load = Scenario::Rate {
            clients: 100,
            per_second: 20_000,
            size: 64,
            joins,
        };
        (load, ASKED)
    };
    [
        many(
            "a packet for 1,000 clients of version 2",
            1_000,
            ASKED,
            Goal::Ratio(1.1),
        ),
        many(
            "a packet for 9,000 clients of version 2",
            9_000,
            ASKED,
            Goal::Ratio(1.1),
        ),
        many(
            "a packet for 1,000 clients of version 3",
            1_000,
            ALL_V3,
            Goal::More(0.6),
        ),
        many(
            "a packet for 9,000 clients of version 3",
            9_000,
            ALL_V3,
            Goal::More(0.6),
        ),
        acknowledged("acknowledgements, 100 clients with 1 in flight", 1),
        acknowledged("acknowledgements, 100 clients with 16 in flight", 16),
        Plan {
            title: "p99 of 100 clients, while 10,000 join",
            pair: [others_of(0), others_of(10_000)],
            goal: Goal::Later(2.0),
        },
    ]
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Row {
    title: &'static str,
    goal: Goal,
    /// The medians, in microseconds.
    micros: [f64; 2],
    /// Of the second in times of the first, the quarters of the pairs that lie below and above, and the median between them.
    ratios: [f64; 3],
    /// The median of what the second costs more, in microseconds.
    more: f64,
}

impl Row {
    /// Returns whether the goal is reached.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        match self.goal {
            Goal::Ratio(most) | Goal::Later(most) => self.ratios[1] <= most,
            Goal::More(most) => self.more <= most,
        }
    }
}

/// Measures the rows whose title contains `only`, each in pairs of runs: what else the machine does then falls on both.
///
/// # Errors
/// When a run fails.
pub fn run(
    program: &Program,
    pairs: u8,
    only: &str,
    options: &Options,
) -> Result<Vec<Row>, LoadError> {
    let chosen = plans().into_iter().filter(|plan| plan.title.contains(only));
    chosen
        .map(|Plan { title, pair, goal }| {
            let mut found: [Vec<f64>; 2] = Default::default();
            for nth in 0..usize::from(pairs) {
                let turn = nth % 2;
                for nth in [turn, 1 - turn] {
                    found[nth].push(micros(program, &pair[nth], goal, options)?);
                }
            }
            let pairs = || found[0].iter().zip(&found[1]);
            let mut ratios: Vec<f64> = pairs().map(|(one, other)| other / one).collect();
            ratios.sort_unstable_by(f64::total_cmp);
            let last = ratios.len() - 1;
            let ratios = [last / 4, ratios.len() / 2, last - last / 4].map(|nth| ratios[nth]);
            let more = median(pairs().map(|(one, other)| other - one).collect());
            Ok(Row {
                title,
                goal,
                micros: found.map(median),
                ratios,
                more,
            })
        })
        .collect()
}

/// Returns what the goal is for, in microseconds. A run with a wrong packet has none, which no goal takes.
fn micros(
    program: &Program,
    (scenario, speech): &(Scenario, Speech),
    goal: Goal,
    options: &Options,
) -> Result<f64, LoadError> {
    let options = Options {
        v3: speech.v3,
        link: speech.link,
        ..options.clone()
    };
    let outcome = load::run(program, scenario, &options)?;
    let micros = match goal {
        Goal::Ratio(_) | Goal::More(_) => outcome.cpu_micros(),
        Goal::Later(_) => Some(outcome.latency_millis(0.99) * 1e3),
    };
    Ok(micros.filter(|_| outcome.wrong == 0).unwrap_or(f64::NAN))
}

/// Returns the rows as a table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| the whole program, CPU for each packet | without | with | difference | half of the pairs | goal |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let [without, with] = row.micros;
        let [low, ratio, high] = row.ratios;
        let mark = if row.is_reached() { " ✓" } else { "" };
        let goal = match row.goal {
            Goal::Ratio(most) | Goal::Later(most) => format!("≤ {most} ×"),
            Goal::More(most) => format!("≤ +{most} µs"),
        };
        let _ = writeln!(
            out,
            "| {} | {without:.3} µs | {with:.3} µs | {ratio:.2} ×, {:+.3} µs{mark} | {low:.2} to {high:.2} × | {goal} |",
            row.title, row.more,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(goal: Goal, ratio: f64, more: f64) -> Row {
        Row {
            title: "a packet",
            goal,
            micros: [1.0, 1.0 + more],
            ratios: [ratio; 3],
            more,
        }
    }

    #[test]
    fn a_goal_is_reached_at_its_bound_and_by_no_run_that_failed() {
        assert!(row(Goal::Ratio(1.1), 1.1, 9.0).is_reached());
        assert!(!row(Goal::Ratio(1.1), 1.11, 0.0).is_reached());
        assert!(row(Goal::More(0.6), 9.0, 0.6).is_reached());
        assert!(!row(Goal::More(0.6), 1.0, 0.61).is_reached());
        assert!(!row(Goal::Later(2.0), f64::NAN, 0.0).is_reached());
    }

    #[test]
    fn a_row_says_what_was_found_and_what_was_wanted() {
        let table = table(&[row(Goal::More(0.6), 1.25, 0.25)]);
        let last = table.lines().last();
        let expected =
            "| a packet | 1.000 µs | 1.250 µs | 1.25 ×, +0.250 µs ✓ | 1.25 to 1.25 × | ≤ +0.6 µs |";
        assert_eq!(last, Some(expected));
    }
}
