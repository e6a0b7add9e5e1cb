//! The admin interface: HTTP/1.1 with JSON, on a Unix socket or at an address with a token.
//!
//! | call | what it does |
//! | --- | --- |
//! | `GET /v1/status` | totals, each shard, readiness |
//! | `GET /v1/config` | the configuration in effect, each value with where it comes from |
//! | `GET /v1/sessions?state=&source=&listener=&limit=&after=` | sessions, a page at a time; with `sort` in place of `after`, the first ones by `queue`, `backlog`, `resumes`, `age` or `away` |
//! | `GET /v1/sessions/ID` | one session |
//! | `POST /v1/sessions/ID/kick` | ends it: `{"code", "wait_ms", "text"}` |
//! | `POST /v1/sessions/kick` | ends those of a source or a listener, as many as a second allows: as above, and `{"source", "listener", "state", "after"}` |
//! | `GET`, `POST`, `DELETE /v1/bans` | banned networks: `{"network", "secs", "note", "force"}` |
//! | `POST`, `DELETE /v1/drain` | no more sessions, and clients leave: `{"spread_secs"}`; and the undoing |
//! | `POST /v1/reload` | as SIGHUP |
//! | `POST /v1/log_level` | `{"level", "secs"}` |
//! | `GET /v1/events` | as Server-Sent Events: `status` each second, `session_end`, `audit` for each change, `missed` if some were lost |
//! | `GET /` | the status page, and `GET /events` for it |
//!
//! Nothing that clients or the backend sent is ever shown, and no secret. Each change is a line of the log with the target
//! `voltlane::audit`, at every level of the log.

mod ban_file;
mod calls;
#[cfg(all(test, feature = "smol", target_os = "linux"))]
mod crowd;
mod desk;
mod guard;
mod request;
mod server;
mod sessions;
mod status;
mod stream;
mod token;

#[cfg(feature = "engine")]
pub(crate) use ban_file::Ban;
pub(crate) use desk::Desk;
pub(crate) use request::{MAX_BODY_BYTES, MAX_HEAD_BYTES, read_from_memory as read_request};
pub(crate) use server::{AdminServer, MAX_CONNECTIONS};
pub(crate) use stream::Stream;
pub(crate) use token::{Token, make as make_token, read as read_token};
