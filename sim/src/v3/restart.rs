//! The edge ends in order, and another process goes on with its sessions (SPEC 39).

use voltlane_core::ClientId;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{CloseReason, Closed, Edge, EndReason, Snapshot};

use super::crowd::Paces;
use super::{World, time};
use crate::audited::Audited;
use crate::codec::Frames;
use crate::engine::identity::edge_pair;
use crate::engine::pipe::End;
use crate::ledgered::Runs as _;
use crate::recorded;
use crate::rng::Rng;

/// What all processes so far have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) joined: u64,
    pub(super) ended: u64,
    pub(super) broken: u64,
    /// Sessions that have ended for want of memory.
    pub(super) shed: u64,
}

impl World {
    /// Returns what this process and those before it have counted.
    pub(super) fn counted(&self) -> Counted {
        let counters = self.edge.counters();
        let Counted {
            joined,
            ended,
            broken,
            shed,
        } = self.counted;
        Counted {
            joined: joined + counters.joined,
            ended: ended + counters.ended.iter().sum::<u64>(),
            broken: broken + counters.closed[CloseReason::ProtocolError as usize],
            shed: shed + counters.ended[EndReason::MemoryLimit as usize],
        }
    }

    /// Ends the edge, and begins another one with what it has saved. Nothing may be lost or doubled, and everybody comes back as after a loss
    /// of all connections.
    pub(super) fn restart(&mut self) {
        let now = time(self.now);
        self.edge.keep_sessions();
        // What the backend has written is read to its end.
        while self.hand_down() {}
        for conn in 0..self.conns.len() {
            if self.conns[conn].key.is_some() {
                self.close_at_edge(conn, Closed::Error, End::Rst);
            }
        }
        self.live.clear();
        let (run, part) = (self.edge.run(), self.edge.save(now));
        let sealed = Snapshot::seal((run, &[part]), edge_pair(), 0, self.entropy());
        let sealed = sealed.expect("it is short");
        let snapshot = Snapshot::open(sealed, edge_pair()).expect("it was just made");
        self.counted = self.counted();
        self.restarts += 1;
        let mut seed = [0; 32];
        Rng::fork(self.setup.seed, "edge of version 3", self.restarts).fill(&mut seed);
        let mut edge = Edge::new(self.setup.config.clone(), edge_pair().clone(), seed);
        recorded::attach(&mut edge, &seed);
        self.edge = Audited::new(edge);
        self.edge.restore(now, &snapshot);
        self.edge.audit();
        self.link.up = Frames::default();
        self.paces = Paces::new(&self.setup);
        self.edge.link_up(now);
        // The time for which they may be away begins again (SPEC 39.4(a)). How one has ended may wait for the backend still.
        for session in &mut self.ledger.sessions {
            let id = ClientId::from_u64(session.id);
            if self.edge.inspect(id).is_some() {
                session.left_at = session.left_at.map(|_| self.now);
            }
        }
        self.ledger.reached("restarted");
        self.note(|| "the edge is another process".to_owned());
    }
}
