//! The other shards of the process: a claim of one of their sessions is handed over with its stream (SPEC 9.9).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use voltlane_core::ShardId;
#[cfg(feature = "backends")]
use voltlane_core::edge::Departing;
use voltlane_core::edge::Handover;

use crate::Stream;

/// The maximum number of hand-overs that wait for one shard. Further ones are turned away.
const WAITING_MAX: usize = 1_024;

/// A shard's mailbox, where its neighbours leave connections for it. See [`EdgeDriver::with_neighbours`](crate::EdgeDriver::with_neighbours).
pub struct Neighbours<S: Stream> {
    own: ShardId,
    mailboxes: Arc<[Mutex<Mailbox<S>>]>,
}

struct Mailbox<S: Stream> {
    waiting: VecDeque<(Handover, S::Parcel)>,
    /// Sessions that come from another backend.
    #[cfg(feature = "backends")]
    sessions: VecDeque<Departing>,
    owner: Owner,
}

/// The shard that owns a mailbox.
enum Owner {
    /// It has not begun yet. The port opens before all shards serve, so others may already have something for it.
    Awaited,
    /// It is woken when something was left.
    Listening(Waker),
    /// It accepts nothing any more.
    Ended,
}

impl<S: Stream> Neighbours<S> {
    /// Creates the neighbours of `shards` shards, the first for shard 0.
    #[must_use]
    pub fn of(shards: u8) -> Vec<Neighbours<S>> {
        let mailbox = || {
            Mutex::new(Mailbox {
                waiting: VecDeque::new(),
                #[cfg(feature = "backends")]
                sessions: VecDeque::new(),
                owner: Owner::Awaited,
            })
        };
        let mailboxes: Arc<[_]> = (0..shards).map(|_| mailbox()).collect();
        (0..shards)
            .map(|number| Neighbours {
                own: ShardId::new(number),
                mailboxes: Arc::clone(&mailboxes),
            })
            .collect()
    }

    /// Registers `waker` for connections that are left here. It is woken at once if there are some already.
    pub(super) fn listen(&self, waker: &Waker) {
        let Some(mut mailbox) = self.mailbox(self.own) else {
            return;
        };
        mailbox.owner = Owner::Listening(waker.clone());
        let has_mail = mailbox.has_mail();
        drop(mailbox);
        if has_mail {
            waker.wake_by_ref();
        }
    }

    /// Leaves a connection for its shard. Returns it if the shard does not accept it.
    pub(super) fn send(&self, handover: Handover, parcel: S::Parcel) -> Result<(), Handover> {
        let Some(mut mailbox) = self.mailbox(handover.shard()) else {
            return Err(handover);
        };
        let owner = match &mailbox.owner {
            Owner::Awaited => None,
            Owner::Listening(owner) => Some(owner.clone()),
            Owner::Ended => return Err(handover),
        };
        if mailbox.waiting.len() >= WAITING_MAX {
            return Err(handover);
        }
        mailbox.waiting.push_back((handover, parcel));
        drop(mailbox);
        if let Some(owner) = owner {
            owner.wake();
        }
        Ok(())
    }

    /// Takes the next connection that was left here.
    pub(super) fn receive(&self) -> Option<(Handover, S::Parcel)> {
        self.mailbox(self.own)?.waiting.pop_front()
    }

    /// Leaves the session that `take` returns for this shard, if that has room. Returns whether there was one.
    #[cfg(feature = "backends")]
    pub(super) fn send_session(
        &self,
        shard: ShardId,
        take: impl FnOnce() -> Option<Departing>,
    ) -> bool {
        let Some(mut mailbox) = self.mailbox(shard) else {
            return false;
        };
        let owner = match &mailbox.owner {
            Owner::Awaited => None,
            Owner::Listening(owner) => Some(owner.clone()),
            Owner::Ended => return false,
        };
        if !leave(&mut mailbox.sessions, take) {
            return false;
        }
        drop(mailbox);
        if let Some(owner) = owner {
            owner.wake();
        }
        true
    }

    /// Takes the next session that was left here.
    #[cfg(feature = "backends")]
    pub(super) fn receive_session(&self) -> Option<Departing> {
        self.mailbox(self.own)?.sessions.pop_front()
    }

    /// Takes no more, and returns the sessions that were left here: they are nowhere else.
    #[cfg(feature = "backends")]
    pub(super) fn end(&self) -> VecDeque<Departing> {
        let Some(mut mailbox) = self.mailbox(self.own) else {
            return VecDeque::new();
        };
        mailbox.owner = Owner::Ended;
        std::mem::take(&mut mailbox.sessions)
    }

    fn mailbox(&self, shard: ShardId) -> Option<MutexGuard<'_, Mailbox<S>>> {
        let mailbox = self.mailboxes.get(usize::from(shard.as_u8()))?;
        // A push or a pop leaves the queue consistent even if something panics.
        Some(mailbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Appends what `take` returns, if there is room. It is not called if not, since what it takes is nowhere else.
#[cfg(feature = "backends")]
fn leave<T>(waiting: &mut VecDeque<T>, take: impl FnOnce() -> Option<T>) -> bool {
    if waiting.len() >= WAITING_MAX {
        return false;
    }
    let left = take();
    let is_left = left.is_some();
    waiting.extend(left);
    is_left
}

impl<S: Stream> Mailbox<S> {
    fn has_mail(&self) -> bool {
        #[cfg(feature = "backends")]
        if !self.sessions.is_empty() {
            return true;
        }
        !self.waiting.is_empty()
    }
}

impl<S: Stream> Drop for Neighbours<S> {
    /// Connections that were left and not taken are closed.
    fn drop(&mut self) {
        if let Some(mut mailbox) = self.mailbox(self.own) {
            mailbox.owner = Owner::Ended;
            mailbox.waiting = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use voltlane_core::edge::{Edge, EdgeConfig};
    use voltlane_core::keys::KeyPair;
    use voltlane_core::protocol::Version;
    use voltlane_core::v2::packets::Handshake;
    use voltlane_core::{ClientId, Time};

    use super::*;
    use crate::silent::Silent;
    use crate::wakes::Wakes;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Creates a claim at shard 0 of an id of shard 1.
    fn handover() -> Handover {
        let mut config = EdgeConfig::default();
        config.shards = 2;
        let keys = KeyPair::from_bytes(&[1; 32]).expect("a key");
        let mut edge = Edge::new(config, keys, [2; 32]);
        let conn = edge.handle_accepted(Time::ZERO, SOURCE).expect("room");
        let mut says = Vec::new();
        Handshake::ProtocolVersion(Version::V2.number()).encode(&mut says);
        Handshake::ClientId(ClientId::from_u64(1 << 56)).encode(&mut says);
        edge.handle_client_bytes(Time::ZERO, conn, &says);
        edge.take_handover(Time::ZERO, conn)
            .expect("it is shard 1's")
    }

    #[test]
    fn connections_left_before_the_shard_listens_are_there_when_it_does() {
        let [first, second] = &Neighbours::<Silent>::of(2)[..] else {
            panic!("two")
        };
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        first.listen(&waker);
        assert_eq!(wakes.count(), 0, "nothing waits");
        let left = first.send(handover(), Silent);
        assert!(left.is_ok());
        second.listen(&waker);
        assert_eq!(wakes.count(), 1);
        assert!(second.receive().is_some() && second.receive().is_none());
        let left = first.send(handover(), Silent);
        assert!(left.is_ok());
        assert_eq!(wakes.count(), 2);
    }

    #[test]
    fn a_mailbox_is_bounded_and_takes_none_once_its_shard_has_ended() {
        let mut both = Neighbours::<Silent>::of(2);
        let second = both.pop();
        let first = &both[0];
        for _ in 0..WAITING_MAX {
            assert!(first.send(handover(), Silent).is_ok());
        }
        assert!(first.send(handover(), Silent).is_err());
        drop(second);
        assert!(first.send(handover(), Silent).is_err());
    }

    #[cfg(feature = "backends")]
    #[test]
    fn sessions_on_their_way_are_bounded_and_one_beyond_stays_where_it_is() {
        let mut waiting = VecDeque::new();
        for number in 0..WAITING_MAX {
            assert!(leave(&mut waiting, || Some(number)));
        }
        assert!(!leave(&mut waiting, || panic!("it is not to be taken")));
        assert_eq!(waiting.len(), WAITING_MAX);
        assert_eq!(waiting.pop_front(), Some(0));
        assert!(!leave(&mut waiting, || None), "nobody goes");
        assert!(leave(&mut waiting, || Some(WAITING_MAX)));
        assert_eq!(waiting.back(), Some(&WAITING_MAX));
        assert!(!leave(&mut waiting, || panic!("it is not to be taken")));
    }
}
