//! The other sides of an edge, spoken byte by byte.

use std::future::poll_fn;
use std::io::{self, IoSlice};

use voltlane_core::ClientId;
use voltlane_core::keys::KeyPair;
use voltlane_core::link::tagged::{Flag, Tagged};
use voltlane_core::protocol::Version;
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_driver::{Listener, Stream};

use super::{MemoryListener, MemoryStream};

const MAX_BODY: u32 = 8 << 20;

/// A stream of frames.
pub(crate) struct Frames {
    pub(crate) stream: MemoryStream,
    reader: FrameReader,
    read: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(stream: MemoryStream) -> Self {
        Frames {
            stream,
            reader: FrameReader::default(),
            read: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.stream.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Returns the next body, or `None` at the end of the stream.
    pub(crate) async fn body(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut input = &self.read[..];
            let length = input.len();
            let body = self
                .reader
                .next_frame(&mut input, MAX_BODY)
                .expect("in bounds")
                .map(<[u8]>::to_vec);
            let taken = length - input.len();
            self.read.drain(..taken);
            if body.is_some() {
                return Ok(body);
            }
            let mut buf = [0; 4096];
            match poll_fn(|cx| self.stream.poll_read(cx, &mut buf)).await? {
                0 => return Ok(None),
                read => self.read.extend(&buf[..read]),
            }
        }
    }
}

/// A client that has joined.
pub(crate) struct ClientPeer {
    pub(crate) frames: Frames,
    pub(crate) id: ClientId,
}

impl ClientPeer {
    pub(crate) async fn join(stream: MemoryStream) -> io::Result<ClientPeer> {
        let mut frames = Frames::new(stream);
        let keys = KeyPair::from_bytes(&[7; 32]).expect("a key");
        let mut hello = Vec::new();
        Handshake::ProtocolVersion(Version::V2.number()).encode(&mut hello);
        frames.write(&hello).await?;
        frames.body().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        hello.clear();
        Handshake::PubKey(keys.public().as_bytes()).encode(&mut hello);
        frames.write(&hello).await?;
        let body = frames.body().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Ok(Handshake::ClientId(id)) = Handshake::decode(&body) else {
            panic!("{body:?} is no id")
        };
        Ok(ClientPeer { frames, id })
    }

    /// Claims its session on another stream of the edge with the private key `edge`. Returns what to write there to resume.
    pub(crate) async fn claim(
        &self,
        stream: MemoryStream,
        edge: &[u8; 32],
    ) -> io::Result<(Frames, Vec<u8>)> {
        let mut frames = Frames::new(stream);
        let mut bytes = Vec::new();
        Handshake::ProtocolVersion(Version::V2.number()).encode(&mut bytes);
        Handshake::ClientId(self.id).encode(&mut bytes);
        frames.write(&bytes).await?;
        frames.body().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = frames.body().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Ok(Handshake::Challenge(sealed)) = Handshake::decode(&body) else {
            panic!("{body:?} is no challenge")
        };
        let keys = KeyPair::from_bytes(&[7; 32]).expect("a key");
        let edge = KeyPair::from_bytes(edge).expect("a key");
        let shared = keys.agree(&edge.public());
        let plain = shared.open(sealed).expect("it is ours");
        let mut response = Vec::new();
        shared.seal_with_nonce(&plain, &[5; 24], &mut response);
        bytes.clear();
        Handshake::ChallengeResponse(&response).encode(&mut bytes);
        Handshake::Ping.encode(&mut bytes);
        Ok((frames, bytes))
    }

    pub(crate) async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        encode_frame(data, &mut frame);
        self.frames.write(&frame).await
    }

    pub(crate) async fn recv(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.frames.body().await
    }
}

/// A backend with one link.
pub(crate) struct BackendPeer {
    pub(crate) frames: Frames,
}

impl BackendPeer {
    pub(crate) async fn accept(listener: &mut MemoryListener) -> BackendPeer {
        let (stream, _) = poll_fn(|cx| listener.poll_accept(cx))
            .await
            .expect("an edge");
        BackendPeer {
            frames: Frames::new(stream),
        }
    }

    pub(crate) async fn send(&mut self, id: ClientId, flag: Flag, data: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        Tagged { id, flag, data }.encode(&mut frame);
        self.frames.write(&frame).await
    }

    pub(crate) async fn recv(&mut self) -> io::Result<Option<(ClientId, Flag, Vec<u8>)>> {
        let body = self.frames.body().await?;
        Ok(body.map(|body| {
            let Tagged { id, flag, data } = Tagged::decode(&body).expect("a tagged packet");
            (id, flag, data.to_vec())
        }))
    }

    /// Echoes packets until the link ends.
    pub(crate) async fn echo(mut self) {
        while let Ok(Some((id, flag, data))) = self.recv().await {
            if flag == Flag::Data && self.send(id, Flag::Data, &data).await.is_err() {
                return;
            }
        }
    }
}
