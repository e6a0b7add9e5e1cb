//! Short sequences that chance alone would seldom produce. Each leads to a corner where something was once wrong.

use super::{Action, Attempt, Drop, Options};
use crate::rng::Rng;

/// Operations, with the microseconds to wait before each.
pub(super) type Story = Vec<(u64, Action)>;

/// Draws a story about `client`.
pub(super) fn draw(client: usize, options: &Options, rng: &mut Rng) -> Story {
    // The longest wait, so that a run contains many things.
    let longest_us = 12_000_000;
    let part = |millis: u64, percent: u64| (millis * percent * 10).min(longest_us);
    let heavy = Action::BackendSend {
        client,
        count: 1,
        bytes: (options.client_socket_bytes + 3_000).min(options.max_down_bytes),
    };
    let few = |rng: &mut Rng| Action::BackendSend {
        client,
        count: rng.between(1, 4),
        bytes: rng.between(0, 48),
    };
    let drop = |rng: &mut Rng| Action::Drop {
        client,
        how: rng.pick(&[Drop::Fin, Drop::Rst, Drop::Rst]),
    };
    let soon = rng.below(30_000);
    match rng.below(8) {
        // Comes back shortly before its deadline, or just too late.
        0 => vec![
            (soon, drop(rng)),
            (
                part(options.stale_timeout_ms, rng.between(50, 105)),
                Action::Resume { client },
            ),
        ],
        // Is cut within a packet, and comes back.
        1 | 7 => {
            let mut story = vec![(soon, Action::Stall { client }), (0, heavy)];
            if rng.chance(30) {
                story.push((50_000, few(rng)));
            }
            story.push((300_000, drop(rng)));
            story.push((soon, Action::Resume { client }));
            story.push((soon, Action::Unstall { client }));
            story
        }
        // Reads a little, just often enough or not quite.
        2 => {
            let wait = part(options.write_timeout_ms, rng.between(40, 80));
            vec![
                (soon, Action::Stall { client }),
                (0, heavy),
                (wait, Action::Unstall { client }),
                (200, Action::Stall { client }),
                (wait, Action::Unstall { client }),
            ]
        }
        // A stranger tries to resume while packets wait for the client.
        3 => vec![
            (soon, drop(rng)),
            (20_000, few(rng)),
            (
                soon,
                Action::Attempt {
                    client,
                    how: rng.pick(Attempt::ALL),
                },
            ),
            (100_000, Action::Resume { client }),
        ],
        // The backend does not read while the client sends much and leaves, and is kicked or comes back.
        4 => {
            let mut story = vec![
                (soon, Action::BackendStall {}),
                (
                    0,
                    Action::Send {
                        client,
                        count: 24,
                        bytes: 400.min(options.max_up_bytes),
                    },
                ),
                (
                    5_000,
                    Action::Send {
                        client,
                        count: 24,
                        bytes: 400.min(options.max_up_bytes),
                    },
                ),
                (
                    50_000,
                    if rng.chance(50) {
                        drop(rng)
                    } else {
                        Action::Resume { client }
                    },
                ),
            ];
            if rng.chance(50) {
                story.push((soon, Action::Kick { client }));
                story.push((soon, few(rng)));
            } else {
                story.push((soon, Action::Resume { client }));
            }
            if rng.chance(30) {
                story.push((
                    soon,
                    Action::LinkDrop {
                        how: rng.pick(Drop::ALL),
                    },
                ));
            }
            story.push((soon, Action::BackendUnstall {}));
            story
        }
        // More packets arrive for a client that is away than are kept.
        5 => vec![
            (soon, drop(rng)),
            (20_000, few(rng)),
            (soon, few(rng)),
            (soon, few(rng)),
        ],
        // A frame is not finished in time.
        _ => vec![
            (soon, Action::Half { client }),
            (
                part(options.frame_timeout_ms, 110),
                Action::Resume { client },
            ),
        ],
    }
}
