//! Who listens on a connection and has all secrets: bytes become packets of the opening and items, as SPEC sections 19 to 21 say.
//!
//! A tap reads what an end writes, when it writes it. What it has read has a place in the stream, so that the ledger also knows when the
//! other end has it.

use std::collections::BTreeMap;

use super::items::{self, Item};
use super::keys::{self, Chain, Join, Key, Lane, Used};
use crate::codec::{Frames, Hello};

/// What the taps of a run share.
pub(super) struct Common {
    pub(super) edge: keys::Edge,
    pub(super) used: Used,
    /// The secrets of each session, by its id.
    pub(super) chains: BTreeMap<u64, Chain>,
}

/// Something that ends at a place in the stream.
pub(super) struct Seen<T> {
    pub(super) end: u64,
    pub(super) what: T,
}

/// What a Claim says.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) id: u64,
    pub(super) counter: u64,
    pub(super) first_up: u64,
    pub(super) received_down: u64,
    pub(super) mark: [u8; 8],
}

/// What a Welcome says.
#[derive(Clone, Debug)]
pub(super) struct Welcome {
    pub(super) id: u64,
    pub(super) run: [u8; 8],
    pub(super) ring: (u64, u64),
}

/// Items with their numbers.
pub(super) type Items = Vec<(Item, u64)>;

pub(super) enum Up {
    Hello,
    Claim(Claim),
    Record(Items),
}

pub(super) enum Down {
    Welcome(Welcome),
    Busy,
    Answer { code: u64, highest: u64 },
    Record(Items),
}

/// Where one direction is.
enum Stage {
    Version,
    Opening,
    /// The other direction has to come first.
    Waits,
    Records(Box<Lane>, u64),
    /// Nothing can be read any more.
    Lost,
}

/// What is kept of the opening.
enum Opening {
    None,
    Hello(Vec<u8>),
    Claim {
        claim: Claim,
        tc: Key,
        /// The secret of the records after the early ones.
        after: Option<Key>,
        received_up: u64,
    },
}

pub(super) struct Tap {
    /// What its client was given for the connection.
    random: [u8; 32],
    up: Direction,
    down: Direction,
    opening: Opening,
}

struct Direction {
    frames: Frames,
    at: u64,
    stage: Stage,
    pieces: Vec<u8>,
}

impl Direction {
    fn new(stage: Stage) -> Direction {
        Direction {
            frames: Frames::default(),
            at: 0,
            stage,
            pieces: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let body = self.frames.next_body(u32::MAX).ok().flatten()?;
        self.at += 4 + body.len() as u64;
        Some(body)
    }

    /// Numbers the items, and joins the pieces of packets.
    fn number(&mut self, plain: &[u8], number: &mut u64) -> Result<Items, String> {
        let mut numbered = Items::new();
        for item in items::read(plain)? {
            let at = *number;
            *number += item.numbers();
            match item {
                Item::Part(bytes) => {
                    self.pieces.extend(&bytes);
                    numbered.push((Item::Part(bytes), at));
                }
                mut item => {
                    if let Item::Packet(last)
                    | Item::Latest { packet: last, .. }
                    | Item::Volatile(last) = &mut item
                        && !self.pieces.is_empty()
                    {
                        let mut whole = core::mem::take(&mut self.pieces);
                        whole.append(last);
                        *last = whole;
                    }
                    numbered.push((item, at));
                }
            }
        }
        Ok(numbered)
    }
}

impl Tap {
    pub(super) fn new(random: [u8; 32]) -> Tap {
        Tap {
            random,
            up: Direction::new(Stage::Version),
            down: Direction::new(Stage::Waits),
            opening: Opening::None,
        }
    }

    /// Stops listening.
    pub(super) fn lose(&mut self) {
        self.up.stage = Stage::Lost;
        self.down.stage = Stage::Lost;
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.up.stage, Stage::Lost)
    }

    /// Reads what the client writes.
    pub(super) fn up(
        &mut self,
        bytes: &[u8],
        common: &mut Common,
        seen: &mut Vec<Seen<Up>>,
    ) -> Result<(), String> {
        if self.is_lost() {
            return Ok(());
        }
        self.up.frames.push(bytes);
        while let Some(body) = self.up.next() {
            let what = match core::mem::replace(&mut self.up.stage, Stage::Waits) {
                Stage::Version => {
                    match Hello::read(&body) {
                        Some(Hello::Version(3)) => self.up.stage = Stage::Opening,
                        _ => self.lose(),
                    }
                    continue;
                }
                Stage::Opening => {
                    self.down.stage = Stage::Opening;
                    match body.first() {
                        Some(0x10) => {
                            self.opening = Opening::Hello(body);
                            Up::Hello
                        }
                        Some(0x12) => Up::Claim(self.claim(&body, common)?),
                        _ => return Err("neither Hello nor Claim".into()),
                    }
                }
                Stage::Records(mut lane, mut number) => {
                    let plain = lane.open(number, &body, &mut common.used)?;
                    let items = self.up.number(&plain, &mut number)?;
                    self.up.stage = Stage::Records(lane, number);
                    if items.iter().any(|(item, _)| *item == Item::EarlyEnd) {
                        self.end_early(number)?;
                    }
                    Up::Record(items)
                }
                Stage::Waits => return Err("a record before the edge has answered".into()),
                Stage::Lost => {
                    self.lose();
                    return Ok(());
                }
            };
            let end = self.up.at;
            seen.push(Seen { end, what });
        }
        Ok(())
    }

    /// Reads what the edge writes.
    pub(super) fn down(
        &mut self,
        bytes: &[u8],
        common: &mut Common,
        seen: &mut Vec<Seen<Down>>,
    ) -> Result<(), String> {
        if matches!(self.down.stage, Stage::Lost) {
            return Ok(());
        }
        self.down.frames.push(bytes);
        while let Some(body) = self.down.next() {
            let what = match core::mem::replace(&mut self.down.stage, Stage::Waits) {
                Stage::Opening => match body.first() {
                    Some(0x11) => Down::Welcome(self.welcome(&body, common)?),
                    Some(0x13) => self.answer(&body, common)?,
                    Some(0x14) if body.len() == 7 => Down::Busy,
                    _ => return Err("no packet of an edge's opening".into()),
                },
                Stage::Records(mut lane, mut number) => {
                    let plain = lane.open(number, &body, &mut common.used)?;
                    let items = self.down.number(&plain, &mut number)?;
                    self.down.stage = Stage::Records(lane, number);
                    if let Opening::Claim { received_up, .. } = &mut self.opening
                        && let Some((
                            Item::Resumed {
                                received_up: told, ..
                            },
                            _,
                        )) = items.first()
                    {
                        *received_up = *told;
                    }
                    Down::Record(items)
                }
                Stage::Version | Stage::Waits => return Err("a frame that nobody asked for".into()),
                Stage::Lost => {
                    self.lose();
                    return Ok(());
                }
            };
            let end = self.down.at;
            seen.push(Seen { end, what });
        }
        Ok(())
    }

    fn welcome(&mut self, body: &[u8], common: &mut Common) -> Result<Welcome, String> {
        let Opening::Hello(hello) = &self.opening else {
            return Err("a Welcome without a Hello".into());
        };
        if body.len() < 179 {
            return Err(format!("a Welcome of {} bytes", body.len()));
        }
        let (point, own, sealed) = (&body[1..34], &body[34..67], &body[67..]);
        let join = Join::new(self.random, hello, point, own).ok_or("no points in a Welcome")?;
        common.used.note(&join.hs, &[0; 24], sealed)?;
        let plain = keys::open(&join.hs, &[0; 24], &join.th, sealed)
            .ok_or("a Welcome that does not open")?;
        let u64_at = |at: usize| u64::from_le_bytes(plain[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(plain[at..at + 4].try_into().expect("4 bytes"));
        let id = u64_at(0);
        let claim_key: Key = plain[8..40].try_into().expect("32 bytes");
        let handle: [u8; 16] = plain[40..56].try_into().expect("16 bytes");
        if claim_key != common.edge.claim_key(id) {
            return Err(format!("{id:016x} has another claim key"));
        }
        if common.edge.id_of(&handle) != id {
            return Err(format!("the handle of {id:016x} is of another id"));
        }
        common.chains.insert(id, Chain::new(claim_key, join.rs1));
        self.up.stage = Stage::Records(Box::new(Lane::new(&join.up)), 1);
        self.down.stage = Stage::Records(Box::new(Lane::new(&join.down)), 1);
        Ok(Welcome {
            id,
            run: u64_at(56).to_le_bytes(),
            ring: (u32_at(80).into(), u32_at(84).into()),
        })
    }

    fn claim(&mut self, body: &[u8], common: &mut Common) -> Result<Claim, String> {
        if body.len() < 109 {
            return Err(format!("a Claim of {} bytes", body.len()));
        }
        let handle: [u8; 16] = body[5..21].try_into().expect("16 bytes");
        let nonce: [u8; 24] = body[21..45].try_into().expect("24 bytes");
        let (sealed, extensions) = (&body[45..109], &body[109..]);
        let id = common.edge.id_of(&handle);
        if body[1..5] != common.edge.hint {
            return Err("a Claim for another edge".into());
        }
        let chain = common.chains.get_mut(&id).ok_or("a Claim of no session")?;
        let key = keys::expand(&chain.claim_key, &[b"seal"]);
        common.used.note(&key, &nonce, body)?;
        let associated = [&body[..45], extensions].concat();
        let plain =
            keys::open(&key, &nonce, &associated, sealed).ok_or("a Claim that does not open")?;
        let u64_at = |at: usize| u64::from_le_bytes(plain[at..at + 8].try_into().expect("8 bytes"));
        let tc = keys::sha256(&[b"voltlane 3 resume", body]);
        let claim = Claim {
            id,
            counter: u64_at(0),
            first_up: u64_at(24),
            received_down: u64_at(32),
            mark: *tc.first_chunk().expect("a hash is longer"),
        };
        if u64_at(8) != 0 || u64_at(40) != 0 || !(1..1 << 20).contains(&claim.counter) {
            return Err(format!("a Claim that no client makes: {claim:?}"));
        }
        let early = keys::expand(&chain.link(claim.counter), &[b"early", &tc]);
        self.up.stage = Stage::Records(Box::new(Lane::new(&early)), claim.first_up);
        self.opening = Opening::Claim {
            claim: claim.clone(),
            tc,
            after: None,
            received_up: 0,
        };
        Ok(claim)
    }

    fn answer(&mut self, body: &[u8], common: &mut Common) -> Result<Down, String> {
        let Opening::Claim {
            claim, tc, after, ..
        } = &mut self.opening
        else {
            return Err("an Answer without a Claim".into());
        };
        if body.len() != 169 {
            return Err(format!("an Answer of {} bytes", body.len()));
        }
        let nonce: [u8; 24] = body[1..25].try_into().expect("24 bytes");
        let chain = common.chains.get_mut(&claim.id).ok_or("an unknown chain")?;
        let key = keys::expand(&chain.claim_key, &[b"answer", tc]);
        common.used.note(&key, &nonce, body)?;
        let plain = keys::open(&key, &nonce, &body[..25], &body[25..])
            .ok_or("an Answer that does not open")?;
        let code = u64::from(u16::from_le_bytes([plain[0], plain[1]]));
        let highest = u64::from_le_bytes(plain[4..12].try_into().expect("8 bytes"));
        let handle: [u8; 16] = plain[28..44].try_into().expect("16 bytes");
        if common.edge.id_of(&handle) != claim.id {
            return Err("the handle of an Answer is of another id".into());
        }
        if code == 0 {
            let tr = keys::sha256(&[tc, body]);
            let link = chain.link(claim.counter);
            let secret = |label: &[u8]| keys::expand(&link, &[label, &tr]);
            *after = Some(secret(b"up"));
            let lane = Lane::new(&secret(b"down"));
            self.down.stage = Stage::Records(Box::new(lane), claim.received_down + 1);
        }
        Ok(Down::Answer { code, highest })
    }

    fn end_early(&mut self, number: u64) -> Result<(), String> {
        let Opening::Claim {
            after, received_up, ..
        } = &self.opening
        else {
            return Err("EARLY_END after a join".into());
        };
        let secret = after.as_ref().ok_or("EARLY_END before an Answer")?;
        let number = number.max(received_up + 1);
        self.up.stage = Stage::Records(Box::new(Lane::new(secret)), number);
        Ok(())
    }
}
