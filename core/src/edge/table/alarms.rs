//! Times at which single entries are to be looked at, where these differ from entry to entry.

use std::collections::BTreeSet;

use crate::time::Time;

/// The alarms of entries by index, at most one for each. Its owner keeps when the alarm of an entry is set, and every operation takes
/// logarithmic time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(BTreeSet<(Time, u32)>);

impl Alarms {
    /// Moves the alarm of the entry at `index`. `None`: it has none.
    pub(crate) fn set(&mut self, index: u32, before: Option<Time>, after: Option<Time>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.0.remove(&(at, index));
        }
        if let Some(at) = after {
            self.0.insert((at, index));
        }
    }

    /// Returns the first alarm.
    pub(crate) fn first(&self) -> Option<(Time, u32)> {
        self.0.first().copied()
    }

    /// Returns the number of alarms, for checks.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_one_alarm() {
        let at = |millis| Some(Time::from_millis(millis));
        let mut alarms = Alarms::default();
        alarms.set(7, None, at(30));
        alarms.set(8, None, at(20));
        assert_eq!(alarms.first(), Some((Time::from_millis(20), 8)));
        alarms.set(7, at(30), at(10));
        assert_eq!(alarms.first(), Some((Time::from_millis(10), 7)));
        assert_eq!(alarms.len(), 2);
        alarms.set(7, at(10), None);
        alarms.set(8, at(20), at(20));
        alarms.set(8, at(20), None);
        assert_eq!((alarms.first(), alarms.len()), (None, 0));
    }
}
