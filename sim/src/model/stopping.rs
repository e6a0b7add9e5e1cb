//! The orderly end of the edge, as SPEC 9.8 describes it.

use super::Model;
use super::conn::Piece;

impl Model {
    /// Handles that the edge is asked to shut down within this many nanoseconds.
    pub fn shutdown(&mut self, now: u64, within: u64) {
        self.now = now;
        if self.shutdown_at.is_some() {
            return;
        }
        self.shutdown_at = Some(now.saturating_add(within));
        let half_open: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, state)| state.is_half_open())
            .map(|(conn, _)| *conn)
            .collect();
        for conn in half_open {
            let sid = self.conns.get(&conn).and_then(|state| state.sid);
            self.close(conn, "the edge shuts down", self.manner(conn));
            if let Some(sid) = sid {
                self.go_away(sid);
            }
        }
        // No client is read any more, so no frame's time counts.
        for state in self.conns.values_mut() {
            for begun in [&mut state.frame, &mut state.idle].into_iter().flatten() {
                begun.latest = u64::MAX;
            }
        }
        self.dirty.extend(self.conns.keys());
        self.reach.shut_down += u64::from(self.what_waits().is_some());
    }

    /// Returns whether the edge was asked to shut down.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown_at.is_some()
    }

    /// Checks that the edge reports its end when it may and must.
    pub fn check_finished(&mut self, finished: bool) {
        let Some(at) = self.shutdown_at else {
            if finished {
                self.fail("S15", "9.8", "the edge ends, and nobody asked".to_string());
            }
            return;
        };
        let over = at <= self.now;
        match (finished, self.what_waits()) {
            (true, Some(what)) if !over => {
                self.fail("L7", "9.8(a)", format!("the edge ends, and there {what}"));
            }
            (true, waits) => self.reach.handed_over += u64::from(waits.is_none()),
            (false, _) if over => {
                self.fail("L7", "9.8(a)", "the time to end is over".to_string());
            }
            (false, None) if self.out_packets == 0 => {
                let text = "nothing waits, and the edge does not end".to_string();
                self.fail("L7", "9.8(a)", text);
            }
            (false, _) => {}
        }
    }

    /// Returns something that is queued for the link or for a client, if anything is.
    fn what_waits(&self) -> Option<String> {
        let up = self
            .outbox
            .values()
            .map(|items| items.iter().filter(|item| !item.optional).count())
            .sum::<usize>();
        if up > 0 {
            return Some(format!("are {up} packets for the backend"));
        }
        let waits = |state: &&super::Conn| {
            state.close.is_none() && state.shown().any(|piece| matches!(piece, Piece::Data(_)))
        };
        let (conn, _) = self.conns.iter().find(|(_, state)| waits(state))?;
        Some(format!("are packets for connection {conn}"))
    }
}
