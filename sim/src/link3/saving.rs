//! The edge ends in order, and another process goes on with its sessions (SPEC 39).

use std::time::Duration;

use voltlane_core::edge::Closed;

use super::process::Process;
use super::{World, time};
use crate::engine::pipe::End;
use crate::ledgered::Runs as _;

impl World {
    /// The edge is told to end, and to save its sessions.
    pub(super) fn begin_saving(&mut self, within: Duration) {
        if !self.is_saving {
            self.edge.shut_down(self.now, within);
            self.is_saving = true;
            for conn in &self.live {
                let conn = &mut self.conns[*conn];
                conn.sent_away_at = Some(self.now);
                // It may be away from now on, and its connection ends later.
                if let Some(id) = conn.session {
                    self.ledger.session(id).let_go_at = Some(self.now);
                }
            }
        }
    }

    /// Closes what has finished, and goes on with another process once all has.
    pub(super) fn end_in_order(&mut self) -> bool {
        if !self.is_saving {
            return false;
        }
        let finished = self.edge.finished();
        for shard in &finished {
            for conn in self.live.clone() {
                if self.conns[conn].shard == *shard {
                    self.close_at_edge(conn, Closed::Asked, End::Fin);
                }
            }
        }
        self.live.retain(|conn| self.conns[*conn].key.is_some());
        let is_over = self.edge.is_finished();
        if is_over {
            self.go_on_saved();
        }
        is_over || !finished.is_empty()
    }

    fn go_on_saved(&mut self) {
        self.is_saving = false;
        self.close_link_in_order();
        let mut name = [0; 32];
        self.rng.fill(&mut name);
        let snapshot = self.edge.save(self.now, name);
        self.terms += 1;
        let shards = self.edge.shards() as u8;
        // It goes on with the run of the one before.
        let earlier = self.runs.split_last().map_or(&[][..], |(_, runs)| runs);
        let saved = Some((self.now, &snapshot));
        self.edge = Process::new(&self.setup, shards, (self.terms, earlier), saved);
        self.edge.audit();
        self.sent_away = 0;
        if self.host.edge().is_none() {
            // It may go on without counts, and is like one before its first grant (SPEC 37.5(b)).
            self.ledger.has_granted = false;
        }
        // The time for which they may be away begins again (SPEC 39.4(a)).
        for (id, session) in &mut self.ledger.sessions {
            if self.edge.inspect(*id).is_some() {
                session.left_at = session.left_at.map(|_| self.now);
            }
        }
        self.ledger.reached("saved");
        self.note(|| "the edge is another process, which goes on".to_owned());
    }

    /// The edge reads what has come on the link, and closes it.
    fn close_link_in_order(&mut self) {
        let now = self.now;
        if let Some(bytes) = self.end_link_at_edge() {
            let link = self.edge.link();
            link.handle_link_bytes(time(now), &bytes);
            link.handle_link_closed(time(now), Closed::Asked);
        }
    }
}
