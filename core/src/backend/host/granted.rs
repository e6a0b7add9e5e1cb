//! The backend's end of a link of version 3: its frames, their counts and their acknowledgements. (SPEC 34, 37)

use core::time::Duration;
use std::collections::BTreeMap;

use crate::backend::BackendError;
use crate::link::v3::{
    Ask, Challenge, Feature, Features, Grant, GroupId, Known, LinkAck, LinkSecret, MAX_LATEST_KEY,
    PROOF_BYTES, Proof, Refusal, ToEdge, flag, refusal_of,
};
use crate::queue::{Sent, UnknownCount};
use crate::wire::frame::LENGTH_BYTES;
use crate::{FrameQueue, Time};

use super::EdgeId;

/// The time after which a link whose edge says nothing is one of version 2.
pub const ASK_WITHIN: Duration = Duration::from_secs(1);
/// The time after which a link is given up whose edge has granted before and does not now: its shards announce all sessions first.
pub const GRANT_WITHIN: Duration = Duration::from_secs(10);
/// Frames, bytes and time after which an acknowledgement is sent. (SPEC 37.2(b))
const ACK_FRAMES: u64 = 256;
const ACK_BYTES: usize = 64 * 1024;
const ACK_AFTER: Duration = Duration::from_millis(10);

/// Bytes about the link that go out behind the frames that were queued before them.
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
struct Line {
    /// The bytes of these frames that are not written.
    before: usize,
    bytes: Vec<u8>,
    written: usize,
    /// What it acknowledges.
    acknowledges: u64,
}

/// The secret of the link, which each end proves to the other (SPEC 34.5).
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
pub(super) struct Prover {
    secret: LinkSecret,
    seed: [u8; 32],
    links: u64,
    /// The body of the ASK of this link.
    ask: Vec<u8>,
    stage: Stage,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    /// The edge has another secret, and is told.
    Differs,
    Proven,
}

/// The edge's answer to an ASK, by its first frames.
pub(super) enum Answer {
    /// It has proven the secret, and gets a proof.
    Proves,
    Grants(Grant),
    /// It is of version 2.
    Other,
}

/// What outlives links of version 3.
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
pub(super) struct Granted {
    boot: [u8; 16],
    longest_body: u32,
    /// The edge that has granted.
    pub(super) edge: Option<EdgeId>,
    features: Features,
    queue: FrameQueue,
    sent: Sent,
    /// The count of the last frame that was sent on any link.
    highest: u64,
    line: Option<Line>,
    /// The count of the last frame received.
    received: u64,
    /// The count of the last frame of which the application was given something.
    given: u64,
    /// The count of the last frame that the application came back from.
    acknowledged: u64,
    /// What an acknowledgement says that was written whole, behind all that was queued before. ASK says no more: the next link would have it
    /// before those.
    placed: u64,
    /// The one that the edge was told last, and the one in the ASK of this link.
    told: u64,
    asked: u64,
    /// Whether the ASK of this link names the run.
    is_named: bool,
    /// Frames that came on the link before, behind what the ASK of this one says. They come again.
    repeats: u64,
    /// The last frame of an earlier picture that was given to the application, and in which one, until it came back from that.
    owed: Option<(u64, u64)>,
    /// Whether this is one of several edges, which is granted version 3 or nothing (SPEC 40).
    is_of_several: bool,
    /// Whether the edge has granted on this link. Before, it gets nothing but ASK (SPEC 34.1(g)).
    is_open: bool,
    /// Bytes received since then.
    bytes: usize,
    ack_at: Option<Time>,
    /// OWN that are still to come. `None`: the picture is complete.
    pub(super) owns: Option<u32>,
    /// The number of the picture.
    pub(super) picture: u64,
    /// Keys on the wire, by receiver and key.
    slots: BTreeMap<(Option<GroupId>, u64), u8>,
    scratch: Vec<u8>,
    prover: Option<Box<Prover>>,
}

impl Prover {
    /// Asks, with the nonce of another link.
    fn ask(&mut self, ask: &Ask, known: Option<&[Known]>, out: &mut Vec<u8>) {
        let nonce = self.secret.nonce(&self.seed, self.links);
        self.links += 1;
        self.stage = Stage::Asked;
        match known {
            Some(known) => ask.encode_to_several(known, Some(&nonce), out),
            None => ask.encode_with_nonce(&nonce, out),
        }
        self.ask = out.get(LENGTH_BYTES..).unwrap_or_default().to_vec();
    }

    /// Checks the edge's proof, and returns the answer.
    fn answer(&mut self, challenge: &Challenge) -> Proof {
        let Challenge { nonce, proof } = challenge;
        let is_proven = self
            .secret
            .is_proven(proof, flag::CHALLENGE, nonce, &self.ask);
        self.stage = match is_proven {
            true => Stage::Proven,
            false => Stage::Differs,
        };
        // An edge that has not proven the secret gets no proof made of it.
        let own = || self.secret.proof(flag::PROOF, nonce, &self.ask);
        let own: Option<[u8; PROOF_BYTES]> = is_proven.then(own);
        Proof(own)
    }
}

/// How a link goes on.
pub(super) enum Opened {
    /// Behind what the other side has.
    Resumed,
    /// With a picture of the sessions. Those of an earlier run have ended unless it `continues` that.
    Afresh { continues: bool },
}

/// Why a grant is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The grant is for another backend.
    #[error("the grant answers another backend's question")]
    OtherBoot,
    /// The edge grants less than a backend needs.
    #[error("the edge grants {granted}, and notices and link acks are needed")]
    TooLittle {
        /// What it grants.
        granted: Features,
    },
    /// The edge does not prove the secret of the link. (SPEC 34.5)
    #[error(
        "the edge has not proven the secret of the link: set its `master.token_file` to a file that has it"
    )]
    Unproven,
    /// The edge has another secret.
    #[error(
        "the edge has another secret for the link in its `master.token_file` than this backend"
    )]
    OtherSecret,
    /// The edge has a secret, and this backend has none.
    #[error(
        "the edge wants a secret for the link: give this backend that of its `master.token_file`"
    )]
    SecretWanted,
    /// The edge says that a later one has its home.
    #[error("the edge knows that another one has its home, and closes the link")]
    HomeTaken,
    /// An edge without a home, or without version 3 of the link, at a backend of several edges. (SPEC 40.4(a))
    #[error(
        "the edge has no home, and this backend takes several edges: set its `cluster.home` to a number of its own from 1 on, and `master.protocol` to \"3\""
    )]
    NoHome,
    /// More edges than the backend takes. (SPEC 40.4(d))
    #[error("the edge of home {} would be one more than the {most} that this backend takes", new.home)]
    TooManyEdges {
        /// How many it takes.
        most: usize,
        /// The one that has connected.
        new: EdgeId,
    },
    /// Another edge has the home. (SPEC 40.4(b))
    #[error(
        "the edge of run {new} (term {}) has the home {} of that of run {known} (term {}), which stays. Give each edge a `cluster.home` of its own",
        new.term, new.home, known.term
    )]
    HomeOfAnother {
        /// The edge that has the home.
        known: EdgeId,
        /// The one that has connected.
        new: EdgeId,
    },
    /// A second edge. (SPEC 34.4(a))
    #[error(
        "a second edge, of run {new}; this backend has that of run {known}. Give each edge a backend of its own"
    )]
    SecondEdge {
        /// The edge whose sessions the backend has.
        known: EdgeId,
        /// The one that has connected.
        new: EdgeId,
    },
}

impl Granted {
    pub(super) fn new(boot: [u8; 16], longest_body: u32) -> Self {
        Granted {
            boot,
            longest_body,
            edge: None,
            features: Features::NONE,
            queue: FrameQueue::new(),
            sent: Sent::default(),
            highest: 0,
            line: None,
            received: 0,
            given: 0,
            acknowledged: 0,
            placed: 0,
            told: 0,
            asked: 0,
            is_named: true,
            repeats: 0,
            owed: None,
            is_of_several: false,
            is_open: false,
            bytes: 0,
            ack_at: None,
            owns: None,
            picture: 0,
            slots: BTreeMap::new(),
            scratch: Vec::new(),
            prover: None,
        }
    }

    /// Proves this secret at each link, and wants it proven.
    pub(super) fn proving(mut self, secret: LinkSecret, seed: [u8; 32]) -> Self {
        self.prover = Some(Box::new(Prover {
            secret,
            seed,
            links: 0,
            ask: Vec::new(),
            stage: Stage::Asked,
        }));
        self
    }

    /// Returns whether the edge has to grant.
    pub(super) fn demands(&self) -> bool {
        self.edge.is_some() || self.prover.is_some() || self.is_of_several
    }

    /// Makes it the end of a link to one of several edges. `links`: how many were asked before, so that no nonce comes twice.
    pub(super) fn set_of_several(&mut self, links: u64) {
        self.is_of_several = true;
        if let Some(prover) = self.prover.as_deref_mut() {
            prover.links = links;
        }
    }

    /// Returns what the ASK to one of several edges says of this one.
    pub(super) fn known(&self) -> Option<Known> {
        let edge = self.edge?;
        Some(Known {
            home: edge.home,
            term: edge.term,
            run: edge.run,
            received: self.received,
            acknowledged: self.placed,
            sent: self.highest,
        })
    }

    /// Goes on with a link that was asked elsewhere: with what its ASK said of this edge, if it named it.
    pub(super) fn take_asked(&mut self, asked: Option<&Known>) {
        self.is_open = false;
        self.is_named = asked.is_some();
        self.asked = asked.map_or(0, |asked| asked.acknowledged);
        let received = asked.map_or(0, |asked| asked.received);
        self.repeats = self.received.saturating_sub(received);
    }

    /// Returns whether the next frames came before, on the link before.
    pub(super) fn repeats(&self) -> bool {
        self.repeats > 0
    }

    /// Returns whether the next frame that counts came before, on the link before.
    pub(super) fn skips(&mut self) -> bool {
        let skips = self.repeats > 0;
        self.repeats = self.repeats.saturating_sub(1);
        skips
    }

    /// Returns whether the edge knows the sessions of which this end knows: it has granted, and the picture is complete.
    pub(super) fn is_ready(&self) -> bool {
        self.edge.is_some() && self.owns.is_none()
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Asks, as the first frame of a link.
    ///
    /// `known`: those that a backend of several edges knows.
    pub(super) fn ask(&mut self, known: Option<&[Known]>) {
        let run = self.edge.map(|edge| edge.run);
        let count = |count| if run.is_some() { count } else { 0 };
        self.is_open = false;
        self.asked = count(self.placed);
        let mut bytes = Vec::new();
        let features = match known {
            Some(_) => Features::of_several().with(Feature::Homes),
            None => Features::built(),
        };
        let ask = Ask {
            features,
            boot: self.boot,
            run,
            received: count(self.received),
            acknowledged: count(self.placed),
            sent: count(self.highest),
            longest_body: self.longest_body,
        };
        match (self.prover.as_deref_mut(), known) {
            (Some(prover), known) => prover.ask(&ask, known, &mut bytes),
            (None, Some(known)) => ask.encode_to_several(known, None, &mut bytes),
            (None, None) => ask.encode(&mut bytes),
        }
        self.line = Some(Line {
            before: 0,
            bytes,
            written: 0,
            acknowledges: 0,
        });
    }

    /// Reads a frame that comes before GRANT, or GRANT.
    pub(super) fn hear_answer(&mut self, body: &[u8]) -> Result<Answer, BackendError> {
        let refused = |error| Err(BackendError::Refused(error));
        if let Some(refusal) = refusal_of(body) {
            return match refusal {
                Refusal::SecretWanted => refused(GrantError::SecretWanted),
                Refusal::SecretUnknown => refused(GrantError::Unproven),
                Refusal::HomeTaken => refused(GrantError::HomeTaken),
                _ => refused(GrantError::OtherSecret),
            };
        }
        let grant = Grant::of(body);
        let Some(prover) = self.prover.as_deref_mut() else {
            return match grant {
                Some(grant) => grant.map(Answer::Grants).map_err(BackendError::Grant),
                None => Ok(Answer::Other),
            };
        };
        match (prover.stage, grant, Challenge::of(body)) {
            (Stage::Proven, Some(grant), _) => {
                grant.map(Answer::Grants).map_err(BackendError::Grant)
            }
            (Stage::Asked, None, Some(Ok(challenge))) => {
                let proof = prover.answer(&challenge);
                let line = self.line.get_or_insert(Line {
                    before: 0,
                    bytes: Vec::new(),
                    written: 0,
                    acknowledges: 0,
                });
                proof.encode(&mut line.bytes);
                Ok(Answer::Proves)
            }
            (Stage::Differs, ..) => refused(GrantError::OtherSecret),
            _ => refused(GrantError::Unproven),
        }
    }

    /// Takes the edge's answer.
    pub(super) fn open(&mut self, grant: &Grant) -> Result<Opened, GrantError> {
        if grant.boot != self.boot {
            return Err(GrantError::OtherBoot);
        }
        let granted = grant.features;
        if !granted.has(Feature::Notices) || !granted.has(Feature::LinkAcks) {
            return Err(GrantError::TooLittle { granted });
        }
        let new = EdgeId {
            home: grant.home,
            term: grant.term,
            run: grant.run,
        };
        let is_same = self.edge.is_some_and(|known| known.run == new.run);
        let is_named = is_same && self.is_named;
        if is_named && self.sent.resume(grant.received, &mut self.queue).is_ok() {
            (self.edge, self.features) = (Some(new), granted);
            self.is_open = true;
            self.told = self.asked;
            // The application may have come back from more meanwhile.
            self.ack_at = (self.acknowledged > self.told).then_some(Time::ZERO);
            return Ok(Opened::Resumed);
        }
        let continues = match self.edge {
            Some(known)
                if !is_same && known.home == new.home && new.term <= known.term && new.term > 0 =>
            {
                return Err(GrantError::SecondEdge { known, new });
            }
            Some(known) => is_same || grant.continues == Some(known.run),
            None => true,
        };
        // What comes again of these packets is not given again. It must not be acknowledged before the application comes back from them.
        let is_owed = self.given > self.acknowledged;
        let owed = is_owed.then_some((self.picture, self.given)).or(self.owed);
        self.begin();
        self.owed = owed.filter(|_| is_same);
        self.is_open = true;
        (self.edge, self.features) = (Some(new), granted);
        self.owns = Some(grant.sessions);
        self.picture += 1;
        Ok(Opened::Afresh { continues })
    }

    /// Begins both counts again.
    fn begin(&mut self) {
        self.queue = FrameQueue::new();
        self.sent = Sent::default();
        self.slots.clear();
        (self.highest, self.received, self.given) = (0, 0, 0);
        (self.acknowledged, self.placed) = (0, 0);
        (self.told, self.bytes) = (0, 0);
        (self.ack_at, self.repeats, self.owed) = (None, 0, None);
    }

    /// Forgets the edge: it has none of its sessions any more.
    pub(super) fn forget(&mut self) {
        self.begin();
        self.edge = None;
        self.owns = None;
    }

    /// Handles that the stream is gone.
    pub(super) fn close(&mut self) {
        self.line = None;
        self.is_open = false;
        self.ack_at = None;
        self.sent.lose_stream(&mut self.queue);
    }

    // ---- frames to the edge

    /// Queues a frame.
    pub(super) fn push(&mut self, frame: ToEdge<'_>) {
        self.scratch.clear();
        frame.encode(&mut self.scratch);
        self.queue.push_frame(&self.scratch, &[]);
    }

    /// Queues a frame whose header was made, with one copy of what follows.
    pub(super) fn push_parts(&mut self, header: &[u8], data: &[u8]) {
        self.queue.push_frame(header, data);
    }

    /// Returns the key on the wire for a key of a receiver. `None`: there are too many, so nothing is superseded.
    pub(super) fn slot(&mut self, to: Option<GroupId>, key: u64) -> Option<u8> {
        let next = u8::try_from(self.slots.len()).ok();
        if let Some(slot) = self.slots.get(&(to, key)) {
            return Some(*slot);
        }
        let slot = next.filter(|slot| *slot <= MAX_LATEST_KEY)?;
        self.slots.insert((to, key), slot);
        Some(slot)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.queue.held_bytes()
    }

    /// Returns the number of frames that are not sent whole.
    pub(super) fn waiting(&self) -> usize {
        self.queue.packets()
            - usize::try_from(self.sent.sent() - self.sent.acknowledged()).unwrap_or(0)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.queue.output().len()
    }

    /// Returns the bytes to write now: before the grant only those of ASK.
    pub(super) fn output(&self, is_open: bool) -> &[u8] {
        let frames = if is_open { self.queue.output() } else { &[] };
        match &self.line {
            Some(line) if line.before > 0 => frames.get(..line.before).unwrap_or(frames),
            Some(line) => line.bytes.get(line.written..).unwrap_or_default(),
            None => frames,
        }
    }

    pub(super) fn handle_written(&mut self, n: usize) {
        match &mut self.line {
            Some(line) if line.before == 0 => {
                line.written += n;
                if line.written == line.bytes.len() {
                    self.placed = self.placed.max(line.acknowledges);
                    self.line = None;
                }
                return;
            }
            Some(line) => line.before -= n,
            None => {}
        }
        self.sent.advance(n, &mut self.queue);
        self.highest = self.highest.max(self.sent.sent());
    }

    // ---- frames from the edge

    /// Counts a frame that has come.
    pub(super) fn count(&mut self, bytes: usize) {
        self.received += 1;
        self.bytes += bytes;
    }

    /// Returns the count of the frame that was received last.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Notes whether the application is given something of the last frame.
    pub(super) fn note(&mut self, now: Time, is_given: bool) {
        if is_given {
            self.given = self.received;
        } else if self.given <= self.acknowledged && self.owed.is_none() {
            self.acknowledged = self.received;
        }
        self.arm(now);
    }

    /// The application came back from the frame of this count in this picture.
    pub(super) fn taken(&mut self, now: Time, picture: u64, count: u64) {
        // Marks come in order, so one of a later picture is behind what is owed.
        self.owed = self.owed.filter(|owed| *owed > (picture, count));
        if self.owed.is_some() || (picture != self.picture && self.given > 0) {
            return;
        }
        let count = if picture == self.picture { count } else { 0 };
        let all = if count >= self.given {
            self.received
        } else {
            count
        };
        self.acknowledged = self.acknowledged.max(all);
        self.arm(now);
    }

    fn arm(&mut self, now: Time) {
        let frames = self.acknowledged - self.told;
        if frames == 0 || !self.is_open {
            return;
        }
        let at = match frames >= ACK_FRAMES || self.bytes >= ACK_BYTES {
            true => now,
            false => now + ACK_AFTER,
        };
        self.ack_at = Some(self.ack_at.map_or(at, |earlier| earlier.min(at)));
        self.acknowledge_if_due(now);
    }

    /// Puts an acknowledgement into the line, behind everything that was queued before.
    pub(super) fn acknowledge_if_due(&mut self, now: Time) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        let mut bytes = Vec::new();
        LinkAck {
            acknowledged: self.acknowledged,
            sent: self.sent.end(&self.queue),
        }
        .encode(&mut bytes);
        self.line = Some(Line {
            before: self.queue.output().len(),
            bytes,
            written: 0,
            acknowledges: self.acknowledged,
        });
        (self.told, self.bytes, self.ack_at) = (self.acknowledged, 0, None);
    }

    /// Returns when an acknowledgement is due that has a place in the line.
    pub(super) fn deadline(&self) -> Option<Time> {
        // The edge has not sent again yet what came before.
        let may_ack = self.line.is_none() && self.repeats == 0;
        self.ack_at.filter(|_| may_ack)
    }

    /// Takes an acknowledgement of the edge.
    pub(super) fn handle_ack(&mut self, ack: LinkAck) -> Result<(), UnknownCount> {
        let received = self.received.saturating_sub(self.repeats);
        if ack.sent != received {
            return Err(UnknownCount {
                count: ack.sent,
                acknowledged: self.acknowledged,
                sent: received,
            });
        }
        self.sent.acknowledge(ack.acknowledged, &mut self.queue)?;
        Ok(())
    }
}
