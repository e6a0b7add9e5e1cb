//! What a share of the seeds has beyond the common swarm, each drawn from a stream of its own: a kind that is added here
//! leaves the plans of all other seeds as they were.

use super::{Action, Attempt, Drop, Join, Op, Plan};
use crate::rng::Rng;

/// Adds what the seed of `plan` draws.
pub(super) fn add(plan: &mut Plan) {
    let seed = plan.options.seed;
    let draws = |name: &str, percent: u64| {
        let mut rng = Rng::fork(seed, name, 0);
        rng.chance(percent).then_some(rng)
    };
    if draws("announce", 15).is_some() {
        plan.options.announce_all = 1;
    }
    if let Some(mut rng) = draws("shutdown", 15) {
        shut_down(plan, &mut rng);
    } else if let Some(mut rng) = draws("late", 15) {
        come_late(plan, &mut rng);
    } else if let Some(mut rng) = draws("tangle", 15) {
        tangle(plan, &mut rng);
    }
}

/// Faults of the backend that are rare by themselves, close together.
fn tangle(plan: &mut Plan, rng: &mut Rng) {
    let mut at_us = plan.ops.last().map_or(0, |op| op.at_us);
    for _ in 0..rng.between(4, 7) {
        at_us += rng.below(120_000);
        let client = rng.below(plan.options.clients) as usize;
        let action = match rng.below(8) {
            0 => Action::KickUnknown {},
            1 => Action::SendUnknown {},
            2 => Action::KickWithData { client },
            3 => Action::ShortFrame {
                bytes: rng.below(9),
            },
            4 => Action::BadFlag { client, flag: 1 },
            5 => Action::BackendTooLong {},
            6 => Action::LinkHalf { client },
            _ => Action::Pause {
                ms: rng.between(1, 200),
            },
        };
        plan.ops.push(Op { at_us, action });
    }
}

/// A client comes back in the last part of its time.
fn come_late(plan: &mut Plan, rng: &mut Rng) {
    let client = rng.below(plan.options.clients) as usize;
    let (join, how) = (Join::Normal, Drop::Rst);
    let story = [
        (0, Action::Unstall { client }),
        (0, Action::Connect { client, join }),
        (
            5 * plan.options.delay_max_us + 2_000,
            Action::Drop { client, how },
        ),
        (
            10 * plan.options.stale_timeout_ms.min(10_000) * rng.between(55, 90),
            Action::Resume { client },
        ),
    ];
    let mut at_us = plan.ops.last().map_or(0, |op| op.at_us);
    for (wait_us, action) in story {
        at_us += wait_us;
        plan.ops.push(Op { at_us, action });
    }
}

/// The edge is asked to end, somewhere in the last part of the plan: with or without time to do so.
fn shut_down(plan: &mut Plan, rng: &mut Rng) {
    let most_after = (plan.ops.len() as u64).min(12);
    let place = plan.ops.len() - rng.below(most_after) as usize;
    let at_us = plan.ops[place - 1].at_us + rng.below(50_000);
    let ms = if rng.chance(10) {
        0
    } else {
        rng.log_between(1, 20_000)
    };
    if rng.chance(20) {
        plan.options.write_timeout_ms = 0;
    }
    // Something waits, for the backend or for a client, or somebody is in the middle of coming back.
    let client = rng.below(plan.options.clients) as usize;
    let delay_us = plan.options.delay_max_us;
    let heavy = (plan.options.client_socket_bytes + 3_000).min(plan.options.max_down_bytes);
    let join = Join::Normal;
    let mut story = vec![
        (0, Action::Accept {}),
        (0, Action::Unstall { client }),
        (0, Action::Connect { client, join }),
    ];
    let after_handshake_us = 5 * delay_us + 2_000;
    match rng.below(5) {
        0 => {
            let (count, bytes) = (9, plan.options.max_up_bytes.min(300));
            story.push((0, Action::BackendStall {}));
            let send = Action::Send {
                client,
                count,
                bytes,
            };
            story.push((after_handshake_us, send));
        }
        1..=3 => {
            let (count, bytes) = (1, heavy);
            story.push((after_handshake_us, Action::Stall { client }));
            let send = Action::BackendSend {
                client,
                count,
                bytes,
            };
            story.push((0, send));
            if rng.chance(80) {
                story.push((rng.below(2_000), Action::Kick { client }));
            }
        }
        _ => {
            let how = Attempt::NoPing;
            story.push((after_handshake_us, Action::Accept {}));
            story.extend((0..4).map(|_| (0, Action::Attempt { client, how })));
            story.push((5 * delay_us + 1_000, Action::Accept {}));
        }
    }
    let mut at_us = at_us;
    for (wait_us, action) in story {
        at_us += wait_us;
        plan.ops.push(Op { at_us, action });
    }
    at_us += delay_us;
    at_us += rng.below(delay_us + 2_000);
    plan.ops.push(Op {
        at_us,
        action: Action::Shutdown { ms },
    });
    if rng.chance(50) {
        at_us += rng.below(2_000 * (ms + 1));
        let action = Action::Unstall { client };
        plan.ops.push(Op { at_us, action });
        let action = Action::BackendUnstall {};
        plan.ops.push(Op { at_us, action });
    }
    plan.ops.sort_by_key(|op| op.at_us);
}
