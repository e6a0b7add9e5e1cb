//! Tests of the table of sources alone.

use super::*;

const LIMITS: SourceLimits = SourceLimits {
    connections: 3,
    wide_connections: 5,
    stale_sessions: 2,
    wide_stale_sessions: 0,
    rate: 2,
    burst: 4,
    wide_rate: 0,
    wide_burst: 1,
    penalties: true,
    table_size: 4,
};
const SECOND: Duration = Duration::from_secs(1);

fn passes(
    sources: &mut Sources,
    now: Time,
    address: &str,
    limits: &SourceLimits,
) -> Result<(), Refusal> {
    sources.admit(now, ip(address), limits).map(|_| ())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn concurrent_connections_are_counted_for_each_address_and_each_64() {
    let unpaced = SourceLimits { rate: 0, ..LIMITS };
    let mut sources = Sources::new([1; 16]);
    let first = sources
        .admit(Time::ZERO, ip("192.0.2.1"), &unpaced)
        .unwrap();
    for address in ["::ffff:192.0.2.1", "192.0.2.1"] {
        assert_eq!(passes(&mut sources, Time::ZERO, address, &unpaced), Ok(()));
    }
    assert_eq!(
        passes(&mut sources, Time::ZERO, "192.0.2.1", &unpaced),
        Err(Refusal::TooMany)
    );
    assert_eq!(
        passes(&mut sources, Time::ZERO, "192.0.2.2", &unpaced),
        Ok(()),
        "another address"
    );
    sources.release(Time::ZERO, first);
    assert_eq!(
        passes(&mut sources, Time::ZERO, "192.0.2.1", &unpaced),
        Ok(())
    );
}

#[test]
fn wider_sources_have_bounds_of_their_own() {
    let unpaced = SourceLimits {
        rate: 0,
        wide_connections: 7,
        table_size: 100,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut come = |address: &str| passes(&mut sources, Time::ZERO, address, &unpaced);
    // A quarter of seven, rounded up.
    assert_eq!(come("2001:db8:1:000::1"), Ok(()));
    assert_eq!(come("2001:db8:1:0ff::1"), Ok(()));
    assert_eq!(come("2001:db8:1:001::1"), Err(Refusal::TooMany), "the /56");
    for n in 1..=5 {
        assert_eq!(come(&format!("2001:db8:1:{n}00::1")), Ok(()));
    }
    assert_eq!(come("2001:db8:1:7700::1"), Err(Refusal::TooMany), "the /48");
    assert_eq!(come("2001:db8:2::1"), Ok(()));
    for n in 1..=7 {
        assert_eq!(come(&format!("192.0.2.{n}")), Ok(()));
    }
    assert_eq!(come("192.0.2.8"), Err(Refusal::TooMany), "the /24");
    assert_eq!(come("192.0.3.8"), Ok(()));
}

#[test]
fn wider_sources_have_a_pace_that_what_one_address_is_refused_does_not_use_up() {
    let limits = SourceLimits {
        connections: 0,
        wide_connections: 0,
        rate: 1,
        burst: 3,
        wide_rate: 4,
        wide_burst: 8,
        table_size: 100,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut passed = |now, address: &str| {
        (0..50)
            .filter(|_| sources.admit(now, ip(address), &limits).is_ok())
            .count()
    };
    assert_eq!(passed(Time::ZERO, "192.0.2.1"), 3, "its own burst");
    assert_eq!(passed(Time::ZERO, "192.0.2.2"), 3);
    assert_eq!(passed(Time::ZERO, "192.0.2.3"), 2, "what the /24 has left");
    assert_eq!(passed(Time::ZERO, "192.0.3.1"), 3);
    assert_eq!(passed(Time::ZERO + SECOND / 4, "192.0.2.4"), 1);
    // One a second and a burst of two for a /56.
    assert_eq!(passed(Time::ZERO, "2001:db8:0:1::"), 2);
    assert_eq!(passed(Time::ZERO, "2001:db8:0:2::"), 0);
    assert_eq!(passed(Time::ZERO, "2001:db8:0:100::"), 2);
    assert_eq!(passed(Time::ZERO + SECOND, "2001:db8:0:3::"), 1);
}

#[test]
fn of_more_sessions_away_than_may_be_the_narrowest_source_is_named() {
    let limits = SourceLimits {
        wide_stale_sessions: 3,
        rate: 0,
        wide_connections: 0,
        table_size: 100,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut at = |address: &str| sources.admit(Time::ZERO, ip(address), &limits).unwrap();
    let [one, two, three] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(&mut at);
    let wide = sources.nesting(one).widest();
    let mut leave = |admission| sources.count_away(admission, &limits);
    assert_eq!([leave(one), leave(one)], [None; 2]);
    assert_eq!(leave(one), Some(one.narrowest), "two of one address");
    assert_eq!(leave(two), Some(wide), "three of a /24");
    assert_eq!(leave(Admission::EXEMPT), None);
    for gone in [one, two] {
        sources.release_away(Time::ZERO, gone);
    }
    let mut leave = |admission| sources.count_away(admission, &limits);
    assert_eq!(leave(three), None);
    assert_eq!(leave(two), Some(wide));
}

#[test]
fn a_source_does_not_take_the_place_of_the_wider_one_around_it() {
    for table_size in 0..6 {
        let limits = SourceLimits {
            rate: 0,
            table_size,
            ..LIMITS
        };
        let mut sources = Sources::new([1; 16]);
        for n in 0..50 {
            let admission = sources.admit(Time::ZERO, ip(&format!("2001:db8:{n}::")), &limits);
            sources.release(Time::ZERO, admission.unwrap());
            assert!(sources.len() <= table_size);
            assert_eq!(sources.idle.len(IDLE), sources.len());
        }
    }
}

#[test]
fn attempts_are_paced_with_a_burst() {
    let many = SourceLimits {
        connections: 0,
        wide_connections: 0,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut passed = |now| {
        (0..10)
            .filter(|_| sources.admit(now, ip("192.0.2.1"), &many).is_ok())
            .count()
    };
    assert_eq!(passed(Time::ZERO), 4);
    assert_eq!(passed(Time::ZERO + SECOND), 2);
    assert_eq!(passed(Time::ZERO + SECOND * 60), 4);
}

#[test]
fn without_a_pace_any_number_comes_at_once() {
    let limits = SourceLimits {
        connections: 0,
        wide_connections: 0,
        rate: 0,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    for _ in 0..20 {
        assert_eq!(
            passes(&mut sources, Time::ZERO, "192.0.2.1", &limits),
            Ok(())
        );
    }
}

#[test]
fn a_source_is_forgotten_when_it_was_unused_for_as_long_as_the_longest_penalty() {
    let limits = SourceLimits {
        table_size: 100,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let admit = |sources: &mut Sources, text| sources.admit(Time::ZERO, ip(text), &limits).unwrap();
    let [gone, away, connected] =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| admit(&mut sources, text));
    assert_eq!(sources.count_away(away, &limits), None);
    for admission in [gone, away] {
        sources.release(Time::ZERO, admission);
    }
    let until = Time::ZERO + MAX_PENALTY;
    sources.forget_idle(Time::from_nanos(until.as_nanos() - 1), &limits);
    assert_eq!(sources.len(), 4, "with their /24");
    sources.forget_idle(until, &limits);
    assert_eq!(sources.len(), 3, "who has a session away is remembered");
    assert!(sources.find(Prefix::narrow(ip("192.0.2.1"))).is_none());
    sources.release_away(until, away);
    sources.forget_idle(until + MAX_PENALTY, &limits);
    assert_eq!(sources.len(), 2, "who is connected is, too");
    sources.release(until, connected);
    sources.forget_idle(until + MAX_PENALTY, &limits);
    assert_eq!((sources.len(), sources.by_prefix.len()), (0, 0));
}

#[test]
fn penalties_add_up_act_from_15_s_and_run_off() {
    let mut sources = Sources::new([1; 16]);
    let limits = SourceLimits { rate: 0, ..LIMITS };
    let admission = sources.admit(Time::ZERO, ip("192.0.2.1"), &limits).unwrap();
    let begins = |sources: &mut Sources, now| {
        (0..3)
            .filter(|_| sources.admit_newcomer(now, admission))
            .count()
    };
    sources.punish(Time::ZERO, admission, Offence::BadFrame);
    assert_eq!(
        begins(&mut sources, Time::ZERO),
        3,
        "one slip has no effect"
    );
    sources.punish(Time::ZERO, admission, Offence::BadProof);
    assert_eq!(begins(&mut sources, Time::ZERO), 1, "one a second");
    assert_eq!(
        begins(&mut sources, Time::from_millis(1)),
        3,
        "under 15 s are left"
    );
    for _ in 0..1000 {
        sources.punish(Time::ZERO, admission, Offence::TimedOut);
    }
    assert_eq!(begins(&mut sources, Time::from_millis(999)), 0);
    assert_eq!(begins(&mut sources, Time::from_millis(1000)), 1);
    let forgiven = Time::ZERO + (MAX_PENALTY - PENALTY_ACTS_FROM);
    assert_eq!(begins(&mut sources, forgiven), 1);
    let forgiven = forgiven + Duration::from_nanos(1);
    assert_eq!(begins(&mut sources, forgiven), 3);
}

#[test]
fn a_wider_source_is_in_penalty_when_many_addresses_are_and_not_when_one_is() {
    let limits = SourceLimits {
        rate: 0,
        connections: 0,
        wide_connections: 0,
        table_size: 1000,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut at = |n: u8| {
        let address = ip(&format!("192.0.2.{n}"));
        sources.admit(Time::ZERO, address, &limits).unwrap()
    };
    let bad: Vec<_> = (0..12).map(&mut at).collect();
    let good = at(200);
    let begins =
        |sources: &mut Sources, now| (0..3).filter(|_| sources.admit_newcomer(now, good)).count();
    for _ in 0..1000 {
        sources.punish(Time::ZERO, bad[0], Offence::BadFrame);
    }
    assert_eq!(begins(&mut sources, Time::ZERO), 3);
    // Two offences of each count: 24 times 10 s make 15 s for the /24.
    for &one in &bad[1..11] {
        sources.punish(Time::ZERO, one, Offence::BadFrame);
        sources.punish(Time::ZERO, one, Offence::BadFrame);
        sources.punish(Time::ZERO, one, Offence::BadFrame);
    }
    sources.punish(Time::ZERO, bad[11], Offence::BadFrame);
    assert_eq!(begins(&mut sources, Time::ZERO), 3);
    sources.punish(Time::ZERO, bad[11], Offence::BadFrame);
    assert_eq!(begins(&mut sources, Time::ZERO), 1);
    let sixteenth = Duration::from_secs(1) / 16;
    sources.punish(Time::ZERO, good, Offence::TimedOut);
    assert_eq!(begins(&mut sources, Time::ZERO + sixteenth), 1);
}

#[test]
fn a_full_table_falls_back_to_wider_networks_and_forgets_only_what_forgives_nothing() {
    let mut sources = Sources::new([1; 16]);
    let limits = SourceLimits {
        table_size: 2,
        ..LIMITS
    };
    let gone = sources.admit(Time::ZERO, ip("192.0.2.1"), &limits).unwrap();
    sources.release(Time::ZERO, gone);
    let beside = sources.admit(Time::ZERO, ip("192.0.2.2"), &limits).unwrap();
    assert_ne!(beside, Admission::EXEMPT, "it counts as part of its /24");
    assert!(sources.find(Prefix::narrow(ip("192.0.2.2"))).is_none());
    // No place for an entry of any width: only the global bounds apply.
    for _ in 0..20 {
        assert_eq!(
            sources.admit(Time::ZERO, ip("198.51.100.1"), &limits),
            Ok(Admission::EXEMPT)
        );
    }
    assert_eq!(sources.len(), 2);
    sources.release(Time::ZERO, beside);
    // Both are blank after a second, so they make room.
    assert_eq!(
        passes(&mut sources, Time::ZERO + SECOND, "198.51.100.1", &limits),
        Ok(())
    );
    assert!(sources.find(Prefix::narrow(ip("192.0.2.1"))).is_none());
    assert!(sources.find(Prefix::narrow(ip("198.51.100.1"))).is_some());
    assert_eq!(sources.len(), 2);
}

#[test]
fn a_quarter_of_the_table_is_kept_for_wider_networks() {
    let limits = SourceLimits {
        rate: 0,
        table_size: 8,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut admit = |address: &str| sources.admit(Time::ZERO, ip(address), &limits);
    for n in 1..=5 {
        assert!(admit(&format!("192.0.2.{n}")).is_ok());
    }
    // Six places are taken. Two /24 stand in for all of their addresses, with the bound of wider networks.
    for n in 1..=5 {
        assert_ne!(
            admit(&format!("198.51.100.{n}")),
            Ok(Admission::EXEMPT),
            "{n}"
        );
    }
    assert_eq!(admit("198.51.100.6"), Err(Refusal::TooMany));
    assert!(admit("203.0.113.1").is_ok());
    assert_eq!(
        admit("198.51.101.1"),
        Ok(Admission::EXEMPT),
        "no place of any width"
    );
    assert_eq!(admit("192.0.2.5"), Err(Refusal::TooMany), "its /24 is full");
    assert_eq!(sources.len(), 8);
}

#[test]
fn a_bounded_number_of_idle_entries_is_visited_for_one_newcomer() {
    let newcomer_has_a_place = |bad: usize| {
        // With its /24, and the quarter that is kept for wider networks.
        let places = bad + 2;
        let limits = SourceLimits {
            rate: 0,
            connections: 0,
            wide_connections: 0,
            table_size: places + places.div_ceil(3),
            ..LIMITS
        };
        let mut sources = Sources::new([1; 16]);
        let connected = sources.admit(Time::ZERO, ip("192.0.2.200"), &limits);
        let admissions: Vec<_> = (0..bad)
            .map(|n| {
                let address = ip(&format!("192.0.2.{n}"));
                sources.admit(Time::ZERO, address, &limits).unwrap()
            })
            .collect();
        for &admission in &admissions {
            sources.punish(Time::ZERO, admission, Offence::BadFrame);
            sources.release(Time::ZERO, admission);
        }
        sources.release(Time::ZERO, connected.unwrap());
        assert_eq!(sources.len(), places);
        let _ = sources.admit(Time::ZERO, ip("192.0.2.100"), &limits);
        sources.find(Prefix::narrow(ip("192.0.2.100"))).is_some()
    };
    assert!(newcomer_has_a_place(LOOKS - 1), "the last one makes room");
    assert!(!newcomer_has_a_place(LOOKS), "it is not looked at");
}

#[test]
fn a_source_with_a_penalty_does_not_stand_before_those_that_can_be_forgotten() {
    let limits = SourceLimits {
        rate: 0,
        table_size: 3,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let [bad, gone] = ["192.0.2.1", "192.0.2.2"]
        .map(|address| sources.admit(Time::ZERO, ip(address), &limits).unwrap());
    sources.punish(Time::ZERO, bad, Offence::BadFrame);
    for admission in [bad, gone] {
        sources.release(Time::ZERO, admission);
    }
    let newcomer = sources.admit(Time::ZERO, ip("192.0.2.3"), &limits);
    assert_ne!(newcomer, Ok(Admission::EXEMPT));
    assert!(sources.find(Prefix::narrow(ip("192.0.2.1"))).is_some());
    assert!(sources.find(Prefix::narrow(ip("192.0.2.2"))).is_none());
}
