//! Copies of a machine.

use std::sync::Arc;

use crate::edge::Edge;
#[cfg(feature = "backends")]
use crate::edge::lifecycle::departing::Departures;
use crate::queue::CountedTwice;

impl Edge {
    /// Copies the machine, for exploring what could happen next, as a model checker does. The copy has the same secrets and shares the
    /// table of sources, so it must never serve next to the original. Connections are saved from a copy, too (SPEC 41.1(b)).
    #[must_use]
    pub fn fork(&self) -> Edge {
        let mut copy = self.copied();
        let mut copies = Vec::new();
        let sessions: Vec<u32> = copy.sessions.iter().map(|(index, _)| index).collect();
        for session in sessions {
            let outbox = &mut copy.sessions.live_mut(session).outbox;
            outbox.unshare(&copy.counted_twice, &mut copies);
        }
        let conns: Vec<u32> = copy.conns.iter().map(|(index, _)| index).collect();
        for conn in conns {
            if let Some(outbox) = copy.conns.live_mut(conn).draining() {
                outbox.unshare(&copy.counted_twice, &mut copies);
            }
        }
        copy
    }

    fn copied(&self) -> Edge {
        Edge {
            config: self.config.clone(),
            keys: self.keys.clone(),
            offer: self.offer.clone(),
            run: self.run,
            earlier_runs: Arc::clone(&self.earlier_runs),
            term: self.term,
            rng: self.rng.clone(),
            ids: self.ids.clone(),
            kept_ids: self.kept_ids.clone(),
            takes_strays: self.takes_strays,
            saves: self.saves,
            mint: self.mint.clone(),
            decoy: self.decoy.clone(),
            now: self.now,
            conns: self.conns.clone(),
            sessions: self.sessions.clone(),
            sources: self.sources.clone(),
            shares: self.shares.clone(),
            storm: self.storm,
            join_pace: self.join_pace,
            ends: self.ends.clone(),
            alarms: self.alarms.clone(),
            account: self.account.clone(),
            uplink: self.uplink.clone(),
            link_queue: self.link_queue.clone(),
            line: self.line.clone(),
            spare: self.spare.clone(),
            answers: self.answers,
            groups: self.groups.clone(),
            counted_twice: CountedTwice::default(),
            settling: self.settling.clone(),
            #[cfg(feature = "upgrade")]
            moved_link: self.moved_link.clone(),
            #[cfg(feature = "cluster")]
            moves: self.moves.clone(),
            // Those are of several shards, of which none is copied.
            #[cfg(feature = "backends")]
            departures: Departures::default(),
            is_draining: self.is_draining,
            shutdown_at: self.shutdown_at,
            counters: self.counters.clone(),
            #[cfg(feature = "record")]
            recorder: None,
        }
    }
}
