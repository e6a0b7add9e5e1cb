//! The send queue: its bounds, and its fate when a connection ends.

use super::edge::{Link, Seen};
use voltlane_core::client::{Client, ClientConfig, Closed, DropCause, SendError};

fn client(config: ClientConfig) -> Client {
    Client::new(config, [1; 32])
}

#[test]
fn packets_are_bounded_exactly() {
    let config = ClientConfig::default().with_queue_packets(3);
    let mut client = client(config.expect("a queue"));
    for n in 0..3 {
        assert_eq!(client.queued_packets(), n);
        assert_eq!(client.send(b"").map(drop), Ok(()));
    }
    assert_eq!(client.send(b""), Err(SendError::NoRoom));
    assert_eq!((client.queued_packets(), client.queued_bytes()), (3, 12));
}

#[test]
fn there_is_no_room_for_what_is_always_too_long() {
    let client = client(ClientConfig::default());
    let longest = client.max_packet_bytes();
    assert!(client.has_room(longest));
    assert!(!client.has_room(longest + 1));
    assert!(!client.has_room(usize::MAX));
}

#[test]
fn bytes_are_bounded_exactly_lengths_included() {
    let config = ClientConfig::default().with_queue_bytes(100);
    let config = config.expect("a queue");
    let mut full = client(config.clone());
    assert_eq!(full.send(&[0; 46]).map(drop), Ok(()));
    assert_eq!(full.send(&[0; 46]).map(drop), Ok(()));
    assert_eq!(full.queued_bytes(), 100);
    assert_eq!(
        full.send(b""),
        Err(SendError::NoRoom),
        "four bytes of length do not fit"
    );

    let mut one_short = client(config);
    assert_eq!(one_short.send(&[0; 46]).map(drop), Ok(()));
    assert_eq!(
        one_short.send(&[0; 47]),
        Err(SendError::NoRoom),
        "one beyond"
    );
    assert_eq!(
        one_short.queued_bytes(),
        50,
        "what was not taken leaves no trace"
    );
}

#[test]
fn a_packet_that_can_never_be_sent_is_told_apart_from_a_full_queue() {
    let mut by_packet = client(ClientConfig::default().with_max_send_bytes(10));
    assert_eq!(by_packet.send(&[0; 10]).map(drop), Ok(()));
    assert_eq!(
        by_packet.send(&[0; 11]),
        Err(SendError::TooLong {
            length: 11,
            max: 10
        })
    );

    let config = ClientConfig::default().with_queue_bytes(100);
    let mut by_queue = client(config.expect("a queue"));
    assert_eq!(by_queue.max_packet_bytes(), 96);
    assert_eq!(
        by_queue.send(&[0; 97]),
        Err(SendError::TooLong {
            length: 97,
            max: 96
        })
    );
    assert_eq!(by_queue.send(&[0; 96]).map(drop), Ok(()));
    assert_eq!(by_queue.send(&[0; 96]), Err(SendError::NoRoom));
}

#[test]
fn the_default_bounds_take_a_packet_of_a_mebibyte() {
    let mut client = client(ClientConfig::default());
    assert_eq!(client.send(&vec![0; 1 << 20]).map(drop), Ok(()));
    assert_eq!(
        client.send(&vec![0; (1 << 20) + 1]),
        Err(SendError::TooLong {
            length: (1 << 20) + 1,
            max: 1 << 20
        })
    );
}

#[test]
fn a_half_written_packet_counts_whole_until_it_is_written() {
    let config = ClientConfig::default().with_queue_packets(1);
    let config = config.and_then(|config| config.with_queue_bytes(14));
    let mut link = Link::with_config(config.expect("a queue"));
    link.join();
    link.client.send(&[7; 10]).expect("there is room");
    link.take_bytes(13);
    assert_eq!(
        (link.client.queued_packets(), link.client.queued_bytes()),
        (1, 14)
    );
    assert_eq!(link.client.send(b""), Err(SendError::NoRoom));
    link.take_bytes(1);
    assert_eq!(
        (link.client.queued_packets(), link.client.queued_bytes()),
        (0, 0)
    );
    assert_eq!(link.client.send(&[7; 10]).map(drop), Ok(()));
}

#[test]
fn wherever_the_connection_ends_the_cut_packet_comes_again_whole_and_the_written_ones_do_not() {
    let packets: [&[u8]; 4] = [b"first", b"", b"third one", b"last"];
    let ends: Vec<usize> = packets
        .iter()
        .scan(0, |end, packet| {
            *end += 4 + packet.len();
            Some(*end)
        })
        .collect();
    for cut in 0..=ends[3] {
        let mut link = Link::joined();
        for packet in packets {
            link.client.send(packet).expect("there is room");
        }
        let before = link.take_bytes(cut);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(before, packets[..whole], "cut at {cut}");
        assert_eq!(
            link.close(Closed::Error),
            [Seen::Dropped(DropCause::Transport)]
        );
        link.client.send(b"newer").expect("there is room");
        link.resume();
        let mut expected = packets[whole..].to_vec();
        expected.push(b"newer");
        assert_eq!(link.take_frames(), expected, "cut at {cut}");
    }
}

#[test]
fn a_packet_cut_on_every_connection_arrives_in_the_end() {
    let mut link = Link::joined();
    link.client.send(&[7; 100]).expect("there is room");
    for cut in 1..104 {
        assert_eq!(link.take_bytes(cut), [[0_u8; 0]; 0]);
        link.close(Closed::Error);
        link.resume();
    }
    assert_eq!(link.take_frames(), [[7; 100]]);
}

#[test]
#[should_panic(expected = "no more bytes can be written")]
fn to_report_more_than_was_offered_is_a_fault_of_the_adapter() {
    let mut link = Link::joined();
    link.client.send(b"x").expect("there is room");
    link.client.handle_written(link.now, 6);
}
