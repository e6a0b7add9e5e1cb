//! What an edge sends once it has granted version 3. (SPEC 35, 36.3)

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::code::Code;
use crate::id::ClientId;
use crate::ledger::Ledger;

use super::error::{Cause, FrameError, Refusal};
use super::features::Features;
use super::fields::{Fields, decode, frame, packet_of};
use super::lists::Settlements;
use super::opening::{LinkAck, link_wide};
use super::{MAX_NOTE_BYTES, MAX_TEXT_BYTES, MAX_TOKEN_BYTES, flag};

const JOINED_FOLLOWS: u8 = 0x80;

/// A frame from the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToBackend<'a> {
    /// A packet of a client.
    Data {
        /// The session.
        id: ClientId,
        /// The packet.
        packet: &'a [u8],
    },
    /// Frames of the backend are acknowledged.
    LinkAck(LinkAck),
    /// A client has come.
    Joined {
        /// Its session.
        id: ClientId,
        /// What is known of it.
        joined: Joined<'a>,
    },
    /// A client's connection is gone.
    Away {
        /// The session.
        id: ClientId,
        /// Why the edge let go of it; 0 if it ended by itself.
        cause: Code,
        /// The time in milliseconds until the session expires.
        left_ms: u32,
    },
    /// A client is back.
    Resumed {
        /// The session.
        id: ClientId,
        /// How.
        resumed: Resumed,
    },
    /// A session has ended.
    Ended {
        /// The session.
        id: ClientId,
        /// How.
        ended: Ended<'a>,
    },
    /// Packets will not come.
    Gap {
        /// The session.
        id: ClientId,
        /// Their direction.
        direction: Direction,
        /// The number of the first one.
        first: u64,
        /// How many.
        count: u64,
        /// Their bytes.
        bytes: u64,
        /// Why (SPEC 24.4(b)).
        reason: u8,
    },
    /// What clients have settled.
    Settled(Settlements<'a>),
    /// A frame of the backend was refused.
    Refused {
        /// The id in it.
        id: u64,
        /// Its flag.
        flag: u8,
        /// Why.
        refusal: Refusal,
    },
    /// A new token of a client.
    Token {
        /// The session.
        id: ClientId,
        /// The token.
        token: &'a [u8],
    },
    /// A session that the edge has, for a new boot.
    Own {
        /// The session.
        id: ClientId,
        /// Where it is.
        own: Own<'a>,
    },
    /// A client has come with a ticket, and has proven who it is.
    Adopt {
        /// Its session.
        id: ClientId,
        /// Where it is.
        adopt: Adopt,
    },
}

/// How a client's bytes come to the edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
#[repr(u8)]
pub enum Carriage {
    /// A TCP stream.
    #[default]
    Tcp = 0,
    /// TLS over TCP.
    Tls = 1,
    /// WebSocket.
    WebSocket = 2,
    /// WebSocket in TLS.
    WebSocketTls = 3,
    /// A Unix socket.
    Unix = 4,
}

image!(enum Carriage { 0 Tcp {}, 1 Tls {}, 2 WebSocket {}, 3 WebSocketTls {}, 4 Unix {} });

impl Carriage {
    /// Returns whether its bytes are within TLS.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Carriage::Tls | Carriage::WebSocketTls)
    }

    /// Returns whether its bytes are in WebSocket messages.
    #[must_use]
    pub const fn has_websocket(self) -> bool {
        matches!(self, Carriage::WebSocket | Carriage::WebSocketTls)
    }
}

/// Where a client's connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Peer {
    /// How its bytes come.
    pub carriage: Carriage,
    /// Its address, if there is one that means something (SPEC 10.7(c)).
    pub address: Option<SocketAddr>,
}

#[cfg(feature = "cluster")]
image!(Peer { carriage, address });

/// What an edge knows of a client that has come. (SPEC 35.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Joined<'a> {
    /// The version of the client link: 2 or 3.
    pub version: u8,
    /// Where it comes from.
    pub peer: Peer,
    /// The exporter of the session; zeros for version 2.
    pub exporter: [u8; 32],
    /// What the backend knows the user by. Empty for version 2.
    pub token: &'a [u8],
}

/// How a client came back. (SPEC 35.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Resumed {
    /// The counter of the resume; for version 2, the resumes so far.
    pub counter: u64,
    /// How long it was away, in milliseconds.
    pub away_ms: u64,
    /// How many packets are sent to it again.
    pub replay: u64,
    /// Where it comes from now.
    pub peer: Peer,
}

/// How a session ended. (SPEC 35.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Ended<'a> {
    /// Why.
    pub code: Code,
    /// The account of the packets up.
    pub up: Ledger,
    /// The account of the packets down.
    pub down: Ledger,
    /// Words for people.
    pub text: &'a str,
}

/// A direction of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a session has two directions")]
#[repr(u8)]
pub enum Direction {
    /// To the backend.
    Up = 0,
    /// To the client.
    Down = 1,
}

/// Where a session is in its numbers. (SPEC 35.6)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Own<'a> {
    /// The counter of its last resume.
    pub counter: u64,
    /// The number of the first packet up that no boot has acknowledged.
    pub next_up: u64,
    /// The number of the last packet down.
    pub numbered_down: u64,
    /// The number down up to which everything is settled.
    pub settled_down: u64,
    /// Where its client is.
    pub state: OwnState,
    /// Whether JOINED follows, since no boot has acknowledged it.
    pub joined_follows: bool,
    /// What a backend wanted to remember of it.
    pub note: &'a str,
}

/// Where a client is that wants to go on at this edge. (SPEC 44.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Adopt {
    /// The counter of the attempt.
    pub counter: u64,
    /// The highest number down that the client has received.
    pub received_down: u64,
    /// The highest number up that was acknowledged to it.
    pub acknowledged_up: u64,
    /// Where it comes from.
    pub peer: Peer,
}

/// Where the client of a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
#[repr(u8)]
pub enum OwnState {
    /// It has a connection.
    Attached = 0,
    /// It is away.
    Away = 1,
    /// The session has ended, and ENDED follows.
    Ended = 2,
}

/// Bytes of a JOINED before its token.
#[cfg(feature = "edge")]
pub(crate) const JOINED_BYTES: usize = 53;

impl<'a> ToBackend<'a> {
    /// Decodes a body of a link on which these features were granted.
    ///
    /// # Errors
    /// [`FrameError`], which leaves the frames behind it as they are.
    #[inline]
    pub fn decode(body: &'a [u8], granted: Features) -> Result<Self, FrameError> {
        match packet_of(body) {
            Some((id, packet)) => Ok(ToBackend::Data { id, packet }),
            None => decode(body, granted, Self::read),
        }
    }

    fn read(number: u64, flag: u8, fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let id = ClientId::from_u64(number);
        Ok(match flag {
            flag::LINK_ACK => {
                link_wide(number)?;
                ToBackend::LinkAck(LinkAck::read(fields)?)
            }
            flag::JOINED => ToBackend::Joined {
                id,
                joined: Joined::read(fields)?,
            },
            flag::AWAY => ToBackend::Away {
                id,
                cause: fields.code()?,
                left_ms: fields.u32()?,
            },
            flag::RESUMED => ToBackend::Resumed {
                id,
                resumed: Resumed::read(fields)?,
            },
            flag::ENDED => ToBackend::Ended {
                id,
                ended: Ended {
                    code: fields.code()?,
                    up: fields.ledger()?,
                    down: fields.ledger()?,
                    text: fields.text("text in bytes", MAX_TEXT_BYTES)?,
                },
            },
            flag::GAP => ToBackend::Gap {
                id,
                direction: match fields.u8()? {
                    0 => Direction::Up,
                    1 => Direction::Down,
                    value => return Err(no("direction", value)),
                },
                first: fields.u64()?,
                count: fields.u64()?,
                bytes: fields.u64()?,
                reason: fields.u8()?,
            },
            flag::SETTLED => {
                link_wide(number)?;
                ToBackend::Settled(Settlements::read_all(fields)?)
            }
            flag::REFUSED => {
                let (flag, reason) = (fields.u8()?, fields.u8()?);
                ToBackend::Refused {
                    id: number,
                    flag,
                    refusal: Refusal::from_u8(reason).ok_or_else(|| no("reason", reason))?,
                }
            }
            flag::TOKEN => ToBackend::Token {
                id,
                token: fields.bounded("token in bytes", MAX_TOKEN_BYTES)?,
            },
            flag::OWN => ToBackend::Own {
                id,
                own: Own::read(fields)?,
            },
            flag::ADOPT => ToBackend::Adopt {
                id,
                adopt: Adopt {
                    counter: fields.u64()?,
                    received_down: fields.u64()?,
                    acknowledged_up: fields.u64()?,
                    peer: Peer::read(fields)?,
                },
            },
            _ => return Err(Cause::WrongWay),
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ToBackend::Data { id, packet } => {
                frame(out, id.as_u64(), flag::DATA, |out| {
                    out.extend_from_slice(packet);
                });
            }
            ToBackend::LinkAck(ack) => ack.encode(out),
            ToBackend::Joined { id, joined } => {
                frame(out, id.as_u64(), flag::JOINED, |out| joined.write(out));
            }
            ToBackend::Away { id, cause, left_ms } => {
                frame(out, id.as_u64(), flag::AWAY, |out| {
                    out.extend_from_slice(&cause.to_u16().to_le_bytes());
                    out.extend_from_slice(&left_ms.to_le_bytes());
                });
            }
            ToBackend::Resumed { id, resumed } => {
                frame(out, id.as_u64(), flag::RESUMED, |out| resumed.write(out));
            }
            ToBackend::Ended { id, ended } => {
                frame(out, id.as_u64(), flag::ENDED, |out| ended.write(out));
            }
            ToBackend::Gap {
                id,
                direction,
                first,
                count,
                bytes,
                reason,
            } => frame(out, id.as_u64(), flag::GAP, |out| {
                out.push(direction as u8);
                for number in [first, count, bytes] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.push(reason);
            }),
            ToBackend::Settled(settlements) => {
                frame(out, 0, flag::SETTLED, |out| settlements.write(out));
            }
            ToBackend::Refused { id, flag, refusal } => {
                frame(out, id, flag::REFUSED, |out| {
                    out.extend_from_slice(&[flag, refusal.to_u8()]);
                });
            }
            ToBackend::Token { id, token } => {
                frame(out, id.as_u64(), flag::TOKEN, |out| {
                    out.extend_from_slice(token);
                });
            }
            ToBackend::Own { id, own } => {
                frame(out, id.as_u64(), flag::OWN, |out| own.write(out));
            }
            ToBackend::Adopt { id, adopt } => {
                frame(out, id.as_u64(), flag::ADOPT, |out| {
                    let Adopt {
                        counter,
                        received_down,
                        acknowledged_up,
                        peer,
                    } = adopt;
                    for number in [counter, received_down, acknowledged_up] {
                        out.extend_from_slice(&number.to_le_bytes());
                    }
                    peer.write(out);
                });
            }
        }
    }
}

fn no(field: &'static str, value: u8) -> Cause {
    Cause::Value {
        field,
        value: value.into(),
    }
}

impl Peer {
    fn read(fields: &mut Fields<'_>) -> Result<Peer, Cause> {
        let carriage = match fields.u8()? {
            0 => Carriage::Tcp,
            1 => Carriage::Tls,
            2 => Carriage::WebSocket,
            3 => Carriage::WebSocketTls,
            4 => Carriage::Unix,
            value => return Err(no("carriage", value)),
        };
        let family = fields.u8()?;
        let address: [u8; 16] = fields.array()?;
        let port = fields.u16()?;
        let [a, b, c, d, unused @ ..] = address;
        let ip = match family {
            0 if address == [0; 16] && port == 0 => None,
            4 if unused == [0; 12] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            6 => Some(IpAddr::V6(Ipv6Addr::from(address))),
            value => return Err(no("family of this address", value)),
        };
        Ok(Peer {
            carriage,
            address: ip.map(|ip| SocketAddr::new(ip, port)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (family, address, port) = match self.address {
            None => (0, [0; 16], 0),
            Some(address) => match address.ip() {
                IpAddr::V4(ip) => {
                    let [a, b, c, d] = ip.octets();
                    let bytes = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    (4, bytes, address.port())
                }
                IpAddr::V6(ip) => (6, ip.octets(), address.port()),
            },
        };
        out.extend_from_slice(&[self.carriage as u8, family]);
        out.extend_from_slice(&address);
        out.extend_from_slice(&port.to_le_bytes());
    }
}

impl<'a> Joined<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let version = match fields.u8()? {
            version @ (2 | 3) => version,
            value => return Err(no("version of the client link", value)),
        };
        Ok(Joined {
            version,
            peer: Peer::read(fields)?,
            exporter: fields.array()?,
            token: fields.bounded("token in bytes", MAX_TOKEN_BYTES)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.version);
        self.peer.write(out);
        out.extend_from_slice(&self.exporter);
        out.extend_from_slice(self.token);
    }
}

impl Resumed {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Cause> {
        Ok(Resumed {
            counter: fields.u64()?,
            away_ms: fields.u64()?,
            replay: fields.u64()?,
            peer: Peer::read(fields)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        for number in [self.counter, self.away_ms, self.replay] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.peer.write(out);
    }
}

impl Ended<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_u16().to_le_bytes());
        for count in [self.up.fields(), self.down.fields()].as_flattened() {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(self.text.as_bytes());
    }
}

impl<'a> Own<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let (counter, next_up) = (fields.u64()?, fields.u64()?);
        let (numbered_down, settled_down) = (fields.u64()?, fields.u64()?);
        let state = fields.u8()?;
        Ok(Own {
            counter,
            next_up,
            numbered_down,
            settled_down,
            state: match state & !JOINED_FOLLOWS {
                0 => OwnState::Attached,
                1 => OwnState::Away,
                2 => OwnState::Ended,
                _ => return Err(no("state", state)),
            },
            joined_follows: state & JOINED_FOLLOWS != 0,
            note: fields.text("note in bytes", MAX_NOTE_BYTES)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let numbers = [
            self.counter,
            self.next_up,
            self.numbered_down,
            self.settled_down,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let follows = if self.joined_follows {
            JOINED_FOLLOWS
        } else {
            0
        };
        out.push(self.state as u8 | follows);
        out.extend_from_slice(self.note.as_bytes());
    }
}
