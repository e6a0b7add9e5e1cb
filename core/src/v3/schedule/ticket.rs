//! What a client shows to come back at an edge that does not have its session (SPEC 44.1, 44.2). Who can make one: SPEC 44.10.

use zeroize::Zeroizing;

use crate::ClientId;
use crate::keys::NONCE_BYTES;
use crate::wire::saved::Saved;

use super::super::aead::{self, TAG_BYTES};
use super::super::progress::Ring;
use super::super::server::Standing;
use super::{Master, ResumeSecret};

/// The first byte of a ticket.
const FORMAT: u8 = 1;
/// The bytes of what is sealed.
const PLAIN_BYTES: usize = 8 + 40 + 8 + 16;
/// The bytes of a ticket.
pub(crate) const TICKET_BYTES: usize = 1 + NONCE_BYTES + PLAIN_BYTES + TAG_BYTES;

/// What a ticket says of a session: what an edge needs to judge an attempt, and to go on. Where its numbers are, the backend knows.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) id: ClientId,
    pub(crate) standing: Standing,
    pub(crate) longest_up: u32,
    pub(crate) longest_down: u32,
    pub(crate) ring: Ring,
}

image!(Ticket {
    id,
    standing,
    longest_up,
    longest_down,
    ring
});

impl Ticket {
    fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_BYTES));
        plain.extend_from_slice(&self.id.as_u64().to_le_bytes());
        let (next, mark) = self.standing.of_ticket();
        next.save(&mut plain);
        plain.extend_from_slice(&mark);
        let Ring { packets, bytes } = self.ring;
        for field in [self.longest_up, self.longest_down, packets, bytes] {
            plain.extend_from_slice(&field.to_le_bytes());
        }
        plain
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let mut fields = Saved::new(plain);
        let id = ClientId::from_u64(fields.u64()?);
        let next = ResumeSecret::load(&mut fields)?;
        let ticket = Ticket {
            id,
            standing: Standing::after(next, fields.array()?),
            longest_up: fields.u32()?,
            longest_down: fields.u32()?,
            ring: Ring {
                packets: fields.u32()?.max(1),
                bytes: fields.u32()?,
            },
        };
        fields.is_empty().then_some(ticket)
    }
}

impl Master {
    /// Seals a ticket. Its nonce is made of what is sealed, so no nonce comes twice with another content, whatever machine makes it.
    pub(crate) fn seal_ticket(&self, ticket: &Ticket) -> Vec<u8> {
        let mut plain = ticket.write();
        let key = self.secret.expand::<32>(&[b"ticket"]);
        let nonce = *self
            .secret
            .expand::<NONCE_BYTES>(&[b"ticket nonce", &plain]);
        let tag = aead::seal(&key, &nonce, &[FORMAT], &mut plain);
        let mut sealed = Vec::with_capacity(TICKET_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens a ticket. `None`: it is none of this key.
    pub(crate) fn open_ticket(&self, sealed: &[u8]) -> Option<Ticket> {
        let (&[format], rest) = sealed.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (plain, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        if format != FORMAT || plain.len() != PLAIN_BYTES {
            return None;
        }
        let mut plain = Zeroizing::new(plain.to_vec());
        let key = self.secret.expand::<32>(&[b"ticket"]);
        aead::open(&key, nonce, &[FORMAT], &mut plain, tag).ok()?;
        Ticket::read(&plain)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::keys::KeyPair;

    fn master(seed: u8) -> Master {
        Master::new(&KeyPair::generate(&mut ChaCha20Rng::from_seed([seed; 32])))
    }

    fn ticket(counter: u64) -> Ticket {
        let mut secret = counter.to_le_bytes().to_vec();
        secret.extend_from_slice(&[7; 32]);
        let next = ResumeSecret::load(&mut Saved::new(&secret)).expect("a counter from 1");
        Ticket {
            id: ClientId::from_u64(0x0102_0304_0506_0708),
            standing: Standing::after(next, [9; 8]),
            longest_up: 1 << 20,
            longest_down: 8 << 20,
            ring: Ring {
                packets: 8_192,
                bytes: 1 << 20,
            },
        }
    }

    #[test]
    fn a_ticket_opens_under_its_key_alone_and_unaltered() {
        let (master, other) = (master(1), self::master(2));
        let sealed = master.seal_ticket(&ticket(4));
        assert_eq!(sealed.len(), TICKET_BYTES);
        let opened = master.open_ticket(&sealed).expect("its own");
        assert_eq!(opened.write(), ticket(4).write());
        assert!(other.open_ticket(&sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(master.open_ticket(&changed).is_none(), "byte {at}");
            assert!(master.open_ticket(&sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn another_content_has_another_nonce() {
        let master = master(1);
        let nonce = |counter| master.seal_ticket(&ticket(counter))[1..25].to_vec();
        assert_eq!(nonce(4), nonce(4), "the same ticket is the same bytes");
        assert_ne!(nonce(4), nonce(5));
    }
}
