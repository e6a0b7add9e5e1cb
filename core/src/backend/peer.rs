//! The peer of a backend: an edge, another program, or a second edge (SPEC 7.8(e), (g), (h)).

use core::time::Duration;

use super::event::{BackendError, Event};
use crate::link::foreign::FOREIGN_PACKETS;
use crate::link::judge::{Evidence, Judge};
use crate::link::tagged::Tagged;
use crate::wire::frame::FrameTooLong;

/// A link replaced sooner than this may be contested. An edge that was replaced is back within its longest pause.
const SHORT_LINK: Duration = Duration::from_secs(30);
/// The number of such links in a row after which two edges are reported.
const SHORT_LINKS: u32 = 4;

/// Judges a peer that has not sent a good packet yet by `next`, which was decoded from `taken`.
#[cold]
pub(super) fn judge<'a>(
    judge: &mut Judge,
    taken: &[u8],
    next: Result<Option<&'a [u8]>, FrameTooLong>,
) -> Result<Option<Event<'a>>, BackendError> {
    if let Some(evidence) = judge.evidence() {
        return Err(evidence.into());
    }
    judge.take(taken);
    let event = match next {
        Ok(None) => return Ok(None),
        Ok(Some(body)) => Event::of(Tagged::decode(body)),
        Err(error) => return Err(judge.too_long(error).into()),
    };
    if !matches!(event, Event::Fault(_)) {
        judge.trust();
    } else if let Some(evidence) = judge.malformed().or_else(|| judge.conclude()) {
        return Err(evidence.into());
    }
    Ok(Some(event))
}

impl From<Evidence> for BackendError {
    fn from(evidence: Evidence) -> Self {
        match evidence {
            Evidence::Protocol(protocol) => BackendError::Foreign(protocol),
            Evidence::Length(error) => error.into(),
            Evidence::Malformed => BackendError::NoEdge {
                packets: FOREIGN_PACKETS,
            },
        }
    }
}

/// Detects edges that keep replacing each other at a backend, which serves only one.
#[derive(Debug, Default)]
pub struct Rivals {
    short_links: u32,
}

impl Rivals {
    /// Records that a connection replaced a link that had been up for `lasted`.
    ///
    /// Returns true once for each long row of such replacements: there are two edges.
    pub fn replaced(&mut self, lasted: Duration) -> bool {
        if lasted >= SHORT_LINK {
            self.short_links = 0;
        }
        self.short_links = self.short_links.saturating_add(1);
        self.short_links == SHORT_LINKS
    }

    /// Records that a link ended without being replaced.
    pub fn ended(&mut self) {
        self.short_links = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_edges_are_noticed_once_for_each_row_of_short_links() {
        let (short, long) = (SHORT_LINK - Duration::from_nanos(1), SHORT_LINK);
        let mut rivals = Rivals::default();
        let mut row = |links: &[Duration]| -> Vec<bool> {
            links.iter().map(|&link| rivals.replaced(link)).collect()
        };
        assert_eq!(row(&[short; 6]), [false, false, false, true, false, false]);
        assert_eq!(
            row(&[long; 9]),
            [false; 9],
            "an edge that moves now and then"
        );
        assert_eq!(
            row(&[short; 3]),
            [false, false, true],
            "with the last long one"
        );
        rivals.ended();
        assert!(!rivals.replaced(short) && !rivals.replaced(short) && !rivals.replaced(short));
    }
}
