//! A page that passes bytes on. Whatever the edge is told, and hears, goes through the WebSocket of a browser.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tungstenite::{Message, WebSocket};

use crate::shim::{Ws, relay};
use crate::{PATIENCE, own_host};

const PAGE: &str = include_str!("../programs/page.html");
/// The connections between the page and us, each for one connection to the edge.
const RELAY: &[u8] = b"GET /relay";

type Near = WebSocket<TcpStream>;

/// The server of the page.
#[derive(Clone, Debug)]
pub struct Page {
    address: SocketAddr,
    waiting: Arc<Mutex<mpsc::Receiver<Near>>>,
}

impl Page {
    /// Serves the page on a free port as long as the process lives.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn serve() -> Page {
        let listener = TcpListener::bind((own_host(), 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (give, waiting) = mpsc::channel();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let give = give.clone();
                // A browser also opens connections that it does not use.
                thread::spawn(move || answer(socket, &give));
            }
        });
        Page {
            address,
            waiting: Arc::new(Mutex::new(waiting)),
        }
    }

    /// Returns its origin, as a browser names it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of the page for clients of the edge at `edge`, a URL as well.
    #[must_use]
    pub fn url(&self, edge: &str) -> String {
        format!("http://{}/?{edge}", self.address)
    }

    /// Has the page connect to the edge. Returns what the browser says of it: "open", the subprotocol and the extensions, or "closed" and
    /// the code.
    #[track_caller]
    pub fn connect(&self) -> String {
        self.open().1
    }

    /// Opens a port for clients of the edge, which the page connects to.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn shim(&self) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let page = self.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let page = page.clone();
                thread::spawn(move || {
                    let (far, said) = page.open();
                    assert_eq!(said, "open voltlane.v2 none");
                    // A failure is the end of both connections, which the scenario sees.
                    let _ = relay(near, Ws(far));
                });
            }
        });
        address
    }

    #[track_caller]
    fn open(&self) -> (Near, String) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut near = waiting.recv_timeout(PATIENCE).expect("a browser shows it");
        near.get_ref()
            .set_read_timeout(Some(PATIENCE))
            .expect("a bound");
        near.send(Message::text("connect")).expect("it is there");
        let said = near.read().expect("the page answers");
        let said = said.into_text().expect("words").to_string();
        (near, said)
    }
}

fn answer(mut socket: TcpStream, give: &mpsc::Sender<Near>) -> io::Result<()> {
    let mut begin = [0; RELAY.len()];
    // A request of a browser comes in one segment.
    let length = socket.peek(&mut begin)?;
    if begin == RELAY {
        socket.set_nodelay(true)?;
        let near = tungstenite::accept(socket).map_err(io::Error::other)?;
        let _ = give.send(near);
        return Ok(());
    }
    if length == 0 {
        return Ok(());
    }
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let (status, body) = match head.starts_with(b"GET /?") {
        true => ("200 OK", PAGE),
        false => ("404 Not Found", ""),
    };
    let length = body.len();
    write!(
        socket,
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
