//! A shard's end of its branch, and how it gets it from the trunk (SPEC 9.9).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use voltlane_core::Time;
use voltlane_core::edge::trunk::{Batch, Downward, Upward};
use voltlane_core::edge::{Closed, Edge, HasLink};

use crate::exchange::{self, End};
use crate::uplink::Carrier;
use crate::uplink::sealed::Carried;
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::weigh::Weigh;

/// Batches taken from the trunk per turn. More wait for the next turn, after the clients have had theirs.
const TAKEN_PER_TURN: usize = 4;

/// The shard's end of a branch, and the trunk's.
pub(crate) type ShardEnd = End<Upward, Downward, Batch>;
pub(crate) type TrunkEnd = End<Downward, Upward, Batch>;

impl Weigh for Upward {
    fn packet_bytes(&self) -> usize {
        self.batch().map_or(0, |batch| batch.bytes().len())
    }
}

impl Weigh for Downward {
    fn packet_bytes(&self) -> usize {
        self.batch().map_or(0, |batch| batch.bytes().len())
    }
}

impl<O: Weigh, I> End<O, I, Batch> {
    /// Hands over what `make` makes, which may take the memory of a spare buffer for it. Due as [`End::give`].
    pub(crate) fn hand_over(&mut self, make: impl FnOnce(&mut Batch) -> Option<O>) {
        let mut spare = self.take_spare().unwrap_or_default();
        if let Some(output) = make(&mut spare) {
            let bytes = output.packet_bytes();
            self.give(output, bytes);
        }
        if spare.has_memory() {
            self.keep_spare(spare);
        }
    }
}

#[cfg(all(feature = "upgrade", unix))]
impl<O, I: Clone, S> End<O, I, S> {
    /// Returns copies of the items that were not taken yet, in order. Nothing changes.
    pub(crate) fn coming(&self) -> Vec<I> {
        let state = self.incoming.lock();
        self.arrived.iter().chain(&state.items).cloned().collect()
    }
}

/// How a shard's [`EdgeDriver`](crate::EdgeDriver) reaches the trunk. An attempt to connect lasts until there is a backend. Dropping it
/// means that the shard has ended.
pub struct BranchConnector(Arc<Counter>);

/// The state shared by a shard and the trunk while it connects.
pub(crate) struct Counter {
    slot: Mutex<Slot>,
    /// The trunk's waker.
    waker: Waker,
}

/// The fields that they share.
#[derive(Default)]
pub(crate) struct Slot {
    /// Whether an attempt is in progress.
    asking: bool,
    /// The waker of the attempt.
    asker: Option<Waker>,
    /// The branch for the attempt.
    given: Option<ShardEnd>,
    /// Whether the connector was dropped.
    pub(crate) gone: bool,
}

impl Slot {
    /// Returns whether the shard wants a branch.
    pub(crate) fn asks(&self) -> bool {
        self.asking
    }

    /// Gives the shard a branch. Returns the trunk's end, and the shard's waker.
    pub(crate) fn give(&mut self) -> (TrunkEnd, Option<Waker>) {
        let (near, far) = exchange::pair();
        self.asking = false;
        self.given = Some(far);
        (near, self.asker.take())
    }
}

impl Counter {
    pub(crate) fn new(waker: Waker) -> Arc<Counter> {
        Arc::new(Counter {
            slot: Mutex::default(),
            waker,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Slot> {
        // Every change is one assignment, so the slot is consistent even if something panics.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready with the branch. The first call tells the trunk that the shard wants one.
    fn poll_connect(&self, cx: &Context<'_>) -> Poll<ShardEnd> {
        let mut slot = self.lock();
        if let Some(end) = slot.given.take() {
            return Poll::Ready(end);
        }
        slot.asker = Some(cx.waker().clone());
        let is_new = !std::mem::replace(&mut slot.asking, true);
        drop(slot);
        if is_new {
            self.waker.wake_by_ref();
        }
        Poll::Pending
    }
}

impl BranchConnector {
    pub(crate) fn new(counter: &Arc<Counter>) -> Self {
        BranchConnector(Arc::clone(counter))
    }
}

impl Drop for BranchConnector {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.gone = true;
        // A branch that was given meanwhile ends at once, which the trunk sees.
        let given = slot.given.take();
        drop(slot);
        drop(given);
        self.0.waker.wake_by_ref();
    }
}

impl Carried for BranchConnector {
    type Carrier = Branch;

    #[expect(private_interfaces, reason = "it is called in this crate alone")]
    fn carrier(self, token: Token, ready: &Arc<ReadyList>) -> Branch {
        let source = SourceWaker::new(token, ready);
        Branch {
            connector: self,
            state: State::Down,
            waker: Waker::from(Arc::clone(&source)),
            source,
            takes: false,
            gives: false,
            was_used: false,
        }
    }
}

/// The state of a branch.
enum State {
    Down,
    Connecting,
    Up(ShardEnd),
}

/// A shard's end of its branch.
#[expect(unnameable_types, reason = "it is part of a driver")]
pub struct Branch {
    connector: BranchConnector,
    state: State,
    source: Arc<SourceWaker>,
    waker: Waker,
    /// Whether the attempt may proceed, or something may be taken. If not, it waits for its waker.
    takes: bool,
    /// Whether there may be room. If not, it waits for its waker.
    gives: bool,
    /// Whether the shard had clients that may fill buffers.
    was_used: bool,
}

impl Carrier<Edge> for Branch {
    fn handle_woken(&mut self) {
        self.source.serve();
        self.takes = true;
        self.gives = true;
    }

    fn has_work(&self, edge: &Edge, now: Time) -> bool {
        match &self.state {
            State::Down => edge.link_wants_connect(now),
            State::Connecting => self.takes,
            State::Up(_) => self.takes || (self.gives && edge.branch_has_output()),
        }
    }

    fn drive(&mut self, edge: &mut Edge, now: Time) {
        if matches!(self.state, State::Down) && edge.link_wants_connect(now) {
            edge.handle_link_connecting(now);
            self.state = State::Connecting;
            self.takes = true;
        }
        if matches!(self.state, State::Connecting) && self.takes {
            let cx = &Context::from_waker(&self.waker);
            match self.connector.0.poll_connect(cx) {
                Poll::Pending => self.takes = false,
                Poll::Ready(end) => {
                    self.state = State::Up(end);
                    self.gives = true;
                    edge.handle_link_connected(now);
                }
            }
        }
    }

    fn read(&mut self, edge: &mut Edge, now: Time, _: &mut [u8]) {
        for _ in 0..TAKEN_PER_TURN {
            let State::Up(end) = &mut self.state else {
                return;
            };
            if !self.takes {
                return;
            }
            match end.poll_take(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => self.takes = false,
                Poll::Ready(Some(input)) => {
                    edge.handle_branch_input(now, &input);
                    if let Some(mut batch) = input.into_batch() {
                        batch.clear();
                        if batch.has_memory() && !edge.is_deserted() {
                            end.give_back(batch);
                        }
                    }
                }
                Poll::Ready(None) => {
                    // The trunk can still take what the shard handed up.
                    self.state = State::Down;
                    edge.handle_link_closed(now, Closed::Eof);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn handle_time(&mut self, _: &mut Edge, _: Time) {}

    fn write(&mut self, edge: &mut Edge, now: Time) {
        let State::Up(end) = &mut self.state else {
            return;
        };
        let is_used = !edge.is_deserted();
        if std::mem::replace(&mut self.was_used, is_used) && !is_used {
            end.free_spares();
        }
        while self.gives && edge.branch_has_output() {
            match end.poll_room(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => self.gives = false,
                Poll::Ready(Err(exchange::Gone)) => {
                    self.gives = false;
                    // The end of the branch is taken next.
                    self.takes = true;
                }
                Poll::Ready(Ok(())) => {
                    end.hand_over(|spare| edge.take_branch_output(now, spare));
                }
            }
        }
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn coming(&self) -> Vec<Downward> {
        match &self.state {
            State::Up(end) => end.coming(),
            // It may have been given a branch, and not know it yet.
            State::Down | State::Connecting => {
                let slot = self.connector.0.lock();
                slot.given.as_ref().map_or_else(Vec::new, End::coming)
            }
        }
    }

    #[cfg(feature = "snapshot")]
    fn poll_finish_keeping(&mut self, edge: &mut Edge, now: Time, buffer: &mut [u8]) -> Poll<()> {
        if let State::Up(end) = &mut self.state {
            end.close();
        }
        // A branch holds a few batches, so this ends.
        while self.takes && matches!(self.state, State::Up(_)) {
            self.read(edge, now, buffer);
        }
        match self.state {
            State::Up(_) => Poll::Pending,
            State::Down | State::Connecting => Poll::Ready(()),
        }
    }

    fn poll_finish(&mut self, _: &mut [u8]) -> Poll<()> {
        let State::Up(end) = &mut self.state else {
            return Poll::Ready(());
        };
        end.close();
        loop {
            match end.poll_take(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return Poll::Pending,
                // Nothing that still comes has a client.
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU8;

    use voltlane_core::edge::EdgeConfig;
    use voltlane_core::edge::trunk::Trunk;
    use voltlane_core::keys::KeyPair;

    use super::*;
    use crate::exchange::BYTES;

    /// Returns how many batches of `bytes` bytes, with their frames' lengths, an end takes before it waits.
    fn taken(bytes: usize) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut near, mut far): (TrunkEnd, ShardEnd) = exchange::pair();
        let mut count = 0;
        while near.poll_room(cx).is_ready() {
            near.hand_over(|spare| {
                spare.push(&vec![0; bytes - 4]);
                Some(Downward::Packets(std::mem::take(spare)))
            });
            count += 1;
        }
        let up = |spare: &mut Batch| {
            spare.push(&vec![0; bytes - 4]);
            Some(Upward::Packets(std::mem::take(spare)))
        };
        for _ in 0..count {
            assert!(far.poll_room(cx).is_ready());
            far.hand_over(up);
        }
        assert!(
            far.poll_room(cx).is_pending(),
            "both directions count alike"
        );
        count
    }

    #[test]
    fn a_branch_is_full_when_its_batches_have_as_many_bytes_as_it_may_hold() {
        assert_eq!(taken(BYTES / exchange::ITEMS), exchange::ITEMS);
        assert_eq!(taken(BYTES / 2), 2);
        assert_eq!(taken(BYTES / 2 - 1), 3);
        assert_eq!(taken(BYTES), 1);
    }

    #[test]
    fn spare_buffers_are_freed_when_the_last_client_has_left() {
        let cx = &mut Context::from_waker(Waker::noop());
        let key = KeyPair::from_bytes(&[3; 32]).unwrap();
        for has_left in [false, true] {
            let (_, mut edges) =
                Trunk::with_shards(&EdgeConfig::default(), &key, NonZeroU8::MIN, [9; 32]);
            let edge = &mut edges[0];
            let (mut near, far): (TrunkEnd, ShardEnd) = exchange::pair();
            let ready = Arc::<ReadyList>::default();
            let connector = BranchConnector::new(&Counter::new(Waker::noop().clone()));
            let mut branch = connector.carrier(0, &ready);
            branch.state = State::Up(far);
            let conn = edge.handle_accepted(Time::ZERO, IpAddr::from([127, 0, 0, 1]));
            branch.write(edge, Time::ZERO);
            let State::Up(far) = &mut branch.state else {
                panic!("it is up");
            };
            assert!(far.poll_room(cx).is_ready());
            far.hand_over(|spare| {
                spare.push(b"a packet");
                Some(Upward::Packets(std::mem::take(spare)))
            });
            let Poll::Ready(Some(Upward::Packets(batch))) = near.poll_take(cx) else {
                panic!("it was handed over");
            };
            near.give_back(batch);
            assert!(near.poll_take(cx).is_pending());
            if has_left {
                edge.handle_client_closed(Time::ZERO, conn.unwrap(), Closed::Eof);
            }
            branch.write(edge, Time::ZERO);
            let State::Up(far) = &mut branch.state else {
                panic!("it is up");
            };
            // With the next item the buffers on the way would come along.
            assert!(far.poll_room(cx).is_ready());
            far.give(Upward::Announced, 0);
            assert_eq!(far.take_spare().is_some(), !has_left);
        }
    }

    #[test]
    fn news_without_a_batch_have_no_bytes() {
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut near, _far): (TrunkEnd, ShardEnd) = exchange::pair();
        for _ in 0..exchange::ITEMS {
            assert!(near.poll_room(cx).is_ready());
            near.hand_over(|_| Some(Downward::Released));
        }
        assert!(near.poll_room(cx).is_pending(), "their number is bounded");
    }
}
