//! Fuzzes the parsers of version 3.

use std::sync::OnceLock;

use voltlane_core::keys::KeyPair;
use voltlane_core::v3::Side;
use voltlane_core::v3::items::{Item, Items, MAX_ITEMS};
use voltlane_core::v3::order::Order;
use voltlane_core::v3::packets::{MAX_CLIENT_PACKET_BYTES, Packet};
use voltlane_core::v3::record::{MAX_ITEMS_BYTES, Opener, RecordError, Sealer};
use voltlane_core::v3::schedule::Join;

use crate::bytes::Bytes;

/// A body that decodes is the only encoding of its packet, and a bounded one.
pub fn v3_packet(body: &[u8]) {
    if let Ok(packet) = Packet::decode(body) {
        assert_eq!(packet.body(), body, "{}", packet.name());
        assert!(body.len() <= MAX_CLIENT_PACKET_BYTES as usize);
        let mut frame = Vec::new();
        packet.encode(&mut frame);
        assert_eq!(frame.split_off(4), body);
    }
}

/// The first byte chooses the side and the place of a record, the second the longest packet. The rest are its items.
///
/// Items that read are the only encoding of themselves. None follows an error, and there are no more than a record can have. The order never
/// lets a packet grow beyond its bound, and lets nothing follow a CLOSE.
pub fn v3_items(input: &[u8]) {
    let mut input = Bytes::new(input);
    let choice = input.byte();
    let max = u32::from(input.byte());
    let (sender, mut order) = match choice % 4 {
        0 => (Side::Client, Order::of_join(max)),
        1 => (Side::Client, Order::of_early(max)),
        2 => (Side::Edge, Order::of_resumed(max)),
        _ => (Side::Edge, Order::open(max)),
    };
    let plain = input.rest();
    let mut again = Vec::new();
    let (mut read, mut failed, mut held, mut in_order) = (0, false, 0, true);
    for item in Items::new(plain, sender) {
        assert!(!failed, "an item after an error");
        let Ok(item) = item else {
            failed = true;
            continue;
        };
        read += 1;
        assert!(item.only_from().is_none_or(|side| side == sender));
        let was_closed = order.is_closed();
        in_order = in_order && order.check(&item).is_ok();
        if in_order {
            assert!(!was_closed || matches!(item, Item::Pad { .. }));
            held = match item {
                Item::Part(bytes) => held + bytes.len(),
                Item::Packet(_) | Item::Latest { .. } | Item::Volatile(_) => 0,
                _ => held,
            };
            assert!(held <= max as usize, "a packet grows beyond its bound");
        }
        item.encode(&mut again);
    }
    assert!(read <= MAX_ITEMS);
    assert_eq!(again, plain[..again.len()], "another encoding");
    assert_eq!(
        failed,
        again.len() < plain.len(),
        "an error without a cause"
    );
}

/// Two bytes choose a bit to flip and one how much to cut, eight are the number of the record. The rest are its items.
///
/// A record opens as it was sealed, once, under its number, and not when it was changed or cut.
pub fn v3_record(input: &[u8]) {
    static JOIN: OnceLock<Join> = OnceLock::new();
    let join = JOIN.get_or_init(|| {
        let pair = |byte| KeyPair::from_bytes(&[byte; 32]).expect("in the range of keys");
        Join::of_edge(b"hello", &pair(1).public(), &pair(2), &pair(3))
    });
    let mut input = Bytes::new(input);
    let bit = usize::from(u16::from_le_bytes([input.byte(), input.byte()]));
    let cut = usize::from(input.byte());
    let number = u64::from_le_bytes(core::array::from_fn(|_| input.byte()));
    let items = input.rest();
    let (mut sealer, opener) = (Sealer::new(&join.up), || Opener::new(&join.up));
    let mut record = [&[0; 4], items].concat();
    if sealer.seal(number, &mut record, 0).is_err() {
        assert!(items.len() > MAX_ITEMS_BYTES);
        return;
    }
    let body = record.split_off(4);
    let mut whole = opener();
    assert_eq!(whole.open(number, &mut body.clone()).as_deref(), Ok(items));
    let does_not_open = Err(RecordError::DoesNotOpen);
    assert_eq!(
        whole.open(number, &mut body.clone()),
        does_not_open,
        "twice"
    );
    let other = number.wrapping_add(1);
    assert_eq!(
        opener().open(other, &mut body.clone()),
        does_not_open,
        "another number"
    );
    assert!(
        Opener::new(&join.down)
            .open(number, &mut body.clone())
            .is_err()
    );
    if cut > 0 {
        let end = body.len().saturating_sub(cut);
        assert!(opener().open(number, &mut body[..end].to_vec()).is_err());
    }
    let bit = bit % (body.len() * 8);
    let mut changed = body;
    changed[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(
        opener().open(number, &mut changed),
        does_not_open,
        "bit {bit}"
    );
}
