//! What a backend asks for and an edge grants. (SPEC 33.5)

use core::fmt;
use core::ops::BitOr;

use super::error::Cause;
use super::flag;

/// A feature of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Feature {
    /// JOINED, AWAY, RESUMED, ENDED, GAP, TOKEN, POLICY.
    Notices = 0,
    /// GROUP_SEND, GROUP_ADD, GROUP_REMOVE, GROUP_END.
    Groups = 1,
    /// SETTLED, PAUSE, GO_ON.
    Settled = 2,
    /// LINK_ACK, OWN, the counts of ASK and GRANT.
    LinkAcks = 3,
    /// A client's packet is acknowledged to it when the backend has it. Needs `Settled` and `LinkAcks`.
    EndToEnd = 4,
    /// VOLATILE, LATEST.
    Classes = 5,
    /// KICK.
    Kick = 6,
    /// ADOPT, ADOPTED, DISOWNED: a client comes back at another edge. Needs `EndToEnd`.
    Adopt = 7,
    /// GOAWAY.
    GoAway = 8,
    /// Several edges at one backend: the list of ASK, and ids that have the home of their edge.
    Homes = 10,
}

impl Feature {
    /// All features that are not reserved, but [`Homes`](Self::Homes) and [`Adopt`](Self::Adopt): these are asked for by a backend of several
    /// edges, and granted by an edge that has a home.
    pub const ALL: [Feature; 8] = [
        Feature::Notices,
        Feature::Groups,
        Feature::Settled,
        Feature::LinkAcks,
        Feature::EndToEnd,
        Feature::Classes,
        Feature::Kick,
        Feature::GoAway,
    ];

    const fn bit(self) -> u32 {
        1_u32 << (self as u8)
    }

    /// Returns its name in SPEC 33.5.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Notices => "notices",
            Feature::Groups => "groups",
            Feature::Settled => "settled",
            Feature::LinkAcks => "link acks",
            Feature::EndToEnd => "end to end",
            Feature::Classes => "classes",
            Feature::Kick => "kick",
            Feature::Adopt => "adopt",
            Feature::GoAway => "go away",
            Feature::Homes => "homes",
        }
    }

    /// Returns the feature of frames with this flag. The outer `None` is an unknown flag, the inner one a frame of every link of version 3.
    pub(super) const fn of_flag(flag: u8) -> Option<Option<Feature>> {
        Some(match flag {
            flag::DATA | flag::REFUSED => None,
            flag::JOINED
            | flag::AWAY
            | flag::RESUMED
            | flag::ENDED
            | flag::GAP
            | flag::TOKEN
            | flag::POLICY => Some(Feature::Notices),
            flag::GROUP_SEND | flag::GROUP_ADD | flag::GROUP_REMOVE | flag::GROUP_END => {
                Some(Feature::Groups)
            }
            flag::SETTLED | flag::PAUSE | flag::GO_ON => Some(Feature::Settled),
            flag::LINK_ACK | flag::OWN => Some(Feature::LinkAcks),
            flag::VOLATILE | flag::LATEST => Some(Feature::Classes),
            flag::KICK => Some(Feature::Kick),
            flag::GOAWAY => Some(Feature::GoAway),
            flag::ADOPT | flag::ADOPTED | flag::DISOWNED => Some(Feature::Adopt),
            _ => return None,
        })
    }
}

/// A set of features, with the bits that a later version may have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u32);

image!(Features { 0 });

impl Features {
    /// No feature.
    pub const NONE: Features = Features(0);

    /// Returns those that both ends have: an edge grants them, and a backend asks for them.
    #[must_use]
    pub(crate) fn built() -> Features {
        Feature::ALL.into_iter().collect()
    }

    /// Returns the features that a backend of several edges asks for, and that each of these edges grants, but [`Homes`](Feature::Homes).
    #[must_use]
    #[cfg(any(feature = "cluster", feature = "backend"))]
    pub(crate) fn of_several() -> Features {
        Features::built().with(Feature::Adopt)
    }

    /// Returns the set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Features {
        Features(bits)
    }

    /// Returns the bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the set with `feature` in it.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Features {
        Features(self.0 | feature.bit())
    }

    /// Returns the set without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Features {
        Features(self.0 & !feature.bit())
    }

    /// Returns whether `feature` is in it.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// Returns the features of which it has all and `other` has all.
    #[must_use]
    pub const fn and(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// Returns what an edge that has these grants of what a backend `asked` for (SPEC 33.5(a)).
    #[must_use]
    pub const fn grant(self, asked: Features) -> Features {
        let both = self.and(asked);
        let both = if both.has(Feature::Settled) && both.has(Feature::LinkAcks) {
            both
        } else {
            both.without(Feature::EndToEnd)
        };
        if both.has(Feature::EndToEnd) && both.has(Feature::Notices) {
            both
        } else {
            both.without(Feature::Adopt)
        }
    }

    /// Checks that frames with this flag may be sent.
    pub(super) const fn check(self, flag: u8) -> Result<(), Cause> {
        match Feature::of_flag(flag) {
            None => Err(Cause::UnknownFlag),
            Some(Some(feature)) if !self.has(feature) => Err(Cause::NotGranted {
                feature: feature.name(),
            }),
            Some(_) => Ok(()),
        }
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Features {
        features.into_iter().fold(Features::NONE, Features::with)
    }
}

impl BitOr<Feature> for Features {
    type Output = Features;

    fn bitor(self, feature: Feature) -> Features {
        self.with(feature)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Feature::ALL.into_iter().filter(|known| self.has(*known));
        f.debug_set().entries(known).finish()
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Feature::ALL.into_iter();
        #[cfg(any(feature = "cluster", feature = "backend"))]
        let named = named.chain([Feature::Adopt, Feature::Homes]);
        let known = named.filter(|known| self.has(*known));
        for (at, feature) in known.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", feature.name())?;
        }
        Ok(())
    }
}
