//! What is sent, and what became of it.

use std::task::Context;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::SendError as Why;
use voltlane_core::backend::host as machine;
use voltlane_core::code::Code;
use voltlane_core::end::{End, Ledgers};

use super::{Closing, Core};
use crate::backend::target::{Aim, MAX_WITHOUT};
use crate::backend::{ClientInfo, SendError, Sent};

/// Bytes that wait to be written before a send that finds nobody waiting writes them itself.
const WRITE_AT_BYTES: usize = 64 * 1024;
/// Bytes that wait to be written above which a volatile packet is not sent.
const VOLATILE_BYTES: usize = 256 * 1024;

impl Core {
    /// Queues a packet. `None`: there is no room. Whoever waits next writes it.
    pub(in crate::backend) fn send(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        key: Option<u64>,
        data: &[u8],
    ) -> Option<Result<Sent, SendError>> {
        match self.queue(io, aim, key, data) {
            Err(SendError::NoRoom) => None,
            done => Some(done),
        }
    }

    /// Queues a packet for a client that has room.
    pub(in crate::backend) fn try_send(
        &mut self,
        io: &mut Context<'_>,
        id: ClientId,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        if !self.machine.has_room_of(id) {
            self.refused = data.len();
            return Err(SendError::NoRoom);
        }
        self.queue(io, Aim::One(id), None, data)
    }

    /// Queues a packet.
    pub(in crate::backend) fn queue(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        key: Option<u64>,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        if self.closing != Closing::No {
            return Err(SendError::Closed);
        }
        let (id, queued) = match aim {
            Aim::One(id) => match key {
                Some(key) => (id, self.machine.send_latest(id, key, data)),
                None => (id, self.machine.send(id, data)),
            },
            Aim::Many(to, without) => {
                let queued = self.machine.send_to_many(to, without, key, data);
                (ClientId::from_u64(0), queued.map(|()| 0))
            }
        };
        match queued {
            Ok(number) => {
                let place = self.machine.queued();
                self.note_queued(io);
                Ok(Sent { id, number, place })
            }
            Err(Why::TooLong { length, max }) => Err(SendError::TooLong { length, max }),
            Err(Why::TooManyLeftOut { count, max }) => {
                Err(SendError::TooManyLeftOut { count, max })
            }
            Err(_) => {
                self.refused = self.bytes_of(aim, data.len());
                Err(SendError::NoRoom)
            }
        }
    }

    /// Queues a packet if no other ones wait for long.
    pub(in crate::backend) fn send_volatile(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        data: &[u8],
    ) -> Result<(), SendError> {
        let max = self.machine.max_packet_bytes();
        let length = data.len();
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        if self.closing != Closing::No {
            return Err(SendError::Closed);
        }
        let queued = match aim {
            Aim::One(id) => self.machine.queued_bytes_to(id),
            Aim::Many(..) => self.machine.least_queued_bytes(),
        };
        if !self.is_connected() || queued > VOLATILE_BYTES {
            return Ok(());
        }
        let queued = match aim {
            Aim::One(id) => self.machine.send_volatile(id, data),
            Aim::Many(to, without) => {
                check_left_out(without)?;
                self.machine.send_volatile_to_many(to, without, data)
            }
        };
        match queued {
            Ok(()) => self.note_queued(io),
            Err(Why::TooLong { length, max }) => return Err(SendError::TooLong { length, max }),
            // What has no room now is left out.
            Err(_) => {}
        }
        Ok(())
    }

    pub(in crate::backend) fn kick(
        &mut self,
        io: &mut Context<'_>,
        id: ClientId,
        code: u16,
        text: &str,
    ) -> Option<Result<(), SendError>> {
        if self.closing != Closing::No {
            return Some(Err(SendError::Closed));
        }
        Some(match self.machine.kick(id, code, text) {
            Ok(()) => {
                self.note_queued(io);
                Ok(())
            }
            Err(machine::KickError::Code { code }) => Err(SendError::Code { code }),
            Err(machine::KickError::TextTooLong { length }) => {
                let max = machine::MAX_TEXT_BYTES;
                Err(SendError::TooLong { length, max })
            }
            Err(_) => return None,
        })
    }

    pub(in crate::backend) fn pause(&mut self, io: &mut Context<'_>, id: ClientId, pauses: bool) {
        self.machine.pause(id, pauses);
        self.note_queued(io);
    }

    pub(in crate::backend) fn ask_to_leave(
        &mut self,
        io: &mut Context<'_>,
        id: Option<ClientId>,
        within: Duration,
    ) {
        self.machine.ask_to_leave(id, within);
        self.note_queued(io);
    }

    /// Returns the bytes of a packet for all its receivers.
    pub(in crate::backend) fn bytes_of(&self, aim: Aim<'_>, length: usize) -> usize {
        match aim {
            Aim::One(_) => length,
            Aim::Many(to, _) => self.machine.receivers(to).len().saturating_mul(length),
        }
    }

    /// Something was queued. Whoever waits writes it. If nobody does, the next one who waits will, but not too much is left to it.
    fn note_queued(&mut self, io: &mut Context<'_>) {
        if self.waiters.is_driven() {
            if self.is_parked {
                self.is_parked = false;
                self.waiters.wake_driver();
            }
        } else if !self.has_reader || self.machine.queued_bytes() >= WRITE_AT_BYTES {
            self.write_links(io);
        }
    }

    /// Returns the bytes that `room` waits for.
    pub(in crate::backend) fn refused(&self) -> usize {
        self.refused
    }

    /// Returns whether a packet was acknowledged. `None`: not yet.
    pub(in crate::backend) fn is_acknowledged(&self, sent: Sent) -> Option<Result<(), End>> {
        if sent.number == 0 {
            return Some(Err(self.end_of(sent.id)));
        }
        let is_settled = match sent.place {
            Some(place) => place <= self.machine.taken(),
            None => sent.number <= self.machine.settled(sent.id),
        };
        if is_settled {
            return Some(Ok(()));
        }
        let is_gone = self.is_over() || self.machine.ended(sent.id).is_some();
        is_gone.then(|| Err(self.end_of(sent.id)))
    }

    /// Returns how a session ended, as far as that is remembered.
    pub(in crate::backend) fn end_of(&self, id: ClientId) -> End {
        match self.machine.ended(id) {
            Some(code) => End::new(code, "", Ledgers::default()),
            None => End::new(Code::GONE, "the backend is closed", Ledgers::default()),
        }
    }

    /// Returns what is known of a client that is there.
    pub(in crate::backend) fn client(&self, id: ClientId) -> Option<ClientInfo> {
        let ledgers = self.machine.ledgers(id)?;
        let (note, is_connected) = self.machine.note(id)?;
        Some(ClientInfo {
            id,
            note: note.to_owned(),
            is_connected,
            ledgers,
        })
    }
}

/// Checks how many sessions a packet for many leaves out.
fn check_left_out(without: &[ClientId]) -> Result<(), SendError> {
    let (count, max) = (without.len(), MAX_WITHOUT);
    match count > max {
        true => Err(SendError::TooManyLeftOut { count, max }),
        false => Ok(()),
    }
}
