//! One connection of TLS, as a layer of bytes.

use std::fmt;

use rustls::AlertDescription;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use super::client::ClientTls;
use super::hello::{self, Hello};
use super::server::ServerTls;
use crate::handshake::Handshake;

/// The largest payload of a record.
pub const MAX_RECORD_BYTES: usize = 16_384;
/// What a record adds to its payload: a header, a type and a tag, and with TLS 1.2 a nonce.
pub const RECORD_OVERHEAD: usize = 5 + 8 + 16 + 1;

/// What may be kept of a record, once the handshake is complete: one of the largest.
const MAX_KEPT_BYTES: usize = MAX_RECORD_BYTES + 256 + 5;

/// The layer failed. What is to be sent to the peer, an alert, was appended to the output.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// The peer broke the rules of TLS, or what it offered is not enough.
    #[error(transparent)]
    Peer(#[from] rustls::Error),
    /// Names are strict, and no certificate is for the one that the client asks for.
    #[error("no certificate is for the name that the client asks for")]
    UnknownName,
    /// More than the given number of bytes came before a handshake was complete.
    #[error("more than {0} bytes before a TLS handshake was complete")]
    LongHandshake(usize),
    /// A record, or a message in several, is longer than any may be.
    #[error("more than {0} bytes of a record")]
    LongRecord(usize),
    /// The layer was used before its handshake was complete, or after its end.
    #[error("TLS is not ready for data")]
    NotReady,
}

/// When the key exchange of a server may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// As soon as the hello has come.
    Open,
    /// When it is permitted: the hello has not come yet.
    Shut,
    /// When it is permitted: the hello is there.
    Due,
}

enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// A connection of TLS. It keeps what is not a whole record yet, and nothing else: the caller takes the payloads, and sends what is appended
/// to the output.
pub struct TlsLayer {
    connection: Connection,
    /// What has come and is not yet taken. rustls remembers places in it, so every call must be given these bytes: a peer could otherwise
    /// make it panic, with a handshake message that is cut.
    kept: Vec<u8>,
    /// Bytes until the handshake was complete.
    handshake_bytes: usize,
    gate: Gate,
    /// Until the handshake has ended, if somebody is to be told.
    pub(crate) handshake: Option<Box<Handshake>>,
    max_handshake_bytes: usize,
    is_open: bool,
    has_peer_closed: bool,
    has_closed: bool,
    /// Nothing is taken or sent any more.
    has_failed: bool,
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer")
            .field("is_open", &self.is_open)
            .field("has_peer_closed", &self.has_peer_closed)
            .finish_non_exhaustive()
    }
}

/// What one step asks for. It owns nothing of the connection, so the loop is written once for both sides.
enum Step {
    /// There is more to do without other bytes.
    Again,
    /// Other bytes are needed.
    Rest,
    /// As well, and data can be sent.
    Open,
    PeerClosed,
}

impl TlsLayer {
    /// Creates the layer of an accepted connection. At most `max_handshake_bytes` may come until its handshake is complete.
    ///
    /// # Errors
    /// When rustls refuses the configuration, which [`ServerTls`] has checked.
    pub fn server(tls: &ServerTls, max_handshake_bytes: usize) -> Result<TlsLayer, TlsFault> {
        let connection = UnbufferedServerConnection::new(tls.current())?;
        Ok(TlsLayer::new(
            Connection::Server(connection),
            max_handshake_bytes,
        ))
    }

    /// Creates the layer of a client. Its first call of [`read`](Self::read), with no bytes, gives the hello.
    ///
    /// # Errors
    /// When rustls refuses the configuration, which [`ClientTls`] has checked.
    pub fn client(tls: &ClientTls) -> Result<TlsLayer, TlsFault> {
        let connection = UnbufferedClientConnection::new(tls.config(), tls.server_name())?;
        // A server's certificates have a bound in rustls.
        Ok(TlsLayer::new(Connection::Client(connection), usize::MAX))
    }

    fn new(connection: Connection, max_handshake_bytes: usize) -> TlsLayer {
        TlsLayer {
            connection,
            kept: Vec::new(),
            handshake_bytes: 0,
            gate: Gate::Open,
            handshake: None,
            max_handshake_bytes,
            is_open: false,
            has_peer_closed: false,
            has_closed: false,
            has_failed: false,
        }
    }

    /// Returns whether data can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open && !self.has_closed && !self.has_failed
    }

    /// Returns whether the handshake was shorter by a ticket of an earlier connection.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.connection {
            Connection::Server(server) => server.handshake_kind(),
            Connection::Client(client) => client.handshake_kind(),
        };
        kind == Some(rustls::HandshakeKind::Resumed)
    }

    /// Returns the name in the certificate of the peer, if it has shown one: its subject, of at most 256 characters on one line.
    #[must_use]
    pub fn peer_name(&self) -> Option<String> {
        let shown = match &self.connection {
            Connection::Server(server) => server.peer_certificates(),
            Connection::Client(client) => client.peer_certificates(),
        };
        super::name::name_of(shown?.first()?)
    }

    /// Returns whether the peer has ended its direction in order.
    #[must_use]
    pub fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    /// Makes the key exchange of a server wait until it is [permitted](Self::permit), if it is not made yet.
    pub fn meter(&mut self) {
        if matches!(self.connection, Connection::Server(_)) && self.handshake_bytes == 0 {
            self.gate = Gate::Shut;
        }
    }

    /// Returns whether the key exchange could be made now and waits to be permitted.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.gate == Gate::Due
    }

    /// Permits the key exchange. The next [`read`](Self::read), of any bytes or none, makes it.
    pub fn permit(&mut self) {
        self.gate = Gate::Open;
    }

    /// Returns the number of bytes that have come and are not taken.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Returns the bytes that it keeps.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Takes `wire`, in place if it can. Gives the payloads of whole records to `plain`, and appends to `out` what is to be sent.
    ///
    /// When it returns, TLS has come to rest: a layer above may answer what it was given.
    ///
    /// # Errors
    /// After an error the connection is over. `out` then ends with an alert.
    pub fn read(
        &mut self,
        wire: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), TlsFault> {
        let mut wire = wire;
        if self.gate != Gate::Open {
            self.keep_hello(wire)?;
            if self.gate != Gate::Open {
                return Ok(());
            }
            wire = &mut [];
        }
        let received = wire.len();
        if self.kept.is_empty() {
            let taken = self.read_records(wire, &mut plain, out)?;
            self.kept.extend_from_slice(&wire[taken..]);
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(wire);
            let taken = self.read_records(&mut kept, &mut plain, out)?;
            kept.drain(..taken);
            if !kept.is_empty() {
                self.kept = kept;
            }
        }
        if !self.is_open {
            self.handshake_bytes += received;
            if self.handshake_bytes > self.max_handshake_bytes {
                return Err(self.too_long());
            }
        } else if self.kept.len() > MAX_KEPT_BYTES {
            self.fail();
            return Err(TlsFault::LongRecord(MAX_KEPT_BYTES));
        }
        Ok(())
    }

    /// Keeps bytes of a hello, and opens the gate if they are none.
    fn keep_hello(&mut self, wire: &[u8]) -> Result<(), TlsFault> {
        self.handshake_bytes += wire.len();
        if self.handshake_bytes > self.max_handshake_bytes {
            return Err(self.too_long());
        }
        self.kept.extend_from_slice(wire);
        self.gate = match hello::progress(&self.kept) {
            Hello::Partial => Gate::Shut,
            Hello::Complete => Gate::Due,
            Hello::None => Gate::Open,
        };
        Ok(())
    }

    fn too_long(&mut self) -> TlsFault {
        self.fail();
        TlsFault::LongHandshake(self.max_handshake_bytes)
    }

    fn fail(&mut self) {
        self.gate = Gate::Open;
        self.has_failed = true;
        self.kept = Vec::new();
    }

    /// Takes what it can from the front of `wire`. Returns the number of bytes taken.
    fn read_records(
        &mut self,
        wire: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsFault> {
        if self.has_failed {
            return Ok(wire.len());
        }
        let mut at = 0;
        loop {
            let (discard, step) = self.connection.step(&mut wire[at..], plain, out);
            at += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.has_peer_closed = true,
                Ok(Step::Open) => {
                    self.is_open = true;
                    return Ok(at);
                }
                Ok(Step::Rest) => return Ok(at),
                Err(error) => {
                    self.has_failed = true;
                    // The error has left an alert, which may come behind our part of a handshake. While there is something to be sent, rustls
                    // does not look at the bytes, and it must not look at them again.
                    while self.connection.wants_write() {
                        let (_, step) = self.connection.step(&mut wire[at..], &mut |_| {}, out);
                        if step.is_err() {
                            break;
                        }
                    }
                    return Err(named(error, out));
                }
            }
        }
    }

    /// Encrypts `plain` and appends the records to `out`.
    ///
    /// # Errors
    /// When the layer is not [open](Self::is_open). `out` is then as before.
    pub fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsFault> {
        self.send(
            out,
            |traffic, space| traffic.encrypt(plain, space),
            plain.len(),
        )
    }

    /// Ends our direction, if it is open: appends a close_notify.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            let closed = self.send(out, |traffic, space| traffic.close_notify(space), 0);
            self.has_closed = true;
            debug_assert!(closed.is_ok(), "it is open");
        }
    }

    fn send(
        &mut self,
        out: &mut Vec<u8>,
        encode: impl Fn(&mut dyn Traffic, &mut [u8]) -> Result<usize, EncryptError>,
        bytes: usize,
    ) -> Result<(), TlsFault> {
        if !self.is_open() {
            return Err(TlsFault::NotReady);
        }
        let records = bytes.div_ceil(MAX_RECORD_BYTES).max(1);
        let mut space = bytes + records * RECORD_OVERHEAD;
        let begin = out.len();
        loop {
            let wrote = self
                .connection
                .with_traffic(&mut self.kept, out, &mut |traffic, out| {
                    let at = out.len();
                    out.resize(at + space, 0);
                    let encoded = encode(traffic, &mut out[at..]);
                    // Space that was not written must never be sent.
                    out.truncate(at + *encoded.as_ref().unwrap_or(&0));
                    encoded.map(|_| ())
                });
            match wrote {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(EncryptError::InsufficientSize(InsufficientSizeError {
                    required_size,
                }))) if required_size > space => {
                    space = required_size;
                }
                Ok(Err(_)) => {
                    out.truncate(begin);
                    self.has_failed = true;
                    return Err(TlsFault::NotReady);
                }
                Err(fault) => {
                    out.truncate(begin);
                    self.has_failed = true;
                    return Err(fault);
                }
            }
        }
    }
}

/// Something that encrypts: the state of either side.
trait Traffic {
    fn encrypt(&mut self, plain: &[u8], space: &mut [u8]) -> Result<usize, EncryptError>;
    fn close_notify(&mut self, space: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for rustls::unbuffered::WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plain: &[u8], space: &mut [u8]) -> Result<usize, EncryptError> {
        rustls::unbuffered::WriteTraffic::encrypt(self, plain, space)
    }

    fn close_notify(&mut self, space: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(space)
    }
}

type Encrypt<'a> = &'a mut dyn FnMut(&mut dyn Traffic, &mut Vec<u8>) -> Result<(), EncryptError>;

impl Connection {
    fn step(
        &mut self,
        wire: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Connection::Server(server) => step(server.process_tls_records(wire), plain, out),
            Connection::Client(client) => step(client.process_tls_records(wire), plain, out),
        }
    }

    /// Returns whether it has something to be encoded.
    fn wants_write(&self) -> bool {
        match self {
            Connection::Server(server) => server.wants_write(),
            Connection::Client(client) => client.wants_write(),
        }
    }

    /// Calls `encrypt` once the connection can send data, after everything that it sends by itself.
    fn with_traffic(
        &mut self,
        kept: &mut [u8],
        out: &mut Vec<u8>,
        encrypt: Encrypt<'_>,
    ) -> Result<Result<(), EncryptError>, TlsFault> {
        loop {
            let sent = match self {
                Connection::Server(server) => {
                    traffic(server.process_tls_records(kept), out, encrypt)
                }
                Connection::Client(client) => {
                    traffic(client.process_tls_records(kept), out, encrypt)
                }
            };
            if let Some(sent) = sent? {
                return Ok(sent);
            }
        }
    }
}

/// An alert in the clear: a record, then how serious it is, and what it says.
const CLEAR_ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];

/// Names the fault of a client for whose name there is no certificate. rustls has only a text for it, and tells the client access_denied: the
/// alert of RFC 6066 takes its place. Nothing else is answered so in the clear.
fn named(error: rustls::Error, out: &mut [u8]) -> TlsFault {
    let denied = u8::from(AlertDescription::AccessDenied);
    match (&error, out.split_last_mut()) {
        (rustls::Error::General(_), Some((what, before)))
            if *what == denied && before.ends_with(&CLEAR_ALERT) =>
        {
            *what = AlertDescription::UnrecognisedName.into();
            TlsFault::UnknownName
        }
        _ => error.into(),
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut impl FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                plain(record.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encode(&mut data, out);
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::WriteTraffic(_) => Ok(Step::Open),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Rest),
        // Early data is off.
        _ => Err(rustls::Error::HandshakeNotComplete),
    });
    (discard, step)
}

fn traffic<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
    encrypt: Encrypt<'_>,
) -> Result<Option<Result<(), EncryptError>>, TlsFault> {
    debug_assert_eq!(status.discard, 0, "whole records were taken before");
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => Ok(Some(encrypt(&mut traffic, out))),
        ConnectionState::EncodeTlsData(mut data) => {
            encode(&mut data, out);
            Ok(None)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(None)
        }
        ConnectionState::PeerClosed => Ok(None),
        _ => Err(TlsFault::NotReady),
    }
}

fn encode<Data>(data: &mut rustls::unbuffered::EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let begin = out.len();
    let mut space = 0;
    // The first attempt tells the size.
    for _ in 0..2 {
        out.resize(begin + space, 0);
        match data.encode(&mut out[begin..]) {
            Ok(bytes) => {
                out.truncate(begin + bytes);
                return;
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                space = required_size;
            }
            Err(EncodeError::AlreadyEncoded) => break,
        }
    }
    out.truncate(begin);
}
