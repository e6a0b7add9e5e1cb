//! A client's session over all its connections, without sockets and pauses. (SPEC sections 22 to 25)
#![allow(clippy::arithmetic_side_effects, reason = "a time saturates")]

use core::time::Duration;

use crate::draws::Draws;
use crate::keys::NONCE_BYTES;
use crate::opening::Awaits;
use crate::queue::Outbox;
use crate::wire::frame::{FrameReader, encode_frame};
use crate::{ClientId, Time};

use super::super::channel::{Arrival, Channel};
use super::super::code::Code;
use super::super::items::Resumed;
use super::super::timing::Due;
use super::arrivals::Stepped;
use super::leave::{Breach, Leave, MAX_BREACHES};
use super::open::{Goodbye, Open};
use super::opening::{Attempting, Joining, Outcome, Returning, Welcomed};
use super::seat::{Ledgers, Seat};
use super::terms::{Resumption, Told, Trust};

/// The session, and its connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    seat: Option<Box<Seat>>,
    phase: Phase,
    /// The output of the opening.
    output: Vec<u8>,
    /// The number of bytes of `output` that the transport took.
    written: usize,
    /// The connections in a row on which the edge broke the protocol.
    breaches: u32,
    /// Whether it did on this one.
    is_broken: bool,
    /// The connections in a row whose first record after RESUMED did not open.
    miscounts: u32,
}

#[derive(Debug, Default)]
enum Phase {
    /// There is no connection.
    #[default]
    Idle,
    /// Hello was sent.
    Hello(Box<Joining>),
    /// A Claim and early records were sent.
    Claim(Box<(Attempting, Channel)>),
    /// The session was taken up, and RESUMED is next.
    Returning(Box<(Returning, Channel)>),
    /// Established.
    Open(Box<Open>),
}

const HAS_SEAT: &str = "a Welcome came before a Claim, and before records";

impl Session {
    /// Goes on with what is known of a session, which has no connection.
    pub(super) fn of_seat(seat: Seat) -> Self {
        Session {
            seat: Some(Box::new(seat)),
            ..Session::default()
        }
    }

    pub(super) fn seat(&self) -> Option<&Seat> {
        self.seat.as_deref()
    }

    /// Returns whether a record of the session was opened, so that it has begun for sure.
    pub(crate) fn has_opened(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.has_opened)
    }

    /// Asks whether the edge is there: its answer is a record.
    pub(crate) fn ask(&mut self, now: Time) {
        if let Phase::Open(open) = &mut self.phase {
            open.ask(now);
        }
    }

    /// Returns the id that the edge has assigned.
    pub(crate) fn id(&self) -> Option<ClientId> {
        self.seat.as_ref().map(|seat| seat.resumable.id())
    }

    // ---- the opening

    /// Begins an opening on an open transport. `random` comes from the operating system for this connection.
    pub(crate) fn begin(
        &mut self,
        random: [u8; 32],
        trust: &Trust,
        outbox: &mut Outbox,
        version: &[u8],
    ) -> Awaits {
        self.output.extend_from_slice(version);
        let Some(seat) = &mut self.seat else {
            let longest = trust.longest_packet_down;
            let asked = trust.features();
            let output = &mut self.output;
            let joining = Joining::begin_asking(random, trust.pins(), longest, asked, output);
            self.phase = Phase::Hello(Box::new(joining));
            return Awaits::Welcome;
        };
        let progress = &mut seat.progress;
        seat.is_untried = !seat.has_opened && progress.sent() == 0;
        progress.reconnect();
        // All that is not acknowledged goes again, as far as the edge does not say that it has it.
        outbox
            .resume_within(outbox.acked(), progress.sent())
            .expect("what is acknowledged was sent");
        let first = outbox.acked().saturating_add(1);
        let nonce = random
            .first_chunk::<NONCE_BYTES>()
            .expect("a nonce is shorter than what is given");
        let attempting = seat.resumable.attempt(*nonce, first, progress.received());
        encode_frame(attempting.claim(), &mut self.output);
        let early = attempting.early();
        #[cfg(debug_assertions)]
        trust.log_keys(nonce, &[("EARLY", &early)]);
        let mut channel = Channel::claimed(&early, first);
        channel.outbound().pad_records(trust.pads);
        // In one piece with the Claim.
        let early = channel.fill(outbox, progress);
        let early_bytes = early.len();
        self.output.extend_from_slice(early);
        channel.written(early_bytes);
        self.phase = Phase::Claim(Box::new((attempting, channel)));
        Awaits::Answer
    }

    /// Returns whether the next frame of the opening is a packet, and not a record.
    pub(crate) fn awaits_packet(&self) -> bool {
        matches!(self.phase, Phase::Hello(_) | Phase::Claim(_))
    }

    /// Handles the next packet of the opening, and returns what the client waits for after it.
    pub(crate) fn open(
        &mut self,
        now: Time,
        body: &[u8],
        trust: &mut Trust,
        rng: &mut Draws,
    ) -> Result<Awaits, Leave> {
        match core::mem::take(&mut self.phase) {
            Phase::Hello(joining) => self.welcome(now, *joining, body, trust, rng),
            Phase::Claim(claim) => self.answer(*claim, body, trust),
            Phase::Idle | Phase::Returning(_) | Phase::Open(_) => {
                unreachable!("no packet of the opening is awaited")
            }
        }
    }

    fn welcome(
        &mut self,
        now: Time,
        joining: Joining,
        body: &[u8],
        trust: &mut Trust,
        rng: &mut Draws,
    ) -> Result<Awaits, Leave> {
        #[cfg(debug_assertions)]
        let point = joining.point();
        let Welcomed {
            settings,
            edge_key,
            join,
            session,
        } = joining.welcome(body).map_err(Leave::failed)?;
        #[cfg(debug_assertions)]
        trust.log_keys(point.as_bytes(), &[("UP", &join.up), ("DOWN", &join.down)]);
        trust.learned = Some(edge_key);
        trust.token_is_new = false;
        let (token, longest) = (trust.token.clone(), trust.longest_packet_down);
        let mut channel = Channel::joined(&join.up, &join.down, token, longest);
        channel.outbound().pad_records(trust.pads);
        self.phase = Phase::Open(Box::new(Open::new(channel, &settings, now, rng)));
        self.seat = Some(Box::new(Seat::new(settings, session, now)));
        Ok(Awaits::Data)
    }

    fn answer(
        &mut self,
        (attempting, mut channel): (Attempting, Channel),
        body: &[u8],
        trust: &Trust,
    ) -> Result<Awaits, Leave> {
        let seat = self.seat.as_mut().expect(HAS_SEAT);
        #[cfg(debug_assertions)]
        let nonce = attempting.nonce();
        let outcome = attempting.answer(&mut seat.resumable, body);
        match outcome.map_err(Leave::failed)? {
            Outcome::TakenUp(returning) => {
                #[cfg(debug_assertions)]
                trust.log_keys(&nonce, &[("UP", &returning.up), ("DOWN", &returning.down)]);
                let received = seat.progress.received();
                let longest = trust.longest_packet_down;
                channel.answered(returning.up.clone(), &returning.down, received, longest);
                #[cfg(feature = "tickets")]
                if returning.is_cold {
                    channel.expect_cold();
                }
                self.phase = Phase::Returning(Box::new((returning, channel)));
                Ok(Awaits::Resumed)
            }
            Outcome::AtOnce => Err(Leave::at_once(Code::STALE)),
            Outcome::Later => Err(Leave::by_pause(Code::STALE)),
            Outcome::Conflict if trust.takes_over => {
                seat.resumable.go_on();
                Err(Leave::at_once(Code::STALE))
            }
            Outcome::Conflict => Err(Leave::conflict()),
            Outcome::Over => {
                let text = "the edge and this client do not agree on the attempts so far";
                Err(Leave::over(Code::GONE, text))
            }
            Outcome::ByClass(verdict) => {
                seat.told_up = seat.told_up.max(verdict.acknowledged_up);
                let (wait_ms, jitter_ms) = (verdict.wait_ms, verdict.jitter_ms);
                // The edge threw away what came with this Claim, and nothing was sent before it: no packet can be in doubt.
                if verdict.code == Code::GONE && seat.is_untried {
                    return Err(Leave::NotBegun {
                        code: verdict.code,
                        wait_ms,
                        jitter_ms,
                    });
                }
                Err(Leave::by_class(verdict.code, wait_ms, jitter_ms, ""))
            }
        }
    }

    /// Reads the first record after an Answer, and returns what the client waits for after it.
    pub(crate) fn read_resumed(
        &mut self,
        now: Time,
        reader: &mut FrameReader,
        input: &mut &[u8],
        trust: &Trust,
        outbox: &mut Outbox,
        rng: &mut Draws,
    ) -> Result<Option<Awaits>, Leave> {
        let Phase::Returning(returning) = core::mem::take(&mut self.phase) else {
            unreachable!("no RESUMED is awaited");
        };
        let (returning, mut channel) = *returning;
        let seat = self.seat.as_mut().expect(HAS_SEAT);
        let received = seat.progress.received();
        let arrival = match channel.next(reader, input, outbox, &mut seat.progress) {
            Ok(arrival) => arrival,
            // A CLOSE could not be said: what the edge expects next are early records.
            Err(error) => return Err(self.breach(error.into())),
        };
        match arrival {
            None => {
                #[cfg(feature = "tickets")]
                {
                    channel.confirm_if_due();
                    let proof = channel.wire().len();
                    self.output.extend_from_slice(channel.wire());
                    channel.written(proof);
                }
                self.phase = Phase::Returning(Box::new((returning, channel)));
                Ok(None)
            }
            Some(Arrival::Resumed(Resumed { until, .. })) if until < received => {
                Err(self.breach(Breach::Until { until, received }))
            }
            Some(Arrival::Resumed(resumed)) => {
                let (marks, _) = channel.data().as_chunks();
                let is_foreign = returning.resumed(&mut seat.resumable, marks);
                channel.accept(&mut seat.progress);
                channel.take_records();
                (seat.heard, seat.has_opened, seat.has_begun) = (now, true, true);
                let mut open = Open {
                    resumption: Some(Resumption {
                        missed: resumed.until.saturating_sub(received),
                        away: Duration::from_millis(resumed.away_ms),
                    }),
                    replay_until: Some(resumed.until),
                    is_fresh: true,
                    ..Open::new(channel, &seat.settings, now, rng)
                };
                open.count_due(now, seat);
                self.phase = Phase::Open(Box::new(open));
                if is_foreign && !trust.takes_over {
                    return Err(Leave::conflict());
                }
                Ok(Some(Awaits::Data))
            }
            Some(Arrival::Closed { code }) => {
                let text = String::from_utf8_lossy(channel.data()).into_owned();
                Err(seat.closed(code, &channel.close_details(), &text, false, trust))
            }
            Some(arrival) => unreachable!("{arrival:?} is refused by the order of items"),
        }
    }

    /// Returns what came of the resume by which this connection was established, if it was one.
    pub(crate) fn resumption(&self) -> Option<Resumption> {
        match &self.phase {
            Phase::Open(open) => open.resumption,
            _ => None,
        }
    }

    // ---- what comes

    /// Reads on, up to what is to be told.
    pub(crate) fn next<'a>(
        &'a mut self,
        now: Time,
        reader: &mut FrameReader,
        input: &mut &[u8],
        trust: &Trust,
        outbox: &mut Outbox,
        rng: &mut Draws,
    ) -> Told<'a> {
        self.count_lent();
        let number = match self.step(now, reader, input, trust, outbox, rng) {
            Ok(Stepped::Packet { number }) => number,
            Ok(Stepped::Told(told)) => return told,
            Err(breach) => return Told::Leaves(self.answer_breach(breach, outbox)),
        };
        match &self.phase {
            Phase::Open(open) => Told::Packet {
                data: open.channel.data(),
                number,
            },
            _ => unreachable!("packets come when it is open"),
        }
    }

    /// Counts the packet that was lent last: from here on it was received.
    fn count_lent(&mut self) {
        if let (Phase::Open(open), Some(seat)) = (&mut self.phase, &mut self.seat)
            && core::mem::take(&mut open.is_lent)
        {
            open.channel.accept(&mut seat.progress);
        }
    }

    fn step(
        &mut self,
        now: Time,
        reader: &mut FrameReader,
        input: &mut &[u8],
        trust: &Trust,
        outbox: &mut Outbox,
        rng: &mut Draws,
    ) -> Result<Stepped, Breach> {
        let (Phase::Open(open), Some(seat)) = (&mut self.phase, &mut self.seat) else {
            unreachable!("the machine is established");
        };
        if !input.is_empty() {
            open.channel.timing().heard(now);
        }
        loop {
            if let Some(until) = open.replay_until
                && seat.progress.received() >= until
            {
                open.replay_until = None;
                return Ok(Stepped::Told(Told::CaughtUp));
            }
            let next = open.channel.next(reader, input, outbox, &mut seat.progress);
            #[cfg(feature = "tickets")]
            if let Some(ticket) = open.channel.take_ticket() {
                seat.resumable.keep_ticket(ticket);
            }
            if open.channel.take_records() > 0 {
                (seat.heard, seat.has_opened) = (now, true);
                open.is_fresh = false;
                self.miscounts = 0;
            }
            if let Some(pong) = open.channel.take_pong()
                && let Some((asked, _)) = open.question.take_if(|(_, sent)| *sent == pong)
            {
                seat.rtt = Some(now.since(asked));
            }
            let Some(arrival) = next? else {
                return Ok(Stepped::Told(Told::Nothing));
            };
            if let Some(stepped) = seat.handle(now, open, arrival, trust, outbox, rng) {
                return Ok(stepped);
            }
        }
    }

    // ---- what an edge may not send

    /// Says CLOSE if the breach has a code, and ends the connection.
    fn answer_breach(&mut self, breach: Breach, outbox: &mut Outbox) -> Leave {
        let breach = self.miscounted(breach);
        let mut has_said = false;
        if let (Some((code, detail)), Phase::Open(open), Some(seat)) =
            (breach.close(), &mut self.phase, &mut self.seat)
        {
            open.say_close(code, detail, seat, outbox);
            has_said = true;
        }
        match self.breach(breach) {
            Leave::Breach { breach, .. } => Leave::Breach {
                breach,
                says: has_said,
            },
            leave => leave,
        }
    }

    /// Counts a breach of the edge's own. After a few connections in a row with one, the session is over.
    fn breach(&mut self, breach: Breach) -> Leave {
        if breach.is_proven() {
            self.is_broken = true;
            self.breaches = self.breaches.saturating_add(1);
            if self.breaches >= MAX_BREACHES {
                return Leave::over(Code::PROTOCOL, &breach.to_string());
            }
        }
        Leave::Breach {
            breach,
            says: false,
        }
    }

    /// Counts a first record after RESUMED that does not open.
    fn miscounted(&mut self, breach: Breach) -> Breach {
        let is_fresh = matches!(&self.phase, Phase::Open(open) if open.is_fresh);
        if !(is_fresh && breach.does_not_open()) {
            return breach;
        }
        self.miscounts = self.miscounts.saturating_add(1);
        if self.miscounts < MAX_BREACHES {
            return breach;
        }
        self.miscounts = 0;
        Breach::Miscounted
    }

    // ---- what goes

    /// Returns the output of the opening that is not written yet. It goes before records.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// Makes records of what is to be sent, and returns what is to be written next.
    pub(crate) fn fill(&mut self, trust: &mut Trust, outbox: &mut Outbox) -> &[u8] {
        self.count_lent();
        let (Phase::Open(open), Some(seat)) = (&mut self.phase, &mut self.seat) else {
            return &[];
        };
        // The opening is written.
        (self.output, self.written) = (Vec::new(), 0);
        if core::mem::take(&mut trust.token_is_new) {
            open.channel.outbound().token(trust.token.clone());
        }
        if seat.progress.is_due_alone() {
            open.channel.outbound().acknowledge();
        }
        if open.goodbye == Goodbye::Due {
            // Only what the ring has no room for is left by this.
            open.channel.fill(outbox, &mut seat.progress);
            if !outbox.has_unsent() {
                open.goodbye = Goodbye::Said;
                open.say_close(Code::GOODBYE, 0, seat, outbox);
            }
        }
        open.channel.fill(outbox, &mut seat.progress);
        if seat.progress.due() == 0 {
            open.channel.timing().acknowledged();
            seat.progress.set_holes(seat.holes.untaken());
        }
        open.channel.wire()
    }

    /// Handles that the transport took the first `n` bytes of the [output of the opening](Self::output). Returns how many there were.
    pub(crate) fn took(&mut self, n: usize) -> usize {
        let taken = n.min(self.output().len());
        self.written = self.written.saturating_add(taken);
        taken
    }

    /// Handles that the transport took the first `n` bytes of what [`fill`](Self::fill) returned. Returns how many of them there were.
    pub(crate) fn written(&mut self, n: usize) -> usize {
        match &mut self.phase {
            Phase::Open(open) => open.channel.written(n),
            _ => 0,
        }
    }

    /// Says goodbye once all packets are sent. Does nothing without an established connection.
    pub(crate) fn say_goodbye(&mut self) {
        if let Phase::Open(open) = &mut self.phase
            && open.goodbye == Goodbye::No
        {
            open.goodbye = Goodbye::Due;
            open.channel.stay();
        }
    }

    /// Returns whether the goodbye was sealed.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.goodbye == Goodbye::Said)
    }

    // ---- ends and times

    /// Handles that the transport is gone.
    pub(crate) fn lose(&mut self) {
        self.count_lent();
        match (core::mem::take(&mut self.phase), &mut self.seat) {
            (Phase::Claim(claim), Some(seat)) if self.written == 0 => {
                seat.resumable.withdraw(&claim.0);
            }
            (Phase::Open(_), _) if !self.is_broken => self.breaches = 0,
            _ => {}
        }
        self.is_broken = false;
        self.output = Vec::new();
        self.written = 0;
    }

    /// Forgets a session that never began, or that is over. There is no connection.
    pub(crate) fn forget(&mut self) {
        *self = Session::default();
    }

    /// The application has come back for more after packet `number`, which can be acknowledged now. (SPEC 24.3(b))
    pub(crate) fn take(&mut self, now: Time, number: u64) {
        self.count_lent();
        if let Some(seat) = &mut self.seat {
            seat.take(number);
            if let Phase::Open(open) = &mut self.phase {
                open.count_due(now, seat);
            }
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let (Phase::Open(open), Some(seat)) = (&self.phase, &self.seat) else {
            return None;
        };
        open.next_due(seat).map(|(at, _)| at)
    }

    /// Handles that time has passed. Returns why the connection ends, if it does.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Option<Leave> {
        let (Phase::Open(open), Some(seat)) = (&mut self.phase, &mut self.seat) else {
            return None;
        };
        // Each of them is due once, until something comes or is taken.
        while let Some((_, due)) = open.next_due(seat).filter(|(at, _)| *at <= now) {
            match due {
                Due::Ack => {
                    open.channel.timing().acknowledged();
                    open.channel.outbound().acknowledge();
                }
                Due::Ping => open.ask(now),
                Due::Dead => return Some(Leave::Silent),
                Due::Leave(code) => return Some(Leave::Moves { code }),
            }
        }
        None
    }

    /// Returns when the session is over if it is not resumed before. (SPEC 23.4(h))
    pub(crate) fn ends_at(&self) -> Option<Time> {
        self.seat.as_ref().map(|seat| seat.heard + seat.window())
    }

    /// Returns the round-trip time, once it was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.seat.as_ref().and_then(|seat| seat.rtt)
    }

    /// Returns the length of the longest packet that the edge takes in bytes, once it is known.
    pub(crate) fn longest_packet_up(&self) -> Option<u32> {
        let seat = self.seat.as_ref()?;
        Some(seat.settings.longest_packet_up)
    }

    /// Returns the accounts of both directions, as far as this end knows them.
    pub(crate) fn ledgers(&self, outbox: &Outbox) -> Ledgers {
        match &self.seat {
            Some(seat) => seat.ledgers(outbox),
            None => Ledgers::unsent(outbox),
        }
    }
}
