//! The thread that answers. One connection at a time, each for a bounded time: what comes here is a scraper every few
//! seconds, and whoever else can reach the address can hold up only the next scrape.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::http::{MAX_HEAD_BYTES, Request, Response, read_head};
use super::text;

/// How long a head may take from the accept to its end, and then an answer until it is written.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the edge's loop may take to answer before it counts as stuck.
const LOOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be accepted, as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped.
pub struct Server {
    address: SocketAddr,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address`, `host:port`, and answers with what `exchange` says.
    ///
    /// # Errors
    /// When the address cannot be bound, or there is no thread to be had.
    pub fn start(address: &str, exchange: Exchange) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let is_ending = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_ending);
        let thread = thread::Builder::new()
            .name("metrics".into())
            .spawn(move || serve(&listener, &exchange, &ending))?;
        Ok(Server {
            address,
            is_ending,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        // Nothing else ends a blocking accept. A listener on all addresses is reached at loopback.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let mut address = self.address;
        address.set_ip(ip);
        let woken = TcpStream::connect_timeout(&address, ACCEPT_PAUSE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It has nothing to say; a panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, exchange: &Exchange, is_ending: &AtomicBool) {
    loop {
        let accepted = listener.accept();
        if is_ending.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = answer(stream, exchange) {
                    tracing::debug!(%peer, %error, "a request for metrics failed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no request for metrics can be accepted");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn answer(mut stream: TcpStream, exchange: &Exchange) -> io::Result<()> {
    let mut head = Vec::new();
    let response = match read_request(&mut stream, &mut head)? {
        Ok(Request::Get(path)) => respond(path, exchange),
        Ok(Request::OtherMethod) => Response::text("405 Method Not Allowed", "only GET"),
        Ok(Request::Malformed) => Response::text("400 Bad Request", "no HTTP/1.1 request"),
        Err(refusal) => refusal,
    };
    write(&mut stream, &response.to_bytes())?;
    // Bytes that were not read would turn the end into a reset, and the answer with it.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1024];
    let until = Instant::now() + STEP_TIMEOUT;
    for _ in 0..64 {
        if read(&mut stream, &mut rest, until)? == 0 {
            break;
        }
    }
    Ok(())
}

fn respond(path: &str, exchange: &Exchange) -> Response {
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return Response::text("404 Not Found", "/metrics, /healthz, /readyz");
    }
    let Some(snapshot) = exchange.ask(LOOP_TIMEOUT) else {
        return Response::text("503 Service Unavailable", "the edge does not answer");
    };
    match path {
        "/metrics" => Response {
            status: "200 OK",
            content_type: text::CONTENT_TYPE,
            body: text::encode(&snapshot),
        },
        "/readyz" if snapshot.is_ending => {
            Response::text("503 Service Unavailable", "the edge ends")
        }
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

/// Reads into `head` up to its end. The inner error is an answer; the outer one means that there is nobody to be answered.
fn read_request<'a>(
    stream: &mut TcpStream,
    head: &'a mut Vec<u8>,
) -> io::Result<Result<Request<'a>, Response>> {
    let until = Instant::now() + STEP_TIMEOUT;
    let mut piece = [0; 1024];
    while read_head(head).is_none() {
        if head.len() >= MAX_HEAD_BYTES {
            return Ok(Err(Response::text(
                "431 Request Header Fields Too Large",
                "the head is too long",
            )));
        }
        match read(stream, &mut piece, until) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => head.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Ok(Err(Response::text(
                    "408 Request Timeout",
                    "the head took too long",
                )));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(read_head(head).unwrap_or(Request::Malformed)))
}

/// One read before `until`. The system's own timeout would begin anew with each.
fn read(stream: &mut TcpStream, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match timed_out(stream.read(buffer)) {
            // The process was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + STEP_TIMEOUT;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match timed_out(stream.write(bytes)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// A socket's timeout has two names.
fn timed_out(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        result => result,
    }
}
