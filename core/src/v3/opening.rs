//! An opening of version 3 in progress at the edge. (SPEC 22, 23.1, 26.1)
//!
//! It knows packets, keys and records. Which session an id means, who may join, and when, is the edge's to say.

use core::fmt;

use crate::ClientId;
use crate::opening::{EdgeFault, Request, Violation};

use super::Side;
#[cfg(feature = "cluster")]
use super::channel::Arrival;
use super::channel::{Channel, ChannelError};
use super::code::Code;
use super::inbound::Inbound;
#[cfg(feature = "cluster")]
use super::items::Close;
use super::items::{Item, Items};
use super::outbound::Outbound;
use super::packets::{MAX_CLIENT_PACKET_BYTES, Packet, PacketError, Position, Settings, Verdict};
#[cfg(feature = "cluster")]
use super::progress::Progress;
use super::progress::Ring;
#[cfg(feature = "cluster")]
use super::record::{MAX_EARLY_BYTES, MAX_RECORD_BYTES};
use super::record::{MAX_FIRST_EARLY_RECORD_BYTES, MAX_JOIN_RECORD_BYTES};
#[cfg(feature = "cluster")]
use super::schedule::ticket::Ticket;
use super::schedule::{Join, Master, ResumeSecret};
use super::server::{Claimed, EdgeKey, Refused, Standing};
#[cfg(feature = "cluster")]
use crate::queue::{Outbox, Retention};
#[cfg(feature = "cluster")]
use crate::wire::frame::FrameReader;
use crate::wire::frame::LENGTH_BYTES;

/// The longest packet down of a client that names none, in bytes (SPEC 19.1(d)).
const LONGEST_DOWN: u32 = 8 << 20;

const TURN: &str = "the edge answers what was asked";

/// An opening in progress, named by what is expected next.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// The client's Hello or Claim.
    First,
    /// The edge's Welcome to this Hello, once there is entropy for it.
    Welcome(Box<[u8]>),
    /// The client's Join record.
    Token(Box<Token>),
    /// The edge's judgement of a Claim that opened.
    Judgement(Box<Claimed>),
    /// The edge's refusal, once there is entropy for its Answer.
    Refusal(Box<(Claimed, Verdict)>),
    /// The client's first early record, or the edge's judgement of it.
    Early(Box<Early>),
    /// The client's proof that it is there, of an attempt with a ticket, and then the backend's word.
    #[cfg(feature = "cluster")]
    Cold(Box<Cold>),
    /// Nothing: the opening is complete.
    Over,
}

image!(enum Opening {
    0 First {}, 1 Welcome { 0: a }, 2 Token { 0: a }, 3 Judgement { 0: a }, 4 Refusal { 0: a },
    5 Early { 0: a }, 6 Over {},
    #[cfg(feature = "cluster")] 7 Cold { 0: a },
});

/// What is kept from a Welcome to the Join record.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    join: Join,
    inbound: Inbound,
    id: ClientId,
    longest_down: u32,
    longest_up: u32,
    ring: Ring,
    #[cfg(feature = "cluster")]
    features: u32,
}

image!(Token {
    join,
    inbound,
    id,
    longest_down,
    longest_up,
    ring,
    #[cfg(feature = "cluster")]
    features
});

/// What is kept from a Claim that may go on to the end of its first early record.
#[derive(Clone)]
pub(crate) struct Early {
    claimed: Claimed,
    position: Position,
    link: ResumeSecret,
    inbound: Inbound,
    record: Vec<u8>,
    end: usize,
    /// Whether the session is not here, and the ticket tells of it (SPEC 44.4).
    #[cfg(feature = "cluster")]
    is_cold: bool,
}

/// What is kept of an attempt with a ticket that was answered with 1. (SPEC 44.4)
#[cfg(feature = "cluster")]
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    pub(crate) channel: Channel,
    pub(crate) position: Position,
    /// What the ticket says, with this attempt accepted.
    pub(crate) ticket: Ticket,
    /// What comes before RESUMED is thrown away.
    outbox: Outbox,
    progress: Progress,
}

#[cfg(feature = "cluster")]
image!(Cold {
    channel,
    position,
    ticket,
    outbox,
    progress
});

#[cfg(feature = "cluster")]
impl Cold {
    /// Returns the record that ends the attempt.
    pub(crate) fn close(&mut self, close: &Close<'_>) -> Vec<u8> {
        let (outbox, progress) = (&mut self.outbox, &mut self.progress);
        self.channel.close(close, false, outbox, progress);
        self.channel.wire().to_vec()
    }
}

image!(Early {
    claimed,
    position,
    link,
    inbound,
    record,
    end,
    #[cfg(feature = "cluster")]
    is_cold
});

impl fmt::Debug for Early {
    /// Does not show what was opened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early")
            .field("claimed", &self.claimed)
            .field("position", &self.position)
            .field("record_bytes", &self.record.len())
            .finish_non_exhaustive()
    }
}

/// A Join record that has opened.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) id: ClientId,
    pub(crate) standing: Standing,
    pub(crate) channel: Channel,
    pub(crate) longest_up: u32,
    pub(crate) longest_down: u32,
    /// The ring that its Welcome named.
    pub(crate) ring: Ring,
    /// What is wrong with it, if anything is.
    pub(crate) fault: Option<(Code, u64)>,
    /// What the backend knows the user by.
    pub(crate) token: Vec<u8>,
    /// The exporter of the session (SPEC 20.3(f)).
    pub(crate) exporter: [u8; 32],
    /// The features that its Welcome granted.
    #[cfg(feature = "cluster")]
    pub(crate) features: u32,
}

/// A record that does not open. Nothing is said about it.
#[derive(Debug)]
pub(crate) struct Unopened;

impl Opening {
    /// Returns the greatest length of the client's next frame in bytes.
    pub(crate) fn max_body(&self) -> u32 {
        match self {
            Opening::Token(_) => MAX_JOIN_RECORD_BYTES,
            Opening::Early(_) => MAX_FIRST_EARLY_RECORD_BYTES,
            #[cfg(feature = "cluster")]
            Opening::Cold(_) => MAX_RECORD_BYTES,
            _ => MAX_CLIENT_PACKET_BYTES,
        }
    }

    /// Returns how many bytes are taken of a connection beyond the limit for strangers (SPEC 26.1(c)).
    pub(crate) fn further_bytes(&self) -> usize {
        match self {
            Opening::Token(_) | Opening::Early(_) => {
                (self.max_body() as usize).saturating_add(LENGTH_BYTES)
            }
            // The early records, the proof, and their lengths.
            #[cfg(feature = "cluster")]
            Opening::Cold(_) => 2 * MAX_EARLY_BYTES,
            _ => 0,
        }
    }

    /// Handles the client's next frame. Appends a Busy that says that the edge has no such key to `out`.
    pub(crate) fn handle<'a>(
        &mut self,
        body: &'a [u8],
        key: &EdgeKey,
        out: &mut Vec<u8>,
    ) -> Result<Request<'a>, EdgeFault> {
        match self {
            Opening::First => match Packet::decode(body).map_err(violation)? {
                Packet::Hello(_) => {
                    *self = Opening::Welcome(body.into());
                    Ok(Request::Hello)
                }
                Packet::Claim(claim) => match Claimed::open(&claim, core::slice::from_ref(key)) {
                    Ok(claimed) => {
                        let id = claimed.id();
                        *self = Opening::Judgement(Box::new(claimed));
                        Ok(Request::OpenedClaim(id))
                    }
                    Err(Refused::Foreign) => Err(EdgeFault::Foreign),
                    Err(Refused::Elsewhere(busy)) => {
                        Packet::Busy(busy).encode(out);
                        *self = Opening::Over;
                        Ok(Request::Over)
                    }
                },
                packet => Err(Violation::Unexpected(packet.name()).into()),
            },
            Opening::Token(_) => Ok(Request::Begin(body)),
            Opening::Early(early) => {
                early.record = body.to_vec();
                Ok(Request::Attempt)
            }
            _ => Err(Violation::Unexpected("record").into()),
        }
    }

    // ---- a newcomer

    /// Answers a Hello. `random` must come from the operating system for this step.
    pub(crate) fn welcome(
        &mut self,
        key: &EdgeKey,
        random: [u8; 32],
        settings: impl FnOnce(&Master, [u8; 8]) -> Settings,
        out: &mut Vec<u8>,
    ) -> Result<(), EdgeFault> {
        let Opening::Welcome(body) = self else {
            unreachable!("{TURN}");
        };
        let Packet::Hello(hello) = Packet::decode(body).map_err(violation)? else {
            unreachable!("it was a Hello when it came");
        };
        let longest_down = hello.longest_packet_down().unwrap_or(LONGEST_DOWN);
        let mut told = None;
        let settings = |master: &Master, mask| {
            let settings = settings(master, mask);
            let ring = Ring {
                packets: settings.ring_packets,
                bytes: settings.ring_bytes,
            };
            // What was not asked for is not granted.
            let features = settings.features & hello.features;
            let settings = Settings {
                features,
                ..settings
            };
            told = Some((settings.id, settings.longest_packet_up, ring, features));
            settings
        };
        let join = key.welcome(&hello, random, settings, out);
        let join = join.map_err(violation)?;
        #[cfg_attr(
            not(feature = "cluster"),
            expect(unused_variables, reason = "nothing is granted")
        )]
        let (id, longest_up, ring, features) = told.expect("a Welcome has settings");
        let inbound = Inbound::of_join(&join.up, longest_up);
        *self = Opening::Token(Box::new(Token {
            join,
            inbound,
            id,
            longest_down,
            longest_up,
            ring,
            #[cfg(feature = "cluster")]
            features,
        }));
        Ok(())
    }

    /// Opens the Join record.
    pub(crate) fn join(&mut self, body: &[u8]) -> Result<Joined, Unopened> {
        let Opening::Token(token) = core::mem::replace(self, Opening::Over) else {
            unreachable!("{TURN}");
        };
        let Token {
            join,
            mut inbound,
            id,
            longest_down,
            longest_up,
            ring,
            #[cfg(feature = "cluster")]
            features,
        } = *token;
        let mut record = body.to_vec();
        let end = inbound.open(&mut record).map_err(|_| Unopened)?;
        let fault = inbound
            .check(record.get(..end).unwrap_or_default())
            .err()
            .and_then(|error| ChannelError::from(error).close());
        let items = record.get(..end).unwrap_or_default();
        let token = Items::new(items, Side::Client).find_map(|item| match item {
            Ok(Item::Token(token)) => Some(token.to_vec()),
            _ => None,
        });
        Ok(Joined {
            id,
            token: token.unwrap_or_default(),
            exporter: *join.exporter(),
            standing: Standing::new(join.resume.clone()),
            channel: Channel::welcomed(inbound, record, end, &join.down),
            longest_up,
            longest_down,
            ring,
            fault,
            #[cfg(feature = "cluster")]
            features,
        })
    }

    // ---- an attempt

    /// Returns the id that the Claim is about.
    pub(crate) fn claimed_id(&self) -> Option<ClientId> {
        match self {
            Opening::Judgement(claimed) => Some(claimed.id()),
            Opening::Early(early) => Some(early.claimed.id()),
            _ => None,
        }
    }

    /// Returns where the client is, by its Claim (steps 3 and 4 of SPEC 23.2(a)).
    pub(crate) fn position(
        &self,
        run: [u8; 8],
        was_run: impl FnOnce([u8; 8]) -> bool,
    ) -> Result<Position, Code> {
        match self {
            Opening::Judgement(claimed) => claimed.position(run, was_run),
            Opening::Early(early) => Ok(early.position),
            _ => unreachable!("{TURN}"),
        }
    }

    /// Goes on to the first early record of a Claim that may go on.
    pub(crate) fn expect_early(&mut self, position: Position, link: ResumeSecret, longest_up: u32) {
        let Opening::Judgement(claimed) = core::mem::replace(self, Opening::Over) else {
            unreachable!("{TURN}");
        };
        let early = claimed.early(&link);
        *self = Opening::Early(Box::new(Early {
            inbound: Inbound::of_early(&early, position.first_up, longest_up),
            claimed: *claimed,
            position,
            link,
            record: Vec::new(),
            end: 0,
            #[cfg(feature = "cluster")]
            is_cold: false,
        }));
    }

    /// Returns what the ticket of a Claim says, and where the client is, if it has one (SPEC 44.4).
    #[cfg(feature = "cluster")]
    pub(crate) fn with_ticket(&self) -> Option<(&Ticket, Position)> {
        let claimed = match self {
            Opening::Judgement(claimed) => claimed,
            Opening::Early(early) => &early.claimed,
            _ => return None,
        };
        Some((claimed.ticket()?, claimed.position_anywhere()?))
    }

    /// Goes on as an attempt whose session is not here.
    #[cfg(feature = "cluster")]
    pub(crate) fn set_cold(&mut self) {
        self.early().is_cold = true;
    }

    /// Returns whether it is one.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_cold(&mut self) -> bool {
        self.early().is_cold
    }

    /// Answers an attempt whose session is not here: the client has to prove that it is there. `random` must come from the operating system
    /// for this step.
    #[cfg(feature = "cluster")]
    pub(crate) fn begin_cold(
        &mut self,
        verdict: Verdict,
        random: [u8; 32],
        pads: bool,
        out: &mut Vec<u8>,
    ) {
        let early = self.take_early();
        let claimed = &early.claimed;
        let mut ticket = claimed.ticket().cloned().expect("it was judged by it");
        let accepted = ticket.standing.accept(claimed, &early.link);
        accepted.expect("the counter was judged before");
        let position = early.position;
        let received_up = position.first_up.saturating_sub(1);
        let begins = |mut outbound: Outbound, out: &mut Vec<u8>| {
            outbound.pad_records(pads);
            outbound.make_empty();
            out.extend_from_slice(outbound.wire());
            outbound.written(usize::MAX);
            outbound
        };
        let channel = early.answer(verdict, random, received_up, begins, out);
        let everything = Ring {
            packets: u32::MAX,
            bytes: u32::MAX,
        };
        *self = Opening::Cold(Box::new(Cold {
            channel,
            position,
            ticket,
            outbox: Outbox::new(Retention::UntilAcked),
            progress: Progress::new(everything),
        }));
    }

    /// Reads on up to the client's proof. Returns whether it has come.
    #[cfg(feature = "cluster")]
    pub(crate) fn read_cold(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
    ) -> Result<bool, Unopened> {
        let Opening::Cold(cold) = self else {
            unreachable!("{TURN}");
        };
        let (outbox, progress) = (&mut cold.outbox, &mut cold.progress);
        loop {
            let arrival = cold.channel.next(reader, input, outbox, progress);
            match arrival.map_err(|_| Unopened)? {
                None => return Ok(cold.channel.has_proven()),
                // Behind the proof it says nothing before RESUMED.
                Some(Arrival::Packet { .. }) if !cold.channel.has_proven() => {
                    cold.channel.accept(progress);
                }
                Some(_) => return Err(Unopened),
            }
        }
    }

    /// Returns an attempt that was answered with 1.
    #[cfg(feature = "cluster")]
    pub(crate) fn cold(&self) -> Option<&Cold> {
        match self {
            Opening::Cold(cold) => Some(cold),
            _ => None,
        }
    }

    /// Takes it out: the backend has answered.
    #[cfg(feature = "cluster")]
    pub(crate) fn take_cold(&mut self) -> Option<Box<Cold>> {
        match core::mem::replace(self, Opening::Over) {
            Opening::Cold(cold) => Some(cold),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Refuses the attempt. The Answer follows once there is entropy for it.
    pub(crate) fn refuse(&mut self, verdict: Verdict) {
        let claimed = match core::mem::replace(self, Opening::Over) {
            Opening::Judgement(claimed) => *claimed,
            Opening::Early(early) => early.claimed,
            _ => unreachable!("{TURN}"),
        };
        *self = Opening::Refusal(Box::new((claimed, verdict)));
    }

    /// Returns the next step, which needs entropy.
    pub(crate) fn next_step(&self) -> Step {
        match self {
            Opening::Welcome(_) => Step::Welcome,
            Opening::Refusal(_) => Step::Refusal,
            Opening::Early(_) => Step::Resume,
            _ => unreachable!("no other step needs entropy"),
        }
    }

    /// Appends the Answer of a refusal to `out`. `random` must come from the operating system for this step.
    pub(crate) fn answer_refusal(&mut self, random: [u8; 32], out: &mut Vec<u8>) {
        if let Opening::Refusal(refusal) = core::mem::replace(self, Opening::Over) {
            let (claimed, verdict) = *refusal;
            claimed.answer(verdict, random, out);
        }
    }

    /// Opens the first early record (step 9).
    pub(crate) fn open_early(&mut self) -> Result<(), Unopened> {
        let early = self.early();
        early.end = early
            .inbound
            .open(&mut early.record)
            .map_err(|_| Unopened)?;
        Ok(())
    }

    /// Checks its items (step 12).
    pub(crate) fn check_early(&mut self) -> Result<(), Code> {
        let early = self.early();
        let items = early.record.get(..early.end).unwrap_or_default();
        early.inbound.check(items).map_err(|error| {
            let close = ChannelError::from(error).close();
            close.map_or(Code::PROTOCOL, |(code, _)| code)
        })
    }

    /// Returns the counter of the attempt.
    pub(crate) fn counter(&mut self) -> u64 {
        self.early().link.counter()
    }

    /// Accepts the attempt. (SPEC 23.2(c))
    pub(crate) fn accept(&mut self, standing: &mut Standing) -> Result<(), Code> {
        let early = self.early();
        standing.accept(&early.claimed, &early.link)
    }

    /// Answers that the session is taken up, and begins its channel. `resumes` adds RESUMED, unless a CLOSE follows. `random` must come from
    /// the operating system for this step.
    pub(crate) fn take_up(
        &mut self,
        verdict: Verdict,
        random: [u8; 32],
        resumes: impl FnOnce(Outbound) -> Outbound,
        received_up: u64,
        out: &mut Vec<u8>,
    ) -> Channel {
        let begins = |outbound, _: &mut Vec<u8>| resumes(outbound);
        self.take_early()
            .answer(verdict, random, received_up, begins, out)
    }

    fn take_early(&mut self) -> Early {
        match core::mem::replace(self, Opening::Over) {
            Opening::Early(early) => *early,
            _ => unreachable!("{TURN}"),
        }
    }

    fn early(&mut self) -> &mut Early {
        match self {
            Opening::Early(early) => early,
            _ => unreachable!("{TURN}"),
        }
    }
}

impl Early {
    /// Answers, and begins the channel behind so many packets up. `begins` may write something first.
    fn answer(
        mut self,
        verdict: Verdict,
        random: [u8; 32],
        received_up: u64,
        begins: impl FnOnce(Outbound, &mut Vec<u8>) -> Outbound,
        out: &mut Vec<u8>,
    ) -> Channel {
        let answer = self.claimed.answer(verdict, random, out);
        let (up, down) = self.claimed.established(&self.link, &answer);
        self.inbound.resume(&up, received_up);
        let outbound = Outbound::of_answer(&down, self.position.received_down);
        let outbound = begins(outbound, out);
        Channel::resumed(self.inbound, self.record, self.end, outbound)
    }
}

/// A step that needs entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A Hello is answered.
    Welcome,
    /// A Claim is refused.
    Refusal,
    /// A first early record is judged.
    Resume,
}

fn violation(error: PacketError) -> EdgeFault {
    match error {
        PacketError::Key(error) => Violation::Key(error).into(),
        error => {
            tracing::debug!(%error, "no packet of an opening");
            Violation::Unexpected("packet").into()
        }
    }
}
