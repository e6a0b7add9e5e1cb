//! To whom something is sent.

use voltlane_core::ClientId;
use voltlane_core::backend::host::GroupId;

use super::Sent;

/// Sessions that a packet for a group leaves out, at most. (SPEC 38.2)
pub const MAX_WITHOUT: usize = 16;

/// A client, a [`Group`], [`Everyone`], or one of the latter without some clients.
pub trait Target: sealed::Sealed {
    /// What a send returns: [`Sent`] for one client, nothing for many.
    type Sent;
}

/// A set of clients, by its name: see [`group`](super::BackendHandle::group). The same name gives the same group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub(super) GroupId);

/// Everybody who is there. Where somebody [verifies](super::Builder::verify) clients: everybody who was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Everyone;

/// A group, or everyone, without some clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    of: Option<GroupId>,
    ids: Vec<ClientId>,
}

impl From<GroupId> for Group {
    /// The group of this number, for a library that keeps groups as numbers.
    fn from(number: GroupId) -> Group {
        Group(number)
    }
}

impl From<Group> for GroupId {
    fn from(group: Group) -> GroupId {
        group.0
    }
}

impl Group {
    /// Leaves a client out, as the one who said what the others are to hear.
    #[must_use]
    pub fn without(self, id: ClientId) -> Without {
        Without {
            of: Some(self.0),
            ids: vec![id],
        }
    }
}

impl Everyone {
    /// Leaves a client out.
    #[must_use]
    pub fn without(self, id: ClientId) -> Without {
        Without {
            of: None,
            ids: vec![id],
        }
    }
}

impl Without {
    /// Leaves one more client out, up to [`MAX_WITHOUT`].
    #[must_use]
    pub fn without(mut self, id: ClientId) -> Without {
        self.ids.push(id);
        self
    }
}

impl Target for ClientId {
    type Sent = Sent;
}

impl Target for Group {
    type Sent = ();
}

impl Target for Everyone {
    type Sent = ();
}

impl Target for Without {
    type Sent = ();
}

/// To whom something is sent, whatever its type.
#[derive(Debug, Clone, Copy)]
#[expect(unnameable_types, reason = "in the interface of a sealed trait")]
pub enum Aim<'a> {
    One(ClientId),
    Many(Option<GroupId>, &'a [ClientId]),
}

pub(super) mod sealed {
    use super::{Aim, ClientId, Everyone, Group, Sent, Without};

    #[expect(unnameable_types, reason = "nobody else implements it")]
    pub trait Sealed {
        fn aim(&self) -> Aim<'_>;
        fn sent(sent: Sent) -> <Self as super::Target>::Sent
        where
            Self: super::Target;
    }

    impl Sealed for ClientId {
        fn aim(&self) -> Aim<'_> {
            Aim::One(*self)
        }

        fn sent(sent: Sent) -> Sent {
            sent
        }
    }

    impl Sealed for Group {
        fn aim(&self) -> Aim<'_> {
            Aim::Many(Some(self.0), &[])
        }

        fn sent(_: Sent) {}
    }

    impl Sealed for Everyone {
        fn aim(&self) -> Aim<'_> {
            Aim::Many(None, &[])
        }

        fn sent(_: Sent) {}
    }

    impl Sealed for Without {
        fn aim(&self) -> Aim<'_> {
            Aim::Many(self.of, &self.ids)
        }

        fn sent(_: Sent) {}
    }
}
