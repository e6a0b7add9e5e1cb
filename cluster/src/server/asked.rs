//! What waits for answers of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::spread::Spread;

/// What was asked on one connection, in order. Each has a token, `NAME.N`, which comes back with its answer.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    name: String,
    last: u64,
    waits: BTreeMap<u64, (T, Duration)>,
}

impl<T> Asked<T> {
    /// Begins the tokens of a connection, with a name that no other one has.
    pub(crate) fn new(prefix: &str, spread: &mut Spread) -> Asked<T> {
        Asked {
            name: format!("{prefix}{:016x}", spread.next()),
            last: 0,
            waits: BTreeMap::new(),
        }
    }

    /// Returns what all tokens begin with, up to the dot.
    #[cfg(feature = "nats")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn token(&self, number: u64) -> String {
        format!("{}.{number}", self.name)
    }

    /// Notes a question, and returns its token.
    pub(crate) fn ask(&mut self, now: Duration, what: T) -> String {
        self.last += 1;
        self.waits.insert(self.last, (what, now));
        self.token(self.last)
    }

    /// Returns the question of this token, unless it has been answered.
    pub(crate) fn answered(&mut self, token: &str) -> Option<T> {
        let (_, number) = token.rsplit_once('.')?;
        let number = number.parse().ok()?;
        if token != self.token(number) {
            return None;
        }
        self.waits.remove(&number).map(|(what, _)| what)
    }

    /// Returns the question that has waited longest, which has an answer without a token.
    #[cfg(feature = "redis")]
    pub(crate) fn answered_first(&mut self) -> Option<T> {
        self.waits.pop_first().map(|(_, (what, _))| what)
    }

    /// Returns all that waits, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waits.values().map(|(what, _)| what)
    }

    /// Returns when the first of them was asked.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.waits.values().map(|(_, asked)| *asked).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once_and_by_its_own_token() {
        let at = Duration::from_secs;
        let mut spread = Spread::new(1);
        let mut asked = Asked::new("x.", &mut spread);
        let mut others = Asked::new("x.", &mut spread);
        let first = asked.ask(at(5), 'a');
        let second = asked.ask(at(6), 'b');
        let of_other = others.ask(at(1), 'c');
        assert_eq!(asked.since(), Some(at(5)));
        let longer = second.replace(".2", ".02");
        for foreign in ["", "x.", "x.1", &of_other, &longer, &second[2..]] {
            assert_eq!(asked.answered(foreign), None, "{foreign}");
        }
        assert_eq!(asked.answered(&second), Some('b'));
        assert_eq!(asked.answered(&second), None, "it comes twice");
        assert_eq!(asked.iter().collect::<Vec<_>>(), [&'a']);
        assert_eq!(asked.answered(&first), Some('a'));
        assert_eq!(asked.since(), None);
    }
}
