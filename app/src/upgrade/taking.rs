//! The new process: takes over listeners, then all the rest.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use voltlane_core::edge::{MAX_SNAPSHOT_BYTES, Snapshot, SnapshotError};
use voltlane_core::keys::KeyPair;

use super::giving::took_of;
use super::partner::{Partner, Process};
use super::{
    BATCHES_AT_ONCE, ENDS_WITHIN, FORMAT, MAGIC, OPENINGS_WITHIN, SOCKETS_AT_ONCE, STOPS_WITHIN,
    UpgradeError, kind, partner_of,
};
use crate::config::{Listener, Settings};

/// The process that is taken over, up to READY.
pub(crate) struct Taking {
    partner: Partner,
    /// The process itself.
    before: Process,
    /// The socket at which it listens for others that take over.
    place: OwnedFd,
    /// The sockets of listeners that nothing here has taken yet, with name and address.
    listeners: Vec<(String, Vec<OwnedFd>)>,
}

impl Taking {
    /// Connects to the process that serves, and takes its listening sockets. It serves on.
    pub(crate) fn begin(settings: &Settings, keys: &KeyPair) -> Result<Taking, UpgradeError> {
        let partner = partner_of(settings)?;
        let mut hello = vec![kind::HELLO];
        hello.extend_from_slice(&MAGIC);
        hello.extend_from_slice(&FORMAT.to_le_bytes());
        hello.extend_from_slice(keys.public().as_bytes());
        let until = Instant::now() + STOPS_WITHIN + STOPS_WITHIN;
        partner.send(&hello, &[], until)?;
        let mut listeners: Vec<(String, Vec<OwnedFd>)> = Vec::new();
        loop {
            let message = partner.receive(until)?;
            if message.kind == kind::LISTENERS_END {
                let last: Result<[OwnedFd; 2], _> = message.sockets.try_into();
                let [before, place] = last.map_err(|_| UpgradeError::Cut)?;
                return Ok(Taking {
                    partner,
                    before: Process::from_descriptor(before),
                    place,
                    listeners,
                });
            }
            let message = message.expect(kind::LISTENER, "something between listeners")?;
            // One with many sockets comes in several messages.
            let named = message.text_of_listener()?;
            match listeners.iter_mut().find(|(of, _)| *of == named) {
                Some((_, sockets)) => sockets.extend(message.sockets),
                None => listeners.push((named, message.sockets)),
            }
        }
    }

    /// Takes the sockets of this listener, if the other process has one of the same name and address.
    pub(crate) fn sockets(&mut self, listener: &Listener) -> Vec<TcpListener> {
        let named = format!("{}\n{}", listener.name, listener.address);
        let found = self.listeners.iter_mut().find(|(of, _)| *of == named);
        let sockets = found.map(|(_, sockets)| std::mem::take(sockets));
        let sockets = sockets.unwrap_or_default().into_iter();
        sockets.map(TcpListener::from).collect()
    }

    /// Has the other process stop, and receives all that is moved. If that process ends before it has given all, there are only listeners.
    /// `names` names the backends of this process in the snapshot.
    pub(crate) fn receive(
        self,
        keys: &KeyPair,
        names: impl FnOnce(Snapshot) -> Snapshot,
    ) -> Result<Received, UpgradeError> {
        let moved = match self.moved(keys, names) {
            Ok(moved) => Some(moved),
            Err(UpgradeError::Gone) if self.before.has_ended_within(ENDS_WITHIN) => None,
            Err(error) => return Err(error),
        };
        Ok(Received {
            partner: self.partner,
            before: self.before,
            place: self.place,
            moved,
        })
    }

    fn moved(
        &self,
        keys: &KeyPair,
        names: impl FnOnce(Snapshot) -> Snapshot,
    ) -> Result<Moved, UpgradeError> {
        let partner = &self.partner;
        // The other process may wait for openings, and stops for a time at most. Then it ends this one.
        let until = Instant::now() + OPENINGS_WITHIN + STOPS_WITHIN + STOPS_WITHIN;
        partner.send(&[kind::READY], &[], until)?;
        let state = partner.receive(until)?;
        let mut state = state.expect(kind::STATE, "something in place of STATE")?;
        let wrong = UpgradeError::Wrong("STATE");
        let body: &[u8; 16] = state.body.as_slice().try_into().map_err(|_| wrong)?;
        let number = |at: usize, bytes: usize| {
            let bytes = body.iter().skip(at).take(bytes).rev();
            bytes.fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
        };
        let (length, stopped) = (number(0, 8), number(12, 4));
        let count = u32::try_from(number(8, 4)).unwrap_or(u32::MAX);
        // Both have the same clock.
        let stopped = Instant::now().checked_sub(Duration::from_micros(stopped));
        let file = state.sockets.pop().ok_or(UpgradeError::Cut)?;
        let mut sockets = Vec::new();
        let mut batches = 0_usize;
        while sockets.len() < count as usize {
            let message = partner.receive(until)?;
            let message = message.expect(kind::SOCKETS, "something between sockets")?;
            let left = count as usize - sockets.len();
            if message.sockets.len() != left.min(SOCKETS_AT_ONCE) {
                return Err(UpgradeError::Cut);
            }
            sockets.extend(message.sockets);
            batches += 1;
            if batches.is_multiple_of(BATCHES_AT_ONCE) {
                partner.send(&[kind::GOT], &[], until)?;
            }
        }
        let snapshot = Snapshot::open(read(file, length)?, keys)?;
        let (clients, has_link) = snapshot.connections();
        if sockets.len() != clients + usize::from(has_link) {
            return Err(UpgradeError::Wrong("another number of sockets"));
        }
        let link = has_link.then(|| sockets.remove(0));
        Ok(Moved {
            took: took_of(snapshot.name(), count),
            snapshot: Arc::new(names(snapshot)),
            link,
            clients: sockets,
            stopped: stopped.unwrap_or_else(Instant::now),
        })
    }
}

/// Reads the file in memory.
fn read(file: OwnedFd, length: u64) -> Result<Vec<u8>, UpgradeError> {
    if length > MAX_SNAPSHOT_BYTES as u64 {
        return Err(SnapshotError::TooLarge { bytes: length }.into());
    }
    let unusable = |error| UpgradeError::System {
        what: "the file in memory",
        error,
    };
    let mut file = File::from(file);
    std::io::Seek::rewind(&mut file).map_err(unusable)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    let read = file.take(length + 1).read_to_end(&mut bytes);
    read.map_err(unusable)?;
    Ok(bytes)
}

/// The state of the process before.
pub(crate) struct Received {
    partner: Partner,
    before: Process,
    place: OwnedFd,
    /// `None`: it had ended before it gave all.
    pub(crate) moved: Option<Moved>,
}

/// All that is moved. As long as the other process is there, it may go on with it.
pub(crate) struct Moved {
    took: Vec<u8>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The socket of the link, if it is moved.
    pub(crate) link: Option<OwnedFd>,
    /// Those of clients, in the order of the snapshot.
    pub(crate) clients: Vec<OwnedFd>,
    /// When the other process stopped.
    stopped: Instant,
}

impl Received {
    /// Says that this process goes on, where the machine and its streams are there and nothing has been written, and waits until the other
    /// process has ended. Returns the socket at which that listened for others.
    ///
    /// # Errors
    /// When the other process goes on: then this one must write nothing.
    pub(crate) fn took(self, connections: usize) -> Result<OwnedFd, UpgradeError> {
        let Some(moved) = &self.moved else {
            warn!(
                "the process before has ended without giving its sessions; this one serves without them"
            );
            return Ok(self.place);
        };
        let message = [&[kind::TOOK], &moved.took[..]].concat();
        let said = self
            .partner
            .send(&message, &[], Instant::now() + STOPS_WITHIN);
        if !self.before.has_ended_within(ENDS_WITHIN) {
            // If it does not listen any more, it ends this one.
            said?;
            warn!("the process before does not end by itself, and is ended");
            self.before.end();
        }
        let paused = moved.stopped.elapsed();
        let sessions = moved.snapshot.sessions();
        info!(
            connections,
            sessions,
            ?paused,
            "took over from the process before"
        );
        Ok(self.place)
    }
}
