use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LEDGER: Ledger = Ledger {
    numbered: 300,
    acknowledged: 251,
    superseded: 20,
    gapped: 10,
    open_sent: 9,
    open_unsent: 10,
    skipped: 70_000,
};

fn close(code: Code) -> Close<'static> {
    Close {
        code,
        wait_ms: 1_000,
        jitter_ms: 250,
        detail: u64::MAX,
        up: LEDGER,
        down: Ledger::default(),
        text: "grüß",
    }
}

/// One of each, at the edges of its fields.
fn samples() -> Vec<Item<'static>> {
    static BYTES: [u8; 4_096] = [7; 4_096];
    let mut samples = Vec::new();
    for length in [0, 1, 125, 126, 4_096] {
        let bytes = &BYTES[..length];
        samples.extend([
            Item::Packet(bytes),
            Item::Volatile(bytes),
            Item::Token(bytes),
        ]);
        samples.extend([0, MAX_LATEST_KEY].map(|key| Item::Latest { key, data: bytes }));
        samples.extend([32, 250, u64::MAX >> 1].map(|kind| Item::Ignored { kind, bytes }));
        if length > 0 {
            samples.push(Item::Part(bytes));
        }
    }
    for count in [1, 250, 251, 65_536, MAX_NUMBER] {
        samples.extend([
            Item::Ack(count),
            Item::Superseded { count },
            Item::Skipped { count },
            Item::Gap {
                count,
                bytes: u64::MAX,
                reason: 255,
            },
        ]);
    }
    samples.extend([Item::EarlyEnd, Item::AckNow]);
    samples.extend([Item::Ping([1; 8]), Item::Pong([2; 8])]);
    static MARKS: [[u8; 8]; MAX_RESUMED_MARKS] = [[4; 8]; MAX_RESUMED_MARKS];
    let resumed = Resumed {
        until: MAX_NUMBER,
        received_up: 0,
        away_ms: u64::MAX,
        cause: Code::PARKED,
    };
    let marks = [1, MAX_RESUMED_MARKS];
    samples.extend(marks.map(|count| Item::Resumed(resumed, &MARKS[..count])));
    samples.push(Item::GoAway(GoAway {
        code: Code::RESTART,
        earliest_ms: 5,
        latest_ms: u32::MAX,
        drain_ms: 0,
    }));
    samples.push(Item::Close(close(Code::PROTOCOL)));
    samples.extend([0, 1, 60].map(|length| Item::Pad { length }));
    samples
}

fn encoded(item: &Item<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    item.encode(&mut out);
    out
}

fn sender_of(item: &Item<'_>) -> Side {
    item.only_from().unwrap_or(Side::Client)
}

fn read(plain: &[u8], sender: Side) -> Result<Vec<Item<'_>>, ItemError> {
    Items::new(plain, sender).collect()
}

fn error(plain: &[u8], sender: Side) -> ItemError {
    read(plain, sender).expect_err("it is refused")
}

#[test]
fn every_item_reads_back_from_its_side_only() {
    for item in samples() {
        let bytes = encoded(&item);
        for sender in [Side::Client, Side::Edge] {
            let expected = match item.only_from() {
                Some(side) if side != sender => Err(ItemError::WrongSide { item: item.name() }),
                _ => Ok(vec![item]),
            };
            assert_eq!(read(&bytes, sender), expected);
        }
    }
}

#[test]
fn an_item_cut_anywhere_is_truncated() {
    for item in samples() {
        let bytes = encoded(&item);
        // Padding has no end of its own.
        let whole = if let Item::Pad { .. } = item {
            1
        } else {
            bytes.len()
        };
        for end in 1..whole {
            assert_eq!(
                error(&bytes[..end], sender_of(&item)),
                ItemError::Truncated,
                "{item:?} {end}"
            );
        }
    }
}

#[test]
fn items_follow_each_other_and_nothing_follows_an_error() {
    let items = [
        Item::Packet(b"one"),
        Item::Ack(3),
        Item::Packet(b""),
        Item::Pad { length: 2 },
    ];
    let mut plain = Vec::new();
    items.iter().for_each(|item| item.encode(&mut plain));
    assert_eq!(read(&plain, Side::Client).unwrap(), items);
    assert_eq!(read(&[], Side::Client), Ok(Vec::new()));
    let mut failing = Items::new(&[0, 41, 0], Side::Client);
    assert_eq!(failing.next(), Some(Ok(Item::Packet(b""))));
    let unknown = ItemError::UnknownType { kind: 20 };
    assert_eq!(failing.next(), Some(Err(unknown)));
    assert_eq!(failing.next(), None);
}

#[test]
fn a_record_has_a_bounded_number_of_items() {
    assert_eq!(
        read(&[0; MAX_ITEMS], Side::Client).unwrap().len(),
        MAX_ITEMS
    );
    assert_eq!(error(&[0; MAX_ITEMS + 1], Side::Client), ItemError::TooMany);
}

/// Types that a later version may give a meaning, and those that have none.
#[test]
fn reserved_types_are_refused() {
    for kind in (16..32_u8).filter(|kind| !cfg!(feature = "tickets") || *kind != 17) {
        for sender in [Side::Client, Side::Edge] {
            let unknown = ItemError::UnknownType { kind: kind.into() };
            assert_eq!(error(&[kind * 2 + 1, 0, 0, 0], sender), unknown);
        }
    }
}

#[test]
#[cfg(feature = "tickets")]
fn a_ticket_comes_from_an_edge_alone_and_has_a_bound() {
    let ticket = |length: usize| {
        let mut plain = Vec::new();
        Item::Ticket(&vec![7; length]).encode(&mut plain);
        plain
    };
    let longest = ticket(MAX_TICKET_BYTES);
    let read = Items::new(&longest, Side::Edge).next();
    assert_eq!(read, Some(Ok(Item::Ticket(&[7; MAX_TICKET_BYTES]))));
    let wrong = ItemError::WrongSide { item: "TICKET" };
    assert_eq!(error(&longest, Side::Client), wrong);
    let (item, length, max) = ("TICKET", MAX_TICKET_BYTES + 1, MAX_TICKET_BYTES);
    let beyond = ItemError::TooLong { item, length, max };
    assert_eq!(error(&ticket(length), Side::Edge), beyond);
}

#[test]
fn impossible_values_are_refused() {
    let value = |item, field, value| ItemError::Value { item, field, value };
    for bytes in [0_u8, 7, 9] {
        let plain = [&[23, 0, 0, 0, 0, bytes], &[1; 9][..bytes.into()]].concat();
        let error = error(&plain, Side::Edge);
        assert_eq!(error, value("RESUMED", "length", bytes.into()));
    }
    let resumed = Resumed {
        until: 0,
        received_up: 0,
        away_ms: 0,
        cause: Code::GOODBYE,
    };
    let mut plain = Vec::new();
    Item::Resumed(resumed, &[[1; 8]; MAX_RESUMED_MARKS + 1]).encode(&mut plain);
    assert_eq!(error(&plain, Side::Edge), value("RESUMED", "length", 520));
    let down = |bytes: &[u8]| error(bytes, Side::Edge);
    // Counts of none.
    for (kind, item) in [
        (ACK, "ACK"),
        (SUPERSEDED, "SUPERSEDED"),
        (SKIPPED, "SKIPPED"),
        (GAP, "GAP"),
    ] {
        let header = kind as u8 * 2 + 1;
        assert_eq!(down(&[header, 0, 0, 1]), value(item, "count", 0));
        let mut beyond = vec![header];
        write_integer(MAX_NUMBER + 1, &mut beyond);
        assert_eq!(down(&beyond), value(item, "count", MAX_NUMBER + 1));
    }
    assert_eq!(down(&[13, 1, 1, 0]), value("GAP", "reason", 0));
    assert_eq!(down(&[13, 1, 1, 251, 0, 1]), value("GAP", "reason", 256));
    assert_eq!(down(&[11, 0]), value("PART", "length", 0));
    assert_eq!(down(&[17, 64, 0]), value("LATEST", "key", 64));
    assert_eq!(down(&[1, 0, 0, 1]), ItemError::Padding);
    let token = encoded(&Item::Token(&[0; MAX_TOKEN_BYTES + 1]));
    assert_eq!(
        error(&token, Side::Client),
        ItemError::TooLong {
            item: "TOKEN",
            length: 4_097,
            max: MAX_TOKEN_BYTES
        }
    );
}

#[test]
fn integers_have_one_form() {
    let not_shortest = ItemError::Integer(HandshakeError::NotShortest { value: 4 });
    assert_eq!(error(&[251, 4, 0, 1, 2], Side::Client), not_shortest);
    let marker = ItemError::Integer(HandshakeError::UnknownMarker { marker: 254 });
    assert_eq!(error(&[254], Side::Client), marker);
}

#[test]
fn a_client_closes_with_few_codes_and_nobody_with_others() {
    for number in 0..=u16::MAX {
        let mut bytes = vec![31];
        write_integer(number.into(), &mut bytes);
        bytes.extend([0; 18]);
        let code = Code::from_u16(number).filter(|code| *code != Code::COLD);
        assert_eq!(read(&bytes, Side::Edge).is_ok(), code.is_some(), "{number}");
        let is_of_client = code.is_some_and(Code::is_of_client);
        assert_eq!(read(&bytes, Side::Client).is_ok(), is_of_client, "{number}");
    }
}

#[test]
fn the_text_of_a_close_is_short_and_utf_8() {
    let with = |text: &[u8]| {
        let mut bytes = vec![31];
        bytes.extend([0; 18]);
        write_integer(text.len() as u64, &mut bytes);
        bytes.extend(text);
        read(&bytes, Side::Edge).map(|items| items.len())
    };
    assert_eq!(with(&[b'a'; MAX_TEXT_BYTES]), Ok(1));
    assert_eq!(
        with(&[b'a'; MAX_TEXT_BYTES + 1]),
        Err(ItemError::TooLong {
            item: "CLOSE",
            length: 257,
            max: 256
        })
    );
    assert_eq!(with(&[0xc3]), Err(ItemError::Text));
}

#[test]
fn a_go_away_has_an_order_of_times_and_no_address_yet() {
    let bad = |bytes: &[u8]| error(bytes, Side::Edge);
    assert_eq!(
        bad(&[29, 101, 5, 4, 0, 0]),
        ItemError::Value {
            item: "GOAWAY",
            field: "latest",
            value: 4
        }
    );
    assert_eq!(
        bad(&[29, 101, 5, 5, 0, 1, b'a']),
        ItemError::Reserved {
            item: "GOAWAY",
            field: "address"
        }
    );
    assert_eq!(read(&[29, 101, 5, 5, 0, 0], Side::Edge).unwrap().len(), 1);
}

#[test]
fn a_ledger_balances_when_each_number_is_accounted_for() {
    assert!(LEDGER.is_balanced() && Ledger::default().is_balanced());
    let one_more = |change: fn(&mut Ledger)| {
        let mut ledger = LEDGER;
        change(&mut ledger);
        ledger.is_balanced()
    };
    assert!(!one_more(|ledger| ledger.numbered += 1));
    assert!(!one_more(|ledger| ledger.acknowledged = u64::MAX));
    assert!(!one_more(|ledger| ledger.superseded += 1));
    assert!(!one_more(|ledger| ledger.gapped += 1));
    assert!(!one_more(|ledger| ledger.open_sent += 1));
    assert!(!one_more(|ledger| ledger.open_unsent += 1));
    assert!(
        one_more(|ledger| ledger.skipped += 1),
        "they have no numbers"
    );
}

#[test]
fn numbers_are_taken_by_packets_and_by_what_stands_for_them() {
    for item in samples() {
        let expected = match item {
            Item::Packet(_) | Item::Latest { .. } => 1,
            Item::Gap { count, .. } | Item::Superseded { count } => count,
            _ => 0,
        };
        assert_eq!(item.numbers(), expected, "{item:?}");
    }
}

proptest! {
    /// Small integers, so that headers, lengths and counts meet.
    #[test]
    fn a_record_is_refused_or_the_one_encoding_of_its_items(
        plain in vec(prop_oneof![6 => 0..70_u8, 1 => 250..=255_u8, 1 => any::<u8>()], 0..80),
        is_client: bool,
    ) {
        let sender = if is_client { Side::Client } else { Side::Edge };
        if let Ok(items) = read(&plain, sender) {
            let mut again = Vec::new();
            items.iter().for_each(|item| item.encode(&mut again));
            prop_assert_eq!(again, plain);
        }
    }
}
