//! One connection as SPEC section 8.2 describes it.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::pace::Pace;
use crate::codec::Frames;

/// The states of SPEC 8.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Proxy,
    Version,
    KeyOrId,
    Join,
    Delay,
    Response,
    Wait,
    Ping,
    Established,
    Draining,
}

/// A piece of output for a connection's transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A handshake frame whose bytes are known.
    Hello(Vec<u8>),
    /// A ClientId frame; the edge chooses the id.
    AnyId,
    /// A Challenge frame; the edge chooses its content.
    AnyChallenge,
    /// A packet down, framed.
    Data(Vec<u8>),
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Hello(bytes) | Piece::Data(bytes) => bytes,
            Piece::AnyId | Piece::AnyChallenge => &[],
        }
    }
}

/// How the edge must close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    Orderly,
    Abrupt,
    Either,
}

/// Why and how a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) why: &'static str,
    pub(super) manner: Manner,
}

/// The range in which the current frame's time began to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) earliest: u64,
    /// `u64::MAX` if it may not count at all, because the edge may not be reading.
    pub(super) latest: u64,
    /// Its position among all waits.
    pub(super) order: u64,
}

/// When a wait began or ends, and its position among all waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: u64,
    pub(super) order: u64,
}

/// One accepted connection.
#[derive(Clone)]
pub(super) struct Conn {
    pub(super) state: State,
    pub(super) accepted_at: u64,
    /// Its address, whether its source counts it, and its position among all accepted connections.
    pub(super) address: IpAddr,
    pub(super) counted: bool,
    pub(super) order: u64,
    pub(super) frames: Frames,
    pub(super) claim: Option<u64>,
    pub(super) claimed_at: u64,
    pub(super) wait_until: u64,
    /// The position, among all waits, of what it or the edge waits for since its claim.
    pub(super) since_order: u64,
    pub(super) challenge_order: u64,
    /// Whether a one-second wait (9.3(e)) has ended at least once.
    pub(super) has_waited: bool,
    /// Whether the claimed session could be resumed both at the claim and when the challenge was due, so that the challenge is no decoy.
    pub(super) genuine: bool,
    /// Whether the claimed session could be resumed at the claim.
    pub(super) was_there: bool,
    /// Its turn among the claimants (10.6(c)): the position, among all waits, of its claim or of the end of its wait.
    pub(super) turn: u64,
    /// Its turn while it waits: the position of the beginning of its wait.
    pub(super) wait_turn: u64,
    /// Bytes that the edge took before the connection was established.
    pub(super) taken: usize,
    /// The session attached here.
    pub(super) sid: Option<u64>,
    pub(super) pieces: VecDeque<Piece>,
    /// Bytes of the first piece that the transport has taken.
    pub(super) offset: usize,
    /// Bytes of all pieces, whole.
    pub(super) piece_bytes: usize,
    /// The packets among the pieces, and their bytes: the client queue of 10.2.
    pub(super) queued_packets: usize,
    pub(super) queued_bytes: usize,
    pub(super) close: Option<Close>,
    /// Whether a frame above the limit follows packets that wait for the link. The edge sees it when it gets there.
    pub(super) hidden_violation: bool,
    pub(super) frame: Option<Begun>,
    /// Since when it has been silent (10.6(i)).
    pub(super) idle: Option<Begun>,
    pub(super) pace: Pace,
    pub(super) write_since: Option<Moment>,
    pub(super) drain_at: u64,
}

impl Conn {
    pub(super) fn new(now: u64, address: IpAddr) -> Conn {
        Conn {
            state: State::Version,
            accepted_at: now,
            address,
            counted: false,
            order: 0,
            frames: Frames::default(),
            claim: None,
            claimed_at: 0,
            wait_until: 0,
            since_order: 0,
            challenge_order: 0,
            has_waited: false,
            genuine: false,
            was_there: false,
            turn: 0,
            wait_turn: 0,
            taken: 0,
            sid: None,
            pieces: VecDeque::new(),
            offset: 0,
            piece_bytes: 0,
            queued_packets: 0,
            queued_bytes: 0,
            close: None,
            hidden_violation: false,
            frame: None,
            idle: None,
            pace: Pace::default(),
            write_since: None,
            drain_at: 0,
        }
    }

    /// Returns whether its further bytes still matter.
    pub(super) fn reads(&self) -> bool {
        self.close.is_none() && self.state != State::Draining && !self.hidden_violation
    }

    pub(super) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    /// Returns whether its handshake deadline applies.
    pub(super) fn is_half_open(&self) -> bool {
        self.close.is_none() && !matches!(self.state, State::Established | State::Draining)
    }

    /// Returns whether it is half-open and has claimed nothing.
    pub(super) fn is_newcomer(&self) -> bool {
        matches!(
            self.state,
            State::Proxy | State::Version | State::KeyOrId | State::Join
        )
    }

    /// Returns whether its client waits for the edge's Ping. Until then, an orderly end would read as a refusal (SPEC 4.5(d)).
    pub(super) fn owes_ping(&self) -> bool {
        let ping_waits = || {
            let mut pieces = self.pieces.iter();
            pieces.any(|piece| matches!(piece, Piece::Hello(_)))
        };
        match self.state {
            State::Response | State::Wait | State::Ping => true,
            State::Established => self.claim.is_some() && ping_waits(),
            _ => false,
        }
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.piece_bytes += piece.bytes().len();
        if let Piece::Data(bytes) = &piece {
            self.queued_packets += 1;
            self.queued_bytes += bytes.len();
        }
        self.pieces.push_back(piece);
    }

    pub(super) fn pop(&mut self) {
        let Some(piece) = self.pieces.pop_front() else {
            return;
        };
        self.offset = 0;
        self.piece_bytes -= piece.bytes().len();
        if let Piece::Data(bytes) = &piece {
            self.queued_packets -= 1;
            self.queued_bytes -= bytes.len();
        }
    }

    /// Returns the bytes that wait for the transport. Between the resume and the client's Ping nothing is written (4.3(g)).
    pub(super) fn pending(&self) -> usize {
        let hidden = if self.state == State::Ping {
            self.queued_bytes
        } else {
            0
        };
        self.piece_bytes - self.offset - hidden
    }

    /// Returns the pieces that wait for the transport.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Piece> {
        let hide = self.state == State::Ping;
        self.pieces
            .iter()
            .filter(move |piece| !(hide && matches!(piece, Piece::Data(_))))
    }

    /// Takes out the packets, whole and in order. Also returns true if the first one had been taken in part.
    pub(super) fn take_packets(&mut self) -> (VecDeque<Vec<u8>>, bool) {
        let cut = self.offset > 0 && matches!(self.pieces.front(), Some(Piece::Data(_)));
        let mut packets = VecDeque::new();
        let mut rest = VecDeque::new();
        for piece in self.pieces.drain(..) {
            match piece {
                Piece::Data(bytes) => packets.push_back(bytes),
                other => rest.push_back(other),
            }
        }
        self.pieces = rest;
        self.piece_bytes -= self.queued_bytes;
        (self.queued_packets, self.queued_bytes) = (0, 0);
        if cut {
            self.offset = 0;
        }
        (packets, cut)
    }
}
