//! What a backend sends once it was granted version 3. (SPEC 36)

use crate::code::Code;
use crate::id::ClientId;

use super::error::{Cause, FrameError};
use super::features::Features;
use super::fields::{Fields, decode, frame, packet_of};
use super::lists::{ID_BYTES, Ids};
use super::opening::{LinkAck, link_wide};
use super::{GroupId, MAX_LATEST_KEY, MAX_LEFT_OUT, MAX_NOTE_BYTES, MAX_TEXT_BYTES, flag};

/// A frame from the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToEdge<'a> {
    /// A packet for a client.
    Packet {
        /// The session.
        id: ClientId,
        /// How it is delivered.
        delivery: Delivery,
        /// The packet.
        packet: &'a [u8],
    },
    /// Frames of the edge are acknowledged.
    LinkAck(LinkAck),
    /// A packet for the members of a group.
    GroupSend {
        /// The group.
        group: GroupId,
        /// What, and to whom not.
        send: GroupSend<'a>,
    },
    /// Sessions become members of a group.
    GroupAdd {
        /// The group.
        group: GroupId,
        /// The sessions.
        ids: Ids<'a>,
    },
    /// Sessions are members of a group no longer.
    GroupRemove {
        /// The group.
        group: GroupId,
        /// The sessions.
        ids: Ids<'a>,
    },
    /// A group ends.
    GroupEnd {
        /// The group.
        group: GroupId,
    },
    /// A session is to end.
    Kick {
        /// The session.
        id: ClientId,
        /// Why.
        kick: Kick<'a>,
    },
    /// Bounds and a note of a session.
    Policy {
        /// The session.
        id: ClientId,
        /// What they are.
        policy: Policy<'a>,
    },
    /// A client is to leave.
    GoAway {
        /// The session; `None`: every one.
        id: Option<ClientId>,
        /// When.
        go_away: GoAway,
    },
    /// A client is not to be read.
    Pause {
        /// The session.
        id: ClientId,
    },
    /// It is to be read again.
    GoOn {
        /// The session.
        id: ClientId,
    },
    /// A session goes on at this edge.
    Adopted {
        /// The session.
        id: ClientId,
        /// Where.
        adopted: Adopted,
    },
    /// A session does not go on at this edge, or no longer.
    Disowned {
        /// The session.
        id: ClientId,
        /// Why.
        disowned: Disowned,
    },
}

/// Where a session goes on. (SPEC 44.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Adopted {
    /// The counter of the ADOPT that it answers.
    pub counter: u64,
    /// The number of the next packet up: behind the last one that the application was given, whether or not it came back from that. It is
    /// acknowledged to the client, since the backend that was given it lives.
    pub next_up: u64,
    /// The number before that of the next packet down on this link.
    pub numbered_down: u64,
    /// The number of the last packet down that there is. Those up to it follow.
    pub until: u64,
}

/// Why a session does not go on. (SPEC 44.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Disowned {
    /// The counter of the ADOPT that it answers; 0: it answers none.
    pub asked: u64,
    /// The counter by which another edge has the session, or 0.
    pub known: u64,
    /// Why.
    pub code: Code,
}

/// How a packet down is delivered. (SPEC 24.6, 36.1)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Delivery {
    /// It is numbered, kept and acknowledged.
    Ordinary,
    /// It takes the place of older ones of its key, 0 to 63, which were not sent.
    Latest(u8),
    /// It is sent now or not at all.
    Volatile,
}

/// A packet for the members of a group. (SPEC 36.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct GroupSend<'a> {
    /// How it is delivered.
    pub delivery: Delivery,
    /// Members that do not get it.
    pub left_out: Ids<'a>,
    /// The packet.
    pub packet: &'a [u8],
}

/// How a session is to end. (SPEC 36.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Kick<'a> {
    /// Why: 401, 405, or 500 to 699.
    pub code: Code,
    /// How long the client is to wait, in milliseconds.
    pub wait_ms: u32,
    /// Words for people.
    pub text: &'a str,
}

impl Kick<'_> {
    /// Returns whether a backend may kick with this code.
    #[must_use]
    pub fn allows(code: Code) -> bool {
        code == Code::KICKED || code == Code::TOKEN || code.is_of_application()
    }
}

/// Bounds and a note of a session. (SPEC 36.6)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Policy<'a> {
    /// How long it may be away, in seconds; 0: as configured.
    pub window_s: u32,
    /// The bytes of its ring; 0: as configured.
    pub ring_bytes: u32,
    /// What becomes of a packet that has no room.
    pub overflow: Overflow,
    /// What the backend wants to remember of it.
    pub note: &'a str,
}

/// What becomes of a packet that has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
#[repr(u8)]
pub enum Overflow {
    /// The session ends.
    #[default]
    End = 0,
    /// Packets are left out, and the client is told.
    Gap = 1,
}

/// When a client is to leave. (SPEC 25.3, 36.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct GoAway {
    /// Why: 100 to 199.
    pub code: Code,
    /// It leaves no earlier than this, in milliseconds from now.
    pub earliest_ms: u32,
    /// And no later than this.
    pub latest_ms: u32,
    /// It is closed after this time, in milliseconds from now.
    pub drain_ms: u32,
}

/// Bytes of a KICK before its text.
#[cfg(feature = "backend")]
pub(crate) const KICK_BYTES: usize = 6;
/// Bytes of a POLICY before its note.
#[cfg(feature = "backend")]
pub(crate) const POLICY_BYTES: usize = 9;

impl Delivery {
    /// Returns the bytes before a packet that goes to one session, without id and flag.
    #[must_use]
    pub const fn bytes_before(self) -> usize {
        match self {
            Delivery::Ordinary | Delivery::Volatile => 0,
            Delivery::Latest(_) => 1,
        }
    }
}

impl GroupSend<'_> {
    /// Returns the bytes before the packet if this many ids are left out, without id and flag.
    #[must_use]
    pub const fn bytes_before(left_out: usize) -> usize {
        left_out.saturating_mul(ID_BYTES).saturating_add(3)
    }
}

impl<'a> ToEdge<'a> {
    /// Decodes a body of a link on which these features were granted.
    ///
    /// # Errors
    /// [`FrameError`], which leaves the frames behind it as they are.
    #[inline]
    pub fn decode(body: &'a [u8], granted: Features) -> Result<Self, FrameError> {
        match packet_of(body) {
            Some((id, packet)) => Ok(ToEdge::Packet {
                id,
                delivery: Delivery::Ordinary,
                packet,
            }),
            None => decode(body, granted, Self::read),
        }
    }

    fn read(number: u64, flag: u8, fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let (id, group) = (ClientId::from_u64(number), GroupId(number));
        Ok(match flag {
            flag::VOLATILE => ToEdge::Packet {
                id,
                delivery: Delivery::Volatile,
                packet: fields.rest(),
            },
            flag::LATEST => ToEdge::Packet {
                id,
                delivery: Delivery::Latest(key(fields)?),
                packet: fields.rest(),
            },
            flag::LINK_ACK => {
                link_wide(number)?;
                ToEdge::LinkAck(LinkAck::read(fields)?)
            }
            flag::GROUP_SEND => ToEdge::GroupSend {
                group,
                send: GroupSend::read(fields)?,
            },
            flag::GROUP_ADD => ToEdge::GroupAdd {
                group,
                ids: Ids::read_all(fields)?,
            },
            flag::GROUP_REMOVE => ToEdge::GroupRemove {
                group,
                ids: Ids::read_all(fields)?,
            },
            flag::GROUP_END => ToEdge::GroupEnd { group },
            flag::KICK => ToEdge::Kick {
                id,
                kick: Kick::read(fields)?,
            },
            flag::POLICY => ToEdge::Policy {
                id,
                policy: Policy::read(fields)?,
            },
            flag::GOAWAY => ToEdge::GoAway {
                id: (number != 0).then_some(id),
                go_away: GoAway::read(fields)?,
            },
            flag::PAUSE => ToEdge::Pause { id },
            flag::GO_ON => ToEdge::GoOn { id },
            flag::ADOPTED => ToEdge::Adopted {
                id,
                adopted: Adopted {
                    counter: fields.u64()?,
                    next_up: fields.u64()?,
                    numbered_down: fields.u64()?,
                    until: fields.u64()?,
                },
            },
            flag::DISOWNED => ToEdge::Disowned {
                id,
                disowned: Disowned {
                    asked: fields.u64()?,
                    known: fields.u64()?,
                    code: fields.code()?,
                },
            },
            _ => return Err(Cause::WrongWay),
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ToEdge::Packet {
                id,
                delivery,
                packet,
            } => {
                let flag = match delivery {
                    Delivery::Ordinary => flag::DATA,
                    Delivery::Latest(_) => flag::LATEST,
                    Delivery::Volatile => flag::VOLATILE,
                };
                frame(out, id.as_u64(), flag, |out| {
                    if let Delivery::Latest(key) = delivery {
                        out.push(key);
                    }
                    out.extend_from_slice(packet);
                });
            }
            ToEdge::LinkAck(ack) => ack.encode(out),
            ToEdge::GroupSend { group, send } => {
                frame(out, group.0, flag::GROUP_SEND, |out| send.write(out));
            }
            ToEdge::GroupAdd { group, ids } => {
                frame(out, group.0, flag::GROUP_ADD, |out| ids.write(out));
            }
            ToEdge::GroupRemove { group, ids } => {
                frame(out, group.0, flag::GROUP_REMOVE, |out| ids.write(out));
            }
            ToEdge::GroupEnd { group } => frame(out, group.0, flag::GROUP_END, |_| {}),
            ToEdge::Kick { id, kick } => frame(out, id.as_u64(), flag::KICK, |out| {
                out.extend_from_slice(&kick.code.to_u16().to_le_bytes());
                out.extend_from_slice(&kick.wait_ms.to_le_bytes());
                out.extend_from_slice(kick.text.as_bytes());
            }),
            ToEdge::Policy { id, policy } => frame(out, id.as_u64(), flag::POLICY, |out| {
                out.extend_from_slice(&policy.window_s.to_le_bytes());
                out.extend_from_slice(&policy.ring_bytes.to_le_bytes());
                out.push(policy.overflow as u8);
                out.extend_from_slice(policy.note.as_bytes());
            }),
            ToEdge::GoAway { id, go_away } => {
                let id = id.map_or(0, ClientId::as_u64);
                frame(out, id, flag::GOAWAY, |out| {
                    out.extend_from_slice(&go_away.code.to_u16().to_le_bytes());
                    let times = [go_away.earliest_ms, go_away.latest_ms, go_away.drain_ms];
                    for time in times {
                        out.extend_from_slice(&time.to_le_bytes());
                    }
                });
            }
            ToEdge::Pause { id } => frame(out, id.as_u64(), flag::PAUSE, |_| {}),
            ToEdge::GoOn { id } => frame(out, id.as_u64(), flag::GO_ON, |_| {}),
            ToEdge::Adopted { id, adopted } => {
                frame(out, id.as_u64(), flag::ADOPTED, |out| {
                    let Adopted {
                        counter,
                        next_up,
                        numbered_down,
                        until,
                    } = adopted;
                    for number in [counter, next_up, numbered_down, until] {
                        out.extend_from_slice(&number.to_le_bytes());
                    }
                });
            }
            ToEdge::Disowned { id, disowned } => {
                frame(out, id.as_u64(), flag::DISOWNED, |out| {
                    out.extend_from_slice(&disowned.asked.to_le_bytes());
                    out.extend_from_slice(&disowned.known.to_le_bytes());
                    out.extend_from_slice(&disowned.code.to_u16().to_le_bytes());
                });
            }
        }
    }
}

/// Reads the key of a LATEST.
fn key(fields: &mut Fields<'_>) -> Result<u8, Cause> {
    match fields.u8()? {
        key @ ..=MAX_LATEST_KEY => Ok(key),
        key => Err(Cause::Value {
            field: "key from 0 to 63",
            value: key.into(),
        }),
    }
}

impl<'a> GroupSend<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let class = fields.u8()?;
        let key = key(fields)?;
        let delivery = match (class, key) {
            (0, 0) => Delivery::Ordinary,
            (1, key) => Delivery::Latest(key),
            (2, 0) => Delivery::Volatile,
            (0 | 2, key) => {
                return Err(Cause::Value {
                    field: "key without LATEST, where it must be 0",
                    value: key.into(),
                });
            }
            (class, _) => {
                return Err(Cause::Value {
                    field: "class from 0 to 2",
                    value: class.into(),
                });
            }
        };
        let count = usize::from(fields.u8()?);
        if count > MAX_LEFT_OUT {
            return Err(Cause::Beyond {
                field: "a list of ids to leave out",
                length: count,
                max: MAX_LEFT_OUT,
            });
        }
        Ok(GroupSend {
            delivery,
            left_out: Ids::read(fields, count)?,
            packet: fields.rest(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (class, key) = match self.delivery {
            Delivery::Ordinary => (0, 0),
            Delivery::Latest(key) => (1, key),
            Delivery::Volatile => (2, 0),
        };
        let count = u8::try_from(self.left_out.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[class, key, count]);
        self.left_out.write(out);
        out.extend_from_slice(self.packet);
    }
}

impl<'a> Kick<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let code = fields.code()?;
        if !Kick::allows(code) {
            return Err(Cause::Value {
                field: "code of a kick: 401, 405 or 500 to 699",
                value: code.to_u16().into(),
            });
        }
        Ok(Kick {
            code,
            wait_ms: fields.u32()?,
            text: fields.text("text in bytes", MAX_TEXT_BYTES)?,
        })
    }
}

impl<'a> Policy<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        Ok(Policy {
            window_s: fields.u32()?,
            ring_bytes: fields.u32()?,
            overflow: match fields.u8()? {
                0 => Overflow::End,
                1 => Overflow::Gap,
                value => {
                    return Err(Cause::Value {
                        field: "choice of what ends: 0 or 1",
                        value: value.into(),
                    });
                }
            },
            note: fields.text("note in bytes", MAX_NOTE_BYTES)?,
        })
    }
}

impl GoAway {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Cause> {
        let code = fields.code()?;
        if !(100..200).contains(&code.to_u16()) {
            return Err(Cause::Value {
                field: "code of a GOAWAY: 100 to 199",
                value: code.to_u16().into(),
            });
        }
        let (earliest_ms, latest_ms) = (fields.u32()?, fields.u32()?);
        if latest_ms < earliest_ms {
            return Err(Cause::Value {
                field: "latest of a GOAWAY: not below earliest",
                value: latest_ms.into(),
            });
        }
        Ok(GoAway {
            code,
            earliest_ms,
            latest_ms,
            drain_ms: fields.u32()?,
        })
    }
}
