//! The clients' streams: reads, writes and closes them for the edge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::{CloseKind, Closed, ConnKey, Duty, Edge, LAST_READ_BYTES};

use super::alive::{Alive, spread};
use super::errands::Peers;
use super::lingering::Lingering;
use super::table::{Client, KEPT_CAPACITY, Reading, Table, token_of};
use super::work::Work;
use crate::io::{Read, Written};
use crate::runtime::system_random;
use crate::waker::{ReadyList, Token};
use crate::{Farewell, PeerEnd, Stream};

/// Costly handshakes of transports per turn: about two milliseconds.
pub(super) const HANDSHAKES_PER_TURN: usize = 16;
/// Reads of one client per turn. The second registers the waker.
const READS_PER_TURN: usize = 2;
/// Writes to one client per turn. The first writes everything, or the second registers the waker.
const WRITES_PER_TURN: usize = 3;

/// How often streams that are not read, for lack of room at the backend, are checked for a peer that has left.
const LEFT_EVERY: Duration = Duration::from_secs(1);
/// How many clients are checked or asked at a time: checks take about two milliseconds. The others follow next time.
const ASKED_AT_ONCE: usize = 4_096;

/// The streams of all clients.
pub(super) struct Clients<S> {
    table: Table<S>,
    /// Streams that are not read, and some that are read again: no waker is registered that would report their end. Each is listed once.
    paused: VecDeque<ConnKey>,
    /// When they are next checked for their end.
    asks_at: Option<Time>,
    /// Those that are asked for signs of life.
    alive: Alive,
    /// Streams whose costly handshake waits for its turn.
    handshakes: VecDeque<ConnKey>,
    /// Until when none of them may be made.
    handshakes_at: Option<Time>,
    lingering: Lingering<S>,
    entropy: Entropy,
}

/// Draws bytes that nobody can know or guess, for one step of an opening.
type Entropy = Box<dyn FnMut() -> [u8; 32] + Send>;

/// Returns the span of the log for what happens to a client: its connection, and its session as it is now. Below Debug it costs a comparison.
#[cfg(feature = "figures")]
#[inline(always)]
fn span_of(key: ConnKey, edge: &Edge) -> tracing::span::EnteredSpan {
    let session = || edge.session_of(key).map(tracing::field::display);
    tracing::debug_span!("client", conn = key.index(), session = session()).entered()
}

impl<S: Stream> Peers for Clients<S> {
    fn name_of(&self, conn: usize) -> Option<String> {
        self.table.stream(conn)?.peer_name()
    }
}

impl<S: Stream> Clients<S> {
    pub(super) fn new(ready: &Arc<ReadyList>) -> Self {
        Clients {
            table: Table::new(ready),
            paused: VecDeque::new(),
            asks_at: None,
            alive: Alive::default(),
            handshakes: VecDeque::new(),
            handshakes_at: None,
            lingering: Lingering::new(ready),
            entropy: Box::new(system_random),
        }
    }

    /// Sets where the entropy of openings comes from.
    pub(super) fn draw_from(&mut self, entropy: Entropy) {
        self.entropy = entropy;
    }

    /// Sets the maximum number of lingering streams.
    pub(super) fn linger_at_most(&mut self, streams: usize) {
        self.lingering.at_most(streams);
    }

    /// Adds an accepted stream. It is read in the next turn.
    pub(super) fn insert(&mut self, now: Time, key: ConnKey, mut stream: S, work: &mut Work) {
        stream.meter_handshake(now);
        if let Some(after) = stream.keep_alive() {
            self.watch(key, now + spread(key, after));
        }
        self.table.insert(key, stream, work);
    }

    /// Inserts a client of another process. Its transport may hold bytes for the reader, or for the socket.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn insert_moved(
        &mut self,
        (now, key): (Time, ConnKey),
        stream: S,
        edge: &mut Edge,
        work: &mut Work,
    ) {
        self.insert(now, key, stream, work);
        if let Some(client) = self.table.find(key) {
            // What it holds is sent before anything else is written.
            client.channel.notes.write_blocked = true;
            client.tell(edge, now);
        }
    }

    /// Reads what has arrived from a client that may be about to be replaced. Its end is left to be found later.
    fn read_out(
        &mut self,
        key: ConnKey,
        edge: &mut Edge,
        now: Time,
        buffer: &mut [u8],
        work: &mut Work,
    ) {
        let Some((client, waker)) = self.table.find_with_waker(key) else {
            return;
        };
        if edge.read_budget(key) == 0
            && client.channel.stream().peer_end() == Some(PeerEnd::Finished)
        {
            edge.handle_client_ending(now, key);
        }
        let cx = &mut Context::from_waker(&waker);
        let mut left = LAST_READ_BYTES;
        loop {
            let budget = edge.read_budget(key).min(buffer.len()).min(left);
            if budget == 0 {
                break;
            }
            let Read::Bytes(bytes) = client.channel.read(cx, &mut buffer[..budget]) else {
                break;
            };
            edge.handle_client_bytes(now, key, &buffer[..bytes]);
            left -= bytes;
        }
        client.tell(edge, now);
        work.queue(self.table.wakers(), token_of(key));
    }

    /// Serves a client whose token was woken or queued: reads it once, and records a write that may proceed. Returns the number of bytes
    /// read.
    pub(super) fn handle_ready(
        &mut self,
        token: Token,
        edge: &mut Edge,
        now: Time,
        buffer: &mut [u8],
        work: &mut Work,
    ) -> usize {
        // Even if it is gone: the next one with this token is queued again.
        self.table.wakers().serve(token);
        let Some(client) = self.table.at(token) else {
            return 0;
        };
        let key = client.key;
        #[cfg(feature = "figures")]
        let _span = span_of(key, edge);
        if let Some(old) = edge.takeover_of(key) {
            self.read_out(old, edge, now, buffer, work);
        }
        let Some((client, waker)) = self.table.find_with_waker(key) else {
            return 0;
        };
        let mut taken = 0;
        let cx = &mut Context::from_waker(&waker);
        if std::mem::take(&mut client.channel.notes.write_blocked) {
            // Bytes that the transport holds go first. They wait for the socket even if the machine has nothing more to write.
            client.channel.notes.write_blocked = client.channel.holds(cx);
            if !client.channel.notes.write_blocked {
                work.unblocked.push(key);
            }
        }
        for _ in 0..READS_PER_TURN {
            let budget = edge.read_budget(key).min(buffer.len());
            let reading = &mut client.channel.notes.reading;
            if budget == 0 {
                if std::mem::replace(reading, Reading::Paused) == Reading::Read {
                    self.paused.push_back(key);
                    self.asks_at.get_or_insert(now + LEFT_EVERY);
                }
                return taken;
            }
            reading.resume();
            let read = client.channel.read(cx, &mut buffer[..budget]);
            if let Read::Bytes(bytes) = read {
                edge.handle_client_bytes(now, key, &buffer[..bytes]);
            }
            taken += client.tell(edge, now);
            let cause = match read {
                Read::Blocked => {
                    let awaits = client.channel.stream().awaits_handshake();
                    if awaits
                        && !std::mem::replace(&mut client.channel.notes.awaits_handshake, true)
                    {
                        self.handshakes.push_back(key);
                    }
                    return taken;
                }
                Read::Eof => Closed::Eof,
                Read::Failed | Read::Answered if client.channel.stream().was_violated() => {
                    Closed::Violation
                }
                Read::Failed | Read::Answered => Closed::Error,
                Read::Bytes(bytes) => {
                    taken += bytes;
                    if bytes == budget {
                        // There may be more, which waits until the others have had their turn.
                        break;
                    }
                    continue;
                }
            };
            edge.handle_client_closed(now, key, cause);
            client.channel.stream_mut().note_handshake(now, true);
            if let Some(client) = self.table.remove(key)
                && matches!(read, Read::Answered)
            {
                self.close(client, CloseKind::Graceful, Farewell::Over, now);
                self.lingering.hold_the_bound();
            }
            return taken;
        }
        work.queue(self.table.wakers(), token);
        taken
    }

    /// Does what the edge asks of a client's connection. Returns whether it is to be handed over, which is not done here.
    #[must_use]
    pub(super) fn serve(
        &mut self,
        key: ConnKey,
        edge: &mut Edge,
        now: Time,
        work: &mut Work,
    ) -> bool {
        let Some((client, waker)) = self.table.find_with_waker(key) else {
            return false;
        };
        #[cfg(feature = "figures")]
        let _span = span_of(key, edge);
        let cx = &mut Context::from_waker(&waker);
        let mut writes = 0;
        let wants_bytes = loop {
            match edge.client_duty(key) {
                Duty::HandOver(_) => return true,
                Duty::Entropy => {
                    edge.handle_entropy(now, key, (self.entropy)());
                    continue;
                }
                Duty::Close(kind) => {
                    let farewell = edge.close_reason(key).map(Farewell::from);
                    if let Some(mut client) = self.table.remove(key) {
                        client.channel.stream_mut().note_handshake(now, true);
                        self.close(client, kind, farewell.unwrap_or_default(), now);
                        self.lingering.hold_the_bound();
                    }
                    edge.handle_client_closed(now, key, Closed::Asked);
                    return false;
                }
                Duty::Read(_) => break true,
                Duty::Rest => break false,
                Duty::Write(_) if client.channel.notes.write_blocked => {}
                Duty::Write(_) if writes == WRITES_PER_TURN => work.unblocked.push(key),
                Duty::Write(output) => match client.channel.write(cx, output) {
                    Written::Nothing | Written::Failed => {}
                    Written::Blocked => client.channel.notes.write_blocked = true,
                    Written::Bytes(bytes) => {
                        edge.handle_client_written(now, key, bytes);
                        writes += 1;
                        continue;
                    }
                },
            }
            break edge.read_budget(key) > 0;
        };
        client.channel.notes.write_blocked |= client.channel.holds(cx);
        client.tell(edge, now);
        let failed = client.channel.write_failed();
        if failed && !wants_bytes {
            client.channel.stream_mut().note_handshake(now, true);
            edge.handle_client_closed(now, key, Closed::Error);
            self.table.remove(key);
        } else if failed || (client.channel.notes.reading == Reading::Paused && wants_bytes) {
            client.channel.notes.reading.resume();
            work.queue(self.table.wakers(), token_of(key));
        }
        false
    }

    /// Appends what the stream of this client has beside its socket. Returns false if another process cannot go on with it.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn save(&self, key: ConnKey, out: &mut Vec<u8>) -> bool {
        let stream = self.table.movable(key);
        stream.inspect(|stream| stream.save(out)).is_some()
    }

    /// Returns the socket of this client, if another process can go on with it.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn socket(&self, key: ConnKey) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.table.socket(key)
    }

    /// Closes all streams in order but those of which another process has the sockets. Nothing is waited for.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn close_all_but(&mut self, moved: &std::collections::HashSet<usize>) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let clients = self.table.drain();
        for client in clients.filter(|client| !moved.contains(&client.key.index())) {
            let mut stream = client.channel.into_stream();
            stream.part(Farewell::Ending);
            // What the socket does not take now is lost, as with a connection that is cut.
            let _ = stream.poll_close(cx);
        }
    }

    /// Asks a client for a sign of life at this time.
    fn watch(&mut self, key: ConnKey, at: Time) {
        let table = &self.table;
        self.alive.enter(key, at, table.len(), |key| table.has(key));
    }

    /// Asks clients for signs of life whose time has come, and drops those that gave none.
    fn ask_for_life(&mut self, edge: &mut Edge, now: Time) {
        for _ in 0..ASKED_AT_ONCE {
            let Some(key) = self.alive.next(now) else {
                return;
            };
            let Some((client, waker)) = self.table.find_with_waker(key) else {
                continue;
            };
            let cx = &mut Context::from_waker(&waker);
            // A client that is not read cannot give a sign of life.
            let is_read = client.channel.notes.reading != Reading::Paused;
            if is_read && !client.channel.stream_mut().is_alive(cx) {
                tracing::debug!(conn = key.index(), "a client gives no sign of life");
                edge.handle_client_closed(now, key, Closed::Error);
                if let Some(client) = self.table.remove(key) {
                    client.channel.abort();
                }
                continue;
            }
            client.channel.notes.write_blocked |= client.channel.holds(cx);
            if let Some(after) = client.channel.stream().keep_alive() {
                self.watch(key, now + after);
            }
        }
    }

    /// Refuses a stream that the edge does not admit. Its transport answers if it can, and if not too many others linger.
    pub(super) fn refuse(&mut self, mut stream: S, farewell: Farewell, now: Time) {
        if self.lingering.has_room() && stream.refuse(farewell) {
            self.lingering.close(stream, now);
        }
    }

    /// Permits the next costly handshake, if one waits and its time has come. The client at the returned token must be read then.
    pub(super) fn next_handshake(&mut self, edge: &mut Edge, now: Time) -> Option<Token> {
        if self.handshakes_at.is_some_and(|at| at > now) {
            return None;
        }
        self.handshakes_at = None;
        while let Some(&key) = self.handshakes.front() {
            // The others are gone. The oldest leave first, so the half-open connections bound the line.
            if let Some(client) = self.table.find(key) {
                if let Err(at) = edge.admit_handshake(now) {
                    self.handshakes_at = Some(at);
                    return None;
                }
                client.channel.notes.awaits_handshake = false;
                client.channel.stream_mut().permit_handshake();
                self.handshakes.pop_front();
                return Some(token_of(key));
            }
            self.handshakes.pop_front();
        }
        if self.handshakes.capacity() > KEPT_CAPACITY {
            self.handshakes = VecDeque::new();
        }
        None
    }

    /// Returns whether a costly handshake may be made in the next turn.
    pub(super) fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty() && self.handshakes_at.is_none()
    }

    /// Removes a client that continues at another shard.
    pub(super) fn depart(&mut self, key: ConnKey) -> Option<S> {
        let client = self.table.remove(key);
        client.map(|client| client.channel.into_stream())
    }

    /// Closes every stream, since the edge has ended. All of them may linger: they had descriptors before.
    pub(super) fn close_all(&mut self, edge: &mut Edge, now: Time) {
        for client in self.table.drain() {
            let key = client.key;
            self.close(client, edge.client_end(key), Farewell::Ending, now);
            edge.handle_client_closed(now, key, Closed::Asked);
        }
    }

    /// Returns when the next of these comes: a lingering stream's end, a check of unread ones, a costly handshake, a question for a sign of
    /// life.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.lingering.next_deadline(),
            self.asks_at,
            self.handshakes_at,
            self.alive.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Drops streams that have lingered long enough, finds unread ones whose client has left, and asks for signs of life.
    pub(super) fn handle_time(&mut self, edge: &mut Edge, now: Time) {
        if self.asks_at.is_some_and(|at| at <= now) {
            self.ask_for_ends(edge, now);
        }
        self.ask_for_life(edge, now);
        self.lingering.handle_time(now);
    }

    /// Checks a bounded number of unread streams, and tells the edge which have ended.
    fn ask_for_ends(&mut self, edge: &mut Edge, now: Time) {
        for _ in 0..self.paused.len().min(ASKED_AT_ONCE) {
            let Some(key) = self.paused.pop_front() else {
                break;
            };
            let Some(client) = self.table.find(key) else {
                continue;
            };
            if client.channel.notes.reading != Reading::Paused {
                client.channel.notes.reading = Reading::Read;
                continue;
            }
            match client.channel.stream().peer_end() {
                Some(PeerEnd::Broken) => {
                    edge.handle_client_closed(now, key, Closed::Error);
                    self.table.remove(key);
                    continue;
                }
                Some(PeerEnd::Finished) => edge.handle_client_ending(now, key),
                None => {}
            }
            self.paused.push_back(key);
        }
        self.asks_at = (!self.paused.is_empty()).then(|| now + LEFT_EVERY);
        if self.paused.capacity() > KEPT_CAPACITY.max(4 * self.paused.len()) {
            self.paused.shrink_to(2 * self.paused.len());
        }
    }

    /// Drops all lingering streams. Reads what they hold first, so that they end without a RST if possible.
    pub(super) fn finish(&mut self, buffer: &mut [u8]) {
        self.lingering.finish(buffer);
    }

    fn close(&mut self, client: Client<S>, kind: CloseKind, farewell: Farewell, now: Time) {
        let mut stream = client.channel.into_stream();
        let is_told = match kind {
            CloseKind::Graceful => {
                stream.part(farewell);
                true
            }
            CloseKind::Abort => farewell.is_told_to_strangers() && stream.refuse(farewell),
        };
        if is_told {
            self.lingering.close(stream, now);
        } else {
            stream.abort();
        }
    }

    /// Sends what the transports of lingering streams hold, as far as there is room now.
    pub(super) fn handle_room(&mut self) {
        self.lingering.handle_woken();
    }

    /// Returns whether a closed stream has bytes in its transport that wait for room.
    pub(super) fn holds(&self) -> bool {
        self.lingering.holds()
    }
}
