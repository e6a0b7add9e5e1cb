//! Clients that are verified before the application hears of them.

use tracing::warn;
use voltlane_core::ClientId;
use voltlane_core::backend::host as machine;

use super::Core;
use super::heard::Heard;
use crate::backend::gate::{Gate, Passage};
use crate::backend::verify::{Refuse, Verdict};
use crate::backend::{Code, Event, Joined};

impl Core {
    /// Somebody verifies clients from now on.
    pub(in crate::backend) fn verify(&mut self) {
        self.gate = Some(Gate::default());
    }

    /// Returns what the application hears of an event now.
    pub(in crate::backend) fn pass(&mut self, heard: Heard) -> Option<Heard> {
        let Some(gate) = &mut self.gate else {
            return Some(heard);
        };
        let joins = match &heard.event {
            Event::Joined(joined) => Some(joined.id),
            _ => None,
        };
        match gate.pass(heard) {
            Passage::Passes(heard) => {
                // Its verdict was that of an earlier life.
                if let Some(id) = joins {
                    self.machine.admit(id);
                }
                return Some(heard);
            }
            Passage::Refused(id, refuse) => self.refuse(id, &refuse),
            Passage::Nothing => {
                if let Some(id) = joins {
                    self.machine.pause(id, true);
                }
            }
        }
        // The application never comes back from it, so nobody else acknowledges it.
        self.take_up(None);
        None
    }

    /// Returns the next client that is to be verified.
    pub(in crate::backend) fn next_to_verify(&mut self) -> Option<Joined> {
        self.gate.as_mut()?.next_to_verify()
    }

    /// Handles a verdict.
    pub(in crate::backend) fn judge(&mut self, id: ClientId, verdict: Verdict) {
        let Some(gate) = &mut self.gate else { return };
        gate.end_verifying();
        match verdict {
            Ok(note) => {
                if gate.let_in(id, &note) {
                    self.machine.admit(id);
                    self.machine.set_note(id, &note);
                    self.machine.pause(id, false);
                }
            }
            Err(refuse) => {
                if gate.keep_out(id) {
                    self.refuse(id, &refuse);
                }
            }
        }
        self.is_parked = false;
        self.take_up(None);
    }

    fn refuse(&mut self, id: ClientId, refuse: &Refuse) {
        let text = &refuse.text;
        let text = &text[..text.floor_char_boundary(machine::MAX_TEXT_BYTES)];
        let kicked = self.machine.kick(id, refuse.code, text);
        let kicked = match kicked {
            Err(machine::KickError::Code { .. }) => {
                let code = Code::TOKEN.to_u16();
                self.machine.kick(id, code, text)
            }
            kicked => kicked,
        };
        if let Err(error) = kicked {
            // It stays paused, and unheard.
            warn!(%id, %error, "a client that was refused is not kicked");
        }
    }
}
