//! Random numbers.

use sim::rng::Rng;

#[test]
fn purposes_have_streams_of_their_own() {
    let mut seen = std::collections::BTreeSet::new();
    for purpose in ["pipe", "client", "plan"] {
        for number in 0..100 {
            assert!(seen.insert(Rng::fork(7, purpose, number).next()));
        }
    }
}

#[test]
fn draws_stay_in_their_bounds() {
    let mut rng = Rng::new(1);
    for _ in 0..10_000 {
        assert!((3..=9).contains(&rng.between(3, 9)));
        assert!((2..=200_000).contains(&rng.log_between(2, 200_000)));
    }
}
