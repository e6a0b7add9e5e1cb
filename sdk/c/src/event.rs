//! Events, as C gets them.

use std::ffi::{CString, c_char};
use std::time::Duration;

#[cfg(feature = "backend")]
use voltlane_core::backend::host;
use voltlane_core::client as machine;
use voltlane_core::end::{End, Gap, Ledgers};
use voltlane_core::ledger::Ledger;
#[cfg(feature = "backend")]
use voltlane_driver::backend;
use voltlane_driver::client;

use crate::result::c_text;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum vl_event_type {
    /// A client's session began, with `id`.
    VL_EVENT_CONNECTED = 1,
    /// A packet came: `data`, `len`, `number`. At a backend from `id`.
    VL_EVENT_PACKET,
    /// The connection is gone, which is no error: the client comes back by itself. `text`, `retry_us`.
    VL_EVENT_DROPPED,
    /// The session goes on. `missed`, `away_us`; at a backend `id`.
    VL_EVENT_RESUMED,
    /// Everything that was missed has come. At a backend: every session that the edge has was told.
    VL_EVENT_CAUGHT_UP,
    /// Packets will not come: `count` of them from `number` on, for the reason `code`. At a backend `id`, and `is_up` if they are its client's.
    VL_EVENT_GAP,
    /// A tick is due. `late_us`.
    VL_EVENT_TICK,
    /// The session is over: `code`, `text`, `up`, `down`; at a backend `id`.
    VL_EVENT_ENDED,
    /// A session that is new to the backend: `id`, `again`, its token in `data` and `len`, `note`; in `count` the packets to it that the edge
    /// has numbered for earlier processes of the backend.
    VL_EVENT_JOINED,
    /// A client's connection is gone, and the edge keeps the session: `id`, `expires_us`.
    VL_EVENT_AWAY,
    /// A client shows another token: `id`, `data`, `len`.
    VL_EVENT_TOKEN,
    /// The edge is there. `count` sessions, if it tells.
    VL_EVENT_EDGE_CONNECTED,
    /// The edge is gone, and keeps its clients.
    VL_EVENT_EDGE_LOST,
    /// A client waits for vl_backend_admit or vl_backend_refuse: `id`, its token in `data` and `len`.
    VL_EVENT_VERIFY,
    /// Volatile packets were not sent before the next one: `count`. Only a machine tells.
    VL_EVENT_SKIPPED,
}

use vl_event_type::*;

/// What became of the packets of one direction: numbered = acknowledged + superseded + gapped + open_sent + open_unsent.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct vl_ledger {
    /// Packets that were given a number.
    pub numbered: u64,
    /// Those that were acknowledged.
    pub acknowledged: u64,
    /// Those that a newer one took the place of.
    pub superseded: u64,
    /// Those that were given up.
    pub gapped: u64,
    /// Those that were sent and may have arrived.
    pub open_sent: u64,
    /// Those that were never sent.
    pub open_unsent: u64,
    /// Volatile packets that were not sent. They have no numbers.
    pub skipped: u64,
}

impl From<Ledger> for vl_ledger {
    fn from(ledger: Ledger) -> Self {
        vl_ledger {
            numbered: ledger.numbered,
            acknowledged: ledger.acknowledged,
            superseded: ledger.superseded,
            gapped: ledger.gapped,
            open_sent: ledger.open_sent,
            open_unsent: ledger.open_unsent,
            skipped: ledger.skipped,
        }
    }
}

/// An event. Everything in it is valid until the next call on its handle. The library makes it, so later versions may add fields at its end.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct vl_event {
    /// What happened. It says which of the fields have a meaning; the others are 0.
    pub r#type: vl_event_type,
    /// A code of the protocol: of an end, or the reason of a gap.
    pub code: u16,
    /// Whether the session is older than what this backend knows.
    pub again: u8,
    /// Whether a gap is in what the client sent.
    pub is_up: u8,
    /// The client.
    pub id: u64,
    /// The place of a packet in its session and direction, from 1. 0 for a volatile one.
    pub number: u64,
    /// The number of packets that were missed, and come now.
    pub missed: u64,
    /// A number of packets or sessions.
    pub count: u64,
    /// Bytes, never null.
    pub data: *const u8,
    /// The number of bytes.
    pub len: usize,
    /// Words for people, which end with a zero. Never null.
    pub text: *const c_char,
    /// What a backend noted of a client. Never null.
    pub note: *const c_char,
    /// The pause before the next attempt, in microseconds.
    pub retry_us: i64,
    /// How long the client was away, in microseconds.
    pub away_us: i64,
    /// The time until the session expires, in microseconds.
    pub expires_us: i64,
    /// How late a tick is, in microseconds.
    pub late_us: i64,
    /// What became of the packets to the edge.
    pub up: vl_ledger,
    /// What became of the packets to the client.
    pub down: vl_ledger,
}

/// The last event of a handle, and what it points to.
#[derive(Debug)]
pub(crate) struct Kept {
    event: vl_event,
    data: Vec<u8>,
    text: CString,
    #[cfg(feature = "backend")]
    note: CString,
}

// SAFETY: the pointers of the event lead to what it is kept with, or to bytes that the caller of the same call lent.
unsafe impl Send for Kept {}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl Default for Kept {
    fn default() -> Self {
        let event = vl_event {
            r#type: VL_EVENT_CONNECTED,
            code: 0,
            again: 0,
            is_up: 0,
            id: 0,
            number: 0,
            missed: 0,
            count: 0,
            data: c"".as_ptr().cast(),
            len: 0,
            text: c"".as_ptr(),
            note: c"".as_ptr(),
            retry_us: 0,
            away_us: 0,
            expires_us: 0,
            late_us: 0,
            up: vl_ledger::default(),
            down: vl_ledger::default(),
        };
        Kept {
            event,
            data: Vec::new(),
            text: CString::default(),
            #[cfg(feature = "backend")]
            note: CString::default(),
        }
    }
}

impl Kept {
    pub(crate) fn event(&self) -> *const vl_event {
        &raw const self.event
    }

    /// Begins another event, and lets go of what the last one held.
    fn begin(&mut self, kind: vl_event_type) -> &mut vl_event {
        *self = Kept::default();
        self.event.r#type = kind;
        &mut self.event
    }

    fn own(&mut self, data: Vec<u8>) {
        self.data = data;
        if !self.data.is_empty() {
            (self.event.data, self.event.len) = (self.data.as_ptr(), self.data.len());
        }
    }

    /// Lends bytes that live until the next call.
    fn lend(&mut self, data: &[u8]) {
        if !data.is_empty() {
            (self.event.data, self.event.len) = (data.as_ptr(), data.len());
        }
    }

    /// Owns the bytes that it lent, so that it outlives them.
    #[cfg(feature = "backend")]
    pub(crate) fn keep(&mut self) {
        if self.data.is_empty() && self.event.len > 0 {
            // SAFETY: what was lent in this call is still there.
            let lent = unsafe { std::slice::from_raw_parts(self.event.data, self.event.len) };
            self.own(lent.to_vec());
        }
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.text = c_text(text);
            self.event.text = self.text.as_ptr();
        }
    }

    #[cfg(feature = "backend")]
    fn note(&mut self, note: &str) {
        if !note.is_empty() {
            self.note = c_text(note);
            self.event.note = self.note.as_ptr();
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let event = self.begin(VL_EVENT_GAP);
        (event.number, event.count, event.code) = (gap.first, gap.count, gap.reason.into());
    }

    fn end(&mut self, code: u16, text: &str, ledgers: &Ledgers) {
        let event = self.begin(VL_EVENT_ENDED);
        event.code = code;
        (event.up, event.down) = (ledgers.up.into(), ledgers.down.into());
        self.say(text);
    }

    fn ended(&mut self, end: &End) {
        self.end(end.code.to_u16(), &end.text, &end.ledgers);
    }

    fn dropped(&mut self, why: machine::DropCause, text: &str, retry_in: Duration) {
        let event = self.begin(VL_EVENT_DROPPED);
        event.retry_us = micros(retry_in);
        if let machine::DropCause::Told(code) | machine::DropCause::Moved(code) = why {
            event.code = code.to_u16();
        }
        self.say(text);
    }

    fn resumed(&mut self, id: u64, missed: u64, away: Duration) {
        let event = self.begin(VL_EVENT_RESUMED);
        (event.id, event.missed, event.away_us) = (id, missed, micros(away));
    }

    /// An event of a client's machine. Its bytes are lent.
    pub(crate) fn of_machine(&mut self, event: machine::Event<'_>, ledgers: &Ledgers) {
        use machine::Event;
        match event {
            Event::Connected { id } => self.begin(VL_EVENT_CONNECTED).id = id.as_u64(),
            Event::Packet { data, number } => {
                self.begin(VL_EVENT_PACKET).number = number;
                self.lend(data);
            }
            Event::Gap(gap) => self.gap(&gap),
            Event::Skipped { count } => self.begin(VL_EVENT_SKIPPED).count = count,
            Event::Dropped { cause, retry_in } => {
                self.dropped(cause, &cause.to_string(), retry_in);
            }
            Event::Resumed { id, missed, away } => self.resumed(id.as_u64(), missed, away),
            Event::CaughtUp => drop(self.begin(VL_EVENT_CAUGHT_UP)),
            Event::Refused(refusal) => {
                self.end(refusal.code().to_u16(), &refusal.to_string(), ledgers);
            }
            Event::Ended(end) => self.ended(&end),
        }
    }

    /// An event of a client with a socket.
    pub(crate) fn of_client(&mut self, event: client::Event, id: u64) {
        use client::Event;
        match event {
            Event::Connected { id, .. } => self.begin(VL_EVENT_CONNECTED).id = id.as_u64(),
            Event::Packet { data, number, .. } => {
                self.begin(VL_EVENT_PACKET).number = number;
                self.own(data);
            }
            Event::Dropped {
                cause, retry_in, ..
            } => self.dropped(cause.why(), &cause.to_string(), retry_in),
            Event::Resumed { missed, away, .. } => self.resumed(id, missed, away),
            Event::Gap { gap, .. } => self.gap(&gap),
            Event::Tick { late, .. } => self.begin(VL_EVENT_TICK).late_us = micros(late),
            Event::Ended { end, .. } => self.ended(&end),
            // CaughtUp, and what a later driver tells.
            _ => drop(self.begin(VL_EVENT_CAUGHT_UP)),
        }
    }

    /// An event of a backend's machine, whose bytes are lent. Returns false if it is not for the application.
    #[cfg(feature = "backend")]
    pub(crate) fn of_host(&mut self, event: host::Event<'_>) -> bool {
        use host::Event;
        match event {
            Event::Connected { sessions, .. } => {
                self.begin(VL_EVENT_EDGE_CONNECTED).count = sessions.unwrap_or(0).into();
            }
            Event::CaughtUp => drop(self.begin(VL_EVENT_CAUGHT_UP)),
            Event::Joined(joined) => {
                let event = self.begin(VL_EVENT_JOINED);
                (event.id, event.again) = (joined.id.as_u64(), joined.again.into());
                event.count = joined.numbered_down;
                self.lend(joined.token);
                self.note(joined.note);
            }
            Event::Packet {
                id, data, number, ..
            } => {
                let event = self.begin(VL_EVENT_PACKET);
                (event.id, event.number) = (id.as_u64(), number);
                self.lend(data);
            }
            Event::Away { id, expires_in, .. } => {
                let event = self.begin(VL_EVENT_AWAY);
                (event.id, event.expires_us) = (id.as_u64(), micros(expires_in));
            }
            Event::Resumed {
                id, away, missed, ..
            } => self.resumed(id.as_u64(), missed, away),
            Event::Gap { id, direction, gap } => {
                self.gap(&gap);
                self.event.id = id.as_u64();
                self.event.is_up = (direction == host::Direction::Up).into();
            }
            Event::Token { id, token } => {
                self.begin(VL_EVENT_TOKEN).id = id.as_u64();
                self.lend(token);
            }
            Event::Ended { id, end } => {
                self.ended(&end);
                self.event.id = id.as_u64();
            }
            // About the link alone.
            _ => return false,
        }
        true
    }

    /// A client that has joined with its first packet, over a link of version 2.
    #[cfg(feature = "backend")]
    pub(crate) fn of_first(&mut self, id: u64) {
        self.begin(VL_EVENT_JOINED).id = id;
    }

    /// A client that waits for a verdict.
    #[cfg(feature = "backend")]
    pub(crate) fn of_applicant(&mut self, joined: backend::Joined) {
        self.begin(VL_EVENT_VERIFY).id = joined.id.as_u64();
        self.own(joined.token);
        self.note(&joined.note);
    }

    /// An event of a backend with a socket.
    #[cfg(feature = "backend")]
    pub(crate) fn of_backend(&mut self, event: backend::Event) {
        use backend::Event;
        match event {
            Event::EdgeConnected { sessions, .. } => {
                self.begin(VL_EVENT_EDGE_CONNECTED).count = sessions.unwrap_or(0).into();
            }
            Event::EdgeLost { .. } => drop(self.begin(VL_EVENT_EDGE_LOST)),
            Event::Joined(joined) => {
                let event = self.begin(VL_EVENT_JOINED);
                (event.id, event.again) = (joined.id.as_u64(), joined.again.into());
                event.count = joined.sent;
                self.own(joined.token);
                self.note(&joined.note);
            }
            Event::Packet {
                id, data, number, ..
            } => {
                let event = self.begin(VL_EVENT_PACKET);
                (event.id, event.number) = (id.as_u64(), number);
                self.own(data);
            }
            Event::Away { id, expires_in, .. } => {
                let event = self.begin(VL_EVENT_AWAY);
                (event.id, event.expires_us) = (id.as_u64(), micros(expires_in));
            }
            Event::Gap {
                id, direction, gap, ..
            } => {
                self.gap(&gap);
                self.event.id = id.as_u64();
                self.event.is_up = (direction == host::Direction::Up).into();
            }
            Event::Token { id, token, .. } => {
                self.begin(VL_EVENT_TOKEN).id = id.as_u64();
                self.own(token);
            }
            Event::Resumed {
                id, away, missed, ..
            } => self.resumed(id.as_u64(), missed, away),
            Event::Tick { late, .. } => self.begin(VL_EVENT_TICK).late_us = micros(late),
            Event::Ended { id, end, .. } => {
                self.ended(&end);
                self.event.id = id.as_u64();
            }
            // CaughtUp, and what a later driver tells.
            _ => drop(self.begin(VL_EVENT_CAUGHT_UP)),
        }
    }
}
