//! What is being sent, when its connection moves to another process (SPEC 41).

use super::*;

impl Outbound {
    /// Appends it, with what is sealed and not written. Returns false if its connection is not taken over (SPEC 41.1(d)).
    pub(in crate::v3) fn save(&self, out: &mut Vec<u8>) -> bool {
        let nothing = Sending::default();
        let sending = self.sending.as_deref().unwrap_or(&nothing);
        self.sealer.save(out);
        put_numbers(out, &[self.next, sending.begun as u64, sending.gap]);
        put_bytes(out, self.wire());
        for bytes in [sending.pong, sending.ping] {
            out.push(bytes.is_some().into());
            out.extend_from_slice(&bytes.unwrap_or_default());
        }
        for flag in [sending.ack_now, self.ack_due, self.pads] {
            out.push(flag.into());
        }
        let is_plain =
            sending.first.is_none() && sending.early_bytes.is_none() && sending.go_away.is_none();
        is_plain && !sending.has_ticket() && !self.is_closed
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(in crate::v3) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let sealer = Sealer::load(saved)?;
        let next = saved.u64()?;
        let mut sending = Sending {
            begun: usize::try_from(saved.u64()?).ok()?,
            gap: saved.u64()?,
            wire: saved.bytes()?.to_vec(),
            ..Sending::default()
        };
        for bytes in [&mut sending.pong, &mut sending.ping] {
            let (is_there, read) = (saved.flag()?, saved.array()?);
            *bytes = is_there.then_some(read);
        }
        sending.ack_now = saved.flag()?;
        Some(Outbound {
            sender: Side::Edge,
            sealer,
            next,
            ack_due: saved.flag()?,
            pads: saved.flag()?,
            is_closed: false,
            sending: (!sending.is_unused()).then(|| Box::new(sending)),
        })
    }

    /// Returns `None` if pieces were sealed of the next packet and it is not longer than these. It has `length` bytes, if there is one.
    pub(in crate::v3) fn begun_within(&self, length: Option<usize>) -> Option<()> {
        let begun = self.begun();
        let fits = begun == 0 || length.is_some_and(|length| begun < length);
        fits.then_some(())
    }
}
