//! Clients with tickets, which come back at any edge (SPEC 44): also where theirs is dead, or sleeps and does not know that they are gone.

use voltlane_core::ClientId;
use voltlane_core::client as machine;
use voltlane_core::edge::Closed;

use super::World;
use super::nodes::Wire;

/// The code for a session that the edge does not have.
const GONE: u16 = 301;
/// The code for one that another edge may have.
const ELSEWHERE: u16 = 206;
/// As many sessions an edge shows at once.
const PAGE: usize = 64;

impl World {
    /// Returns whether the edge answers nobody now.
    pub(super) fn is_silent(&self, node: usize) -> bool {
        self.nodes[node].is_dead || self.nodes[node].is_paused
    }

    /// Returns whether the edge has its home, as far as the application was told.
    pub(super) fn has_home(&self, node: usize) -> bool {
        let owner = self.owners.get(&self.nodes[node].home);
        owner.is_some_and(|(_, owner)| *owner == node)
    }

    /// Returns whether bytes are on their way between a backend and an edge.
    pub(super) fn is_under_way(&self, wire: &Wire) -> bool {
        let output = wire.link.map_or(0, |link| self.fleet.output(link).len());
        wire.is_at_host
            && !wire.is_ended
            && !(wire.up.is_empty() && wire.down.is_empty() && output == 0)
    }

    /// A client may give up a connection to an edge that does not answer, or that was displaced, or any.
    pub(super) fn roam(&mut self, user: usize) {
        let node = self.users[user].node;
        let share = match (self.is_silent(node), self.is_calm) {
            (true, _) => 10,
            (false, true) if !self.has_home(node) => 10,
            (false, true) => 0,
            (false, false) => 1,
        };
        if self.rng.chance(share) {
            self.leave_edge(user);
        }
        if self.users[user].is_queued
            && (self.users[user].machine.wants_close() || self.rng.chance(10))
        {
            let now = self.time();
            let state = &mut self.users[user];
            state.is_queued = false;
            state.machine.handle_closed(now, machine::Closed::Error);
        }
    }

    /// A client gives up its connection. Its edge hears of it once it is awake.
    fn leave_edge(&mut self, user: usize) {
        let now = self.time();
        let state = &mut self.users[user];
        let Some(conn) = state.conn.take() else {
            return;
        };
        state.machine.handle_closed(now, machine::Closed::Error);
        let node = state.node;
        if !self.nodes[node].is_dead {
            self.abandoned.push((node, conn));
        }
        self.reached("client left its edge");
    }

    /// An edge that is awake hears of the connections that were given up.
    pub(super) fn hear_abandoned(&mut self, node: usize) {
        let now = self.time();
        let edge = &mut self.nodes[node].edge;
        self.abandoned.retain(|(of, conn)| {
            if *of == node {
                edge.handle_client_closed(now, *conn, Closed::Error);
            }
            *of != node
        });
    }

    /// Chooses where a client connects next.
    pub(super) fn choose_edge(&mut self, user: usize) {
        let stays = self.rng.chance(50) && self.has_home(self.users[user].node);
        if stays {
            return;
        }
        let all = 0..self.nodes.len();
        let candidates: Vec<usize> = match self.is_calm {
            true => all.filter(|node| self.has_home(*node)).collect(),
            false => all.collect(),
        };
        if !candidates.is_empty() {
            self.users[user].node = self.rng.pick(&candidates);
        }
    }

    /// A client was told why an attempt has failed. Its edge can ask the backend with a ticket.
    pub(super) fn hear_told(&mut self, user: usize, code: u16) {
        if self.roams && code == ELSEWHERE && self.users[user].has_ticket() {
            let text = format!("client {user} has a ticket, and is told to go elsewhere");
            self.fail("F8", "44.4(a)", text);
        }
    }

    /// The session of a client has ended. It begins another one.
    pub(super) fn hear_end(&mut self, user: usize, code: u16) {
        let state = &self.users[user];
        if let Some(id) = state.id
            && code == GONE
            && state.has_ticket()
            && !self.session(id).has_ended
        {
            let text = format!("{id:016x} is told that it has ended, and it lives");
            self.fail("F8", "44.6(c)", text);
        }
        self.reached(match code {
            GONE => "session gone",
            _ => "session ended",
        });
        let now = self.time();
        let node = self.users[user].node;
        if let Some(conn) = self.users[user].conn.take() {
            let edge = &mut self.nodes[node].edge;
            edge.handle_client_closed(now, conn, Closed::Eof);
        }
        self.users[user] = self.users[user].again(node);
    }

    /// A session may have come to an edge that told of its copy, which the application does not hear (SPEC 44.6(f)).
    pub(super) fn follow_own(&mut self, id: u64, node: usize) {
        let session = self.session(id);
        let is_elsewhere = session.is_told && !session.has_ended && session.node != node;
        let home = self.nodes[node].home;
        if is_elsewhere && self.fleet.home_of(ClientId::from_u64(id)) == Some(home) {
            self.reached("came with its edge");
            self.goes_on_at(id, node);
        }
    }

    /// A session goes on at an edge, which may be another one than before.
    pub(super) fn resumed(&mut self, id: u64, run: Option<[u8; 8]>) {
        let of_run = self
            .nodes
            .iter()
            .position(|node| Some(node.edge.run()) == run);
        let Some(node) = of_run else {
            return self.fail("F3", "44.5(f)", format!("{id:016x} resumes at no edge"));
        };
        self.goes_on_at(id, node);
    }

    fn goes_on_at(&mut self, id: u64, node: usize) {
        let mut users = self.users.iter().filter(|user| user.id == Some(id));
        if users.any(|user| !user.came_to.contains(&node)) {
            let text = format!("{id:016x} goes on at edge {node}, to which it has not come");
            return self.fail("F10", "44.10(b)", text);
        }
        if self.session(id).node != node {
            self.reached("moved");
            let before = self.session(id).node;
            self.note(|| format!("{id:016x} moves from edge {before} to edge {node}"));
            if self.is_silent(before) {
                self.reached("moved from a silent edge");
            }
            self.session(id).node = node;
        }
    }

    /// At rest the edge of a client has its session, and no other edge has a copy.
    pub(super) fn look_at_copies(&mut self) {
        for user in 0..self.users.len() {
            let state = &self.users[user];
            let Some(id) = state.id else { continue };
            let (node, of_backend) = (state.node, self.fleet.home_of(ClientId::from_u64(id)));
            if self.session(id).node != node || of_backend != Some(self.nodes[node].home) {
                let text = format!("{id:016x} is at edge {node}, and at {of_backend:?}");
                return self.fail("F9", "44.5(b)", text);
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_dead || !self.has_home(node) {
                continue;
            }
            let mut next = Some(0);
            while let Some(from) = next {
                let page = self.nodes[node].edge.page(from, PAGE);
                next = page.next;
                for one in page.sessions {
                    let id = one.id.as_u64();
                    let session = self.sessions.get(&id);
                    if session.is_some_and(|one| one.is_told && !one.has_ended && one.node != node)
                    {
                        let text = format!("edge {node} has an old copy of {id:016x}");
                        return self.fail("F9", "44.6(c)", text);
                    }
                }
            }
        }
    }
}
