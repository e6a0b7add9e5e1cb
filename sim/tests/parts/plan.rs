//! Plans: their text, and the pairs of faults in them.

use sim::plan::{Pairs, Plan, PlanError, generate};

#[test]
fn a_pair_is_two_faults_in_their_order_within_a_second() {
    let plan: Plan = "voltlane-plan 1\n\
        @0 drop 0 fin\n\
        @500000 b-kick 0\n\
        @1400000 connect 0 normal\n\
        @1400000 connect 0 mute\n"
        .parse()
        .expect("a plan");
    let mut pairs = Pairs::default();
    pairs.add(&plan);
    pairs.merge(&pairs.clone());
    let met: Vec<_> = pairs
        .rarest()
        .into_iter()
        .filter(|(_, _, count)| *count > 0)
        .collect();
    assert_eq!(met, [("drop", "b-kick", 2), ("b-kick", "odd-connect", 2)]);
}

#[test]
fn generated_plans_read_back_as_they_were() {
    for seed in 0..200 {
        let plan = generate(seed);
        assert_eq!(
            plan.to_string().parse::<Plan>().as_ref(),
            Ok(&plan),
            "seed {seed}"
        );
    }
}

#[test]
fn nonsense_is_refused_with_its_line() {
    assert_eq!("hello".parse::<Plan>(), Err(PlanError::NotAPlan));
    for bad in [
        "what 3",
        "@5 fly 2",
        "@5 send 1",
        "@x send 0 1 1",
        "seed 1 2",
        "@1 drop 0 softly",
        "seed",
    ] {
        let text = format!("voltlane-plan 1\n# fine\n{bad}\n");
        assert_eq!(
            text.parse::<Plan>(),
            Err(PlanError::Line {
                line: 3,
                text: bad.to_string()
            })
        );
    }
}
