//! Several edges at one backend: one book of sessions for each, and one stream of events of all. (SPEC 40)

mod moves;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use crate::backend::BackendError;
use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{COUNTS_UNSURE, Feature, Grant, Known, flag};
use crate::wire::frame::FrameReader;
use crate::{ClientId, Time};

use super::host::{EdgeId, Event, GrantError, Host, HostConfig, Mark};

pub use moves::{LEFT_BEHIND, UNKNOWN_WITHIN};

/// Links of which it is not known yet of what edge they are, at most. (SPEC 40.7)
pub const MAX_OPENING: usize = 16;

/// A stream to an edge. None is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// The state of one edge of a [`Fleet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EdgeState {
    /// Its life that granted last.
    pub edge: EdgeId,
    /// Its link, if there is one.
    pub link: Option<LinkId>,
    /// Sessions that it has, as far as is known.
    pub sessions: usize,
    /// Whether it was [given up](Fleet::give_up).
    pub is_given_up: bool,
}

/// An edge, or a home of which something was said before its edge has come.
#[derive(Debug)]
struct Lane {
    home: u16,
    host: Host,
    edge: Option<EdgeId>,
    link: Option<LinkId>,
    /// The stream on which it has granted last.
    granted_on: LinkId,
    /// Whether it may have begun to count again, on a later stream whose ASK had no counts of it.
    is_unsure: bool,
    is_given_up: bool,
}

/// A link of which it is not known yet of what edge it is.
#[derive(Debug)]
struct Opening {
    link: LinkId,
    host: Host,
    /// What its ASK says.
    known: Vec<Known>,
}

/// A link of an edge that another one has displaced, or that was refused (SPEC 40.1). Its frames are dropped and counted, and its stream is to
/// be closed.
#[derive(Debug)]
struct Fenced {
    link: LinkId,
    reader: FrameReader,
}

/// A backend's end of the links to its edges, with the sessions at all of them: like a [`Host`], of which it has one for each edge.
///
/// # Contract
/// It is that of a [`Host`], but for the streams (SPEC 40.5). The adapter calls [`handle_connected`](Self::handle_connected) for each new stream, and
/// names it with what that returns. It reads each stream whose link does not [want to be closed](Self::wants_close), writes its
/// [`output`](Self::output), and calls [`handle_closed`](Self::handle_closed) when it is gone. It gives each stream its turn, of as many bytes as
/// the others have.
///
/// # One edge
/// If its [configuration](HostConfig::with_edges) has one edge, it is a [`Host`], and a new stream takes the place of the one before.
#[derive(Debug)]
pub struct Fleet {
    config: HostConfig,
    max_packet_bytes: usize,
    lanes: Vec<Lane>,
    opening: Vec<Opening>,
    fenced: Vec<Fenced>,
    /// Streams so far.
    links: u64,
    /// Frames that were dropped since their edge was displaced.
    fenced_frames: u64,
    /// Sessions that an earlier life of the application has saved, of edges that have not come.
    restored: Vec<(ClientId, u64)>,
    /// The lane whose events come first.
    turn: usize,
    /// The lanes that may have more room than at the last look, a bit for each.
    touched: u64,
    /// The sessions that are not at the edge of their home, with the place of the lane that has them. (SPEC 44.5)
    moved: BTreeMap<ClientId, usize>,
    /// How many of these there may be before those are forgotten that have ended.
    swept_at: usize,
    /// The host of sessions whose edge is gone for good, and that may come to another one.
    attic: Option<Box<Host>>,
    /// When these end.
    left: VecDeque<(Time, ClientId)>,
    /// When the first edge has connected.
    began: Option<Time>,
}

impl Fleet {
    /// Creates one that knows no edge yet.
    #[must_use]
    pub fn new(config: impl Into<HostConfig>) -> Self {
        let config = config.into();
        // That of each edge.
        let max_packet_bytes = Host::new(config.clone()).max_packet_bytes();
        let mut fleet = Fleet {
            config,
            max_packet_bytes,
            lanes: Vec::new(),
            opening: Vec::new(),
            fenced: Vec::new(),
            links: 0,
            fenced_frames: 0,
            restored: Vec::new(),
            turn: 0,
            touched: 0,
            moved: BTreeMap::new(),
            swept_at: 0,
            attic: None,
            left: VecDeque::new(),
            began: None,
        };
        if fleet.is_of_several() {
            let mut attic = Host::new(fleet.config.clone());
            attic.detach();
            fleet.attic = Some(Box::new(attic));
        } else {
            let host = Host::new(fleet.config.clone());
            fleet.add_lane(0, host);
        }
        fleet
    }

    /// Returns whether it takes several edges.
    #[must_use]
    pub fn is_of_several(&self) -> bool {
        self.config.edges > 1
    }

    /// Like [`Host::restore`].
    pub fn restore(&mut self, id: ClientId, up: u64) {
        let place = self.place_for(id);
        match place.and_then(|place| self.host_in_mut(place)) {
            Some(host) => host.restore(id, up),
            None => self.restored.push((id, up)),
        }
    }

    fn add_lane(&mut self, home: u16, mut host: Host) -> usize {
        let place = self.lanes.len();
        host.set_lane(u16::try_from(place).unwrap_or(u16::MAX));
        self.restored.retain(|&(id, up)| {
            let is_here = id.home() == home;
            if is_here {
                host.restore(id, up);
            }
            !is_here
        });
        self.lanes.push(Lane {
            home,
            host,
            edge: None,
            link: None,
            granted_on: LinkId(0),
            is_unsure: false,
            is_given_up: false,
        });
        place
    }

    /// Returns the place of the lane of the edge that has a session, or else that has issued its id, if it is known.
    fn place_for(&self, id: ClientId) -> Option<usize> {
        if let Some(place) = self.moved.get(&id) {
            return Some(*place);
        }
        match self.is_of_several() {
            true => self.lanes.iter().position(|lane| lane.home == id.home()),
            false => (!self.lanes.is_empty()).then_some(0),
        }
    }

    /// Returns the host of a session, or of the edge that has issued its id.
    fn host_of(&self, id: ClientId) -> Option<&Host> {
        self.host_in(self.place_for(id)?)
    }

    /// Returns the host of a home to which something is sent, which may be before its edge has come.
    fn host_to(&mut self, id: ClientId) -> Option<&mut Host> {
        let home = id.home();
        if self.is_of_several()
            && home > 0
            && self.lanes.len() < self.config.edges
            && !self.moved.contains_key(&id)
            && !self.lanes.iter().any(|lane| lane.home == home)
        {
            let host = Host::new(self.config.clone());
            self.add_lane(home, host);
        }
        let place = self.place_for(id)?;
        self.host_in_mut(place)
    }

    // ---- streams

    /// Handles that an edge has connected.
    pub fn handle_connected(&mut self, now: Time) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        if !self.is_of_several() {
            if let Some(lane) = self.lanes.first_mut() {
                lane.link = Some(link);
                lane.host.handle_connected(now);
            }
            return link;
        }
        if self.opening.len() >= MAX_OPENING {
            let oldest = self.opening.remove(0);
            self.lose_opening(&oldest);
            self.fence(oldest.link);
        }
        self.began.get_or_insert(now);
        let lanes = self.lanes.iter();
        let known: Vec<Known> = lanes.filter_map(|lane| self.known(lane)).collect();
        let mut host = Host::new(self.config.clone());
        host.ask_one_of(now, &known, self.links);
        self.opening.push(Opening { link, host, known });
        link
    }

    /// Returns what an ASK says now of an edge that has granted.
    fn known(&self, lane: &Lane) -> Option<Known> {
        let known = lane.known()?;
        let is_unsure = lane.is_unsure || self.opening.iter().any(|one| one.may_be_of(lane));
        Some(match is_unsure {
            true => Known {
                received: COUNTS_UNSURE,
                acknowledged: 0,
                sent: 0,
                ..known
            },
            false => known,
        })
    }

    /// Handles bytes of a stream, like [`Host::handle_bytes`]. `None`: `input` is empty.
    ///
    /// # Errors
    /// [`BackendError`]: the stream must be closed.
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        link: LinkId,
        now: Time,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, BackendError> {
        if let Some(place) = self.place_of(link) {
            self.touch(place);
            self.arbitrate(place, now, input);
            return match self.lanes.get_mut(place) {
                Some(lane) => lane.host.handle_bytes(now, input),
                None => Ok(None),
            };
        }
        let place = self.opening.iter().position(|opening| opening.link == link);
        let Some(place) = place else {
            self.drop_frames(link, input);
            return Ok(None);
        };
        let Some(opening) = self.opening.get_mut(place) else {
            return Ok(None);
        };
        if opening.host.handle_bytes(now, input)?.is_none() {
            return Ok(None);
        }
        let Some(grant) = opening.host.take_grant() else {
            return Ok(Some(Event::Link));
        };
        let opening = self.opening.remove(place);
        if self.is_behind(opening.link, &grant) {
            self.fence(opening.link);
            self.drop_frames(link, input);
            return Ok(Some(Event::Link));
        }
        if let Err(error) = self.place(now, opening, &grant) {
            // What came with it is dropped as well.
            self.drop_frames(link, input);
            return Err(error);
        }
        Ok(Some(Event::Link))
    }

    /// Returns whether the same edge has granted on a later stream: what comes on this one, it has ended before. (SPEC 40.4(g))
    fn is_behind(&self, link: LinkId, grant: &Grant) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| {
            lane.edge.is_some_and(|edge| edge.run == grant.run) && link < lane.granted_on
        })
    }

    /// Gives a link to the edge that has granted on it.
    fn place(&mut self, now: Time, opening: Opening, grant: &Grant) -> Result<(), BackendError> {
        let new = EdgeId {
            home: grant.home,
            term: grant.term,
            run: grant.run,
        };
        let refused = |error| Err(BackendError::Refused(error));
        if new.home == 0 || !grant.features.has(Feature::Homes) {
            return refused(GrantError::NoHome);
        }
        let is_other = |lane: &&Lane| lane.home != new.home;
        let others = self.lanes.iter().filter(is_other);
        let same_run = others
            .filter_map(|lane| lane.edge)
            .find(|edge| edge.run == new.run);
        if let Some(known) = same_run {
            return refused(GrantError::HomeOfAnother { known, new });
        }
        let place = self.lanes.iter().position(|lane| lane.home == new.home);
        let known = place
            .and_then(|place| self.lanes.get(place))
            .and_then(|lane| {
                let is_over = lane.is_given_up;
                lane.edge.map(|edge| (edge, is_over))
            });
        if let Some((known, is_given_up)) = known {
            let is_same = known.run == new.run && !is_given_up;
            let is_later = match is_same {
                true => new.term >= known.term,
                false => new.term > known.term,
            };
            if !is_later {
                return refused(GrantError::HomeOfAnother { known, new });
            }
        }
        let place = match place {
            Some(place) => place,
            None if self.lanes.len() < self.config.edges => {
                let host = Host::new(self.config.clone());
                self.add_lane(new.home, host)
            }
            None => {
                let most = self.config.edges;
                return refused(GrantError::TooManyEdges { most, new });
            }
        };
        if let Some((known, _)) = known
            && known.run != new.run
            && grant.continues != Some(known.run)
        {
            self.leave_behind(now, place);
        }
        let Some(lane) = self.lanes.get_mut(place) else {
            return Ok(());
        };
        let asked = opening
            .known
            .iter()
            .find(|known| known.has_counts_of(new.run));
        let displaced = lane.link.take();
        lane.host.attach(grant, asked)?;
        (lane.edge, lane.link) = (Some(new), Some(opening.link));
        (lane.granted_on, lane.is_unsure) = (opening.link, false);
        lane.is_given_up = false;
        if let Some(displaced) = displaced {
            self.fence(displaced);
        }
        Ok(())
    }

    /// Notes that nobody will read what an edge may have granted on this stream.
    fn lose_opening(&mut self, lost: &Opening) {
        for lane in &mut self.lanes {
            lane.is_unsure |= lost.may_be_of(lane);
        }
    }

    fn fence(&mut self, link: LinkId) {
        let reader = FrameReader::default();
        self.fenced.push(Fenced { link, reader });
    }

    /// Drops the frames in `input`, and counts them.
    fn drop_frames(&mut self, link: LinkId, input: &mut &[u8]) {
        let fenced = self.fenced.iter_mut().find(|fenced| fenced.link == link);
        let mut own = FrameReader::default();
        let reader = fenced.map_or(&mut own, |fenced| &mut fenced.reader);
        while let Ok(Some(body)) = reader.next_frame(input, u32::MAX) {
            let flag = body.get(TAG_BYTES.saturating_sub(1));
            self.fenced_frames += u64::from(flag != Some(&flag::LINK_ACK));
        }
        *input = &[];
    }

    /// Handles that a stream is gone.
    pub fn handle_closed(&mut self, link: LinkId) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.link == Some(link)) {
            lane.link = None;
            lane.host.handle_closed();
        }
        if let Some(place) = self.opening.iter().position(|one| one.link == link) {
            let lost = self.opening.remove(place);
            self.lose_opening(&lost);
        }
        self.fenced.retain(|fenced| fenced.link != link);
    }

    /// Returns whether a stream is to be closed, once what has come on it was read: its edge does not grant, or was displaced.
    #[must_use]
    pub fn wants_close(&self, link: LinkId) -> bool {
        match self.host_at(link) {
            Some(host) => host.wants_close(),
            None => true,
        }
    }

    /// Returns whether another edge has taken the place of that of this stream.
    #[must_use]
    pub fn is_fenced(&self, link: LinkId) -> bool {
        self.fenced.iter().any(|fenced| fenced.link == link)
    }

    /// Returns the bytes to write to a stream now.
    #[must_use]
    pub fn output(&self, link: LinkId) -> &[u8] {
        self.host_at(link).map_or(&[], Host::output)
    }

    /// Handles that a stream took the first `n` bytes of its output.
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, link: LinkId, n: usize) {
        if let Some(host) = self.host_at_mut(link) {
            host.handle_written(n);
        }
        if let Some(place) = self.place_of(link) {
            self.touch(place);
        }
    }

    /// Notes that the edge at `place` may have more room. There are no more than bits.
    fn touch(&mut self, place: usize) {
        self.touched |= 1 << place;
    }

    fn place_of(&self, link: LinkId) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.link == Some(link))
    }

    fn host_at(&self, link: LinkId) -> Option<&Host> {
        let lane = self.lanes.iter().find(|lane| lane.link == Some(link));
        let opening = || self.opening.iter().find(|opening| opening.link == link);
        lane.map(|lane| &lane.host)
            .or_else(|| opening().map(|opening| &opening.host))
    }

    fn host_at_mut(&mut self, link: LinkId) -> Option<&mut Host> {
        if let Some(place) = self.place_of(link) {
            return self.lanes.get_mut(place).map(|lane| &mut lane.host);
        }
        let opening = self.opening.iter_mut().find(|opening| opening.link == link);
        opening.map(|opening| &mut opening.host)
    }

    // ---- events

    /// Returns what happened without a frame, or with one, and the stream of its edge. Events of one edge are in order; edges take turns.
    pub fn poll_event(&mut self) -> Option<(Option<LinkId>, Event<'static>)> {
        let count = self.lanes.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if let Some(lane) = self.lanes.get_mut(place)
                && let Some(event) = lane.host.poll_event()
            {
                self.turn = place;
                return Some((lane.link, event));
            }
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        let event = self.attic.as_mut()?.poll_event()?;
        Some((None, event))
    }

    /// Like [`Host::pending_precedes`], for the stream read last.
    pub fn pending_precedes(&mut self, link: LinkId) -> bool {
        self.host_at_mut(link).is_some_and(Host::pending_precedes)
    }

    /// Returns the mark of the last frame received on a stream.
    #[must_use]
    pub fn mark(&self, link: LinkId) -> Mark {
        self.host_at(link).map_or(Mark::NONE, Host::mark)
    }

    /// The application came back from everything of this edge up to the frame of this [mark](Self::mark).
    pub fn taken_up(&mut self, now: Time, mark: Mark) {
        if let Some(lane) = self.lanes.get_mut(usize::from(mark.lane)) {
            lane.host.taken_up(now, mark);
        }
    }

    /// Returns when something is to be done even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let lanes = self.lanes.iter().map(|lane| &lane.host);
        let opening = self.opening.iter().map(|opening| &opening.host);
        let left = self.left.front().map(|(at, _)| *at);
        let hosts = lanes.chain(opening).filter_map(Host::poll_timeout);
        hosts.chain(left).min()
    }

    /// Handles that time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        let lanes = self.lanes.iter_mut().map(|lane| &mut lane.host);
        let opening = self.opening.iter_mut().map(|opening| &mut opening.host);
        lanes
            .chain(opening)
            .for_each(|host| host.handle_timeout(now));
        self.end_left(now);
    }

    // ---- edges

    /// Returns the edges that have granted, in the order in which they came first.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeState> {
        let states = self.lanes.iter().filter_map(|lane| {
            Some(EdgeState {
                edge: lane.edge()?,
                link: lane.link,
                sessions: lane.host.sessions().len(),
                is_given_up: lane.is_given_up,
            })
        });
        states.collect()
    }

    /// Returns the edge of a stream, once it has granted.
    #[must_use]
    pub fn edge_of(&self, link: LinkId) -> Option<EdgeId> {
        let lane = self.lanes.iter().find(|lane| lane.link == Some(link))?;
        lane.edge()
    }

    /// Returns the edge, or the first of several that has granted.
    #[must_use]
    pub fn edge(&self) -> Option<EdgeId> {
        self.lanes.iter().find_map(Lane::edge)
    }

    /// Returns how many frames were dropped since they came from an edge that another one has displaced.
    #[must_use]
    pub fn fenced_frames(&self) -> u64 {
        self.fenced_frames
    }

    /// Gives up the edge of a home, of several, that has no link: its sessions end with 301, and its run is refused from now on. A later one of
    /// that home is taken. Returns whether there was such an edge. (SPEC 40.6)
    pub fn give_up(&mut self, home: u16) -> bool {
        let is_of_several = self.is_of_several();
        let lane = self.lanes.iter_mut().find(|lane| lane.home == home);
        let Some(lane) = lane.filter(|lane| is_of_several && lane.link.is_none()) else {
            return false;
        };
        lane.is_given_up = lane.edge.is_some();
        lane.host.give_up();
        true
    }
}

impl Opening {
    /// Returns whether the stream may be a later one of this edge, on which the edge counts from 1, since the ASK had no counts of it.
    /// (SPEC 40.3(e))
    fn may_be_of(&self, lane: &Lane) -> bool {
        let without = |edge: EdgeId| !self.known.iter().any(|known| known.has_counts_of(edge.run));
        !lane.is_given_up && self.link > lane.granted_on && lane.edge.is_some_and(without)
    }
}

impl Lane {
    /// Returns the edge that has granted last. The host knows that of a fleet of one.
    fn edge(&self) -> Option<EdgeId> {
        self.edge.or_else(|| self.host.edge())
    }

    /// Returns what an ASK says of the edge.
    fn known(&self) -> Option<Known> {
        let edge = self.edge?;
        match self.is_given_up {
            true => Some(Known {
                home: edge.home,
                term: edge.term,
                run: [0; 8],
                received: 0,
                acknowledged: 0,
                sent: 0,
            }),
            false => self.host.known(),
        }
    }
}
