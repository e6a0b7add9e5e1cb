//! Who connects to a backend: an edge, another program, or a second edge (SPEC 7.8(e), (g), (h)).

use core::time::Duration;

use super::event::{BackendError, Event};
use crate::link::foreign::Beginning;
use crate::link::tagged::Tagged;
use crate::wire::frame::FrameTooLong;

/// Malformed packets at the beginning of a link, with no good one before them, at which its peer is no edge.
const FOREIGN_PACKETS: u32 = 32;

/// A link that is replaced sooner than this may be fought over: an edge that is thrown out is back within its longest pause.
const SHORT_LINK: Duration = Duration::from_secs(30);
/// Such links in a row after which it is said that there are two edges.
const SHORT_LINKS: u32 = 4;

/// The peer of a link on which no good packet came yet.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    beginning: Beginning,
    malformed: u32,
    /// It is no edge.
    verdict: Option<BackendError>,
}

impl Newcomer {
    /// What `next`, which was read out of `taken`, says about the peer.
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

/// Notices when edges take each other's place at a backend, which serves one.
#[derive(Debug, Default)]
pub struct Rivals {
    short_links: u32,
}

impl Rivals {
    /// A connection took the place of a link that had been up for `lasted`. True when it has been so again and again, once for each
    /// row: there are two edges.
    pub fn replaced(&mut self, lasted: Duration) -> bool {
        if lasted >= SHORT_LINK {
            self.short_links = 0;
        }
        self.short_links = self.short_links.saturating_add(1);
        self.short_links == SHORT_LINKS
    }

    /// A link ended, and nobody had taken its place.
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
