//! The life of connections and sessions. Only here do the parts of the edge act on each other.
//!
//! | file | the rules | SPEC |
//! | --- | --- | --- |
//! | `admission.rs` | whether a connection is accepted, and which one makes room | 10.6, 10.7, 27.3 |
//! | `transport.rs` | what TLS and WebSocket below a connection cost | 16.5 |
//! | `opening.rs` | a handshake, and how a session of version 2 begins | 4.2, 10.6(g), 18.4 |
//! | `welcome.rs` | how a session of version 3 begins | 20.6, 22 |
//! | `handover.rs` | a claim goes to another shard, or a newcomer | 9.9(c), 45.3 |
//! | `resume.rs` | a session of version 2 is resumed | 4.3, 5, 9.2, 9.3 |
//! | `attempt.rs` | a session of version 3 is resumed | 23 |
//! | `moves.rs` | a session goes on at this edge, or no longer | 44 |
//! | `departing.rs` | a session goes to another backend | 45.6 |
//! | `leaving.rs` | such sessions in the next process, and those whose backend is not there | 39.5 |
//! | `search.rs` | which of several backends has the session of a ticket | 45.9 |
//! | `forward.rs`, `line.rs` | packets up, and the line for room on the link | 7.1, 10.4 |
//! | `deliver.rs`, `write.rs` | packets down, and what clients take of them | 7, 10.2, 10.3, 24.6 |
//! | `numbered.rs`, `alarm.rs` | acknowledgements, and when a connection of version 3 is looked at | 24.3, 25.1, 25.3 |
//! | `reads.rs` | how soon and how fast a client must send | 10.6(h), 10.6(i), 11 |
//! | `timeouts.rs` | what is due next | 11, 27.2 |
//! | `pressure.rs` | memory is short | 10.5 |
//! | `ending.rs` | connections close, sessions go away and end | 8.3, 9.2, 9.5 to 9.8 |
//! | `last_words.rs` | what a client of version 3 is told at the end | 25.3 to 25.5 |
//! | `linked.rs` | the link comes and goes | 8.4 |
//! | `boot.rs` | a backend asks for version 3 of the link | 34, 37.4 |
//! | `orders.rs`, `groups.rs` | what such a backend sends | 36 |
//! | `notices.rs`, `settled.rs` | what the backend hears of sessions | 7.3, 7.4, 35, 36.3 |
//! | `operator.rs` | what an operator sees and does | 9.5(f), 9.8(e), 10.6(l) |
//! | `shutdown.rs` | the edge ends in order | 9.8 |
//! | `saving.rs` | the sessions at an orderly end, and in the next process | 39 |
//! | `moving.rs`, `fork.rs` | connections and the link, in a process that takes over | 41 |
//! | `reconfigure.rs` | the configuration changes | 10.8 |

pub(crate) mod admission;
pub(crate) mod alarm;
pub(crate) mod attempt;
pub(crate) mod boot;
pub(crate) mod deliver;
#[cfg(feature = "backends")]
pub(crate) mod departing;
pub(crate) mod ending;
#[cfg(any(test, feature = "testkit", feature = "upgrade"))]
pub(crate) mod fork;
pub(crate) mod forward;
pub(crate) mod groups;
pub(crate) mod handover;
pub(crate) mod last_words;
#[cfg(feature = "backends")]
mod leaving;
pub(crate) mod line;
pub(crate) mod linked;
#[cfg(feature = "cluster")]
pub(crate) mod moves;
#[cfg(feature = "upgrade")]
pub(crate) mod moving;
pub(crate) mod notices;
pub(crate) mod numbered;
pub(crate) mod opening;
pub(crate) mod operator;
pub(crate) mod orders;
pub(crate) mod pressure;
pub(crate) mod reads;
pub(crate) mod reconfigure;
pub(crate) mod resume;
pub(crate) mod saving;
#[cfg(all(feature = "backends", feature = "cluster"))]
pub(crate) mod search;
pub(crate) mod settled;
pub(crate) mod shutdown;
pub(crate) mod timeouts;
pub(crate) mod transport;
pub(crate) mod welcome;
pub(crate) mod write;
