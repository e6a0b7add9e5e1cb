//! What crosses the link, read without the core's code: whether frames are counted, sent again and acknowledged as SPEC 34 and 37 say, and
//! whether what they tell of each session is in the order of SPEC 35.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::codec::Frames;

const ASK: u8 = 0x10;
const GRANT: u8 = 0x11;
const LINK_ACK: u8 = 0x12;
const DATA: u8 = 0x00;
const JOINED: u8 = 0x13;
const AWAY: u8 = 0x14;
const RESUMED: u8 = 0x15;
const ENDED: u8 = 0x16;
const OWN: u8 = 0x1c;
/// The code of ENDED for a session that has gone to another backend.
const ELSEWHERE: u16 = 205;
/// The code of ENDED for a session that has expired.
const EXPIRED: u16 = 302;
/// "Both counts begin again" in a GRANT. (SPEC 34.3(c))
const ANEW: u64 = u64::MAX;

/// The frames of one direction, over all links of one run and one boot.
#[derive(Default)]
struct Way {
    /// Ids and hashes of the frames above `acknowledged`, in order.
    sent: VecDeque<(u64, u64)>,
    /// What was written and not received on the link before, in order: ids and hashes. Shards may send it in another order than before, but
    /// not that of one session.
    again: VecDeque<(u64, u64)>,
    /// The count up to which the other side has acknowledged.
    acknowledged: u64,
    /// The count of the last frame on this link.
    at: u64,
    frames: Frames,
    has_begun: bool,
}

impl Way {
    fn restart(&mut self) {
        (self.acknowledged, self.at) = (0, 0);
        self.sent.clear();
        self.again.clear();
    }

    /// The next link goes on behind what was received.
    fn go_on(&mut self, received: u64, is_divided: bool) {
        self.at = received;
        let kept = received.saturating_sub(self.acknowledged) as usize;
        if is_divided && kept < self.sent.len() {
            let mut lost = self.sent.split_off(kept);
            lost.append(&mut self.again);
            self.again = lost;
        }
    }

    /// Returns whether a frame of a shard comes again.
    fn comes_again(&mut self, frame: (u64, u64)) -> Result<bool, String> {
        let is_next = |other: &(u64, u64)| match frame.0 {
            0 => *other == frame,
            id => other.0 == id,
        };
        let Some(place) = self.again.iter().position(is_next) else {
            return Ok(false);
        };
        match self.again.remove(place) == Some(frame) {
            true => Ok(true),
            false => Err(format!("a frame of {:016x} comes too early", frame.0)),
        }
    }

    /// Counts a frame. Returns whether it is a new one. The error says how it differs from the one that had its count before.
    fn count(&mut self, body: &[u8]) -> Result<bool, String> {
        let mut hasher = SipHasher13::new();
        hasher.write(body);
        let hash = (number(body, 0).unwrap_or_default(), hasher.finish());
        self.at += 1;
        let Some(place) = self.at.checked_sub(self.acknowledged + 1) else {
            return Err(format!("frame {} was acknowledged", self.at));
        };
        match self.sent.get(place as usize) {
            None => {
                self.sent.push_back(hash);
                self.comes_again(hash).map(|again| !again)
            }
            Some(before) if *before == hash => Ok(false),
            Some(_) => Err(format!("frame {} is another one than before", self.at)),
        }
    }

    fn end(&self) -> u64 {
        self.acknowledged + self.sent.len() as u64
    }
}

/// What is wrong, and the rule that it breaks.
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) section: &'static str,
    pub(crate) text: String,
}

impl<T: Into<String>> From<T> for Fault {
    fn from(text: T) -> Self {
        Fault {
            rule: "K7",
            section: "37",
            text: text.into(),
        }
    }
}

/// What this boot was told of a session.
#[derive(Default)]
struct Known {
    is_away: bool,
    /// Whether JOINED is to come behind OWN.
    awaits_joined: bool,
    has_ended: bool,
    /// Whether OWN says that it has ended.
    is_over: bool,
    /// That of the last OWN or RESUMED.
    counter: u64,
}

/// What was read of the link, as it was written.
#[derive(Default)]
pub(crate) struct Tap {
    up: Way,
    down: Way,
    /// The sessions of which this boot was told.
    known: BTreeMap<u64, Known>,
    boot: [u8; 16],
    run: [u8; 8],
    /// What the ASK of this link says: its boot and run, and its counts.
    ask: Option<([u8; 16], [u8; 8], [u64; 3])>,
    is_granted: bool,
    /// Whether the edge has several shards.
    is_divided: bool,
    /// Whether the backend has taken the link for one of version 2, and a late GRANT ends it (SPEC 34.1(g)).
    is_void: bool,
    /// What ASK, GRANT and LINK_ACK said since the last look.
    pub(super) said: Vec<String>,
    /// Whether the edge wrote something before it granted version 3 on this link.
    is_plain: bool,
}

fn field<const N: usize>(body: &[u8], at: usize) -> Option<[u8; N]> {
    body.get(at..)?.first_chunk().copied()
}

fn number(body: &[u8], at: usize) -> Option<u64> {
    field(body, at).map(u64::from_le_bytes)
}

/// Returns the boot, the run and the counts of an ASK.
fn ask_of(body: &[u8]) -> Option<([u8; 16], [u8; 8], [u64; 3])> {
    let counts = [number(body, 38)?, number(body, 46)?, number(body, 54)?];
    Some((field(body, 14)?, field(body, 30)?, counts))
}

impl Tap {
    /// Reads the links of an edge with this number of shards.
    pub(crate) fn new(shards: usize) -> Tap {
        Tap {
            is_divided: shards > 1,
            ..Tap::default()
        }
    }

    /// A new link is there.
    pub(crate) fn connected(&mut self) {
        for way in [&mut self.up, &mut self.down] {
            way.frames = Frames::default();
            way.has_begun = false;
        }
        (self.ask, self.is_granted, self.is_plain) = (None, false, false);
        self.is_void = false;
    }

    /// The backend takes this link for one of version 2.
    pub(super) fn fell_back(&mut self) {
        self.is_void = true;
    }

    /// Returns whether the edge wrote something in version 2 since the last call.
    pub(crate) fn take_plain(&mut self) -> bool {
        std::mem::take(&mut self.is_plain)
    }

    /// Reads bytes that the backend has written.
    pub(crate) fn down(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.down.frames.push(bytes);
        while let Ok(Some(body)) = self.down.frames.next_body(u32::MAX) {
            let flag = body.get(8).copied().unwrap_or(0);
            let is_first = !std::mem::replace(&mut self.down.has_begun, true);
            match flag {
                ASK if is_first => {
                    self.ask = ask_of(&body);
                    let (_, run, counts) = self.ask.ok_or("a short ASK")?;
                    self.said.push(format!("ASK: run {run:x?}, {counts:?}"));
                    let [received, acknowledged, _] = counts;
                    if acknowledged > received {
                        return Err(
                            format!("ASK: {acknowledged} of {received} acknowledged").into()
                        );
                    }
                }
                _ if self.is_void => {}
                LINK_ACK if !self.is_granted => {
                    return Err("LINK_ACK follows ASK before GRANT".into());
                }
                _ if !self.is_granted => {}
                LINK_ACK => {
                    self.said.push(acknowledged_in("the backend", &body));
                    acknowledge(&body, &self.down, &mut self.up)?;
                }
                _ => {
                    self.down
                        .count(&body)
                        .map_err(|text| format!("down: {text}"))?;
                }
            }
        }
        Ok(())
    }

    /// Reads bytes that the edge has written.
    pub(crate) fn up(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.up.frames.push(bytes);
        while let Ok(Some(body)) = self.up.frames.next_body(u32::MAX) {
            let flag = body.get(8).copied().unwrap_or(0);
            let is_first = !std::mem::replace(&mut self.up.has_begun, true);
            match flag {
                GRANT if is_first => self.grant(&body)?,
                _ if self.is_void => {}
                GRANT => return Err("GRANT is not the first frame".into()),
                _ if !self.is_granted => self.is_plain = true,
                LINK_ACK => {
                    self.said.push(acknowledged_in("the edge", &body));
                    acknowledge(&body, &self.up, &mut self.down)?;
                }
                _ => {
                    let is_new = self.up.count(&body).map_err(|text| format!("up: {text}"))?;
                    if is_new {
                        self.hear(flag, &body)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a frame of a session that the edge sends for the first time (SPEC 35.1).
    fn hear(&mut self, flag: u8, body: &[u8]) -> Result<(), Fault> {
        let id = number(body, 0).unwrap_or_default();
        if !matches!(flag, DATA | JOINED | AWAY | RESUMED | ENDED | OWN) {
            return Ok(());
        }
        let before = self.known.get(&id);
        let counter = number(body, 9).unwrap_or_default();
        let code = field(body, 9).map(u16::from_le_bytes);
        let expires = flag == ENDED && code == Some(EXPIRED);
        let was_away = flag == RESUMED && number(body, 17) > Some(0);
        let wrong = match before {
            None if !matches!(flag, JOINED | OWN) => Some("comes before JOINED and OWN"),
            None => None,
            Some(known) if known.has_ended => Some("comes behind ENDED"),
            Some(known) => match flag {
                OWN => Some("comes behind JOINED or OWN"),
                JOINED if !known.awaits_joined => Some("was not to come"),
                _ if known.awaits_joined && flag != JOINED => Some("comes before JOINED"),
                AWAY if known.is_away => Some("comes twice"),
                RESUMED if counter <= known.counter => Some("does not count on"),
                _ if (was_away || expires) && !(known.is_away || known.is_over) => {
                    Some("comes without AWAY")
                }
                _ => None,
            },
        };
        if let Some(wrong) = wrong {
            return Err(Fault {
                rule: "K4",
                section: "35.1",
                text: format!("{id:016x}: frame {flag:#04x} {wrong}"),
            });
        }
        let known = self.known.entry(id).or_default();
        match flag {
            OWN => {
                let state = body.get(41).copied().unwrap_or_default();
                known.awaits_joined = state & 0x80 > 0;
                known.is_away = state & 0x7f == 1;
                known.is_over = state & 0x7f == 2;
                known.counter = counter;
            }
            JOINED => known.awaits_joined = false,
            AWAY => known.is_away = true,
            RESUMED => (known.is_away, known.counter) = (false, counter),
            // It may come back (SPEC 45.6(i)).
            ENDED if code == Some(ELSEWHERE) => drop(self.known.remove(&id)),
            ENDED => known.has_ended = true,
            _ => {}
        }
        Ok(())
    }

    /// Returns how many frames of the backend are not acknowledged.
    pub(crate) fn unacknowledged_down(&self) -> usize {
        self.down.sent.len()
    }

    fn grant(&mut self, body: &[u8]) -> Result<(), String> {
        let (boot, asks_run, [received, acknowledged, sent]) =
            self.ask.ok_or("GRANT, and nobody has asked")?;
        let (Some(of_boot), Some(run), Some(has)) = (
            field::<16>(body, 14),
            field::<8>(body, 36),
            number(body, 52),
        ) else {
            return Err("a short GRANT".into());
        };
        if of_boot != boot {
            return Err("GRANT has another boot".into());
        }
        self.is_granted = true;
        let goes_on = boot == self.boot && run == self.run && asks_run == run && has != ANEW;
        (self.boot, self.run) = (boot, run);
        self.said
            .push(format!("GRANT: run {run:x?}, goes on: {goes_on}, {has:x}"));
        if !goes_on {
            self.up.restart();
            self.down.restart();
            self.known.clear();
            return Ok(());
        }
        let is_right = (self.up.acknowledged..=self.up.end()).contains(&received)
            && (self.down.acknowledged..=self.down.end()).contains(&has)
            && acknowledged >= self.up.acknowledged
            && sent <= self.down.end();
        if !is_right {
            return Err(format!(
                "up {received} of {}, down {has} of {}, and the link goes on",
                self.up.end(),
                self.down.end()
            ));
        }
        self.up.go_on(received, self.is_divided);
        self.down.go_on(has, false);
        Ok(())
    }
}

fn acknowledged_in(who: &str, body: &[u8]) -> String {
    let (acknowledged, sent) = (number(body, 9), number(body, 17));
    format!("{who} acknowledges {acknowledged:?} behind {sent:?}")
}

/// Reads a LINK_ACK of one direction, which is about the other one.
fn acknowledge(body: &[u8], by: &Way, of: &mut Way) -> Result<(), String> {
    let (Some(acknowledged), Some(sent)) = (number(body, 9), number(body, 17)) else {
        return Err("a short LINK_ACK".into());
    };
    if sent != by.at {
        return Err(format!("LINK_ACK behind {} frames says {sent}", by.at));
    }
    if acknowledged < of.acknowledged || acknowledged > of.at.max(of.acknowledged) {
        return Err(format!(
            "LINK_ACK of {acknowledged}, of frames {} to {}",
            of.acknowledged, of.at
        ));
    }
    while of.acknowledged < acknowledged {
        of.sent.pop_front();
        of.acknowledged += 1;
    }
    Ok(())
}
