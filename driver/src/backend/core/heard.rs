//! What the application hears of what the machine tells.

use tracing::{debug, warn};
use voltlane_core::ClientId;
use voltlane_core::backend::host::{self as machine, Mark};
use voltlane_core::end::End;

use crate::backend::Event;
use crate::weigh::Weigh;

/// An event, and the mark of its frame, which is acknowledged once the application is through with it.
pub(in crate::backend) struct Heard {
    pub(in crate::backend) event: Event,
    pub(in crate::backend) mark: Mark,
}

impl Weigh for Heard {
    fn packet_bytes(&self) -> usize {
        self.event.packet_bytes()
    }
}

/// What comes of a frame.
pub(super) enum Told {
    Nothing,
    Event(Event),
    /// A client has joined with its first packet.
    First(ClientId, Event),
    Ended(ClientId, End),
    Settled(Vec<(ClientId, u64)>),
}

pub(super) fn hear(event: machine::Event<'_>) -> Told {
    Told::Event(match event {
        machine::Event::Packet {
            id,
            data,
            number,
            is_first,
        } => {
            let data = data.to_vec();
            let packet = Event::Packet { id, data, number };
            if is_first {
                return Told::First(id, packet);
            }
            packet
        }
        machine::Event::Joined(joined) => Event::Joined(joined.into()),
        machine::Event::Away {
            id,
            cause,
            expires_in,
        } => Event::Away {
            id,
            cause,
            expires_in,
        },
        machine::Event::Resumed {
            id,
            away,
            missed,
            edge,
            ..
        } => Event::Resumed {
            id,
            away,
            missed,
            edge,
        },
        machine::Event::Gap { id, direction, gap } => Event::Gap { id, direction, gap },
        machine::Event::Token { id, token } => Event::Token {
            id,
            token: token.to_vec(),
        },
        machine::Event::Ended { id, end } => return Told::Ended(id, end),
        machine::Event::Settled(settled) => return Told::Settled(settled.iter().collect()),
        machine::Event::Refused { id, flag, refusal } => {
            warn!(
                id,
                flag,
                ?refusal,
                "the edge refused a frame of this backend"
            );
            return Told::Nothing;
        }
        machine::Event::Stale { id } => {
            debug!(%id, "a frame of the edge about a session that is over");
            return Told::Nothing;
        }
        machine::Event::Fault(fault) => {
            debug!(%fault, "a frame of the edge was dropped");
            return Told::Nothing;
        }
        machine::Event::Malformed(error) => {
            debug!(%error, "a frame of the edge was dropped");
            return Told::Nothing;
        }
        _ => return Told::Nothing,
    })
}
