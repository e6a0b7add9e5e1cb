//! A door for clients that know only TCP: a port on which every byte is passed on within TLS, in WebSocket messages, or in both.
//!
//! It is made of other libraries than the edge's doors: rustls with its own buffers, and tungstenite.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::SockRef;
use tungstenite::{Message, WebSocket};
pub use voltlane_core::link::v3::Carriage;

use crate::others::connect_from;

/// The number of bytes for a client that the system may hold on either side of a shim. A scenario whose client takes nothing must fill that,
/// which takes long on a busy machine.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// A door to an edge that expects a carriage other than TCP.
pub trait Shim: Sized {
    /// All of them.
    const ALL: [Self; 3];

    /// Returns the keys that make an edge expect it.
    #[must_use]
    fn config(self) -> String;

    /// Opens a port that leads to `edge`. It is there as long as the process is.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    fn shim(self, edge: SocketAddr) -> SocketAddr {
        self.shim_from(Ipv4Addr::LOCALHOST, edge)
    }

    /// Like [`shim`](Self::shim), with connections to the edge from this address.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    fn shim_from(self, source: Ipv4Addr, edge: SocketAddr) -> SocketAddr;
}

impl Shim for Carriage {
    const ALL: [Carriage; 3] = [Carriage::Tls, Carriage::WebSocket, Carriage::WebSocketTls];

    fn config(self) -> String {
        let transport = match (self.has_websocket(), self.has_tls()) {
            (false, true) => "tls",
            (true, true) => "wss",
            (true, false) => return "listener.transport = \"ws\"\n".into(),
            (false, false) => return String::new(),
        };
        let (certificate, key) = (certificate_file("edge.pem"), certificate_file("edge.key"));
        format!(
            "listener.transport = \"{transport}\"\nlistener.certificate_file = {certificate:?}\nlistener.key_file = {key:?}\n"
        )
    }

    fn shim_from(self, source: Ipv4Addr, edge: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                thread::spawn(move || {
                    // A failure is the end of both connections, which the scenario sees.
                    let _ = pass_on(self, near, source, edge);
                });
            }
        });
        address
    }
}

fn pass_on(
    carriage: Carriage,
    near: TcpStream,
    source: Ipv4Addr,
    edge: SocketAddr,
) -> io::Result<()> {
    let far = connect_from(source, edge)?;
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    SockRef::from(&far).set_recv_buffer_size(MAX_BUFFERED_BYTES)?;
    SockRef::from(&near).set_send_buffer_size(MAX_BUFFERED_BYTES)?;
    match (carriage.has_websocket(), carriage.has_tls()) {
        (false, true) => relay(near, Tls(tls(far, "edge.example.com")?)),
        (true, false) => relay(near, Ws(upgrade("ws", far)?)),
        (true, true) => relay(near, Ws(upgrade("wss", tls(far, "edge.example.com")?)?)),
        (false, false) => Err(io::Error::other("TCP needs no shim")),
    }
}

/// Returns a file of the certificates that the tests of the doors have.
#[must_use]
pub fn certificate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../doors/tests/certificates")
        .join(name)
}

/// Returns the SHA-256 of the public key in a certificate of the tests, in hexadecimal.
///
/// # Panics
/// When the certificate is missing.
#[must_use]
pub fn spki_sha256(name: &str) -> String {
    use sha2::{Digest, Sha256};
    let certificate = CertificateDer::from_pem_file(certificate_file(name)).expect("it is there");
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).expect("a certificate");
    let digest = Sha256::digest(parsed.subject_public_key_info());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// TLS over a socket.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands over a connection to the server of this name.
///
/// # Errors
/// When the server is none of the tests' authority, or refuses.
///
/// # Panics
/// When the tests' authority is missing.
pub fn tls(socket: TcpStream, name: &str) -> io::Result<TlsStream> {
    tls_as(socket, name, None)
}

/// Like [`tls`], with the certificate of this name.
///
/// # Errors
/// Those of [`tls`].
///
/// # Panics
/// When a file of the tests is missing.
pub fn tls_as(mut socket: TcpStream, name: &str, own: Option<&str>) -> io::Result<TlsStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificate_file("authority.pem"));
    roots
        .add(authority.expect("the tests' authority"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::from_pem_file(certificate_file(&format!("{own}.pem")));
            let key = PrivateKeyDer::from_pem_file(certificate_file(&format!("{own}.key")));
            let (chain, key) = (vec![chain.expect("it is there")], key.expect("it is there"));
            config.with_client_auth_cert(chain, key).expect("a key")
        }
    };
    let name = name.to_owned().try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(config), name);
    let mut client = client.map_err(io::Error::other)?;
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(client, socket))
}

fn upgrade<S: Read + Write>(scheme: &str, stream: S) -> io::Result<WebSocket<S>> {
    use tungstenite::client::IntoClientRequest as _;
    let mut request = format!("{scheme}://edge.example.com/")
        .into_client_request()
        .map_err(io::Error::other)?;
    let protocol = "voltlane.v2".parse().expect("a header");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (socket, _) = tungstenite::client(request, stream)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(socket)
}

/// The end of a relay that speaks with the edge.
pub(crate) trait Far {
    fn socket(&self) -> &TcpStream;
    /// Reads what is there. `None` is the end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Says goodbye.
    fn close(&mut self) -> io::Result<()>;
}

struct Tls(TlsStream);

impl Far for Tls {
    fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 64 * 1024];
        match self.0.read(&mut buffer)? {
            0 => Ok(None),
            bytes => Ok(Some(buffer[..bytes].to_vec())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    fn close(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

pub(crate) struct Ws<S>(pub(crate) WebSocket<S>);

/// A stream whose socket can be asked for.
pub(crate) trait HasSocket {
    fn socket(&self) -> &TcpStream;
}

impl HasSocket for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl HasSocket for TlsStream {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl<S: Read + Write + HasSocket> Far for Ws<S> {
    fn socket(&self) -> &TcpStream {
        self.0.get_ref().socket()
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.0.read() {
            Ok(Message::Binary(bytes)) => Ok(Some(bytes.to_vec())),
            Ok(Message::Close(_)) => Ok(None),
            Ok(_) => Ok(Some(Vec::new())),
            Err(error) => Err(io_error(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let message = Message::Binary(bytes.to_vec().into());
        self.0.send(message).map_err(io_error)
    }

    fn close(&mut self) -> io::Result<()> {
        self.0.close(None).map_err(io_error)?;
        self.0.flush().map_err(io_error)
    }
}

fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Passes bytes on both ways until either side ends.
pub(crate) fn relay(mut near: TcpStream, mut far: impl Far) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // What the far side holds already is not at its socket.
        far.socket().set_nonblocking(true)?;
        loop {
            match far.read() {
                Ok(Some(bytes)) => near.write_all(&bytes)?,
                Ok(None) => {
                    near.shutdown(Shutdown::Write)?;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    near.shutdown(Shutdown::Both)?;
                    return Err(error);
                }
            }
        }
        far.socket().set_nonblocking(false)?;
        let mut sockets = [
            PollFd::new(&near, PollFlags::IN),
            PollFd::new(far.socket(), PollFlags::IN),
        ];
        poll(&mut sockets, None).map_err(io::Error::from)?;
        if sockets[0].revents().is_empty() {
            continue;
        }
        match near.read(&mut buffer)? {
            0 => return far.close(),
            bytes => far.write(&buffer[..bytes])?,
        }
    }
}
