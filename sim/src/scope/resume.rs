//! Every order of steps of a session of version 3 that is resumed, claimed twice and claimed by a thief, on the machines of both ends.
//!
//! The network delivers each part of a flight or loses it, and may repeat a flight that it saw. A thief copies the owner's state once, and
//! resumes as well. After each step a probe asks whether the owner would come back. Counters, marks, keys and packets are the real ones; only
//! what must be random is derived from the attempt, so that two ways to a state are one state.

use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model as _, Property};
use voltlane_core::ClientId;
use voltlane_core::keys::KeyPair;
use voltlane_core::v3::client::{Attempting, Joining, Outcome, Resumable};
use voltlane_core::v3::code::Code;
use voltlane_core::v3::inbound::Inbound;
use voltlane_core::v3::items::{Item, Resumed};
use voltlane_core::v3::packets::{Packet, Settings, Verdict};
use voltlane_core::v3::record::Sealer;
use voltlane_core::v3::schedule::Secret;
use voltlane_core::v3::server::{Claimed, EdgeKey, Standing, verdict};

const ID: ClientId = ClientId::from_u64(7);
const RUN: [u8; 8] = [9; 8];
const LONGEST: u32 = 1_024;
/// The room for a frame's length before its body.
const LENGTH: usize = 4;

/// The bounds of a scope. Each number counts down to 0 along a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Attempts of the owner.
    pub owner: u32,
    /// Attempts of a thief who copies the owner's state once. Without any, nothing is stolen.
    pub thief: u32,
    /// Flights that the network repeats.
    pub repeats: u32,
}

/// The scopes that each test run checks to their end.
pub const RESUMES: &[Bounds] = &[
    Bounds {
        owner: 3,
        thief: 0,
        repeats: 2,
    },
    Bounds {
        owner: 3,
        thief: 1,
        repeats: 0,
    },
    Bounds {
        owner: 2,
        thief: 2,
        repeats: 0,
    },
];

/// The owner, or the thief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// Whose session it is.
    Owner,
    /// Who copied the owner's state.
    Thief,
}

/// One step of a path. A number names a connection, in the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The thief copies the owner's state.
    Steal,
    /// A holder gives up its connection, and writes a Claim and an early record to a new one.
    Attempt(Holder),
    /// The network sends the flight of this connection once more.
    Repeat(usize),
    /// The edge reads the Claim.
    Claim(usize),
    /// The edge reads the early record.
    Early(usize),
    /// The holder reads the Answer.
    Answer(usize),
    /// The holder reads RESUMED, and ends its early records.
    Resumed(usize),
    /// The edge reads EARLY_END.
    Confirm(usize),
}

/// The result of checking a scope.
#[derive(Clone, Debug)]
pub struct Found {
    /// One per transition.
    pub transitions: usize,
    /// Distinct states.
    pub states: usize,
    /// What was reached on some path, of [`REACHED`].
    pub reached: Vec<&'static str>,
    /// A path to a broken rule, and the rule.
    pub broken: Option<(&'static str, Vec<Step>)>,
}

/// What must be reached in some scope. Otherwise the scopes prove nothing about it.
pub const REACHED: [&str; 3] = [
    "an attempt is refused",
    "a thief is taken up",
    "the owner hears of a thief",
];

/// Checks every order of steps within `bounds`.
#[must_use]
pub fn check(bounds: Bounds, threads: usize) -> Found {
    let checker = Scope(bounds)
        .checker()
        .threads(threads.max(1))
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let (reached, broken): (Vec<_>, Vec<_>) = checker
        .discoveries()
        .into_iter()
        .partition(|(name, _)| REACHED.contains(name));
    let broken = broken.into_iter().next();
    Found {
        reached: reached.into_iter().map(|(name, _)| name).collect(),
        broken: broken.map(|(rule, path)| (rule, path.into_actions())),
        transitions: checker.state_count(),
        states: checker.unique_state_count(),
    }
}

struct Scope(Bounds);

impl stateright::Model for Scope {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        world.take(step);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Scope>> {
        vec![
            Property::always("a counter is accepted once", |_, world: &World| {
                world.accepted.is_sorted_by(|one, next| one.0 < next.0)
            }),
            Property::always(
                "nobody hears of a thief who is not there",
                |_, world: &World| world.has_accepted(Holder::Thief) || !world.owner.has_heard,
            ),
            Property::always(
                "whose session was taken up by another hears of it",
                |_, world: &World| !world.was_deceived,
            ),
            Property::always(
                "the owner is back within three attempts",
                |_, world: &World| world.clone().comes_back(),
            ),
            Property::sometimes(REACHED[0], |_, world: &World| world.has_refused()),
            Property::sometimes(REACHED[1], |_, world: &World| {
                world.has_accepted(Holder::Thief)
            }),
            Property::sometimes(REACHED[2], |_, world: &World| world.owner.has_heard),
        ]
    }
}

/// A flight as the network has it: a Claim and an early record, without their lengths.
#[derive(Clone)]
struct Flight {
    holder: Holder,
    /// Which of its holder's attempts it is.
    attempt: u32,
    claim: Vec<u8>,
    early: Vec<u8>,
    /// What the attempt began with, so that it can be made once more.
    before: Box<Resumable>,
}

/// What was delivered of a connection.
#[derive(Clone)]
enum Stage {
    /// The flight.
    Written,
    /// The Claim, which may go on. The early record is awaited.
    Judged(Box<Claimed>),
    /// The early record. Its answer and RESUMED are under way.
    Accepted(Box<Accepted>),
    /// The Claim, or the early record, and it was refused. The answer is under way.
    Refused(Vec<u8>),
    /// Everything that matters.
    Over,
}

#[derive(Clone)]
struct Accepted {
    answer: Vec<u8>,
    resumed: Vec<u8>,
    /// Its place among the attempts that were accepted.
    place: usize,
    has_answer: bool,
    /// EARLY_END, once it was written.
    end: Option<Vec<u8>>,
}

#[derive(Clone)]
struct Wire {
    flight: usize,
    /// Whether its other end is the holder, or the network, which repeats.
    is_repeat: bool,
    stage: Stage,
}

/// A holder of the session's secrets.
#[derive(Clone)]
struct State {
    session: Resumable,
    attempts: u32,
    /// The connection that it reads from.
    wire: Option<usize>,
    /// Whether it was told of a conflict.
    has_heard: bool,
    /// The number of attempts that the edge had accepted when it was told last where it stands: at the join, the theft, or a RESUMED.
    knows: usize,
}

impl State {
    fn new(session: Resumable) -> State {
        State {
            session,
            attempts: 0,
            wire: None,
            has_heard: false,
            knows: 0,
        }
    }
}

/// One state of the scope.
#[derive(Clone)]
struct World {
    edge: EdgeKey,
    standing: Standing,
    /// The counters that the edge accepted, and whose they were.
    accepted: Vec<(u64, Holder)>,
    /// The connection that the session is attached to.
    attached: Option<usize>,
    owner: State,
    thief: Option<State>,
    flights: Vec<Flight>,
    wires: Vec<Wire>,
    left: Bounds,
    /// Whether a holder is back, and was not told of another one that was accepted meanwhile.
    was_deceived: bool,
}

impl World {
    fn new(left: Bounds) -> World {
        let edge = EdgeKey::new(KeyPair::from_bytes(&[7; 32]).expect("a key"));
        let mut hello = Vec::new();
        let joining = Joining::begin([1; 32], &[], LONGEST, &mut hello);
        let Ok(Packet::Hello(packet)) = Packet::decode(&hello[LENGTH..]) else {
            unreachable!("a Hello was written")
        };
        let mut welcome = Vec::new();
        let join = edge
            .welcome(
                &packet,
                [2; 32],
                |master, mask| Settings {
                    id: ID,
                    claim_key: master.claim_key(ID),
                    handle: master.mask(ID, mask),
                    run: RUN,
                    features: 0,
                    longest_packet_up: LONGEST,
                    ring_packets: 8,
                    ring_bytes: 8 * LONGEST,
                    window_secs: 300,
                    ack_delay_ms: 250,
                    keep_alive_secs: 20,
                },
                &mut welcome,
            )
            .expect("a point");
        let welcomed = joining.welcome(&welcome[LENGTH..]).expect("a Welcome");
        World {
            standing: Standing::new(join.resume.clone()),
            edge,
            accepted: Vec::new(),
            attached: None,
            owner: State::new(welcomed.session),
            thief: None,
            flights: Vec::new(),
            wires: Vec::new(),
            left,
            was_deceived: false,
        }
    }

    fn has_accepted(&self, holder: Holder) -> bool {
        self.accepted.iter().any(|(_, whose)| *whose == holder)
    }

    fn has_refused(&self) -> bool {
        let mut wires = self.wires.iter();
        wires.any(|wire| matches!(wire.stage, Stage::Refused(_)))
    }

    fn state(&mut self, holder: Holder) -> &mut State {
        match holder {
            Holder::Owner => &mut self.owner,
            Holder::Thief => self.thief.as_mut().expect("it has stolen"),
        }
    }

    fn reads(&self, at: usize) -> bool {
        let wire = &self.wires[at];
        let holder = match self.flights[wire.flight].holder {
            Holder::Owner => Some(&self.owner),
            Holder::Thief => self.thief.as_ref(),
        };
        !wire.is_repeat && holder.is_some_and(|holder| holder.wire == Some(at))
    }

    /// Lists every step that is possible from here. What is lost is not a step: it is what never happens on a path.
    fn steps(&self, steps: &mut Vec<Step>) {
        if self.left.owner > 0 {
            steps.push(Step::Attempt(Holder::Owner));
        }
        if self.left.thief > 0 {
            steps.push(match self.thief {
                None => Step::Steal,
                Some(_) => Step::Attempt(Holder::Thief),
            });
        }
        for (at, wire) in self.wires.iter().enumerate() {
            if self.left.repeats > 0 && !wire.is_repeat {
                steps.push(Step::Repeat(at));
            }
            match &wire.stage {
                Stage::Written => steps.push(Step::Claim(at)),
                Stage::Judged(_) => steps.push(Step::Early(at)),
                Stage::Refused(_) if self.reads(at) => steps.push(Step::Answer(at)),
                Stage::Accepted(accepted) => match &accepted.end {
                    // An edge that has moved on does not read it.
                    Some(_) if self.attached == Some(at) => steps.push(Step::Confirm(at)),
                    Some(_) => {}
                    None if !self.reads(at) => {}
                    None if accepted.has_answer => steps.push(Step::Resumed(at)),
                    None => steps.push(Step::Answer(at)),
                },
                Stage::Refused(_) | Stage::Over => {}
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Steal => {
                let mut thief = State::new(self.owner.session.clone());
                thief.knows = self.owner.knows;
                self.thief = Some(thief);
            }
            Step::Attempt(holder) => self.attempt(holder),
            Step::Repeat(at) => {
                self.left.repeats -= 1;
                let flight = self.wires[at].flight;
                self.open(flight, true);
            }
            Step::Claim(at) => self.claim(at),
            Step::Early(at) => self.early(at),
            Step::Answer(at) => self.answer(at),
            Step::Resumed(at) => self.resumed(at),
            Step::Confirm(at) => self.confirm(at),
        }
    }

    fn open(&mut self, flight: usize, is_repeat: bool) -> usize {
        self.wires.push(Wire {
            flight,
            is_repeat,
            stage: Stage::Written,
        });
        self.wires.len() - 1
    }

    fn attempt(&mut self, holder: Holder) {
        match holder {
            Holder::Owner => self.left.owner -= 1,
            Holder::Thief => self.left.thief -= 1,
        }
        self.connect(holder);
    }

    fn connect(&mut self, holder: Holder) -> usize {
        let state = self.state(holder);
        let (attempt, before) = (state.attempts, Box::new(state.session.clone()));
        state.attempts += 1;
        let attempting = state.session.attempt(nonce(holder, attempt), 1, 0);
        let flight = Flight {
            holder,
            attempt,
            claim: attempting.claim().to_vec(),
            early: record(&attempting.early(), &[&[]]).remove(0),
            before,
        };
        self.flights.push(flight);
        let at = self.open(self.flights.len() - 1, false);
        self.state(holder).wire = Some(at);
        at
    }

    /// Makes the attempt of a connection once more: the machine that reads its answer.
    fn attempting(&self, at: usize) -> Attempting {
        let flight = &self.flights[self.wires[at].flight];
        let mut before = flight.before.clone();
        before.attempt(nonce(flight.holder, flight.attempt), 1, 0)
    }

    fn refusal(&self, claimed: &Claimed, code: Code) -> Stage {
        let verdict = Verdict {
            highest: self.standing.highest(),
            ..verdict(code, RUN)
        };
        Stage::Refused(claimed.answer(verdict, [3; 32], &mut Vec::new()))
    }

    fn claim(&mut self, at: usize) {
        let flight = &self.flights[self.wires[at].flight];
        let Ok(Packet::Claim(claim)) = Packet::decode(&flight.claim) else {
            unreachable!("a Claim was written")
        };
        let keys = std::slice::from_ref(&self.edge);
        let claimed = Claimed::open(&claim, keys).expect("it is for this edge");
        let position = claimed.position(RUN, |_| false).expect("it is of this run");
        self.wires[at].stage = match self.standing.judge(position.counter) {
            Ok(_) => Stage::Judged(Box::new(claimed)),
            Err(code) => self.refusal(&claimed, code),
        };
    }

    fn early(&mut self, at: usize) {
        let Stage::Judged(claimed) = std::mem::replace(&mut self.wires[at].stage, Stage::Over)
        else {
            unreachable!("the step needs a Claim")
        };
        let flight = &self.flights[self.wires[at].flight];
        let position = claimed.position(RUN, |_| false).expect("it is of this run");
        // The link was found at the Claim, and is kept until here. To find it again is the same unless another attempt came between.
        let link = match self.standing.judge(position.counter) {
            Ok(link) => link,
            Err(code) => {
                self.wires[at].stage = self.refusal(&claimed, code);
                return;
            }
        };
        let mut inbound = Inbound::of_early(&claimed.early(&link), 1, LONGEST);
        inbound
            .read(&mut flight.early.clone(), |_, _| {})
            .expect("an early record of the chain");
        self.standing
            .accept(&claimed, &link)
            .expect("it was judged");
        self.accepted.push((position.counter, flight.holder));
        self.attached = Some(at);
        let taken_up = Verdict {
            highest: position.counter,
            ..verdict(Code::TAKEN_UP, RUN)
        };
        let answer = claimed.answer(taken_up, [3; 32], &mut Vec::new());
        let (_, down) = claimed.established(&link, &answer);
        let resumed = Resumed {
            until: 0,
            received_up: 0,
            away_ms: 0,
            cause: Code::GOODBYE,
        };
        let resumed = Item::Resumed(resumed, self.standing.before());
        self.wires[at].stage = Stage::Accepted(Box::new(Accepted {
            answer,
            resumed: record(&down, &[&[resumed]]).remove(0),
            place: self.accepted.len() - 1,
            has_answer: false,
            end: None,
        }));
    }

    fn answer(&mut self, at: usize) {
        let attempting = self.attempting(at);
        let wire = &mut self.wires[at];
        let holder = self.flights[wire.flight].holder;
        let answer = match &mut wire.stage {
            Stage::Accepted(accepted) => {
                accepted.has_answer = true;
                accepted.answer.clone()
            }
            Stage::Refused(answer) => {
                let answer = std::mem::take(answer);
                wire.stage = Stage::Over;
                answer
            }
            _ => unreachable!("the step needs an answer"),
        };
        let state = self.state(holder);
        let outcome = attempting.answer(&mut state.session, &answer);
        match outcome.expect("an honest edge") {
            Outcome::TakenUp(_) => {}
            Outcome::AtOnce | Outcome::Later => state.wire = None,
            Outcome::Conflict => {
                state.wire = None;
                state.has_heard = true;
                state.session.go_on();
            }
            Outcome::Over | Outcome::ByClass(_) => unreachable!("the session lives"),
        }
    }

    fn resumed(&mut self, at: usize) {
        let attempting = self.attempting(at);
        let early = attempting.early();
        let holder = self.flights[self.wires[at].flight].holder;
        let since = self.state(holder).knows;
        let Stage::Accepted(accepted) = &mut self.wires[at].stage else {
            unreachable!("the step needs a RESUMED")
        };
        let mut body = accepted.resumed.clone();
        // The early records go on, so EARLY_END is the second.
        accepted.end = Some(record(&early, &[&[], &[Item::EarlyEnd]]).remove(1));
        let (answer, place) = (accepted.answer.clone(), accepted.place);
        let mut between = self.accepted[since..place].iter();
        let was_other = between.any(|(_, whose)| *whose != holder);
        let state = self.state(holder);
        let Ok(Outcome::TakenUp(returning)) =
            attempting.answer(&mut state.session.clone(), &answer)
        else {
            unreachable!("it was taken up")
        };
        let mut before = Vec::new();
        Inbound::of_answer(&returning.down, 0, LONGEST)
            .read(&mut body, |item, _| {
                if let Item::Resumed(_, marks) = item {
                    before = marks.to_vec();
                }
            })
            .expect("an honest edge");
        state.has_heard |= returning.resumed(&mut state.session, &before);
        state.knows = place + 1;
        let is_deceived = was_other && !state.has_heard;
        self.was_deceived |= is_deceived && holder == Holder::Owner;
    }

    fn confirm(&mut self, at: usize) {
        self.standing.confirm();
        self.wires[at].stage = Stage::Over;
    }

    /// Returns everything that distinguishes two states. Secrets are in it by their counters.
    fn view(&self) -> String {
        let mut wires: Vec<_> = (0..self.wires.len())
            .filter_map(|at| {
                let wire = &self.wires[at];
                let flight = &self.flights[wire.flight];
                let stage = match &wire.stage {
                    Stage::Written => 0,
                    Stage::Judged(_) => 1,
                    Stage::Accepted(accepted) => {
                        2 + u8::from(accepted.has_answer) + u8::from(accepted.end.is_some())
                    }
                    Stage::Refused(_) if self.reads(at) => 5,
                    Stage::Refused(_) | Stage::Over => 6,
                };
                let told = match &wire.stage {
                    Stage::Accepted(accepted) => accepted.place,
                    _ => 0,
                };
                let whose = (flight.holder, flight.attempt, wire.is_repeat);
                let ends = (self.attached == Some(at), self.reads(at));
                let matters = stage != 6 || ends.0 || self.left.repeats > 0;
                matters.then_some((whose, stage, told, ends))
            })
            .collect();
        wires.sort_unstable();
        let holder = |state: &State| {
            let told = (state.attempts, state.has_heard, state.knows);
            format!("{:?} {told:?}", state.session)
        };
        let thief = self.thief.as_ref().map(holder);
        let owner = holder(&self.owner);
        let (standing, accepted, left) = (&self.standing, &self.accepted, &self.left);
        let deceived = self.was_deceived;
        format!("{standing:?} {accepted:?} {owner} {thief:?} {wires:?} {left:?} {deceived}")
    }

    /// Returns whether the owner comes back within three attempts if nothing more is lost or late.
    fn comes_back(mut self) -> bool {
        for _ in 0..3 {
            let at = self.connect(Holder::Owner);
            self.claim(at);
            if matches!(self.wires[at].stage, Stage::Judged(_)) {
                self.early(at);
            }
            self.answer(at);
            if matches!(self.wires[at].stage, Stage::Accepted(_)) {
                self.resumed(at);
                return true;
            }
        }
        false
    }
}

/// Two states are one if the machines, and what is under way, are. Connections that do not matter any more are left out.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.view().hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.view() == other.view()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.view())
    }
}

/// Seals records one after the other, and returns their bodies.
fn record(secret: &Secret, records: &[&[Item<'_>]]) -> Vec<Vec<u8>> {
    let mut sealer = Sealer::new(secret);
    let seal = |items: &&[Item<'_>]| {
        let mut out = vec![0; LENGTH];
        items.iter().for_each(|item| item.encode(&mut out));
        sealer.seal(1, &mut out, 0).expect("it is short");
        out.split_off(LENGTH)
    };
    records.iter().map(seal).collect()
}

/// Fresh for each attempt, and the same for the same one on every path.
fn nonce(holder: Holder, attempt: u32) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[0] = holder as u8;
    nonce[1..5].copy_from_slice(&attempt.to_le_bytes());
    nonce
}
