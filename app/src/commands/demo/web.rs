//! `demo --web`: a page on which all draw, with an edge and a backend in the one process. The page and its client are in the program.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::{ClientId, Time};
use voltlane_doors::websocket::http::{Origins, Rules};
use voltlane_doors::{Door, DoorListener};
use voltlane_driver::backend::{Backend, BackendHandle, Event, Everyone, Means, Options};
use voltlane_driver::{EdgeDriver, Runtime, SocketOptions, Task, Timer as _};

use super::super::signals;
use super::super::{make_key, random};
use super::tasks::Tasks;
use super::{MISSED_PACKETS, say, while_running};
use crate::config::Address;
use crate::http::{Pages, Response, Server};
use crate::logging::FLUSH_WITHIN;
use crate::outlet::Outlet;

/// `sdk/js/tools/embed.js` writes both, and a test of `sdk/js` compares them.
const PAGE: &str = include_str!("web/index.html");
const LIBRARY: &str = include_str!("web/voltlane.js");

/// Lines that whoever comes is shown. Older ones are forgotten.
const MAX_LINES: usize = 5_000;
/// Lines of one packet of those.
const LINES_OF_A_PACKET: usize = 200;
/// Maximum length of what a page says, in bytes: a line, and where its pointer is, have less than 60.
const MAX_SAID_BYTES: usize = 128;

/// Runs until Ctrl-C, or for `secs` seconds.
pub(super) async fn show<R: Runtime>(secs: Option<u32>) -> io::Result<bool> {
    let mut stop = signals::stop()?;
    stop.serves();
    let own = || R::bind("127.0.0.1:0".into(), SocketOptions::default());
    let (listener, backend_address) = own().await?;
    let backend = Backend::begin(Options::default(), Means::on::<R>(listener));
    let backend = backend.map_err(io::Error::other)?;
    let (listener, edge) = own().await?;
    let site = Server::start("page", &Address::loopback(0), Site { edge })?;
    let address = site.addresses().next();
    let address = address.ok_or_else(|| io::Error::other("the page has no address"))?;
    let door = Door::default().with_websocket(rules(address)?, 0);
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = MISSED_PACKETS;
    let edge = Edge::new(config, make_key(), *random());
    let connector = R::connector(backend_address.to_string(), SocketOptions::default());
    let listener = DoorListener::new(listener, door);
    let driver = EdgeDriver::new(edge, listener, connector, R::Timer::default());

    let out = Outlet::start("stdout", io::stdout(), |_| String::new())?;
    say(
        &out,
        &format!("Open http://{address}/ in two browsers, draw, and cut the network of one.\n"),
    )?;
    let mut tasks = Tasks::from(vec![Box::pin(driver) as Task, Box::pin(play(backend))]);
    let mut timer = R::Timer::default();
    let end = secs.map_or(Time::MAX, |secs| {
        timer.now() + Duration::from_secs(secs.into())
    });
    let stopped = poll_fn(|cx| match pin!(&mut stop).poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.poll_until(cx, end),
    });
    while_running(&mut tasks, stopped).await;
    out.flush(FLUSH_WITHIN);
    out.failure().map_or(Ok(true), Err)
}

/// Only the page may connect: a browser shows others, too.
fn rules(site: SocketAddr) -> io::Result<Rules> {
    let mut rules = Rules::default();
    let origin = format!("http://{site}").parse();
    rules.origins = Origins::Listed(vec![origin.map_err(io::Error::other)?]);
    Ok(rules)
}

// ---- the backend

/// The strokes of the drawing, oldest first.
#[derive(Default)]
struct Drawing(VecDeque<String>);

/// Tells the others what one says.
async fn play(mut backend: Backend) {
    let mut drawing = Drawing::default();
    while let Some(event) = backend.recv().await {
        match event {
            Event::Packet { id, data, .. } => drawing.hear(&backend, id, &data).await,
            Event::Ended { id, .. } => {
                // It fails only once the backend has ended, and then there are no clients to tell.
                let _ = backend.send(Everyone, format!("gone {id}")).await;
            }
            _ => {}
        }
    }
}

impl Drawing {
    /// A page says "hello", "line X0 Y0 X1 Y1 COLOUR", or "at X Y COLOUR". Whoever says anything else is none.
    async fn hear(&mut self, backend: &BackendHandle, id: ClientId, data: &[u8]) {
        let said = str::from_utf8(data).ok();
        let said = said.filter(|said| said.len() <= MAX_SAID_BYTES && !said.contains('\n'));
        // Errors are ends of the client or of the backend, which are told.
        let _ = match said.map(|said| said.split_once(' ').unwrap_or((said, ""))) {
            Some(("hello", _)) => {
                for lines in self.packets() {
                    let _ = backend.send(id, lines).await;
                }
                Ok(())
            }
            Some(("line", line)) => {
                self.draw(line);
                backend.send(Everyone.without(id), line).await
            }
            Some(("at", place)) => {
                let told = format!("at {id} {place}");
                backend.send(Everyone.without(id), told).await
            }
            _ => backend.kick(id, 600, "not a page of the demo").await,
        };
    }

    fn draw(&mut self, line: &str) {
        if self.0.len() == MAX_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    /// All lines, some to a packet.
    fn packets(&self) -> Vec<String> {
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        lines
            .chunks(LINES_OF_A_PACKET)
            .map(|some| some.join("\n"))
            .collect()
    }
}

// ---- the page

/// The page, its client, and the address of the edge.
struct Site {
    edge: SocketAddr,
}

impl Pages for Site {
    fn page(&mut self, path: &str) -> Response {
        match path {
            "/" => Response::page("text/html; charset=utf-8", PAGE),
            "/voltlane.js" => Response::page("text/javascript; charset=utf-8", LIBRARY),
            "/edge" => Response::page("text/plain; charset=utf-8", format!("ws://{}/", self.edge)),
            _ => Response::text("404 Not Found", "there is no such page"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_are_forgotten() {
        let mut drawing = Drawing::default();
        assert!(drawing.packets().is_empty());
        for line in 0..=MAX_LINES {
            drawing.draw(&line.to_string());
        }
        let packets = drawing.packets();
        assert_eq!(packets.len(), MAX_LINES / LINES_OF_A_PACKET);
        let lines: Vec<&str> = packets.iter().flat_map(|packet| packet.lines()).collect();
        assert_eq!((lines.len(), lines[0]), (MAX_LINES, "1"));
    }
}
