//! Fuzzes what a server of Redis says.

use voltlane_cluster::testkit::redis_said_in_pieces;

use crate::bytes::in_pieces;

/// The first byte chooses the cuts, the rest is what the server says.
///
/// However it is cut, the same is read, with the same reason if it makes no sense.
pub fn redis_wire(input: &[u8]) {
    let [cuts, said @ ..] = input else { return };
    let whole = redis_said_in_pieces([said]);
    let mut pieces = Vec::new();
    in_pieces(said, *cuts, |piece| pieces.push(piece));
    let cut = redis_said_in_pieces(pieces);
    let bytewise = redis_said_in_pieces(said.chunks(1));
    assert_eq!(whole, cut);
    assert_eq!(whole, bytewise);
}
