//! `demo --web`: a page on which all draw, with an edge and a backend in the one process. The page and its client are in the program.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::{ClientId, Time};
use voltlane_doors::websocket::http::{Origins, Rules};
use voltlane_doors::{Door, DoorListener};
use voltlane_driver::backend::{Backend, BackendHandle, Event, Everyone, Means, Options};
use voltlane_driver::{EdgeDriver, Runtime, SocketOptions, Task, Timer as _};

use super::super::signals;
use super::super::{make_key, random};
use super::{MISSED_PACKETS, say, while_running};
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
/// A browser's request, and the time for it.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// Runs until Ctrl-C, or for `secs` seconds.
pub(super) async fn show<R: Runtime>(secs: Option<u32>) -> io::Result<bool> {
    let mut stop = signals::stop()?;
    stop.serves();
    let own = || R::bind("127.0.0.1:0".into(), SocketOptions::default());
    let (listener, backend_address) = own().await?;
    let backend = Backend::begin(Options::default(), Means::on::<R>(listener));
    let backend = backend.map_err(io::Error::other)?;
    let site = TcpListener::bind("127.0.0.1:0")?;
    let (listener, address) = own().await?;
    let door = Door::default().with_websocket(rules(site.local_addr()?)?, 0);
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = MISSED_PACKETS;
    let edge = Edge::new(config, make_key(), *random());
    let connector = R::connector(backend_address.to_string(), SocketOptions::default());
    let listener = DoorListener::new(listener, door);
    let driver = EdgeDriver::new(edge, listener, connector, R::Timer::default());

    let out = Outlet::start("stdout", io::stdout(), |_| String::new())?;
    say(
        &out,
        &format!(
            "Open http://{}/ in two browsers, draw, and cut the network of one.\n",
            site.local_addr()?
        ),
    )?;
    thread::Builder::new()
        .name("page".into())
        .spawn(move || serve_page(&site, address))?;
    let tasks: Vec<Task> = vec![Box::pin(driver), Box::pin(play(backend))];
    let mut timer = R::Timer::default();
    let end = secs.map_or(Time::MAX, |secs| {
        timer.now() + Duration::from_secs(secs.into())
    });
    let stopped = poll_fn(|cx| match pin!(&mut stop).poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.poll_until(cx, end),
    });
    while_running(tasks, stopped).await;
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

/// Serves the page as long as the process lives, to one browser at a time.
fn serve_page(site: &TcpListener, edge: SocketAddr) {
    for socket in site.incoming().flatten() {
        // A browser that goes away in between loads it again.
        let _ = answer(socket, edge);
    }
}

fn answer(mut socket: TcpStream, edge: SocketAddr) -> io::Result<()> {
    socket.set_read_timeout(Some(REQUEST_WITHIN))?;
    socket.set_write_timeout(Some(REQUEST_WITHIN))?;
    let Some(target) = read_target(&mut socket)? else {
        return Ok(());
    };
    let edge = format!("ws://{edge}/");
    let (status, kind, body) = match target.as_str() {
        "/" => ("200 OK", "text/html; charset=utf-8", PAGE),
        "/voltlane.js" => ("200 OK", "text/javascript; charset=utf-8", LIBRARY),
        "/edge" => ("200 OK", "text/plain; charset=utf-8", edge.as_str()),
        _ => (
            "404 Not Found",
            "text/plain; charset=utf-8",
            "there is no such page\n",
        ),
    };
    write!(
        socket,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Reads a request up to its empty line. Returns what it asks for, or `None` if it asks for nothing.
fn read_target(socket: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut some = [0; 1_024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = socket.read(&mut some)?;
        if count == 0 || head.len() > MAX_REQUEST_BYTES {
            return Ok(None);
        }
        head.extend_from_slice(some.get(..count).unwrap_or_default());
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    Ok(match (words.next(), words.next()) {
        (Some("GET"), Some(target)) => Some(target.to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_to_its_end_and_no_further_than_its_bound() {
        let target = |request: &[u8]| read_target(&mut &*request).expect("bytes");
        assert_eq!(
            target(b"GET /edge HTTP/1.1\r\nHost: x\r\n\r\n").as_deref(),
            Some("/edge")
        );
        for request in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"",
            b"POST / HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
            &[b'x'; 2 * MAX_REQUEST_BYTES],
        ] {
            assert_eq!(target(request), None);
        }
    }

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
