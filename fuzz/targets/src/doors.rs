//! Fuzzes the layers around the client link.

use voltlane_doors::websocket::Role;

// The tests of the layer compare with them as well.
#[path = "../../../doors/tests/websocket/oracles.rs"]
mod oracles;

/// The first two bytes choose the end of the connection, the bound on frames and the cuts; the rest is frames.
///
/// Every way to cut gives the same events, and tungstenite and websocket-sans-io see the same.
pub fn ws_decode(input: &[u8]) {
    let [options, cuts, frames @ ..] = input else {
        return;
    };
    let role = if options & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let max_frame_bytes = u64::from(options >> 1);
    let mut cuts = std::iter::successors(Some(u32::from(*cuts)), |cut| {
        Some(cut.wrapping_mul(5).wrapping_add(1))
    });
    oracles::compare(role, max_frame_bytes, frames, || {
        cuts.next().map_or(1, |cut| cut as usize % 23)
    });
}
