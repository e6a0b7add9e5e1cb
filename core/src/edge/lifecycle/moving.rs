//! What a machine saves with its connections, and how the machine of another process takes them over (SPEC 41.1).

use core::net::{IpAddr, Ipv4Addr};

use zeroize::Zeroizing;

use crate::edge::Edge;
use crate::edge::conns::conn::{Conn, ConnKey};
use crate::edge::conns::state::Phase;
use crate::edge::door::sources::{Admission, SharedSources};
use crate::edge::sessions::Place;
use crate::edge::snapshot::{OF_CONNECTIONS, Part, Snapshot};
use crate::edge::uplink::Uplink;
use crate::edge::uplink::batch::Downward;
use crate::edge::uplink::moved::MovedLink;
use crate::id::ClientId;
use crate::protocol::Channel;
use crate::time::Time;
use crate::wire::saved::{Saved, put_bytes, put_count, put_numbers};

/// What a connection takes beside what it holds.
const CONNECTION_BYTES: usize = 256;

/// What a machine saves with its connections. It is wiped when it is dropped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Moving {
    /// The parts of a [`Snapshot`].
    pub parts: [Part; 2],
    /// The connections in it, in order. All others are closed when the other process has taken over.
    pub connections: Vec<ConnKey>,
    /// Whether the link is in it.
    pub link: bool,
}

/// The connection of a session, as it was saved.
struct MovedConn<'a> {
    id: ClientId,
    account: u16,
    /// What its transport has beside its socket.
    transport: &'a [u8],
    control: &'a [u8],
    read: &'a [u8],
    channel: Saved<'a>,
}

impl<'a> MovedConn<'a> {
    fn load(bytes: &'a [u8]) -> Option<Self> {
        let mut saved = Saved::new(bytes);
        let (id, account) = (ClientId::from_u64(saved.u64()?), saved.u16()?);
        let transport = saved.bytes()?;
        let (control, read) = (saved.bytes()?, saved.bytes()?);
        Some(MovedConn {
            id,
            account,
            transport,
            control,
            read,
            channel: saved,
        })
    }
}

impl Snapshot {
    /// Returns what the transport of each connection of a client has beside its socket, in the order of these.
    #[must_use]
    pub fn transports(&self) -> Vec<&[u8]> {
        let clients = self.contents().moved.clients.into_iter();
        // A record that is none is no connection either.
        let transport = |record| MovedConn::load(record).map_or(&[][..], |moved| moved.transport);
        clients.map(transport).collect()
    }
}

impl Edge {
    /// Saves all that another process needs to go on with the sessions, and with the connections of which `transport` appends what they have
    /// beside a socket, and returns true. `link_has_socket` says that the link has nothing but a socket. `coming` is what is on its way from the trunk, as if it had come. Nothing changes
    /// here: if the other process fails, this machine serves on. If it takes over, this one must not write to what was moved any more. (SPEC
    /// 41.1(b))
    #[must_use]
    pub fn save_moving(
        &self,
        now: Time,
        coming: &[Downward],
        transport: impl FnMut(ConnKey, &mut Vec<u8>) -> bool,
        link_has_socket: bool,
    ) -> Moving {
        let mut copy = self.fork();
        // Nothing that it does is counted where the original counts.
        copy.sources = SharedSources::new([0; 16]);
        #[cfg(feature = "backends")]
        {
            copy.departures = self.departures.copied(&copy.shares);
        }
        let now = copy.advance(now);
        coming.iter().for_each(|input| copy.take_coming(now, input));
        copy.save_moved(now, transport, link_has_socket)
    }

    /// Takes what is on its way from the trunk, if need be without a branch.
    fn take_coming(&mut self, now: Time, input: &Downward) {
        if self.uplink.open_branch().is_some() {
            return self.handle_branch_input(now, input);
        }
        match input {
            Downward::Packets(batch) => {
                batch
                    .bodies()
                    .for_each(|(body, _)| self.take_late(now, body));
            }
            Downward::Returned(batch) => self.link_queue.take_back(batch),
            Downward::Released | Downward::Version2 => {}
        }
    }

    fn save_moved(
        &mut self,
        now: Time,
        mut transport: impl FnMut(ConnKey, &mut Vec<u8>) -> bool,
        link_has_socket: bool,
    ) -> Moving {
        self.saves = true;
        self.shutdown_at = Some(now);
        let link = link_has_socket.then(|| self.movable_link()).flatten();
        // A copy says nothing about the end of the link.
        self.uplink = Uplink::new(&self.config);
        self.link_queue.rewind();
        if link.as_ref().is_some_and(|link| link.begun_bytes() > 0) {
            // That frame goes with the link.
            let frames = &mut self.link_queue.frames;
            frames.advance(frames.next_frame_bytes().unwrap_or_default());
        }
        let (mut connections, mut records) = (Vec::new(), Vec::new());
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            from = index + 1;
            self.conns.live_mut(index).admission = Admission::EXEMPT;
            let key = self.conns.key(index);
            let mut beside = Zeroizing::new(Vec::new());
            let saved = self.conns.live(index).is_established() && transport(key, &mut beside);
            match saved.then(|| self.save_conn(index, &beside)).flatten() {
                Some(record) => {
                    connections.push(key);
                    records.push(record);
                }
                None => self.remove_conn(now, index),
            }
        }
        let bytes: usize = records.iter().map(|record| 4 + record.len()).sum();
        let of_link = link.as_ref().map_or(0, MovedLink::bytes);
        let mut out = Zeroizing::new(Vec::with_capacity(bytes + of_link + CONNECTION_BYTES));
        out.push(OF_CONNECTIONS);
        out.push(link.is_some().into());
        if let Some(link) = &link {
            link.put(&mut out);
        }
        put_count(&mut out, records.len());
        records
            .iter()
            .for_each(|record| put_bytes(&mut out, record));
        Moving {
            parts: [self.save_sessions(now), Part(out)],
            connections,
            link: link.is_some(),
        }
    }

    /// Returns what is to be moved of the link, if it has version 2 and nothing is announced.
    fn movable_link(&self) -> Option<MovedLink> {
        let Uplink::Link(link) = &self.uplink else {
            return None;
        };
        let queue = &self.link_queue;
        let is_movable = link.is_open()
            && queue.version.is_version_2()
            && !queue.has_announcements()
            && link.proving.output().is_empty();
        is_movable.then(|| MovedLink::of(link, queue.frames.begun()))
    }

    /// Saves the connection at `index`, of a session. `None`: it is not moved.
    fn save_conn(&mut self, index: u32, transport: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let session = self.conns.live(index).session()?;
        if self.open_held_frames(index, session).is_some() {
            return None;
        }
        let conn = self.conns.live_mut(index);
        let entry = self.sessions.live(session);
        let held = conn
            .held_bytes()
            .saturating_add(transport.len() + CONNECTION_BYTES);
        let mut out = Zeroizing::new(Vec::with_capacity(held));
        put_numbers(&mut out, &[entry.id.as_u64()]);
        out.extend_from_slice(&conn.account.to_le_bytes());
        put_bytes(&mut out, transport);
        put_bytes(&mut out, conn.control());
        put_bytes(&mut out, conn.reader.held());
        let channel = conn.channel();
        let is_moved = channel.save(&entry.outbox, entry.numbers(), &mut out);
        is_moved.then_some(out)
    }

    /// Goes on with the connections of another process, whose sessions were [restored](Self::restore). For each of them, in the order of the
    /// snapshot, returns its key, or `None` if it is not here: its session is another shard's, or there is no memory for that, or no place.
    /// A socket that is nowhere is to be closed. If the link is among them, its socket is to be the next one that is connected. To be called
    /// before the first client and the first link.
    pub fn take_over(&mut self, now: Time, snapshot: &Snapshot) -> Vec<Option<ConnKey>> {
        // A recording has no record of what is taken over, so it ends here (SPEC 42.1(g)).
        #[cfg(feature = "record")]
        self.stop_recording();
        self.step(now, |edge, now| {
            let contents = snapshot.contents();
            let is_branch = edge.config.shards > 0;
            let goes_on = !is_branch || contents.has_link_of_version_2();
            // It is that of the first backend.
            let goes_on = goes_on && edge.grid().backend_of(edge.config.shard) == 0;
            let moved = contents.moved;
            let link = moved.link.filter(|_| goes_on);
            // That of several shards goes on in their trunk.
            let begun = link.as_ref().filter(|_| !is_branch);
            if let Some(frame) = begun.and_then(MovedLink::begun_frame) {
                edge.link_queue.take_back(&frame);
            }
            edge.moved_link = link.map(Box::new);
            let clients = moved.clients.into_iter();
            clients.map(|record| edge.take_conn(now, record)).collect()
        })
    }

    fn take_conn(&mut self, now: Time, record: &[u8]) -> Option<ConnKey> {
        let moved = MovedConn::load(record)?;
        let session = self.sessions.lookup(moved.id)?;
        // One that waits for another backend has to come again.
        #[cfg(feature = "backends")]
        if self.has_left(moved.id) {
            return None;
        }
        let entry = self.sessions.live_mut(session);
        if entry.place != Place::Away || !self.has_place_for_return() {
            return None;
        }
        let entry = self.sessions.live_mut(session);
        let mut saved = moved.channel;
        let channel = Channel::load(&mut saved, entry.lend())?;
        if !saved.is_empty() {
            return None;
        }
        // Where it comes from is known only to whoever opened it.
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut conn = Conn::new(Phase::Version, nowhere, Admission::EXEMPT, moved.account);
        conn.reader.hold(moved.read);
        match moved.control {
            [] => conn.forget_opening(),
            control => conn.opening().1.extend_from_slice(control),
        }
        conn.set_channel(channel);
        let key = self.conns.insert_established(conn, session)?;
        let index = key.0.index;
        self.end_absence(now, session);
        let entry = self.sessions.live_mut(session);
        entry.place = Place::Attached(index);
        if entry.is_linked() {
            entry.linked().is_told_away = false;
        }
        self.start_alarm(now, index, session);
        self.conns.mark_ready(index);
        self.shares.listeners().join(moved.account);
        self.sessions.recount(session, &mut self.account);
        self.conns.recount(index, &mut self.account);
        self.watch_reads(now, index, true);
        let entry = self.sessions.live(session);
        let conn = self.conns.live(index);
        let waits = !conn.control().is_empty() || conn.has_output(&entry.outbox, entry.numbers());
        if waits {
            self.watch_writes(now, index);
        }
        Some(key)
    }

    /// Goes on with the link of another process, or with a branch of it, if that is what was connected. Returns whether it is.
    pub(crate) fn take_link(&mut self) -> bool {
        let Some(moved) = self.moved_link.take() else {
            return false;
        };
        let queue = &mut self.link_queue;
        let goes_on = queue.version.goes_on_in_version_2();
        let link = match &mut self.uplink {
            Uplink::Link(link) => link,
            Uplink::Branch(branch) => {
                if goes_on {
                    branch.go_on();
                }
                return goes_on;
            }
        };
        if !goes_on || queue.frames.begin_at(moved.begun_bytes()).is_none() {
            // The configuration demands another version, or the frame is not there: a new link begins.
            link.wants_close = true;
            return true;
        }
        moved.go_on(link);
        true
    }
}
