//! The bytes that an edge with a configuration may hold.

use serde::Serialize;
use voltlane_core::protocol::Version;

use super::keys::Settings;

/// Bytes of the length in front of every packet (SPEC section 3).
const LENGTH_BYTES: u128 = 4;
/// Bytes of length, client id and flag in front of every packet on the backend link (SPEC section 7).
const LINK_HEADER_BYTES: u128 = 13;
/// Records of a client of version 3: one that was opened, and those that are sealed and not written.
const RECORDS_BYTES: u128 =
    3 * (LENGTH_BYTES + voltlane_core::v3::record::MAX_RECORD_BYTES as u128);

/// The bytes that may be held at once if every queue of a kind is full. The sums cannot overflow: every count is at most 2^24 and every
/// size at most 2^40.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorstCase {
    /// One connected client: its queue and an incoming packet.
    pub client: u128,
    /// All connected clients; `None` if their number is not limited here.
    pub clients: Option<u128>,
    /// All clients that are away: their missed packets.
    pub away: u128,
    /// The links to all backends: the queue of each and an incoming packet.
    pub link: u128,
}

impl WorstCase {
    /// Computes the worst case of these settings. An empty queue takes any one packet, so a queue is at least as large as that.
    #[must_use]
    pub fn of(settings: &Settings) -> WorstCase {
        let Settings {
            clients,
            master,
            limits,
            ..
        } = settings;
        let numbers = settings
            .listeners()
            .any(|listener| listener.versions.has(Version::V3));
        let (ring, records) = match numbers {
            true => (u128::from(clients.ring_bytes), RECORDS_BYTES),
            false => (0, 0),
        };
        let up = u128::from(clients.max_frame_bytes);
        let down = u128::from(master.max_frame_bytes) + LENGTH_BYTES;
        let queue = down.max(clients.channel_bytes.into());
        let client = queue + ring + records + up + LENGTH_BYTES;
        let missed = match clients.missed_packets_buffer_size {
            0 => 0,
            _ => down.max(clients.missed_packets_buffer_bytes.into()),
        };
        // A session of version 3 keeps as much as an attached one.
        let of_away = match ring {
            0 => missed,
            ring => missed.max(queue + ring),
        };
        let link_queue = u128::from(master.channel_bytes).max(up + LINK_HEADER_BYTES);
        WorstCase {
            client,
            clients: (limits.max_connections > 0)
                .then(|| u128::from(limits.max_connections) * client),
            away: u128::from(clients.max_stale_clients) * of_away,
            link: settings.backends().len() as u128
                * (link_queue + u128::from(master.max_frame_bytes) + LINK_HEADER_BYTES),
        }
    }
}
