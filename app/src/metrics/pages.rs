//! The pages of the metrics, and of the edge's health.

use std::io;
use std::time::Duration;

use super::{Exchange, Snapshot, text};
use crate::config::Address;
use crate::http::{Pages, Response, Server};

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
    };
    Server::start("metrics", name, pages)
}

struct Metrics {
    exchange: Exchange,
    /// The response of the edge's loops, once they were asked for the requests of a round. `None` within: there was none in time.
    asked: Option<Option<Snapshot>>,
}

impl Pages for Metrics {
    fn refresh(&mut self) {
        self.asked = None;
    }

    fn page(&mut self, path: &str) -> Response {
        if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return Response::text("404 Not Found", "/metrics, /healthz, /readyz");
        }
        let ask = || self.exchange.ask(LOOP_TIMEOUT);
        match self.asked.get_or_insert_with(ask) {
            Some(snapshot) => page(path, snapshot),
            None => Response::text("503 Service Unavailable", "the edge does not answer"),
        }
    }
}

fn page(path: &str, snapshot: &Snapshot) -> Response {
    match path {
        "/metrics" => Response::page(text::CONTENT_TYPE, text::encode(snapshot)),
        "/readyz" if snapshot.is_ending => {
            Response::text("503 Service Unavailable", "the edge is shutting down")
        }
        "/readyz" if snapshot.gauges.link_is_unasked => Response::text(
            "503 Service Unavailable",
            "the backend does not ask for version 3 of the link",
        ),
        "/readyz" if snapshot.gauges.link_is_doubted => Response::text(
            "503 Service Unavailable",
            "the program at master.address is no backend",
        ),
        "/readyz" if !snapshot.gauges.link_is_up => {
            Response::text("503 Service Unavailable", "there is no backend")
        }
        _ => Response::text("200 OK", "ok"),
    }
}
