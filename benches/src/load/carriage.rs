//! What the clients' bytes are carried in: TLS, WebSocket messages, or both.
//!
//! TLS is that of rustls, with its own buffers. The messages are written and read here, and not by the code under test.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
pub use voltlane_core::link::v3::Carriage;

/// A certificate for *.wild.example with a key on P-256, which is what most servers have, and the authority behind it.
pub const CERTIFICATE: &str = include_str!("../../../doors/tests/certificates/wild.pem");
/// Its key.
pub const KEY: &str = include_str!("../../../doors/tests/certificates/wild.key");
const AUTHORITY: &str = include_str!("../../../doors/tests/certificates/authority.pem");
const NAME: &str = "edge.wild.example";

/// The request that opens a WebSocket.
pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: edge.wild.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// What a backend behind a proxy answers, whatever the key was: nobody checks it.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
/// Of a masked message: two bytes, a length of eight, and the mask.
const MAX_HEADER_BYTES: usize = 14;
/// Unmasking costs the same for every mask, and nobody has to be surprised by ours.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How clients can be carried, by the names of the configuration.
const NAMES: [(&str, Carriage); 4] = [
    ("tcp", Carriage::Tcp),
    ("tls", Carriage::Tls),
    ("ws", Carriage::WebSocket),
    ("wss", Carriage::WebSocketTls),
];

/// Returns the name of a carriage.
pub fn name_of(carriage: Carriage) -> &'static str {
    let found = NAMES.iter().find(|(_, one)| *one == carriage);
    found.map_or("unix", |(name, _)| name)
}

/// Returns the carriage of this name.
pub fn by_name(name: &str) -> Result<Carriage, String> {
    let found = NAMES.iter().find(|(one, _)| *one == name);
    let found = found.map(|(_, carriage)| *carriage);
    found.ok_or_else(|| format!("{name} is none of tcp, tls, ws and wss"))
}

/// What all clients of a carriage share.
#[derive(Clone, Debug)]
pub struct Carrier {
    carriage: Carriage,
    tls: Arc<ClientConfig>,
}

impl Carrier {
    /// Prepares a carriage. Every TLS handshake is a full one.
    pub fn new(carriage: Carriage) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(AUTHORITY.as_bytes());
        let authority = authority.map_err(io::Error::other)?;
        roots.add(authority).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.resumption = Resumption::disabled();
        Ok(Self {
            carriage,
            tls: tls.into(),
        })
    }

    /// Begins a connection. `None`: its bytes are carried as they are.
    pub fn begin(&self) -> io::Result<Option<Box<Layers>>> {
        if self.carriage == Carriage::Tcp {
            return Ok(None);
        }
        let mut layers = Layers {
            tls: None,
            messages: None,
            wire: Vec::new(),
        };
        if self.carriage.has_websocket() {
            layers.messages = Some(Messages::default());
        }
        if self.carriage.has_tls() {
            let name = NAME.try_into().map_err(io::Error::other)?;
            let tls = ClientConnection::new(Arc::clone(&self.tls), name);
            layers.tls = Some(tls.map_err(io::Error::other)?);
        }
        layers.proceed()?;
        Ok(Some(layers.into()))
    }
}

/// Returns the hello of a TLS client.
pub fn hello() -> io::Result<Vec<u8>> {
    let layers = Carrier::new(Carriage::Tls)?.begin()?;
    Ok(layers.map(|layers| layers.wire).unwrap_or_default())
}

/// The layers of one client.
#[derive(Debug)]
pub struct Layers {
    tls: Option<ClientConnection>,
    messages: Option<Messages>,
    /// What is to be written to the socket.
    pub wire: Vec<u8>,
}

#[derive(Debug, Default)]
struct Messages {
    has_asked: bool,
    answer: Head,
    frames: Frames,
}

impl Layers {
    /// Returns whether data can be sent.
    pub fn is_open(&self) -> bool {
        let tls = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let messages = self.messages.as_ref();
        tls && messages.is_none_or(|messages| messages.answer.is_whole())
    }

    /// Sends what is due before any data.
    fn proceed(&mut self) -> io::Result<()> {
        let can_ask = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        if let Some(messages) = &mut self.messages
            && can_ask
            && !std::mem::replace(&mut messages.has_asked, true)
        {
            match &mut self.tls {
                Some(tls) => tls.writer().write_all(REQUEST)?,
                None => self.wire.extend_from_slice(REQUEST),
            }
        }
        self.encrypt()
    }

    fn encrypt(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
        }
        Ok(())
    }

    /// Takes bytes from the socket, and appends the data in them to `data`.
    pub fn receive(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            if let Some(messages) = &mut self.messages {
                messages.receive(bytes, data)?;
            }
            return Ok(());
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain)?;
            match &mut self.messages {
                Some(messages) => messages.receive(&plain, data)?,
                None => data.extend_from_slice(&plain),
            }
        }
        self.proceed()
    }

    /// Moves `data` to what is to be written, as one message.
    pub fn send(&mut self, data: &mut Vec<u8>) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        match (&mut self.tls, &self.messages) {
            (None, None) => self.wire.extend_from_slice(data),
            (None, Some(_)) => put_message(&mut self.wire, data, Some(MASK)),
            (Some(tls), None) => tls.writer().write_all(data)?,
            (Some(tls), Some(_)) => {
                let mut message = Vec::with_capacity(data.len() + MAX_HEADER_BYTES);
                put_message(&mut message, data, Some(MASK));
                tls.writer().write_all(&message)?;
            }
        }
        data.clear();
        self.encrypt()
    }
}

impl Messages {
    fn receive(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> io::Result<()> {
        let bytes = self.answer.take(bytes);
        if self.answer.is_whole() && !self.answer.0.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.frames.read(bytes, data);
        Ok(())
    }
}

/// The head of a request or of its answer.
#[derive(Debug, Default)]
pub struct Head(Vec<u8>);

impl Head {
    /// Returns whether its empty line has come.
    pub fn is_whole(&self) -> bool {
        self.0.ends_with(HEAD_END)
    }

    /// Takes what belongs to it. Returns the rest.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (at, byte) in bytes.iter().enumerate() {
            if self.is_whole() {
                return &bytes[at..];
            }
            self.0.push(*byte);
        }
        &[]
    }
}

/// Reads the payloads of binary frames.
#[derive(Debug, Default)]
pub struct Frames {
    header: Vec<u8>,
    left: u64,
    mask: Option<[u8; 4]>,
    /// How many bytes of the payload have come.
    at: usize,
    is_data: bool,
}

impl Frames {
    /// Appends the payloads in `bytes` to `data`.
    pub fn read(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                self.begin();
                continue;
            }
            let there = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (payload, rest) = bytes.split_at(there.min(bytes.len()));
            bytes = rest;
            if self.is_data {
                put_payload(data, payload, self.mask, self.at);
            }
            self.at += payload.len();
            self.left -= payload.len() as u64;
        }
    }

    /// Begins the payload, if the header is whole.
    fn begin(&mut self) {
        let &[first, second, ref rest @ ..] = &self.header[..] else {
            return;
        };
        let length_bytes = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & MASKED == 0 { 0 } else { 4 };
        if rest.len() < length_bytes + mask_bytes {
            return;
        }
        let (length, mask) = rest.split_at(length_bytes);
        let long = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.left = match length_bytes {
            0 => u64::from(second & !MASKED),
            _ => long,
        };
        self.mask = mask.try_into().ok();
        self.is_data = first == BINARY;
        self.at = 0;
        self.header.clear();
    }
}

/// Appends a binary message.
pub fn put_message(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(BINARY);
    match (payload.len(), u16::try_from(payload.len())) {
        (short @ ..126, _) => out.push(masked | short as u8),
        (_, Ok(medium)) => {
            out.push(masked | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        (long, _) => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| mask));
    put_payload(out, payload, mask, 0);
}

/// Appends a part of a payload that begins at its byte `at`, with or without its mask.
///
/// Eight bytes at a time. A load that takes longer than the program to be measured gives it less to do at once, which makes each packet
/// dearer.
fn put_payload(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>, at: usize) {
    let begin = out.len();
    out.extend_from_slice(payload);
    let Some(mut mask) = mask else {
        return;
    };
    mask.rotate_left(at % 4);
    let (words, rest) = out[begin..].as_chunks_mut::<8>();
    let mut twice = [0; 8];
    twice[..4].copy_from_slice(&mask);
    twice[4..].copy_from_slice(&mask);
    let wide = u64::from_ne_bytes(twice);
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(twice) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let payloads = [0, 1, 125, 126, 65_535, 65_536].map(|length| vec![7; length]);
        for mask in [None, Some(MASK)] {
            let mut wire = Vec::new();
            payloads
                .iter()
                .for_each(|payload| put_message(&mut wire, payload, mask));
            for piece in [1, 3, 1_000, wire.len()] {
                let (mut frames, mut data) = (Frames::default(), Vec::new());
                wire.chunks(piece)
                    .for_each(|piece| frames.read(piece, &mut data));
                assert!(data == payloads.concat());
            }
        }
    }

    #[test]
    fn a_mask_repeats_from_its_place() {
        for (at, length) in (0..9).flat_map(|at| (0..40).map(move |length| (at, length))) {
            let payload: Vec<u8> = (0..length).collect();
            let mut out = vec![1, 2, 3];
            put_payload(&mut out, &payload, Some(MASK), at);
            let expected: Vec<u8> = (payload.iter().zip(at..))
                .map(|(byte, place)| byte ^ MASK[place % 4])
                .collect();
            assert_eq!(out[3..], expected, "{length} bytes at {at}");
        }
    }

    #[test]
    fn bytes_behind_a_head_are_no_part_of_it() {
        let bytes = [ANSWER, b"frames"].concat();
        for piece in [1, 5, bytes.len()] {
            let (mut head, mut rest) = (Head::default(), Vec::new());
            bytes
                .chunks(piece)
                .for_each(|piece| rest.extend_from_slice(head.take(piece)));
            assert!(head.is_whole());
            assert_eq!(rest, b"frames");
        }
    }
}
