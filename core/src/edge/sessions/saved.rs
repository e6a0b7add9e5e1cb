//! A session as bytes, so that it outlives its process (SPEC 39.2).

use core::time::Duration;

use crate::edge::sessions::absent::Absence;
use crate::edge::sessions::{
    Claimed, Entry, Identity, Linked, Numbered, Place, Session, Sessions, TICK_BITS, tick,
};
use crate::edge::table::by_size::Holding;
use crate::edge::table::deadlines::Timer;
use crate::id::ClientId;
use crate::keys::PublicKey;
use crate::link::v3::{GROUPS_OF_A_SESSION, GroupId, MAX_NOTE_BYTES};
#[cfg(feature = "cluster")]
use crate::protocol::FEATURE_TICKETS;
use crate::protocol::{Code, MAX_NUMBER, Progress, Standing};
use crate::queue::{Outbox, Retention};
use crate::time::Time;
use crate::wire::saved::{Saved, put_bytes, put_count, put_numbers};

/// Flags of a session with numbers: what it gives up is lost, and its client takes tickets.
const GIVES_UP: u8 = 1;
const TAKES_TICKETS: u8 = 2;
/// Flags of what the backend knows of a session: its client is not read, and its JOINED has come.
const PAUSED: u8 = 1;
const TAKEN: u8 = 2;

/// What outlives the process of a session.
#[derive(Clone, Debug)]
pub(crate) struct SavedSession {
    pub(crate) id: ClientId,
    identity: Identity,
    outbox: Outbox,
    was_sent: bool,
    up: u32,
    age: Duration,
    resumes: u64,
    linked: Option<Box<Linked>>,
}

impl SavedSession {
    /// A session that goes on here, whose next packet down has the number after `down` (SPEC 44.5).
    #[cfg(feature = "cluster")]
    pub(crate) fn of_ticket(id: ClientId, numbered: Numbered, down: u64, linked: Linked) -> Self {
        SavedSession {
            id,
            identity: Identity::Chain(Box::new(numbered)),
            outbox: Outbox::after(Retention::UntilAcked, down),
            was_sent: true,
            up: 0,
            age: Duration::ZERO,
            resumes: 0,
            linked: Some(Box::new(linked)),
        }
    }

    /// Reads what [`Session::save`] wrote. `None`: no session is like this.
    pub(crate) fn load(bytes: &[u8]) -> Option<Self> {
        let saved = &mut Saved::new(bytes);
        let id = ClientId::from_u64(saved.u64()?);
        let (was_sent, up) = (saved.flag()?, saved.u32()?);
        let (age, resumes) = (Duration::from_millis(saved.u64()?), saved.u64()?);
        let is_numbered = saved.flag()?;
        let retention = match is_numbered {
            true => Retention::UntilAcked,
            false => Retention::UntilWritten,
        };
        let acked = saved.u64()?;
        let packets = saved.count(4)?;
        let end = acked.checked_add(packets as u64)?;
        if end > MAX_NUMBER {
            return None;
        }
        let mut outbox = Outbox::after(retention, acked);
        for _ in 0..packets {
            outbox.push(saved.bytes()?);
        }
        let identity = match is_numbered {
            true => Identity::Chain(Box::new(load_numbered(saved, &outbox)?)),
            false => {
                let key: [u8; 33] = saved.array()?;
                Identity::Key(Box::new(PublicKey::from_sec1(&key).ok()?))
            }
        };
        let linked = match saved.flag()? {
            true => Some(Box::new(load_linked(saved)?)),
            false => None,
        };
        saved.is_empty().then_some(SavedSession {
            id,
            identity,
            outbox,
            was_sent,
            up,
            age,
            resumes,
            linked,
        })
    }
}

fn load_numbered(saved: &mut Saved<'_>, outbox: &Outbox) -> Option<Numbered> {
    let standing = Standing::load(saved)?;
    let mut numbered = Numbered {
        standing,
        progress: Progress::load(saved, outbox)?,
        cause: Code::from_u16(saved.u16()?)?,
        longest_up: saved.u32()?,
        longest_down: saved.u32()?,
        gives_up: false,
        #[cfg(feature = "cluster")]
        features: 0,
    };
    let flags = saved.u8()?;
    numbered.gives_up = flags & GIVES_UP != 0;
    #[cfg(feature = "cluster")]
    if flags & TAKES_TICKETS != 0 {
        numbered.features = FEATURE_TICKETS;
    }
    (flags & !(GIVES_UP | TAKES_TICKETS) == 0).then_some(numbered)
}

fn load_linked(saved: &mut Saved<'_>) -> Option<Linked> {
    let mut linked = Linked {
        up: saved.u64()?,
        unacknowledged: saved.u64()?,
        told_settled: saved.u64()?,
        unnumbered: saved.u64()?,
        ..Linked::default()
    };
    let flags = saved.u8()?;
    if flags & !(PAUSED | TAKEN) != 0 {
        return None;
    }
    linked.paused = flags & PAUSED != 0;
    #[cfg(feature = "cluster")]
    {
        linked.is_taken = flags & TAKEN != 0;
    }
    let note = core::str::from_utf8(saved.bytes()?).ok()?;
    linked.note = (note.len() <= MAX_NOTE_BYTES).then(|| note.into())?;
    linked.groups = saved.list(8, |saved| saved.u64().map(GroupId))?;
    (linked.groups.len() <= usize::from(GROUPS_OF_A_SESSION)).then_some(linked)
}

fn flags_of(numbered: &Numbered) -> u8 {
    #[cfg(feature = "cluster")]
    let takes = numbered.features & FEATURE_TICKETS != 0;
    #[cfg(not(feature = "cluster"))]
    let takes = false;
    (u8::from(numbered.gives_up) * GIVES_UP) | (u8::from(takes) * TAKES_TICKETS)
}

fn flags_of_linked(linked: &Linked) -> u8 {
    #[cfg(feature = "cluster")]
    let is_taken = linked.is_taken;
    #[cfg(not(feature = "cluster"))]
    let is_taken = false;
    (u8::from(linked.paused) * PAUSED) | (u8::from(is_taken) * TAKEN)
}

impl Session {
    /// Appends it. It has no connection.
    pub(crate) fn save(&self, now: Time, out: &mut Vec<u8>) {
        let age = u64::try_from(self.age(now).as_millis()).unwrap_or(u64::MAX);
        out.extend_from_slice(&self.id.as_u64().to_le_bytes());
        out.push(self.was_sent.into());
        out.extend_from_slice(&self.up.to_le_bytes());
        out.extend_from_slice(&age.to_le_bytes());
        out.extend_from_slice(&self.resumes().to_le_bytes());
        out.push(self.numbered().is_some().into());
        out.extend_from_slice(&self.outbox.acked().to_le_bytes());
        put_count(out, self.outbox.packets());
        for packet in self.outbox.held_packets() {
            put_bytes(out, packet);
        }
        match &self.identity {
            Identity::Key(key) => out.extend_from_slice(key.as_bytes()),
            Identity::Chain(numbered) => {
                numbered.standing.save(out);
                numbered.progress.save(out);
                out.extend_from_slice(&numbered.cause.to_u16().to_le_bytes());
                out.extend_from_slice(&numbered.longest_up.to_le_bytes());
                out.extend_from_slice(&numbered.longest_down.to_le_bytes());
                out.push(flags_of(numbered));
            }
        }
        out.push(self.linked.is_some().into());
        if let Some(linked) = &self.linked {
            let counts = [
                linked.up,
                linked.unacknowledged,
                linked.told_settled,
                linked.unnumbered,
            ];
            put_numbers(out, &counts);
            out.push(flags_of_linked(linked));
            put_bytes(out, linked.note.as_bytes());
            put_count(out, linked.groups.len());
            for group in &linked.groups {
                out.extend_from_slice(&group.0.to_le_bytes());
            }
        }
    }
}

impl Sessions {
    /// Adds a session of another process, which has no connection. Its absence is still to begin. Returns its index, or `None` if the table
    /// is full or has its id.
    pub(crate) fn restore(&mut self, now: Time, saved: SavedSession) -> Option<u32> {
        if self.lookup(saved.id).is_some() {
            return None;
        }
        let claimed = (saved.resumes > 0).then(|| {
            Box::new(Claimed {
                resumes: saved.resumes,
                ..Claimed::new(now)
            })
        });
        let ticks = u32::try_from((saved.age.as_nanos() >> TICK_BITS) & 0xffff_ffff).unwrap_or(0);
        let key = self.slab.insert(Session {
            id: saved.id,
            place: Place::Away,
            identity: saved.identity,
            claimed,
            outbox: saved.outbox,
            waiting: false,
            away_timer: Timer::default(),
            holding: Holding::default(),
            was_sent: saved.was_sent,
            up: saved.up,
            began: tick(now).wrapping_sub(ticks),
            absence: Absence::NONE,
            line_entry: None,
            linked: saved.linked,
        })?;
        let entry = Entry::new(saved.id, key.index);
        self.by_id.insert_unique(entry.hash(), entry, Entry::hash);
        Some(key.index)
    }
}
