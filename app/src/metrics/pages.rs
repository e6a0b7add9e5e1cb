//! The pages of the metrics, and of the edge's health.

use std::io;
use std::time::Duration;

use super::{Exchange, Gauges, Snapshot, text};
use crate::config::Address;
use crate::edge_name;
use crate::http::{Pages, Response, Server};
#[cfg(feature = "figures")]
use crate::process::Process;

/// How long the edge's loop may take to respond before it counts as stuck.
const LOOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the metrics of `exchange` at every address of `name`.
///
/// # Errors
/// When an address cannot be bound, or no thread can be started.
pub fn serve(name: &Address, exchange: Exchange) -> io::Result<Server> {
    let pages = Metrics {
        exchange,
        asked: None,
        #[cfg(feature = "admin")]
        began: std::time::Instant::now(),
    };
    Server::start("metrics", name, pages)
}

struct Metrics {
    exchange: Exchange,
    /// The response of the edge's loops, once they were asked for the requests of a round. `None` within: there was none in time.
    asked: Option<Option<Snapshot>>,
    #[cfg(feature = "admin")]
    began: std::time::Instant,
}

impl Pages for Metrics {
    fn refresh(&mut self) {
        self.asked = None;
    }

    #[cfg(feature = "admin")]
    fn event(&mut self, path: &str) -> Option<String> {
        (path == crate::http::EVENTS).then(|| match self.totals() {
            Some(totals) => format!("event: status\ndata: {totals}\n\n"),
            None => "event: stuck\ndata: {}\n\n".to_owned(),
        })
    }

    fn page(&mut self, path: &str) -> Response {
        #[cfg(feature = "admin")]
        if path == "/" {
            let totals = self.totals().unwrap_or_default();
            let page = crate::page::render(&totals);
            return Response::page("text/html; charset=utf-8", page).under(crate::page::POLICY);
        }
        if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return Response::text("404 Not Found", "/metrics, /healthz, /readyz");
        }
        let ask = || self.exchange.ask(LOOP_TIMEOUT);
        let response = match self.asked.get_or_insert_with(ask) {
            Some(snapshot) => {
                #[cfg(feature = "figures")]
                if path == "/metrics" {
                    snapshot.process = Process::measure();
                }
                page(path, snapshot)
            }
            None => Response::text("503 Service Unavailable", "the edge does not answer"),
        };
        match path {
            "/metrics" => response,
            _ => response.with_header(edge_name::HEADER, edge_name::get()),
        }
    }
}

#[cfg(feature = "admin")]
impl Metrics {
    /// Returns the totals, unless a loop does not respond.
    fn totals(&self) -> Option<serde_json::Value> {
        let loops = self.exchange.ask_each(LOOP_TIMEOUT)?;
        Some(crate::page::totals(&loops, self.began.elapsed()))
    }
}

fn page(path: &str, snapshot: &Snapshot) -> Response {
    match (path, readiness(snapshot)) {
        ("/metrics", _) => Response::page(text::CONTENT_TYPE, text::encode(snapshot)),
        ("/readyz", Some(why)) => Response::text("503 Service Unavailable", why),
        ("/readyz", None) => match snapshot.note {
            Some(note) => Response::text("200 OK", &format!("ok; {note}")),
            None => Response::text("200 OK", "ok"),
        },
        _ => Response::text("200 OK", "ok"),
    }
}

/// Returns whether a later edge has the home of this one, so that the backend hears it no more.
#[cfg(feature = "cluster")]
fn is_displaced(gauges: &Gauges) -> bool {
    gauges.link_is_displaced
}

#[cfg(not(feature = "cluster"))]
fn is_displaced(_: &Gauges) -> bool {
    false
}

/// Returns why the edge is not ready for clients, unless it is.
pub(crate) fn readiness(snapshot: &Snapshot) -> Option<&'static str> {
    let gauges = &snapshot.gauges;
    if snapshot.is_ending {
        Some("the edge is shutting down")
    } else if gauges.is_draining {
        Some("the edge is drained by an operator")
    } else if is_displaced(gauges) {
        Some("another edge has the home of this one (cluster.home)")
    } else if gauges.link_is_unproven {
        Some("the backend does not share the secret of the link (master.token_file)")
    } else if gauges.link_is_unasked {
        Some("the backend does not ask for version 3 of the link")
    } else if gauges.link_is_doubted {
        Some("the program at master.address is no backend")
    } else if !gauges.link_is_up {
        Some("there is no backend")
    } else {
        None
    }
}
