//! Events of a client, as they wait in its inbox.

use voltlane_core::ClientId;
use voltlane_core::client as machine;

use super::{Event, rejoins};
use crate::weigh::Weigh;

/// The session and the number of a packet, which is acknowledged when the application has come back for more.
#[derive(Clone, Copy)]
pub(super) struct Lent {
    pub(super) session: u64,
    pub(super) number: u64,
}

/// An event, and the packet that is acknowledged once the application is done with it.
pub(super) struct Heard {
    pub(super) event: Event,
    pub(super) lent: Option<Lent>,
}

impl Heard {
    /// Returns whether it is anything but a packet.
    pub(super) fn is_notice(&self) -> bool {
        !matches!(self.event, Event::Packet { .. })
    }
}

impl From<Event> for Heard {
    fn from(event: Event) -> Self {
        Heard { event, lent: None }
    }
}

impl Weigh for Heard {
    fn packet_bytes(&self) -> usize {
        match &self.event {
            Event::Packet { data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// Converts an event of the machine that happens on a connection. `None` if it is not for the application.
pub(super) fn hear(
    event: machine::Event<'_>,
    session: u64,
    id: &mut Option<ClientId>,
) -> Option<Heard> {
    let event = match event {
        machine::Event::Packet { data, number } => {
            let data = data.to_vec();
            return Some(Heard {
                event: Event::Packet { data, number },
                lent: (number > 0).then_some(Lent { session, number }),
            });
        }
        machine::Event::Connected { id: new } => {
            if session == 1 && id.is_none() {
                rejoins::began();
            }
            *id = Some(new);
            Event::Connected { id: new }
        }
        machine::Event::Resumed { missed, away, .. } => Event::Resumed { missed, away },
        machine::Event::Gap(gap) => Event::Gap { gap },
        machine::Event::CaughtUp => Event::CaughtUp {},
        // The ledger counts them.
        machine::Event::Skipped { .. } => return None,
        machine::Event::Dropped { .. } | machine::Event::Refused(_) | machine::Event::Ended(_) => {
            unreachable!("it comes between connections")
        }
    };
    Some(event.into())
}
