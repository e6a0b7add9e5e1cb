//! Runs a recorded machine again (SPEC 42.4).

use core::fmt;
use core::time::Duration;

use crate::code::Code;
use crate::edge::Edge;
use crate::edge::conns::conn::ConnKey;
use crate::edge::lifecycle::last_words::GoAwayCode;
use crate::edge::record::call::{Call, NO_CONN, NO_DUTY};
use crate::edge::record::{Recorder, Recording, Segments, Sink};
use crate::edge::snapshot::Snapshot;
use crate::edge::uplink::link::HasLink as _;
use crate::keys::KeyPair;
use crate::link::v3::Kick;
use crate::time::Time;

/// Where the machine answered otherwise than the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The number of the record. That which began the machine is 0.
    pub record: u64,
    /// Its call.
    pub call: &'static str,
    /// When.
    pub at: Time,
    /// The answer in the recording, if such a call has one.
    pub recorded: Option<u64>,
    /// The answer now.
    pub now: Option<u64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            record, call, at, ..
        } = self;
        let answer = |answer: Option<u64>| answer.map_or("none".to_owned(), |a| format!("{a:#x}"));
        let (recorded, now) = (answer(self.recorded), answer(self.now));
        write!(
            f,
            "record {record} at {at:?}, {call}: the recorded machine answered {recorded}, this one {now}"
        )
    }
}

/// Why a recording cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A record is none that this version writes.
    #[error("record {record} is malformed")]
    Malformed {
        /// Its number.
        record: u64,
    },
    /// It does not begin with a machine.
    #[error("the recording does not begin with a machine")]
    NoBeginning,
    /// It is a later segment, and its image is none that this version makes.
    #[error(
        "only the version of Voltlane that made this recording can run it: it begins in the middle of a run"
    )]
    OtherVersion,
}

/// A record, and what came of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step<'a> {
    /// Its number.
    pub number: u64,
    /// When it happened.
    pub at: Time,
    /// What the machine was told.
    pub call: Call<'a>,
    /// What it answered, if such a call has an answer.
    pub answer: Option<u64>,
    /// Whether it was something else than the recorded machine did.
    pub difference: Option<Difference>,
}

/// A machine that is called as another one was.
pub struct Replay<'a> {
    edge: Edge,
    rest: &'a [u8],
    number: u64,
    at: Time,
    /// The connection of the last call, if it was admitted then.
    accepted: Option<ConnKey>,
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("number", &self.number)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Nothing is handed over while a machine is compared.
struct Nobody;

impl Sink for Nobody {
    fn take(&mut self, _: Vec<u8>, _: bool) -> Option<Vec<u8>> {
        None
    }
}

impl<'a> Replay<'a> {
    /// Makes the machine with which the recording begins.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn new(recording: &'a Recording) -> Result<Self, ReplayError> {
        let mut rest = &**recording.plain;
        let begun = Call::decode(&mut rest, NO_CONN);
        let mut recorder = Recorder::new(Segments::ONE, Box::new(Nobody), true);
        let (edge, at) = match begun {
            Some((Call::Begin { config, keys, seed }, ..)) => {
                let keys = KeyPair::from_bytes(keys).map_err(|_| ReplayError::NoBeginning)?;
                let mut edge = Edge::new(config.into_owned(), keys, *seed);
                edge.begin_recording(seed, recorder)
                    .map_err(|_| ReplayError::NoBeginning)?;
                (edge, Time::ZERO)
            }
            Some((Call::Image(image), later, _)) => {
                let mut edge = Edge::of_image(image).ok_or(ReplayError::OtherVersion)?;
                recorder.last = Time::ZERO + later;
                edge.recorder = Some(Box::new(recorder));
                (edge, Time::ZERO + later)
            }
            _ => return Err(ReplayError::NoBeginning),
        };
        Ok(Replay {
            edge,
            rest,
            number: 0,
            at,
            accepted: None,
        })
    }

    /// Returns the machine, as it is after the last step.
    #[must_use]
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Returns when the last step was, or when the recording begins.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// Returns the connections that are there.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnKey> {
        let conns = &self.edge.conns;
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(index) = conns.next_from(from) {
            found.push(conns.key(index));
            from = index + 1;
        }
        found
    }

    /// Returns the connection that the last step admitted, if it did.
    #[must_use]
    pub fn accepted(&self) -> Option<ConnKey> {
        self.accepted
    }

    /// Calls the machine as the next record says. `None`: there are no more.
    ///
    /// # Errors
    /// [`ReplayError::Malformed`]
    pub fn step(&mut self) -> Result<Option<Step<'a>>, ReplayError> {
        let before = self.rest;
        if before.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let malformed = ReplayError::Malformed { record: number };
        let (mut last, mut asks) = (NO_CONN, None);
        if let Some(recorder) = &mut self.edge.recorder {
            recorder.chunk.clear();
            (last, asks) = (recorder.conn, recorder.asks);
        }
        let (call, later, recorded) = match asks {
            // A duty for which the adapter asked as it should.
            Some(conn) if before.first() != Some(&NO_DUTY) => {
                (Call::ClientDuty { conn }, Duration::ZERO, None)
            }
            _ => Call::decode(&mut self.rest, last).ok_or(malformed)?,
        };
        self.at = self.at + later;
        let at = self.at;
        let length = before.len() - self.rest.len();
        let record = before.get(..length).unwrap_or(before);
        self.call(&call).ok_or(malformed)?;
        let mut made = match &self.edge.recorder {
            Some(recorder) => &**recorder.chunk,
            None => &[],
        };
        let is_same = made == record || matches!(call, Call::End);
        let answer = Call::decode(&mut made, last).and_then(|(_, _, answer)| answer);
        let difference = (!is_same).then_some(Difference {
            record: number,
            call: call.name(),
            at,
            recorded,
            now: answer,
        });
        Ok(Some(Step {
            number,
            at,
            call,
            answer,
            difference,
        }))
    }

    /// Calls the machine. `None`: nobody can have called it so.
    fn call(&mut self, call: &Call<'_>) -> Option<()> {
        let (edge, now) = (&mut self.edge, self.at);
        self.accepted = None;
        match *call {
            Call::Begin { .. } | Call::Image(_) => return None,
            Call::Term(term) => edge.set_term(term),
            Call::EarlierRuns(runs) => edge.set_earlier_runs(runs.as_chunks().0),
            Call::KeepSessions => edge.keep_sessions(),
            Call::Restore(plain) => edge.restore(now, &Snapshot::of_recording(plain)?),
            Call::Accepted {
                listener,
                peer,
                introduced,
            } => {
                let admitted = edge.handle_accepted_at(now, listener, peer, introduced);
                self.accepted = admitted.ok();
            }
            Call::ClientBytes { conn, bytes } => edge.handle_client_bytes(now, conn, bytes),
            Call::ClientEnding { conn } => edge.handle_client_ending(now, conn),
            Call::ClientClosed { conn, cause } => edge.handle_client_closed(now, conn, cause),
            Call::ClientDuty { conn } => {
                let _ = edge.client_duty(conn);
            }
            Call::ClientWritten { conn, bytes } => edge.handle_client_written(now, conn, bytes),
            Call::PollClient => {
                let _ = edge.poll_client();
            }
            Call::Overhead { conn, bytes } => edge.handle_client_overhead(now, conn, bytes),
            Call::Held { conn, bytes } => edge.handle_client_held(now, conn, bytes),
            Call::AdmitHandshake => {
                let _ = edge.admit_handshake(now);
            }
            Call::Entropy { conn, random } => edge.handle_entropy(now, conn, *random),
            Call::Timeout => edge.handle_timeout(now),
            Call::Config(ref config) => edge.handle_config(now, config.clone().into_owned()),
            Call::Leaving { restarts, within } => {
                let code = match restarts {
                    true => GoAwayCode::Restart,
                    false => GoAwayCode::GoingAway,
                };
                edge.handle_leaving(now, code, within);
            }
            Call::Shutdown { within } => edge.handle_shutdown(now, within),
            Call::Kick {
                id,
                code,
                wait_ms,
                text,
            } => {
                let code = Code::from_u16(code)?;
                let kick = Kick {
                    code,
                    wait_ms,
                    text,
                };
                let _ = edge.handle_kick(now, id, &kick);
            }
            Call::Ban {
                network,
                within,
                note,
            } => {
                let _ = edge.handle_ban(now, network, within, note);
            }
            Call::Unban(network) => {
                let _ = edge.handle_unban(now, network);
            }
            Call::Drain(within) => edge.handle_drain(now, within),
            Call::LinkConnecting => edge.handle_link_connecting(now),
            Call::LinkConnected => edge.handle_link_connected(now),
            Call::LinkClosed(cause) => edge.handle_link_closed(now, cause),
            Call::LinkBytes(bytes) => edge.handle_link_bytes(now, bytes),
            Call::LinkWritten { bytes } => edge.handle_link_written(now, bytes),
            Call::Save => drop(edge.save(now)),
            Call::Check => edge.check_recording(),
            Call::Turn => edge.turn_recording(),
            Call::NoDuty => edge.recorder.iter_mut().for_each(|it| it.no_duty()),
            Call::End => {}
        }
        Some(())
    }

    /// Runs to the end, or to the first difference. Returns how many records there were, and the time of the last one.
    ///
    /// # Errors
    /// [`ReplayError::Malformed`]
    pub fn run(&mut self) -> Result<(u64, Duration, Option<Difference>), ReplayError> {
        while let Some(step) = self.step()? {
            if let Some(difference) = step.difference {
                return Ok((self.number, self.at.since(Time::ZERO), Some(difference)));
            }
        }
        Ok((self.number, self.at.since(Time::ZERO), None))
    }
}
