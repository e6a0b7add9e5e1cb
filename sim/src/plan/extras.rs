//! Features that a share of the seeds has beyond the common swarm. Each is drawn from a random stream of its own, so adding a kind here
//! leaves the plans of all other seeds unchanged.

use super::{Action, Attempt, Drop, Flood, Join, Op, Options, Plan};
use crate::rng::Rng;

/// What strangers do in a flood that is about strangers.
const FLOODS: &[Flood] = &[
    Flood::Silent,
    Flood::Version,
    Flood::Half,
    Flood::Drip,
    Flood::Churn,
    Flood::Wrong,
    Flood::Stall,
    Flood::Guess,
];

/// Adds the features that the plan's seed draws.
pub(super) fn add(plan: &mut Plan) {
    let seed = plan.options.seed;
    let draws = |name: &str, percent: u64| {
        let mut rng = Rng::fork(seed, name, 0);
        rng.chance(percent).then_some(rng)
    };
    if draws("announce", 15).is_some() {
        plan.options.announce_all = 1;
    }
    if let Some(mut rng) = draws("limits", 25) {
        limit(&mut plan.options, &mut rng);
    }
    if let Some(mut rng) = draws("proxy", 12) {
        plan.options.proxy = rng.pick(&[1, 2, 2]);
        if plan.options.sources == 0 && rng.chance(50) {
            limit(&mut plan.options, &mut rng);
        }
    }
    if let Some(mut rng) = draws("sessions", 12) {
        let options = &mut plan.options;
        options.max_sessions = options.clients + rng.below(2);
        // Earlier sessions must be gone before the second phase ends.
        options.stale_timeout_ms = options.stale_timeout_ms.min(5_000);
        options.reap_interval_ms = options.reap_interval_ms.min(1_000);
    }
    if let Some(mut rng) = draws("pace", 12) {
        pace(&mut plan.options, &mut rng);
        if rng.chance(80) {
            run_on(plan, &mut rng);
        }
    }
    if let Some(mut rng) = draws("silence", 8) {
        let options = &mut plan.options;
        // Long enough for a packet each way, and for the check that it came.
        options.idle_timeout_ms = rng.log_between(700, 6_000) + options.delay_max_us / 100;
        if rng.chance(20) {
            options.frame_timeout_ms = 0;
        }
    }
    if let Some(mut rng) = draws("shutdown", 15) {
        shut_down(plan, &mut rng);
    } else if let Some(mut rng) = draws("flood", 12) {
        flood(plan, &mut rng, FLOODS, &[16, 64, 1_024]);
    } else if let Some(mut rng) = draws("herd", 10) {
        herd(plan, &mut rng);
    } else if let Some(mut rng) = draws("late", 15) {
        come_late(plan, &mut rng);
    } else if let Some(mut rng) = draws("tangle", 15) {
        tangle(plan, &mut rng);
    } else if let Some(mut rng) = draws("memory", 20) {
        fill(plan, &mut rng);
    } else if let Some(mut rng) = draws("claimants", 10) {
        // Few places, and strangers who claim a session and then stop.
        flood(plan, &mut rng, &[Flood::Stall], &[16]);
    } else if let Some(mut rng) = draws("house", 25)
        && plan.options.clients <= 8
    {
        fill_house(plan, &mut rng);
    } else if let Some(mut rng) = draws("listener", 30) {
        limit_listener(&mut plan.options, &mut rng);
    }
}

/// Gives the listener limits of its own. Each client finds a place once those that left are gone.
fn limit_listener(options: &mut Options, rng: &mut Rng) {
    if rng.chance(80) {
        options.listener_connections = options.clients + rng.pick(&[0, 0, 1, 3]);
    }
    if rng.chance(50) {
        options.listener_rate = rng.pick(&[2, 10, 50]);
        options.listener_burst = rng.pick(&[0, 1, 5]);
    }
}

/// Strangers take all places that they get, and those of clients that lose their connections; these come back.
fn fill_house(plan: &mut Plan, rng: &mut Rng) {
    let options = &mut plan.options;
    options.max_connections = rng.between(16, 24);
    options.max_half_open = rng.pick(&[0, 4, 16, 1_024]);
    options.max_sessions = 1 << 21;
    options.delay_max_us = options.delay_max_us.min(2_000);
    (options.read_chunk, options.write_chunk) = (0, 0);
    (options.enforce_accepts, options.enforce_sources) = (0, 0);
    (options.accept_rate, options.accept_burst) = (2_000, 100);
    (options.source_connections, options.wide_connections) = (256, 4_096);
    (options.source_rate, options.wide_rate) = (0, 0);
    let clients = options.clients;
    let stay = |count, ms| Action::Flood {
        kind: Flood::Stay,
        sources: 40,
        count,
        ms,
    };
    let ms = rng.between(20, 200);
    let mut story = vec![(0, stay(options.max_connections, ms))];
    let mut wait_us = 1_000 * ms + 20_000;
    for _ in 0..rng.between(1, 4) {
        let how = rng.pick(&[Drop::Fin, Drop::Rst]);
        let dropped: Vec<usize> = (0..rng.between(1, 3))
            .map(|_| rng.below(clients) as usize)
            .collect();
        for &client in &dropped {
            story.push((wait_us, Action::Drop { client, how }));
            wait_us = rng.below(5_000);
        }
        story.push((10_000, stay(3, 10)));
        wait_us = 30_000;
        for client in dropped {
            story.push((wait_us, Action::Resume { client }));
            wait_us = rng.below(20_000);
        }
        wait_us = 1_000 * rng.log_between(10, 2_500);
    }
    let at_us = plan.ops.last().map_or(0, |op| op.at_us);
    tell(plan, at_us, story);
}

/// Little memory for much waiting data. A connection that only waits for a place must get one before the second phase ends.
fn fill(plan: &mut Plan, rng: &mut Rng) {
    let options = &mut plan.options;
    let least = 1_000 * options.clients;
    options.max_memory_bytes = rng.log_between(4_000, 100_000).max(least);
    options.stale_timeout_ms = options.stale_timeout_ms.min(8_000);
    options.reap_interval_ms = options.reap_interval_ms.min(1_000);
    (options.client_queue_packets, options.missed_packets) = (8_192, 1_000);
    options.client_queue_bytes = rng.pick(&[1 << 12, 1 << 14, 1 << 20]);
    options.missed_bytes = rng.pick(&[1 << 12, 1 << 14, 1 << 20]);
    if rng.chance(80) {
        (options.link_queue_packets, options.link_queue_bytes) = (32_768, 33_554_432);
    }
    let memory = options.max_memory_bytes;
    let mut story = Vec::new();
    for _ in 0..rng.between(2, 5) {
        for _ in 0..rng.between(1, 4) {
            let client = rng.below(options.clients) as usize;
            let bytes = rng.log_between(40, memory / 3).min(options.max_down_bytes);
            let count = (memory / (bytes + 1)).clamp(1, 60);
            story.push((0, Action::Stall { client }));
            story.push((0, Action::Resume { client }));
            let wait_us = 5 * options.delay_max_us + 3_000;
            let send = Action::BackendSend {
                client,
                count,
                bytes,
            };
            story.push((wait_us, send));
            if rng.chance(30) {
                let how = Drop::Rst;
                story.push((rng.below(20_000), Action::Drop { client, how }));
            }
        }
        let client = rng.below(options.clients) as usize;
        let join = Join::Normal;
        story.push((rng.below(50_000), Action::Connect { client, join }));
        let bytes = (memory / 2).min(options.max_up_bytes);
        let count = 1;
        let send = Action::Send {
            client,
            count,
            bytes,
        };
        story.push((5 * options.delay_max_us + 3_000, send));
    }
    let place = rng.below(plan.ops.len() as u64) as usize;
    let at_us = plan.ops[place].at_us;
    tell(plan, at_us, story);
}

/// Rare faults of the backend, close together.
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

/// Few addresses, with small limits for one of them and for all.
fn limit(options: &mut Options, rng: &mut Rng) {
    options.sources = rng.between(1, 6);
    options.enforce_sources = rng.pick(&[0, 0, 0, 1, 2]);
    options.enforce_accepts = rng.pick(&[0, 0, 0, 1, 2]);
    options.source_connections = rng.pick(&[0, 1, 3, 256]);
    options.wide_connections = rng.pick(&[0, 2, 1_024]);
    options.source_rate = rng.pick(&[0, 1, 5, 50]);
    options.source_burst = rng.pick(&[1, 4, 20]);
    options.source_stale = rng.pick(&[0, 1, 2, 256]);
    options.wide_rate = rng.pick(&[0, 4, 400]);
    options.wide_burst = rng.pick(&[2, 9, 1_600]);
    options.wide_stale = rng.pick(&[0, 1, 3, 4_096]);
    options.penalties = rng.below(2);
    options.accept_rate = rng.pick(&[0, 5, 40, 2_000]);
    options.accept_burst = rng.pick(&[1, 6, 60]);
    options.max_half_open = if options.clients > 8 {
        1_024
    } else {
        rng.pick(&[0, 4, 5, 16, 1_024])
    };
}

/// Limits the pace of clients. If a client may exceed it for ever, it must be able to send everything before the second phase ends.
fn pace(options: &mut Options, rng: &mut Rng) {
    options.pace_patience_ms = if rng.chance(10) {
        0
    } else {
        rng.log_between(150, 5_000)
    };
    let generous = options.pace_patience_ms == 0;
    if rng.chance(70) {
        options.pace_frames = rng.pick(if generous { &[500] } else { &[5, 20, 100, 500] });
        options.pace_frames_burst = rng.pick(&[1, 3, 10, 50]);
    }
    if rng.chance(60) {
        options.pace_bytes = rng.pick(if generous {
            &[200_000]
        } else {
            &[500, 3_000, 20_000, 200_000]
        });
        options.pace_bytes_burst = rng.pick(&[64, 500, 4_000]);
    }
    options.enforce_pace = rng.pick(&[0, 0, 0, 0, 0, 1, 2]);
    if rng.chance(60) {
        (options.link_queue_packets, options.link_queue_bytes) = (32_768, 33_554_432);
    }
}

/// Makes one client send much.
fn run_on(plan: &mut Plan, rng: &mut Rng) {
    let options = &mut plan.options;
    options.enforce_pace = 0;
    // Read byte by byte, it would always stay within its pace.
    options.read_chunk = 0;
    options.pace_frames = rng.pick(&[5, 20]);
    options.pace_patience_ms = options.pace_patience_ms.clamp(150, 3_000);
    (options.link_queue_packets, options.link_queue_bytes) = (32_768, 33_554_432);
    let client = rng.below(plan.options.clients) as usize;
    let (count, bytes) = (rng.between(100, 400), 40.min(plan.options.max_up_bytes));
    let join = Join::Normal;
    let send = Action::Send {
        client,
        count,
        bytes,
    };
    let story = vec![
        (0, Action::Unstall { client }),
        (0, Action::Connect { client, join }),
        (5 * plan.options.delay_max_us + 2_000, send),
        // Until it has been beyond its pace for too long.
        (
            1_000 * plan.options.pace_patience_ms + 400_000,
            Action::Accept {},
        ),
    ];
    let at_us = plan.ops.last().map_or(0, |op| op.at_us);
    tell(plan, at_us, story);
}

/// Adds floods of strangers, from one address or from many, and a visitor that wants to join meanwhile.
///
/// The numbers let an edge keep its promises. From many addresses no more connections come than all may make, and a visitor that sends its
/// packets finishes its handshake long before all half-open places have been taken again.
fn flood(plan: &mut Plan, rng: &mut Rng, kinds: &[Flood], places: &[u64]) {
    let options = &mut plan.options;
    let one = rng.chance(50);
    let sources = if one { 1 } else { rng.between(10, 100) };
    options.delay_max_us = options.delay_max_us.min(2_000);
    (options.read_chunk, options.write_chunk) = (0, 0);
    (options.enforce_accepts, options.enforce_sources) = (0, 0);
    options.max_half_open = rng.pick(places);
    options.max_sessions = 1 << 21;
    (options.accept_rate, options.accept_burst) = if one { (100, 10) } else { (2_000, 100) };
    options.source_rate = rng.pick(&[10, 50]);
    options.source_burst = rng.pick(&[5, 20]);
    options.source_connections = rng.pick(&[4, 256]);
    options.wide_connections = rng.pick(&[8, 1_024]);
    options.penalties = 1;
    let kind = rng.pick(kinds);
    let count = rng.between(30, 300);
    let ms = if one {
        count
    } else {
        count * rng.between(2, 6)
    };
    let bytes = rng.pick(&[0, 1, options.max_up_bytes.min(20_000)]);
    let packets = if bytes > 1 { 4 } else { 60 };
    let flood = Action::Flood {
        kind,
        sources,
        count,
        ms,
    };
    let mut story = vec![(0, flood)];
    if rng.chance(40) {
        story.push((0, Action::BackendStall {}));
    }
    for _ in 0..3 {
        story.push((ms * 250, Action::Visit {}));
        if rng.chance(30) {
            let count = packets;
            story.push((0, Action::SendAll { count, bytes }));
        }
    }
    if rng.chance(50) {
        story.push((ms * 100, Action::BackendUnstall {}));
    }
    let place = rng.below(plan.ops.len() as u64) as usize;
    let at_us = plan.ops[place].at_us + rng.below(50_000);
    tell(plan, at_us, story);
}

/// Makes all clients lose their connections at once.
fn herd(plan: &mut Plan, rng: &mut Rng) {
    let options = &mut plan.options;
    options.max_sessions = 1 << 21;
    if options.clients > 8 || options.delay_max_us > 2_000 {
        options.max_half_open = 1_024;
    } else {
        options.max_half_open = options.max_half_open.max(16);
    }
    let how = rng.pick(&[Drop::Fin, Drop::Rst]);
    let at_us = plan.ops.last().map_or(0, |op| op.at_us);
    let (count, bytes) = (rng.between(1, 9), rng.below(40));
    let story = vec![
        (0, Action::BackendUnstall {}),
        (
            10_000,
            Action::SendAll {
                count,
                bytes: bytes.min(plan.options.max_up_bytes),
            },
        ),
        (rng.below(10_000), Action::Herd { how }),
    ];
    tell(plan, at_us, story);
}

/// Adds operations, each this many microseconds after the one before it.
fn tell(plan: &mut Plan, mut at_us: u64, story: Vec<(u64, Action)>) {
    for (wait_us, action) in story {
        at_us += wait_us;
        plan.ops.push(Op { at_us, action });
    }
    plan.ops.sort_by_key(|op| op.at_us);
}

/// Makes a client come back shortly before its deadline.
fn come_late(plan: &mut Plan, rng: &mut Rng) {
    let client = rng.below(plan.options.clients) as usize;
    let (join, how) = (Join::Normal, Drop::Rst);
    let story = vec![
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
    let at_us = plan.ops.last().map_or(0, |op| op.at_us);
    tell(plan, at_us, story);
}

/// Shuts the edge down somewhere in the last part of the plan, with or without time to do so in order.
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
    // Something waits for the backend or for a client, or a client is in the middle of a resume.
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
