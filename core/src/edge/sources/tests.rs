//! The table of sources by itself.

use super::*;

const LIMITS: SourceLimits = SourceLimits {
    connections: 3,
    wide_connections: 5,
    stale_sessions: 2,
    rate: 2,
    burst: 4,
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
fn a_48_has_a_bound_of_its_own() {
    let unpaced = SourceLimits {
        rate: 0,
        table_size: 100,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    for n in 0..5 {
        assert_eq!(
            passes(
                &mut sources,
                Time::ZERO,
                &format!("2001:db8:1:{n}::1"),
                &unpaced
            ),
            Ok(())
        );
    }
    assert_eq!(
        passes(&mut sources, Time::ZERO, "2001:db8:1:77::1", &unpaced),
        Err(Refusal::TooMany)
    );
    assert_eq!(
        passes(&mut sources, Time::ZERO, "2001:db8:2::1", &unpaced),
        Ok(())
    );
    for _ in 0..3 {
        let _ = passes(&mut sources, Time::ZERO, "2001:db8:3::1", &unpaced);
    }
    assert_eq!(
        passes(&mut sources, Time::ZERO, "2001:db8:3::2", &unpaced),
        Err(Refusal::TooMany),
        "the same /64"
    );
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
    let [gone, away, _connected] =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| admit(&mut sources, text));
    assert!(sources.admit_stale(away, 0));
    for admission in [gone, away] {
        sources.release(Time::ZERO, admission);
    }
    let until = Time::ZERO + MAX_PENALTY;
    sources.forget_idle(Time::from_nanos(until.as_nanos() - 1), &limits);
    assert_eq!(sources.len(), 3);
    sources.forget_idle(until, &limits);
    assert_eq!(sources.len(), 2, "who has a session away is remembered");
    assert!(sources.find(Prefix::narrow(ip("192.0.2.1"))).is_none());
    sources.release_stale(until, away);
    sources.forget_idle(until + MAX_PENALTY, &limits);
    assert_eq!(sources.len(), 1, "who is connected is, too");
    assert_eq!(sources.by_prefix.len(), 1);
}

#[test]
fn penalties_add_up_act_from_15_s_and_run_off() {
    let mut sources = Sources::new([1; 16]);
    let limits = SourceLimits { rate: 0, ..LIMITS };
    let address = "192.0.2.1";
    let admission = sources.admit(Time::ZERO, ip(address), &limits).unwrap();
    sources.punish(Time::ZERO, admission, Offence::BadFrame);
    assert_eq!(
        passes(&mut sources, Time::ZERO, address, &limits),
        Ok(()),
        "one slip has no effect"
    );
    sources.punish(Time::ZERO, admission, Offence::BadProof);
    assert_eq!(
        passes(&mut sources, Time::ZERO, address, &limits),
        Err(Refusal::Penalty)
    );
    assert_eq!(
        passes(&mut sources, Time::from_millis(1), address, &limits),
        Ok(()),
        "under 15 s are left"
    );
    for _ in 0..1000 {
        sources.punish(Time::ZERO, admission, Offence::TimedOut);
    }
    let forgiven = Time::ZERO + (MAX_PENALTY - PENALTY_ACTS_FROM);
    sources.release(Time::ZERO, admission);
    assert_eq!(
        passes(&mut sources, forgiven, address, &limits),
        Err(Refusal::Penalty)
    );
    assert_eq!(
        passes(
            &mut sources,
            forgiven + Duration::from_nanos(1),
            address,
            &limits
        ),
        Ok(())
    );
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
    assert_eq!(
        passes(&mut sources, Time::ZERO, "192.0.2.2", &limits),
        Ok(())
    );
    // No place for an entry of any width: nothing is held against it but the global bounds.
    for _ in 0..20 {
        assert_eq!(
            sources.admit(Time::ZERO, ip("198.51.100.1"), &limits),
            Ok(Admission::EXEMPT)
        );
    }
    assert_eq!(sources.len(), 2);
    // The first is blank after a second: it makes room.
    assert_eq!(
        passes(&mut sources, Time::ZERO + SECOND, "198.51.100.1", &limits),
        Ok(())
    );
    assert!(sources.find(Prefix::narrow(ip("192.0.2.1"))).is_none());
    assert_eq!(sources.len(), 2);
}

#[test]
fn a_quarter_of_the_table_is_kept_for_the_wider_networks_of_those_who_find_no_place() {
    let limits = SourceLimits {
        rate: 0,
        table_size: 8,
        ..LIMITS
    };
    let mut sources = Sources::new([1; 16]);
    let mut admit = |address: &str| sources.admit(Time::ZERO, ip(address), &limits);
    for n in 0..6 {
        assert!(admit(&format!("192.0.{n}.1")).is_ok());
    }
    // Two /24 stand for all addresses in them, with the bound of wider networks.
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
    assert!(admit("192.0.5.1").is_ok(), "who has a place keeps it");
    assert_eq!(sources.len(), 8);
}

#[test]
fn of_the_longest_idle_so_many_are_looked_at_for_one_newcomer() {
    let newcomer_has_a_place = |bad: usize| {
        // With the quarter that is kept for wider networks.
        let limits = SourceLimits {
            rate: 0,
            table_size: bad + 2,
            ..LIMITS
        };
        let mut sources = Sources::new([1; 16]);
        let admissions: Vec<_> = (0..=bad)
            .map(|n| {
                let address = ip(&format!("192.0.2.{n}"));
                sources.admit(Time::ZERO, address, &limits).unwrap()
            })
            .collect();
        for &admission in &admissions[..bad] {
            sources.punish(Time::ZERO, admission, Offence::BadFrame);
        }
        for admission in admissions {
            sources.release(Time::ZERO, admission);
        }
        let _ = sources.admit(Time::ZERO, ip("198.51.100.1"), &limits);
        sources.find(Prefix::narrow(ip("198.51.100.1"))).is_some()
    };
    assert!(newcomer_has_a_place(LOOKS - 1), "the last one makes room");
    assert!(!newcomer_has_a_place(LOOKS), "it is not looked at");
}

#[test]
fn a_source_with_a_penalty_does_not_stand_before_those_that_can_be_forgotten() {
    let limits = SourceLimits {
        rate: 0,
        table_size: 2,
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
