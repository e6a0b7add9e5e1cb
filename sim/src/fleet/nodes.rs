//! Edges, each a process, and their streams to the backend.

use std::collections::VecDeque;

use voltlane_core::backend::fleet::LinkId;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, Edge, EdgeConfig, HasLink as _, LinkProtocol};
use voltlane_core::protocol::OfferedVersions;

use super::World;
use crate::engine::identity::edge_pair;
use crate::rng::Rng;
use crate::setups::unlimited;

/// A process of an edge.
pub(super) struct Node {
    pub(super) edge: Edge,
    pub(super) home: u16,
    pub(super) term: u32,
    /// Its stream to the backend.
    pub(super) wire: Option<usize>,
    pub(super) is_paused: bool,
    pub(super) is_dead: bool,
    pub(super) is_given_up: bool,
    /// Whether the backend was told of it.
    pub(super) was_granted: bool,
}

/// A stream between an edge and the backend. Each end may be gone while the other does not know it yet.
pub(super) struct Wire {
    pub(super) node: usize,
    pub(super) up: VecDeque<u8>,
    pub(super) down: VecDeque<u8>,
    /// Its name at the backend, once that has accepted it.
    pub(super) link: Option<LinkId>,
    pub(super) is_at_host: bool,
    /// Whether the edge's end is gone, behind what is under way.
    pub(super) is_ended: bool,
    /// Whether what is under way comes so late that the next stream of the edge may be there before.
    pub(super) is_late: bool,
}

impl World {
    /// Creates an edge of this home.
    pub(super) fn edge_for(&self, home: u16, seed: [u8; 32]) -> Edge {
        let mut config = EdgeConfig::default();
        config.home = home;
        config.master.protocol = LinkProtocol::V3;
        config.listener.versions = OfferedVersions::new(&[3]).expect("known");
        unlimited(&mut config);
        // A client without a ticket gives up after this if its edge is no more, and no other one has known that.
        let stale_secs = if self.roams { 300 } else { 86_400 };
        config.clients.stale_timeout = core::time::Duration::from_secs(stale_secs);
        Edge::new(config, edge_pair().clone(), seed)
    }

    /// Starts a process for a home. `back`: how far its clock is behind.
    pub(super) fn start(&mut self, home: u16, back: u32) {
        self.terms += 1;
        let term = self.terms - back;
        let number = self.nodes.len();
        let mut seed = [0; 32];
        Rng::fork(self.seed, "edge of the fleet", number as u64).fill(&mut seed);
        let mut edge = self.edge_for(home, seed);
        edge.set_term(term);
        // Its adapter keeps the runs before it in a file (SPEC 23.2(f)).
        let before = self.nodes.iter().filter(|node| node.home == home);
        let before: Vec<[u8; 8]> = before.map(|node| node.edge.run()).collect();
        edge.set_earlier_runs(&before);
        self.note(|| format!("edge {number} of term {term} starts for the home {home}"));
        self.nodes.push(Node {
            edge,
            home,
            term,
            wire: None,
            is_paused: false,
            is_dead: false,
            is_given_up: false,
            was_granted: false,
        });
    }

    /// Returns the process that has a home in the end: of those that live, the one that has it, or the latest that may take it.
    pub(super) fn newest(&self, home: u16) -> Option<usize> {
        let owner = self.owners.get(&home);
        let nodes = self.nodes.iter().enumerate().filter(|(number, node)| {
            let may_have = owner.is_none_or(|(term, owner)| node.term > *term || number == owner);
            node.home == home && !node.is_dead && may_have
        });
        nodes
            .max_by_key(|(_, node)| node.term)
            .map(|(number, _)| number)
    }

    /// Another process takes the home of this one, which may sleep or go on.
    pub(super) fn replace(&mut self, node: usize) {
        if self.nodes.len() >= 12 {
            return;
        }
        self.reached("edge replaced");
        let home = self.nodes[node].home;
        self.nodes[node].is_paused |= self.rng.chance(60);
        self.start(home, 0);
    }

    /// A process of a home that is served starts, whose clock is behind.
    pub(super) fn start_late(&mut self, node: usize) {
        if self.nodes.len() < 12 {
            self.reached("clock behind");
            self.start(self.nodes[node].home, 9);
        }
    }

    /// The process dies, and is started again or not.
    pub(super) fn die(&mut self, node: usize) {
        let home = self.nodes[node].home;
        if self.nodes[node].is_dead || self.nodes.len() >= 12 {
            return;
        }
        self.reached("edge died");
        self.cut(node);
        self.nodes[node].is_dead = true;
        if self.newest(home).is_none() {
            self.start(home, 0);
        }
    }

    /// The stream of an edge ends. A part of what is under way is lost, and the rest may come late.
    pub(super) fn cut(&mut self, node: usize) {
        let Some(wire) = self.nodes[node].wire.take() else {
            return;
        };
        self.reached("link cut");
        let now = self.time();
        let kept = match self.rng.chance(50) {
            true => usize::MAX,
            false => self.rng.below(self.wires[wire].up.len() as u64 + 1) as usize,
        };
        let state = &mut self.wires[wire];
        state.up.truncate(kept);
        state.down.clear();
        state.is_ended = true;
        self.nodes[node].edge.handle_link_closed(now, Closed::Error);
    }

    /// Gives an edge its turn at its link.
    pub(super) fn node_turn(&mut self, node: usize) {
        let now = self.time();
        let chunk = self.chunk as usize;
        let state = &mut self.nodes[node];
        if state.is_dead || state.is_paused {
            return;
        }
        state.edge.skip_listed();
        self.hear_abandoned(node);
        self.hear_strangers(node);
        let state = &mut self.nodes[node];
        if state.edge.poll_timeout().is_some_and(|due| due.at <= now) {
            state.edge.handle_timeout(now);
        }
        let Some(wire) = state.wire else {
            if state.edge.link_wants_connect(now) {
                let is_late = !self.is_calm && self.rng.chance(30);
                state.edge.link_up(now);
                state.wire = Some(self.wires.len());
                self.wires.push(Wire {
                    node,
                    up: VecDeque::new(),
                    down: VecDeque::new(),
                    link: None,
                    is_at_host: true,
                    is_ended: false,
                    is_late,
                });
            }
            return;
        };
        let stream = &mut self.wires[wire];
        let count = stream
            .down
            .len()
            .min(chunk)
            .min(state.edge.link_read_budget());
        if count > 0 {
            let bytes: Vec<u8> = stream.down.drain(..count).collect();
            state.edge.handle_link_bytes(now, &bytes);
        }
        let closed = match () {
            () if state.edge.link_wants_close() => Some(Closed::Asked),
            () if !stream.is_at_host && stream.down.is_empty() => Some(Closed::Eof),
            () => None,
        };
        let mut bytes = state.edge.link_output().concat();
        bytes.truncate(chunk);
        if !bytes.is_empty() && closed.is_none() {
            state.edge.handle_link_written(now, bytes.len());
            stream.up.extend(&bytes);
        }
        if let Some(closed) = closed {
            stream.is_ended = true;
            state.wire = None;
            state.edge.handle_link_closed(now, closed);
        }
    }
}
