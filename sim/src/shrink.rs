//! Shrinks a plan that breaks a rule to the smallest one found that breaks the same rule.

use std::time::{Duration, Instant};

use crate::engine;
use crate::plan::{Action, Op, Options, Plan};

/// The maximum cost of shrinking.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Runs of the engine.
    pub runs: u32,
    /// Real time.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            runs: 2_000,
            time: Duration::from_secs(10),
        }
    }
}

/// Shrinks `plan`, which breaks rule `id`: operations first, then options, then numbers.
///
/// A candidate is kept only if it breaks the very same rule. A smaller plan that fails in another way is another bug.
#[must_use]
pub fn shrink(plan: &Plan, id: &str, budget: Budget) -> Plan {
    let mut search = Search {
        best: plan.clone(),
        id,
        runs: budget.runs,
        until: Instant::now() + budget.time,
    };
    loop {
        let before = search.best.clone();
        search.operations();
        search.options();
        search.numbers();
        if search.best == before || search.is_spent() {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Plan,
    id: &'a str,
    runs: u32,
    until: Instant,
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.runs == 0 || Instant::now() >= self.until
    }

    /// Accepts `candidate` if it still breaks the rule.
    fn offer(&mut self, candidate: Plan) -> bool {
        if self.is_spent() || candidate == self.best {
            return false;
        }
        self.runs -= 1;
        let broken = engine::run(&candidate)
            .violation
            .is_some_and(|violation| violation.id == self.id);
        if broken {
            self.best = candidate;
        }
        broken
    }

    /// Delta debugging: removes ever smaller parts.
    fn operations(&mut self) {
        let mut size = self.best.ops.len().div_ceil(2);
        while size > 0 && !self.is_spent() {
            let mut start = 0;
            let mut found = false;
            while start < self.best.ops.len() && !self.is_spent() {
                let end = (start + size).min(self.best.ops.len());
                let mut candidate = self.best.clone();
                candidate.ops.drain(start..end);
                if self.offer(candidate) {
                    found = true;
                } else {
                    start = end;
                }
            }
            if !(found && size == 1) {
                size /= 2;
            }
        }
    }

    /// Resets options that the failure does not need to their defaults, all others at once first.
    fn options(&mut self) {
        let defaults = Options::default();
        let mut candidate = self.best.clone();
        candidate.options = Options {
            seed: self.best.options.seed,
            clients: self.best.options.clients,
            ..defaults.clone()
        };
        if self.offer(candidate) {
            return;
        }
        for (name, value) in defaults.entries() {
            if name != "seed" && name != "clients" {
                let mut candidate = self.best.clone();
                candidate.options.set(name, value);
                self.offer(candidate);
            }
        }
    }

    /// Reduces the number of packets, bytes and clients.
    fn numbers(&mut self) {
        for place in 0..self.best.ops.len() {
            for smaller in smaller(&self.best.ops[place].action) {
                let mut candidate = self.best.clone();
                candidate.ops[place] = Op {
                    action: smaller,
                    ..candidate.ops[place]
                };
                if self.offer(candidate) {
                    break;
                }
            }
        }
        for clients in 1..self.best.options.clients {
            let mut candidate = self.best.clone();
            candidate.options.clients = clients;
            if self.offer(candidate) {
                break;
            }
        }
    }
}

fn smaller(action: &Action) -> Vec<Action> {
    let sizes = |count: u64, bytes: u64| {
        let all = [
            (1, 20),
            (1, bytes),
            (count / 2, 20),
            (count / 2, bytes),
            (count, 20),
            (count, bytes / 2),
        ];
        all.into_iter()
            .filter(move |(c, b)| *c > 0 && c * b < count * bytes)
    };
    match *action {
        Action::Send {
            client,
            count,
            bytes,
        } => sizes(count, bytes)
            .map(|(count, bytes)| Action::Send {
                client,
                count,
                bytes,
            })
            .collect(),
        Action::BackendSend {
            client,
            count,
            bytes,
        } => sizes(count, bytes)
            .map(|(count, bytes)| Action::BackendSend {
                client,
                count,
                bytes,
            })
            .collect(),
        Action::Pause { ms } if ms > 1 => {
            vec![Action::Pause { ms: 1 }, Action::Pause { ms: ms / 2 }]
        }
        _ => Vec::new(),
    }
}
