//! The wait for a backend's first frame, which decides the version of a link (SPEC 34.1).

use core::time::Duration;

use crate::edge::config::LinkProtocol;
use crate::time::Time;

/// How long the first link of a run is held.
pub(crate) const HOLD: Duration = Duration::from_millis(100);
/// How long a link is held on which the backend must ask, or after one on which it asked too late.
pub(crate) const LONG_HOLD: Duration = Duration::from_secs(5);

/// How long a link stays on which a backend was refused that does not share the secret: it is to read that.
pub(crate) const REFUSED: Duration = Duration::from_secs(1);

/// What the link is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none, or it has version 2.
    Version2,
    /// It waits for the backend's first frame until then; a branch, for the trunk's word. `demands` it to be an ASK.
    Held { until: Option<Time>, demands: bool },
    /// The backend is refused, and closes the link until then.
    Refused { until: Time },
    /// It has version 3.
    Granted,
}

image!(enum Stage {
    0 Version2 {}, 1 Held { until: a, demands: b }, 2 Refused { until: a }, 3 Granted {},
});

/// Why a link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// The backend asked after something was sent.
    #[error("the backend asked for version 3 of the link too late; the next link waits for it")]
    Late,
    /// The backend did not ask.
    #[error("the backend does not ask for version 3 of the link")]
    NotAsked,
    /// The two ends do not share a secret.
    #[error("the backend does not share the secret of the link")]
    Unproven,
    /// The backend sent something before it was granted.
    #[error("the backend sends before it is granted version 3 of the link")]
    Early,
    /// An acknowledgement that cannot be.
    #[error("the backend acknowledges frame {acknowledged}, and {sent} were sent")]
    Acknowledged {
        /// What it acknowledges.
        acknowledged: u64,
        /// What was sent.
        sent: u64,
    },
    /// The two ends count differently.
    #[error("the backend has sent {theirs} frames by its own count, and {ours} came")]
    Miscounted {
        /// The backend's count.
        theirs: u64,
        /// The edge's.
        ours: u64,
    },
    /// A shard has other counts than the trunk.
    #[error("the shards do not agree on what the backend has received")]
    Divided,
}

/// How a link came to have version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version2 {
    /// It is the first decision of this run. What waits has the form of version 3.
    First,
    /// What waits has the form of version 2.
    Again,
}

image!(enum Version2 { 0 First {}, 1 Again {} });

/// How far it is decided which version a link has: of the link of an edge alone, of a shard's branch, and of a trunk's link.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    protocol: LinkProtocol,
    stage: Stage,
    /// Whether some link of this run was decided.
    is_decided: bool,
    was_late: bool,
    /// The bytes that had been written to all links when this one came.
    written_before: u64,
    /// Whether the log has it that the backend does not ask.
    has_complained: bool,
}

image!(Hold {
    protocol,
    stage,
    is_decided,
    was_late,
    written_before,
    has_complained
});

impl Hold {
    pub(crate) fn new(protocol: LinkProtocol) -> Self {
        Hold {
            protocol,
            stage: Stage::Version2,
            is_decided: protocol == LinkProtocol::V2,
            was_late: false,
            written_before: 0,
            has_complained: false,
        }
    }

    /// Returns whether a link may have version 3.
    pub(crate) fn may_be_version_3(&self) -> bool {
        self.protocol != LinkProtocol::V2
    }

    /// Returns whether the link has version 2, so that what is written is gone.
    #[inline]
    pub(crate) fn is_version_2(&self) -> bool {
        self.stage == Stage::Version2
    }

    /// Returns whether the link has version 3.
    pub(crate) fn is_granted(&self) -> bool {
        self.stage == Stage::Granted
    }

    /// Returns whether the link waits for the backend's first frame, or was refused to it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held { .. } | Stage::Refused { .. })
    }

    /// Refuses the backend. Returns whether the link is to be dropped at once, since something else was begun on it.
    pub(crate) fn refuse(&mut self, now: Time) -> bool {
        let drops = !self.is_held();
        self.stage = Stage::Refused {
            until: now + REFUSED,
        };
        drops
    }

    /// Handles that a link of this run was decided in another process.
    pub(crate) fn decide(&mut self) {
        self.is_decided = true;
    }

    /// Returns whether a link may go on that has version 2.
    #[cfg(feature = "upgrade")]
    pub(crate) fn goes_on_in_version_2(&self) -> bool {
        self.is_version_2() && self.is_decided && self.protocol != LinkProtocol::V3
    }

    /// Returns whether some link of this run was decided.
    pub(crate) fn is_decided(&self) -> bool {
        self.is_decided
    }

    /// Handles that a link is up, when `written` bytes were written to all links before. `keeps`: one of this run had version 3.
    pub(crate) fn connected(&mut self, now: Time, written: u64, keeps: bool) {
        self.written_before = written;
        let held = |lasts, demands| Stage::Held {
            until: Some(now + lasts),
            demands,
        };
        self.stage = match self.protocol {
            LinkProtocol::V2 => Stage::Version2,
            LinkProtocol::V3 => held(LONG_HOLD, true),
            LinkProtocol::Auto if keeps => held(LONG_HOLD, true),
            LinkProtocol::Auto if self.was_late => held(LONG_HOLD, false),
            LinkProtocol::Auto if !self.is_decided => held(HOLD, false),
            LinkProtocol::Auto => Stage::Version2,
        };
    }

    /// Handles that a branch is open, whose trunk tells the version.
    pub(crate) fn await_trunk(&mut self) {
        self.stage = match self.may_be_version_3() {
            true => Stage::Held {
                until: None,
                demands: false,
            },
            false => Stage::Version2,
        };
    }

    /// Handles that the link is gone.
    pub(crate) fn closed(&mut self) {
        self.stage = Stage::Version2;
    }

    /// Returns when the hold is over.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::Held { until, .. } => until,
            Stage::Refused { until } => Some(until),
            Stage::Version2 | Stage::Granted => None,
        }
    }

    /// Handles that a hold may be over.
    ///
    /// # Errors
    /// When the backend had to ask.
    pub(crate) fn end(&mut self, now: Time) -> Result<Option<Version2>, Wrong> {
        match self.stage {
            Stage::Held {
                until: Some(until),
                demands,
            } if until <= now => {
                if demands {
                    // Until the adapter has closed it.
                    self.stage = Stage::Held {
                        until: Some(now + LONG_HOLD),
                        demands,
                    };
                }
                self.is_not_asked()
            }
            Stage::Refused { until } if until <= now => {
                // Until the adapter has closed it.
                self.stage = Stage::Refused {
                    until: now + LONG_HOLD,
                };
                Err(Wrong::Unproven)
            }
            _ => Ok(None),
        }
    }

    /// Handles that the backend does not ask.
    ///
    /// # Errors
    /// When it had to.
    pub(crate) fn is_not_asked(&mut self) -> Result<Option<Version2>, Wrong> {
        match self.stage {
            Stage::Held { demands: true, .. } => Err(Wrong::NotAsked),
            Stage::Held { .. } => {
                self.stage = Stage::Version2;
                let again = core::mem::replace(&mut self.is_decided, true);
                Ok(Some(if again {
                    Version2::Again
                } else {
                    Version2::First
                }))
            }
            Stage::Version2 | Stage::Refused { .. } | Stage::Granted => Ok(None),
        }
    }

    /// Handles an ASK to an edge that has written so many bytes to all links.
    ///
    /// # Errors
    /// When it is too late.
    pub(crate) fn grant(&mut self, written: u64) -> Result<(), Wrong> {
        if self.stage == Stage::Version2 && written > self.written_before {
            self.was_late = true;
            return Err(Wrong::Late);
        }
        self.was_late = false;
        self.is_decided = true;
        self.has_complained = false;
        self.stage = Stage::Granted;
        Ok(())
    }

    /// Returns whether the backend does not ask where it has to, as the log has it.
    pub(crate) fn is_unasked(&self) -> bool {
        self.has_complained
    }

    /// Returns whether this is the first time that a backend did not ask where it has to.
    pub(crate) fn complains(&mut self) -> bool {
        !core::mem::replace(&mut self.has_complained, true)
    }
}
