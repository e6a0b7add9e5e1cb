//! A decoder of another process (SPEC 41.1(c)).

use super::{Control, Decoder, Role, State, empty_control, header};
use crate::saved::{Fields, put_bytes};

/// The kinds of a state, as they are saved.
const HEADER: u8 = 0;
const DATA: u8 = 1;
const CONTROL: u8 = 2;

impl Decoder {
    /// Appends all that another decoder of the same [`Role`] needs to go on with the same bytes. Returns false if nothing comes any more.
    #[must_use]
    pub fn save(&self, out: &mut Vec<u8>) -> bool {
        let control = match &self.state {
            State::Over => return false,
            State::Header(have) => {
                out.push(HEADER);
                put_bytes(out, &self.header[..usize::from(*have)]);
                // The last event was about the payload of what had come.
                &[]
            }
            State::Data { left, mask } => {
                out.push(DATA);
                out.extend_from_slice(&left.to_le_bytes());
                out.extend_from_slice(mask);
                &[]
            }
            State::Control { opcode, left, mask } => {
                out.extend_from_slice(&[CONTROL, *opcode as u8, *left]);
                out.extend_from_slice(mask);
                self.control()
            }
        };
        put_bytes(out, control);
        out.push(self.is_fragmented.into());
        out.extend_from_slice(&self.max_message_bytes.to_le_bytes());
        out.extend_from_slice(&self.message_bytes.to_le_bytes());
        out.extend_from_slice(&self.empty_frames.to_le_bytes());
        out.extend_from_slice(&self.controls.to_le_bytes());
        true
    }

    /// Creates the decoder that was saved. `None` if these bytes are none that is written.
    #[must_use]
    pub fn load(role: Role, saved: &[u8]) -> Option<Decoder> {
        let saved = &mut Fields(saved);
        let mut decoder = Decoder::new(role, 0);
        let state = match saved.u8()? {
            HEADER => {
                let have = saved.bytes()?;
                decoder.header.get_mut(..have.len())?.copy_from_slice(have);
                State::Header(u8::try_from(have.len()).ok()?)
            }
            DATA => {
                let (left, mask) = (saved.u64()?, saved.array()?);
                State::Data { left, mask }
            }
            CONTROL => {
                let opcode = header::check_first(header::FIN | saved.u8()?).ok()?;
                let (left, mask) = (saved.u8()?, saved.array()?);
                State::Control { opcode, left, mask }
            }
            _ => return None,
        };
        let payload = saved.bytes()?;
        decoder.is_fragmented = saved.flag()?;
        (decoder.max_message_bytes, decoder.message_bytes) = (saved.u64()?, saved.u64()?);
        (decoder.empty_frames, decoder.controls) = (saved.u16()?, saved.u16()?);
        let is_sound = match state {
            State::Header(have) => payload.is_empty() && decoder.can_have(have.into()),
            State::Data { left, .. } => payload.is_empty() && left > 0,
            State::Control { opcode, left, .. } => {
                let length = payload.len() + usize::from(left);
                opcode.is_control() && left > 0 && length <= header::MAX_CONTROL_BYTES
            }
            State::Over => false,
        };
        if !is_sound || !saved.0.is_empty() {
            return None;
        }
        if !payload.is_empty() {
            let mut control: Box<Control> = empty_control();
            control.bytes[..payload.len()].copy_from_slice(payload);
            // It is at most MAX_CONTROL_BYTES.
            control.length = payload.len() as u8;
            decoder.control = Some(control);
        }
        decoder.state = state;
        Some(decoder)
    }

    /// Returns whether so many bytes of a header, each of which was checked, can have come without an event.
    fn can_have(&self, have: usize) -> bool {
        let first = || {
            let opcode = header::check_first(self.header[0]);
            opcode.and_then(|opcode| self.check_sequence(opcode))
        };
        match have {
            0 => true,
            1 => first().is_ok(),
            _ => {
                let length = header::length_of(self.header[1]);
                first().is_ok() && self.check_second().is_ok() && have < length
            }
        }
    }
}
