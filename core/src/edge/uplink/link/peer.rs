//! What answers at the backend's address: a backend, another program, or a backend that another edge uses, too (SPEC 7.5(d), 7.6(i), (j)).
//!
//! The link has no handshake, so a peer can be judged only by what it sends and how long it stays.

use core::time::Duration;

use crate::Closed;
use crate::link::judge::{Evidence, Judge};
use crate::link::tagged::{Flag, Tagged};
use crate::wire::frame::FrameTooLong;

/// The number of links in a row, each lost before it had lasted for the longest pause, from which pauses grow further.
const SHORT_LINKS: u32 = 5;

/// What a packet shows about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A backend may be there.
    Open,
    /// No backend is there.
    Foreign,
}

image!(enum Verdict { 0 Open {}, 1 Foreign {} });

/// What is known about the peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// The judge of this link.
    judge: Judge,
    /// Whether the last link had no backend, and this one has not shown otherwise.
    doubted: bool,
    /// Whether the peer of this link does not ask for the version that is demanded.
    is_silent_on_version: bool,
    /// The number of short links in a row.
    short_links: u32,
}

image!(Peer {
    judge,
    doubted,
    is_silent_on_version,
    short_links
});

impl Peer {
    /// Handles that a new link is up.
    pub(super) fn connected(&mut self) {
        self.judge = Judge::default();
        self.is_silent_on_version = false;
        if self.doubted {
            tracing::debug!("a program is at the backend's address again");
        } else {
            tracing::info!("the backend is there");
        }
    }

    /// Handles `bytes` from the peer.
    #[inline]
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.judge.take(bytes);
    }

    #[inline]
    pub(super) fn judges(&self) -> bool {
        self.judge.is_open()
    }

    pub(super) fn judge(&mut self, body: &[u8]) -> Verdict {
        match Tagged::decode(body) {
            Ok(
                Tagged {
                    flag: Flag::Data, ..
                }
                | Tagged {
                    flag: Flag::Kick,
                    data: [],
                    ..
                },
            ) => {
                self.judge.trust();
                self.believe();
                Verdict::Open
            }
            _ if self.judge.malformed().is_some() => Verdict::Foreign,
            _ => Verdict::Open,
        }
    }

    /// Handles a frame that only a backend of version 3 sends.
    pub(super) fn trust(&mut self) {
        if self.judge.is_open() {
            self.judge.trust();
            self.believe();
        }
    }

    /// Handles that the peer does not ask for the version of the link that is demanded.
    pub(super) fn is_not_asking(&mut self) {
        self.is_silent_on_version = true;
    }

    pub(super) fn lose_framing(&mut self, error: FrameTooLong) {
        if self.judge.is_open() {
            self.judge.too_long(error);
        } else {
            tracing::warn!(%error, "the backend's framing is lost; the link is opened again");
        }
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.judge.evidence().is_some() || self.is_silent_on_version
    }

    /// Trusts the peer: there is a backend after all.
    pub(super) fn believe(&mut self) {
        if self.doubted {
            self.doubted = false;
            tracing::info!("the backend is there");
        }
    }

    /// Returns whether links were short again and again.
    pub(super) fn is_contested(&self) -> bool {
        self.short_links >= SHORT_LINKS
    }

    /// Handles that the link is lost after it `lasted` that long, or that an attempt failed. `longest` is the longest pause. Returns
    /// whether the next attempt must be made as quickly as the first one.
    pub(super) fn closed(
        &mut self,
        lasted: Option<Duration>,
        longest: Duration,
        cause: Closed,
    ) -> bool {
        let Some(lasted) = lasted else {
            tracing::debug!(?cause, "the backend could not be reached");
            // Nobody is there, so nobody serves another edge either.
            self.short_links = 0;
            return false;
        };
        if self.is_silent_on_version {
            self.short_links = 0;
            self.doubted = true;
            return false;
        }
        if let Some(evidence) = self.judge.conclude() {
            self.short_links = 0;
            self.doubt(evidence);
            return false;
        }
        if self.doubted {
            tracing::debug!(?cause, "the program at the backend's address is gone");
        } else {
            tracing::warn!(?cause, "the backend is gone; clients stay, packets wait");
        }
        if lasted >= longest || cause == Closed::Asked {
            self.short_links = 0;
            return lasted >= longest;
        }
        self.short_links = self.short_links.saturating_add(1);
        if self.short_links == SHORT_LINKS {
            tracing::warn!(
                links = SHORT_LINKS,
                within = ?longest,
                "the backend ends each link soon after it has come up: another edge is likely at this backend, which serves one \
                 edge (its log says who); pauses grow"
            );
        }
        false
    }

    fn doubt(&mut self, evidence: Evidence) {
        if std::mem::replace(&mut self.doubted, true) {
            tracing::debug!(%evidence, "no backend is at the backend's address");
        } else {
            tracing::warn!(
                %evidence,
                "no backend is at master.address: the program there does not speak the backend link's protocol. Name the port on \
                 which a Voltlane backend listens for its edge; still trying"
            );
        }
    }
}
