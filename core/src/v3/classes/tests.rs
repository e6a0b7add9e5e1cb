use super::*;

fn amount(packets: usize, bytes: usize) -> Amount {
    Amount { packets, bytes }
}

#[test]
fn a_newer_packet_takes_the_place_of_an_older_one_of_its_key() {
    let mut classes = Classes::default();
    classes.push_latest(3, 7, b"old", 0);
    classes.push_latest(5, 8, b"other", 0);
    assert_eq!(classes.upcoming(2), None, "an ordinary packet");
    assert_eq!(classes.upcoming(3), Some(Upcoming::Latest(7, b"old")));
    assert_eq!(classes.replaceable(7, 2), Some(3));
    assert_eq!(classes.replaceable(7, 3), None, "it was sent");
    classes.push_latest(6, 7, b"new", 0);
    assert_eq!(classes.upcoming(3), Some(Upcoming::Superseded(1)));
    assert_eq!(classes.upcoming(4), None);
    assert_eq!(classes.upcoming(5), Some(Upcoming::Latest(8, b"other")));
    assert_eq!(classes.upcoming(6), Some(Upcoming::Latest(7, b"new")));
    assert_eq!(classes.waiting_above(0), amount(0, 8));
    assert_eq!(classes.waiting_above(5), amount(0, 3));
}

#[test]
fn a_key_of_another_boot_is_another_key() {
    let mut classes = Classes::default();
    classes.push_latest(1, 7, b"old", 0);
    classes.push_latest(2, 7, b"last", 0);
    classes.forget_keys();
    assert_eq!(classes.replaceable(7, 0), None);
    classes.push_latest(3, 7, b"another", 0);
    classes.push_latest(4, 7, b"newest", 0);
    assert_eq!(classes.upcoming(1), Some(Upcoming::Superseded(1)));
    assert_eq!(classes.upcoming(2), Some(Upcoming::Latest(7, b"last")));
    assert_eq!(classes.upcoming(3), Some(Upcoming::Superseded(1)));
    assert_eq!(classes.upcoming(4), Some(Upcoming::Latest(7, b"newest")));
    assert_eq!(classes.waiting_above(0), amount(0, 10));
    classes.acknowledge(2);
    assert_eq!(classes.replaceable(7, 0), Some(6));
    assert_eq!(classes.waiting_above(0), amount(0, 6));
}

#[test]
fn neighbours_are_one_run() {
    let mut classes = Classes::default();
    for number in 1..=9 {
        classes.push_latest(number, (number % 3) as u8, b"x", 0);
    }
    assert_eq!(classes.upcoming(1), Some(Upcoming::Superseded(6)));
    assert_eq!(classes.upcoming(4), Some(Upcoming::Superseded(3)));
    assert_eq!(classes.marks.len(), 4);
    assert_eq!(classes.empty_above(0), 6);
    assert_eq!(classes.empty_above(4), 2);
    assert_eq!(classes.empty_above(6), 0);
    // The middle of three is the last to become one of the run.
    let mut classes = Classes::default();
    for (number, key) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 3), (6, 2)] {
        classes.push_latest(number, key, b"x", 0);
    }
    assert_eq!(classes.upcoming(1), Some(Upcoming::Superseded(3)));
    assert_eq!(classes.upcoming(4), Some(Upcoming::Latest(1, b"x")));
}

#[test]
fn one_that_was_begun_is_sent_to_its_end() {
    let mut classes = Classes::default();
    classes.push_latest(1, 7, b"begun", 0);
    classes.begin(1, 7);
    classes.push_latest(2, 7, b"second", 0);
    classes.push_latest(3, 7, b"third", 0);
    assert_eq!(classes.upcoming(1), Some(Upcoming::Latest(7, b"begun")));
    assert_eq!(classes.held_bytes(), 10 + 2 * size_of::<Mark>());
    let mut lost = classes.clone();
    classes.finish_latest(1, 5);
    assert_eq!(classes.upcoming(2), Some(Upcoming::Superseded(1)));
    assert_eq!(classes.sent_bytes(), 5);
    // On another connection it is not begun again.
    lost.resume_from(0);
    assert_eq!(lost.upcoming(1), Some(Upcoming::Superseded(2)));
}

#[test]
fn a_packet_without_a_number_waits_behind_those_before_it_and_goes_with_the_connection() {
    let mut classes = Classes::default();
    classes.push_volatile(2, b"one");
    classes.push_volatile(2, b"two");
    assert_eq!(classes.upcoming(2), None);
    assert_eq!(classes.upcoming(3), Some(Upcoming::Volatile(b"one")));
    classes.finish_volatile();
    assert_eq!(classes.upcoming(3), Some(Upcoming::Volatile(b"two")));
    assert_eq!(classes.waiting_above(9), amount(1, 3));
    classes.skip(4);
    classes.lose();
    assert_eq!(classes.upcoming(3), None);
    assert_eq!((classes.skipped(), classes.take_skipped()), (5, 5));
    assert_eq!((classes.skipped(), classes.take_skipped()), (5, 0));
}

#[test]
fn what_is_acknowledged_is_forgotten_and_counted() {
    let mut classes = Classes::default();
    for number in 1..=5 {
        classes.push_latest(number, 0, b"xy", 0);
    }
    classes.tell(1, 4, false);
    classes.finish_latest(5, 2);
    assert_eq!((classes.told(), classes.superseded()), (4, 4));
    classes.acknowledge(2);
    assert_eq!((classes.told(), classes.superseded()), (2, 4));
    assert_eq!(classes.told_and_acknowledged(), 2);
    assert_eq!(classes.upcoming(3), Some(Upcoming::Superseded(2)));
    // What is told again was not told before.
    let mut again = classes.clone();
    again.resume_from(3);
    assert_eq!((again.told(), again.sent_bytes()), (1, 0));
    again.tell(4, 4, false);
    assert_eq!(again.superseded(), 4);
    classes.resume_from(5);
    assert_eq!((classes.told(), classes.sent_bytes()), (2, 2));
    classes.acknowledge(5);
    assert_eq!((classes.told(), classes.sent_bytes()), (0, 0));
    assert_eq!((classes.superseded(), classes.held_bytes()), (4, 0));
    // A newer one does not touch what is acknowledged.
    classes.push_latest(6, 0, b"z", 5);
    assert_eq!(classes.empty_above(0), 0);
}
