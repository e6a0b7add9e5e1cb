//! What several backends have said of the session of an attempt (SPEC 45.9).

use crate::code::Code;

/// What backends have said of the session of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Search {
    /// Those that were asked, or could not be: a bit for each.
    asked: u16,
    /// Whether one could not be asked, or may know more in a moment.
    is_open: bool,
    /// The first word of one that knows something of it.
    word: Option<Code>,
}

image!(Search {
    asked,
    is_open,
    word
});

impl Search {
    /// Notes what a backend says.
    pub(crate) fn note(&mut self, backend: u8, word: Code) {
        self.asked |= 1 << backend;
        match word {
            Code::GONE => {}
            // It is on its way to another one, or its edge has not told of it yet.
            Code::BUSY | Code::ELSEWHERE | Code::BACKEND_DOWN => self.is_open = true,
            word => self.word = self.word.or(Some(word)),
        }
    }

    /// Returns whether a backend was asked, or could not be.
    pub(crate) fn has(self, backend: u8) -> bool {
        self.asked & 1 << backend != 0
    }

    /// Returns whether no other one was.
    pub(crate) fn has_only(self, backend: u8) -> bool {
        self.asked == 1 << backend
    }

    /// Returns the word for the client after all were asked.
    pub(crate) fn outcome(self) -> Code {
        match self.is_open {
            true => Code::BUSY,
            false => self.word.unwrap_or(Code::GONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_ended_only_if_nobody_may_have_it() {
        let said = |words: &[Code]| {
            let mut search = Search::default();
            for (backend, word) in (0..).zip(words) {
                assert!(!search.has(backend));
                search.note(backend, *word);
                assert!(search.has(backend));
                assert_eq!(search.has_only(0), backend == 0);
            }
            search.outcome()
        };
        // As many as there may be.
        assert_eq!(said(&[Code::GONE; 16]), Code::GONE);
        for open in [Code::BUSY, Code::ELSEWHERE, Code::BACKEND_DOWN] {
            assert_eq!(said(&[Code::GONE, open, Code::EXPIRED]), Code::BUSY);
        }
        let words = [Code::GONE, Code::RING_FULL, Code::EXPIRED];
        assert_eq!(said(&words), Code::RING_FULL, "the first that knows more");
    }
}
