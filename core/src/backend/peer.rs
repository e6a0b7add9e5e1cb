//! The peer of a backend: an edge, another program, or a second edge (SPEC 7.8(e), (g), (h)).

use core::time::Duration;

use super::event::{BackendError, Event};
use crate::link::foreign::{Beginning, FOREIGN_PACKETS};
use crate::link::tagged::Tagged;
use crate::wire::frame::FrameTooLong;

/// A link replaced sooner than this may be contested. An edge that was replaced is back within its longest pause.
const SHORT_LINK: Duration = Duration::from_secs(30);
/// The number of such links in a row after which two edges are reported.
const SHORT_LINKS: u32 = 4;

/// The peer of a link on which no good packet has arrived yet.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    beginning: Beginning,
    malformed: u32,
    /// Set once the peer is known not to be an edge.
    verdict: Option<BackendError>,
}

impl Newcomer {
    /// Judges the peer by `next`, which was decoded from `taken`.
    #[cold]
    pub(super) fn judge<'a>(
        &mut self,
        taken: &[u8],
        next: Result<Option<&'a [u8]>, FrameTooLong>,
    ) -> Result<Option<Event<'a>>, BackendError> {
        if let Some(error) = self.verdict {
            return Err(error);
        }
        self.beginning.take(taken);
        let known = self.beginning.protocol().map(BackendError::Foreign);
        let refuse = |verdict: &mut Option<BackendError>, error| {
            *verdict = Some(error);
            Err(error)
        };
        let event = match next {
            Ok(None) => return Ok(None),
            Ok(Some(body)) => Event::of(Tagged::decode(body)),
            Err(error) => return refuse(&mut self.verdict, known.unwrap_or(error.into())),
        };
        if let Event::Fault(_) = event {
            self.malformed += 1;
            let beyond = (self.malformed == FOREIGN_PACKETS).then_some(BackendError::NoEdge {
                packets: FOREIGN_PACKETS,
            });
            if let Some(error) = known.or(beyond) {
                return refuse(&mut self.verdict, error);
            }
        }
        Ok(Some(event))
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
