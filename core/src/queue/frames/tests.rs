//! Tests of the queue of frames.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn push(queue: &mut FrameQueue, body: &[u8]) {
    queue.push_frame(&(body.len() as u32).to_le_bytes(), body);
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body].concat()
}

#[test]
fn a_new_queue_owns_nothing_and_offers_nothing() {
    let queue = FrameQueue::new();
    assert_eq!(
        (
            queue.packets(),
            queue.bytes(),
            queue.held_bytes(),
            queue.capacity_bytes()
        ),
        (0, 0, 0, 0)
    );
    assert!(queue.is_empty() && !queue.mid_frame() && queue.output().is_empty());
}

#[test]
fn the_header_may_be_longer_than_the_length_field_or_part_of_the_body() {
    let mut queue = FrameQueue::new();
    queue.push_frame(&[5, 0, 0, 0, b'i', b'd'], b"abc");
    queue.push_frame(&[], &frame(b"whole"));
    queue.push_frame(&[0; 4], &[]);
    assert_eq!(
        queue.output(),
        [&frame(b"idabc")[..], &frame(b"whole"), &frame(b"")].concat()
    );
    assert_eq!(queue.packets(), 3);
}

#[test]
fn a_half_written_frame_comes_again_whole_and_a_written_one_does_not() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    push(&mut queue, b"two");
    queue.advance(7 + 5);
    assert_eq!(
        (
            queue.packets(),
            queue.bytes(),
            queue.held_bytes(),
            queue.mid_frame()
        ),
        (1, 2, 7, true)
    );
    queue.rewind();
    assert_eq!(
        (
            queue.packets(),
            queue.bytes(),
            queue.held_bytes(),
            queue.mid_frame()
        ),
        (1, 7, 7, false)
    );
    assert_eq!(queue.output(), frame(b"two"));
    queue.rewind();
    assert_eq!(
        queue.output(),
        frame(b"two"),
        "a second rewind changes nothing"
    );
}

#[test]
fn a_write_that_ends_at_a_boundary_is_not_mid_frame() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    push(&mut queue, b"");
    push(&mut queue, b"two");
    queue.advance(7);
    assert_eq!((queue.packets(), queue.mid_frame()), (2, false));
    queue.advance(4);
    assert_eq!((queue.packets(), queue.mid_frame()), (1, false));
    queue.advance(0);
    assert_eq!(queue.output(), frame(b"two"));
}

#[test]
fn a_drained_queue_keeps_a_little_memory_and_gives_back_more() {
    let mut queue = FrameQueue::new();
    push(&mut queue, &[7; 1_000]);
    queue.advance(queue.bytes());
    assert!(
        (1_004..=KEPT_CAPACITY_BYTES).contains(&queue.capacity_bytes()),
        "steady state allocates nothing"
    );
    queue.release();
    assert_eq!(queue.capacity_bytes(), 0);

    push(&mut queue, &[7; 1 << 20]);
    queue.release();
    assert_eq!(
        queue.bytes(),
        4 + (1 << 20),
        "release takes nothing from a queue in use"
    );
    queue.advance(queue.bytes());
    assert_eq!(queue.capacity_bytes(), 0);
}

#[test]
fn memory_is_adopted_without_what_was_in_it_and_only_where_there_is_none() {
    let mut queue = FrameQueue::new();
    queue.adopt(vec![9; 100]);
    assert_eq!(
        (queue.packets(), queue.bytes(), queue.capacity_bytes()),
        (0, 0, 100)
    );
    push(&mut queue, b"kept");
    queue.adopt(Vec::with_capacity(1_000));
    assert_eq!(
        (queue.output(), queue.capacity_bytes()),
        (&frame(b"kept")[..], 100)
    );
}

#[test]
fn all_frames_change_hands_with_their_memory_for_memory_that_is_spare() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    push(&mut queue, b"two");
    let at = queue.output().as_ptr();
    let (bytes, frames) = queue.exchange(vec![9; 100]);
    assert_eq!(
        (bytes, frames),
        ([frame(b"one"), frame(b"two")].concat(), 2)
    );
    assert!(queue.is_empty() && queue.output().is_empty());
    assert_eq!(queue.capacity_bytes(), 100);
    push(&mut queue, b"three");
    let (bytes, frames) = queue.exchange(Vec::new());
    assert_eq!((bytes, frames), (frame(b"three"), 1));
    assert_ne!(at, queue.output().as_ptr(), "nothing is shared");
}

#[test]
#[should_panic(expected = "a queue is given away whole")]
fn a_queue_that_a_stream_has_taken_from_is_not_given_away() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    queue.advance(1);
    let _ = queue.exchange(Vec::new());
}

#[test]
fn a_queue_that_never_runs_empty_gives_memory_back_too() {
    let mut queue = FrameQueue::new();
    for _ in 0..1_024 {
        push(&mut queue, &[7; 1_020]);
    }
    assert!(queue.capacity_bytes() >= 1 << 20);
    while queue.packets() > 2 {
        queue.advance(1_000);
    }
    assert!(
        queue.capacity_bytes() <= KEPT_CAPACITY_BYTES,
        "{} bytes kept",
        queue.capacity_bytes()
    );
}

#[test]
fn a_queue_that_may_keep_more_keeps_it_while_it_is_written_in_parts() {
    const KEPT: usize = 1 << 20;
    let mut queue = FrameQueue::new();
    queue.adopt(Vec::with_capacity(KEPT));
    for _ in 0..100 {
        for _ in 0..500 {
            push(&mut queue, &[7; 1_020]);
        }
        while queue.packets() > 2 {
            queue.advance_keeping(1_024, KEPT);
            assert_eq!(queue.capacity_bytes(), KEPT);
        }
    }
}

/// Does something to the queue of which `gone` bytes go; how many bytes lie elsewhere afterwards.
fn moved(queue: &mut FrameQueue, gone: usize, act: impl FnOnce(&mut FrameQueue)) -> usize {
    let (before, held) = (queue.output().as_ptr() as usize, queue.bytes() - gone);
    act(queue);
    let stays = queue.output().as_ptr() as usize == before + gone;
    if stays { 0 } else { held }
}

#[test]
fn no_more_bytes_are_moved_than_go_through() {
    let mut queue = FrameQueue::new();
    for _ in 0..1_000 {
        push(&mut queue, &[7; 1_020]);
    }
    let draining: usize = (1..1_000)
        .map(|_| moved(&mut queue, 1_024, |queue| queue.advance(1_024)))
        .sum();
    assert!(draining <= 999 * 1_024, "{draining} bytes moved");

    let mut queue = FrameQueue::new();
    for _ in 0..1_000 {
        push(&mut queue, &[7; 1_020]);
    }
    let at_a_fill: usize = (0..4_000)
        .map(|_| {
            moved(&mut queue, 1_024, |queue| queue.advance(1_024))
                + moved(&mut queue, 0, |queue| push(queue, &[7; 1_020]))
        })
        .sum();
    assert!(at_a_fill <= 5_000 * 1_024, "{at_a_fill} bytes moved");
}

#[test]
fn half_of_the_memory_is_used_again_rather_than_more_taken() {
    let mut queue = FrameQueue::new();
    queue.adopt(Vec::with_capacity(200));
    push(&mut queue, &[1; 96]);
    for n in 2..100 {
        push(&mut queue, &[n; 96]);
        queue.advance(100);
        assert_eq!(queue.output()[4..], [n; 96]);
        assert_eq!(queue.capacity_bytes(), 200);
    }
}

#[test]
fn a_quarter_in_use_keeps_twice_what_waits_and_a_little_is_never_given_back() {
    let mut queue = FrameQueue::new();
    queue.adopt(Vec::with_capacity(1_024_000));
    for _ in 0..1_000 {
        push(&mut queue, &[7; 1_020]);
    }
    let mut steps = vec![(1_000, 1_024_000)];
    while queue.packets() > 200 {
        queue.advance(1_024);
        let capacity = queue.capacity_bytes();
        if steps.last().is_some_and(|&(_, before)| before != capacity) {
            steps.push((queue.packets(), capacity));
        }
    }
    // Bytes are moved at 499 left, which are more than a quarter, and at 249.
    assert_eq!(steps, [(1_000, 1_024_000), (249, 2 * 249 * 1_024)]);

    let mut queue = FrameQueue::new();
    queue.adopt(Vec::with_capacity(KEPT_CAPACITY_BYTES));
    for _ in 0..64 {
        push(&mut queue, &[7; 1_020]);
    }
    while !queue.is_empty() {
        queue.advance(1_024);
        assert_eq!(queue.capacity_bytes(), KEPT_CAPACITY_BYTES);
    }
}

#[test]
fn a_long_run_at_a_constant_fill_does_not_grow() {
    let mut queue = FrameQueue::new();
    for _ in 0..8 {
        push(&mut queue, &[7; 96]);
    }
    for _ in 0..10_000 {
        push(&mut queue, &[7; 96]);
        queue.advance(100);
    }
    assert_eq!(queue.packets(), 8);
    assert!(
        queue.capacity_bytes() <= 4_096,
        "{} bytes for 800",
        queue.capacity_bytes()
    );
}

#[test]
#[should_panic(expected = "no more bytes can be written")]
fn writing_more_than_was_offered_is_a_fault_of_the_caller() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"x");
    queue.advance(6);
}

#[test]
#[should_panic(expected = "covers it exactly")]
fn a_wrong_length_field_is_a_fault_of_the_caller() {
    FrameQueue::new().push_frame(&[4, 0, 0, 0], b"abc");
}

#[test]
fn a_frame_is_made_in_its_place_and_queued_when_it_is_committed() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    let mut reservation = queue.reserve(&[5, 0, 0, 0, b'i', b'd'], 3);
    reservation.append(b"ab");
    reservation.append(b"c");
    reservation.buffer().make_ascii_uppercase();
    assert_eq!(reservation.buffer(), b"ABC", "without the header");
    reservation.commit();
    assert_eq!(queue.output(), [frame(b"one"), frame(b"idABC")].concat());
    assert_eq!(queue.packets(), 2);
}

#[test]
fn a_frame_that_is_not_committed_leaves_nothing() {
    let mut queue = FrameQueue::new();
    push(&mut queue, b"one");
    for appended in [&b""[..], b"ab", b"abc", b"longer than was reserved"] {
        let mut reservation = queue.reserve(&[3, 0, 0, 0], 3);
        reservation.append(appended);
        drop(reservation);
        assert_eq!((queue.output(), queue.packets()), (&frame(b"one")[..], 1));
    }
    push(&mut queue, b"two");
    assert_eq!(queue.output(), [frame(b"one"), frame(b"two")].concat());
}

#[test]
#[should_panic(expected = "covers it exactly")]
fn a_frame_that_is_not_whole_cannot_be_committed() {
    let mut queue = FrameQueue::new();
    let mut reservation = queue.reserve(&[3, 0, 0, 0], 3);
    reservation.append(b"ab");
    reservation.commit();
}

#[test]
fn a_body_within_what_was_reserved_is_written_once() {
    let mut queue = FrameQueue::new();
    let mut reservation = queue.reserve(&[200, 0, 0, 0], 200);
    let memory = reservation.queue.capacity_bytes();
    (0..20).for_each(|_| reservation.append(&[7; 10]));
    assert_eq!(reservation.queue.capacity_bytes(), memory);
    reservation.commit();
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    /// A frame that is begun and not committed.
    Abandon(Vec<u8>),
    /// Write this fraction of what is offered, in 1/255.
    Advance(u8),
    Rewind,
    Clear,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Push),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Abandon),
        6 => any::<u8>().prop_map(Step::Advance),
        2 => Just(Step::Rewind),
        1 => Just(Step::Clear),
        1 => Just(Step::Release),
    ]
}

proptest! {
    #[test]
    fn it_behaves_as_a_list_of_frames(steps in proptest::collection::vec(step(), 0..200)) {
        let mut queue = FrameQueue::new();
        let mut frames: VecDeque<Vec<u8>> = VecDeque::new();
        let mut written_of_head = 0;
        for step in steps {
            match step {
                Step::Push(body) => {
                    push(&mut queue, &body);
                    frames.push_back(frame(&body));
                }
                Step::Abandon(body) => {
                    let mut reservation = queue.reserve(&frame(&body)[..4], body.len());
                    reservation.append(&body);
                    drop(reservation);
                }
                Step::Advance(fraction) => {
                    let n = queue.bytes() * usize::from(fraction) / 255;
                    queue.advance(n);
                    written_of_head += n;
                    while frames.front().is_some_and(|frame| frame.len() <= written_of_head) {
                        written_of_head -= frames.pop_front().map_or(0, |frame| frame.len());
                    }
                }
                Step::Rewind => {
                    queue.rewind();
                    written_of_head = 0;
                }
                Step::Clear => {
                    queue.clear();
                    frames.clear();
                    written_of_head = 0;
                }
                Step::Release => queue.release(),
            }
            let held: Vec<u8> = frames.iter().flatten().copied().collect();
            prop_assert_eq!(queue.output(), &held[written_of_head..]);
            prop_assert_eq!(queue.packets(), frames.len());
            prop_assert_eq!(queue.is_empty(), frames.is_empty());
            prop_assert_eq!(queue.bytes(), held.len() - written_of_head);
            prop_assert_eq!(queue.held_bytes(), held.len());
            prop_assert_eq!(queue.mid_frame(), written_of_head > 0);
            prop_assert_eq!(queue.next_frame_bytes(), frames.front().map(Vec::len));
        }
    }
}
