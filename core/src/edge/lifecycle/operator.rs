//! What an operator sees of a running edge, and does to it (SPEC 9.5(f), 9.8(e), 10.6(l)).

use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;

use crate::code::Code;
use crate::id::ClientId;
use crate::ledger::Ledger;
use crate::link::v3::{Kick, MAX_TEXT_BYTES};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::EndReason;
use crate::edge::door::bans::{Ban, BanError};
use crate::edge::lifecycle::last_words::GoAwayCode;
use crate::edge::lifecycle::notices::{ledgers_of, living};
use crate::edge::sessions::{Place, Session};

/// The maximum number of sessions, or of bans, on a page.
pub const MAX_PAGE: usize = 1_000;
/// The maximum number of places of the table that a page looks at, so that one of a table with holes costs no more than a full one.
const PAGE_LOOKS: usize = 4_096;

/// A session as an operator sees it: numbers, and nothing that its client or the backend sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id.
    pub id: ClientId,
    /// The version of the client link.
    pub version: u8,
    /// The number of its connection, which the log calls `conn`. `None`: it is away.
    pub conn: Option<usize>,
    /// How long it has been there.
    pub age: Duration,
    /// How long it is away, if it is.
    pub away: Option<Duration>,
    /// Where its client comes from. An address within an IPv6 /64 is told as the network. `None`: from a network that is exempt from the
    /// limits on sources, of which nothing is remembered.
    pub source: Option<IpAddr>,
    /// The number of the listener that accepted its connection, if it has both.
    pub listener: Option<usize>,
    /// Packets that wait for its client, with those that were sent and not acknowledged.
    pub queue_packets: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// Bytes from its client that wait for room on the link.
    pub backlog_bytes: usize,
    /// Whether it waits for room on the link.
    pub is_waiting: bool,
    /// Whether the backend has paused it.
    pub is_paused: bool,
    /// How often it was resumed by a challenge (version 2), or the counter of its last resume (version 3).
    pub resumes: u64,
    /// Whether it ever carried a packet.
    pub has_exchanged: bool,
    /// Packets of its client.
    pub up: Ledger,
    /// Packets for its client.
    pub down: Ledger,
    /// Why the edge let go of its last connection, if it did (version 3).
    pub cause: Option<Code>,
}

/// Some sessions of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions, at most [`MAX_PAGE`].
    pub sessions: Vec<SessionInfo>,
    /// Where the next page begins. `None`: there are no more.
    pub next: Option<u32>,
}

/// Some banned networks, with the rest of their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BanPage {
    /// The networks in their order, each with the rest of its time and its note.
    pub bans: Vec<(IpNet, Option<Duration>, Box<str>)>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
}

/// Why a session is not kicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KickError {
    /// There is no such session, or it has ended.
    #[error("there is no such session")]
    NoSession,
    /// A client does not take this code for a kick.
    #[error("{0} is no code for a kick: 401, 405 and 500 to 699 are")]
    Code(Code),
    /// The text is too long.
    #[error("a text has at most {MAX_TEXT_BYTES} bytes")]
    TextTooLong,
}

impl Edge {
    /// Returns up to `limit` sessions, and at most [`MAX_PAGE`], from the place `from` on. 0 is the first one, and
    /// [`next`](SessionPage::next) tells where to go on. A session that lives for the whole walk is on one page of it. A page may have fewer
    /// sessions, or none, though there are more: it looks at a bounded number of places.
    #[must_use]
    pub fn page(&self, from: u32, limit: usize) -> SessionPage {
        let limit = limit.min(MAX_PAGE);
        let mut page = SessionPage::default();
        let mut looked = from;
        for (index, session) in self.sessions.places(from).take(PAGE_LOOKS) {
            if page.sessions.len() == limit {
                break;
            }
            looked = index.saturating_add(1);
            let info = session.and_then(|session| self.info(session));
            page.sessions.extend(info);
        }
        let has_more = self.sessions.places(looked).next().is_some();
        page.next = has_more.then_some(looked);
        page
    }

    /// Returns the session with this id, unless it has ended.
    #[must_use]
    pub fn inspect(&self, id: ClientId) -> Option<SessionInfo> {
        let session = self.sessions.lookup(id)?;
        self.info(self.sessions.live(session))
    }

    pub(crate) fn info(&self, session: &Session) -> Option<SessionInfo> {
        let (id, _) = living(session)?;
        let conn = match session.place {
            Place::Attached(index) => Some(index),
            Place::Away | Place::Ended => None,
        };
        let admission = match conn {
            Some(index) => Some(self.conns.live(index).admission),
            None => self.sessions.admission_of_session(session),
        };
        let source = admission.and_then(|admission| self.sources.lock().address_of(admission));
        let listener = conn.and_then(|index| {
            let account = self.conns.live(index).account;
            let mut numbers = 0..=self.config.more_listeners.len();
            numbers.find(|&number| self.config.account_of(number) == account)
        });
        let (mut up, down) = ledgers_of(session);
        if session.numbers().is_none() {
            // A backend of version 2 counts nothing.
            (up.numbered, up.acknowledged) = (session.sent(), session.sent());
        }
        let chain = session.numbered();
        Some(SessionInfo {
            id,
            version: if chain.is_some() { 3 } else { 2 },
            conn: conn.map(|index| index as usize),
            age: session.age(self.now),
            away: session.away_since().map(|since| self.now.since(since)),
            source,
            listener,
            queue_packets: session.outbox.packets(),
            queue_bytes: session.outbox.held_bytes(),
            backlog_bytes: session.backlog_bytes(),
            is_waiting: session.waiting,
            is_paused: session.is_paused(),
            resumes: chain.map_or(session.resumes(), |chained| chained.standing.highest()),
            has_exchanged: session.has_exchanged(),
            up,
            down,
            cause: chain
                .map(|chained| chained.cause)
                .filter(|&cause| cause != Code::GOODBYE),
        })
    }

    /// Ends a session for an operator. Its client is told `kick`, and the backend is told the same as if it had kicked the session itself.
    ///
    /// # Errors
    /// When there is no such session, or `kick` is none that a backend could send.
    pub fn handle_kick(
        &mut self,
        now: Time,
        id: ClientId,
        kick: &Kick<'_>,
    ) -> Result<(), KickError> {
        noted!(
            self,
            now,
            Kick {
                id,
                code: kick.code.to_u16(),
                wait_ms: kick.wait_ms,
                text: kick.text
            }
        );
        told!(self, self.try_kick(now, id, kick), |kicked| kicked
            .is_ok()
            .into())
    }

    fn try_kick(&mut self, now: Time, id: ClientId, kick: &Kick<'_>) -> Result<(), KickError> {
        if !Kick::allows(kick.code) {
            return Err(KickError::Code(kick.code));
        }
        if kick.text.len() > MAX_TEXT_BYTES {
            return Err(KickError::TextTooLong);
        }
        self.step(now, |edge, now| {
            let session = edge.sessions.lookup(id).ok_or(KickError::NoSession)?;
            edge.end_session_by(now, session, EndReason::Kicked, Some(kick));
            Ok(())
        })
    }

    /// Admits no more connections from a network, for all shards. Those that are there stay. `within` is for how long, `None` until the ban
    /// is [lifted](Edge::handle_unban).
    ///
    /// # Errors
    /// When there are [`MAX_BANS`](crate::edge::MAX_BANS) others, or the note is too long.
    pub fn handle_ban(
        &mut self,
        now: Time,
        network: IpNet,
        within: Option<Duration>,
        note: &str,
    ) -> Result<(), BanError> {
        noted!(
            self,
            now,
            Ban {
                network,
                within,
                note
            }
        );
        let ban = |edge: &mut Edge, now| {
            let ban = Ban {
                until: within.map(|within| now + within),
                note: note.into(),
            };
            edge.shares.change_bans(|bans| bans.add(now, network, ban))
        };
        told!(self, self.step(now, ban), |banned| banned.is_ok().into())
    }

    /// Lifts the ban of exactly this network, for all shards. Returns false if there is none.
    pub fn handle_unban(&mut self, now: Time, network: IpNet) -> bool {
        noted!(self, now, Unban(network));
        let lift = |edge: &mut Edge, _| edge.shares.change_bans(|bans| bans.remove(network));
        told!(self, self.step(now, lift), |lifted| lifted.into())
    }

    /// Returns up to [`MAX_PAGE`] networks that are banned, behind this one.
    #[must_use]
    pub fn bans(&self, after: Option<IpNet>) -> BanPage {
        let now = self.now;
        self.shares.change_bans(|bans| {
            bans.forget_over(now);
            let mut rest = bans.after(now, after);
            let left = |ban: &Ban| ban.until.map(|until| until.since(now));
            let page = rest.by_ref().take(MAX_PAGE);
            let page = page.map(|(network, ban)| (*network, left(ban), ban.note.clone()));
            BanPage {
                bans: page.collect(),
                has_more: rest.next().is_some(),
            }
        })
    }

    /// Drains the edge without ending it: no session begins, those that there are go on and may be resumed, and all clients of version 3 are
    /// asked to leave within this time. If it is zero, nobody is asked. `None` undoes it: sessions begin again, and clients that have not left
    /// may stay.
    pub fn handle_drain(&mut self, now: Time, within: Option<Duration>) {
        noted!(self, now, Drain(within));
        self.step(now, |edge, now| match within {
            Some(within) => {
                edge.is_draining = true;
                if !within.is_zero() {
                    edge.ask_all_to_leave(now, GoAwayCode::GoingAway, within);
                }
            }
            None => {
                edge.is_draining = false;
                edge.let_all_stay(now);
            }
        });
    }

    /// Returns what steers the backends of all shards, if there are several (SPEC 45.5).
    #[cfg(feature = "backends")]
    #[must_use]
    pub fn backends(&self) -> crate::edge::BackendControl {
        self.shares.control()
    }

    /// Returns whether no connection from `source` is admitted: an operator has banned a network around it.
    #[inline]
    pub(crate) fn is_banned(&self, now: Time, source: IpAddr) -> bool {
        self.shares.has_bans() && self.shares.is_banned(now, source)
    }
}
