//! Fuzzes the layers around the client link.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use voltlane_doors::websocket::Role;
use voltlane_doors::websocket::http::{
    Forwarded, HeadReader, Origin, Origins, Outcome, Refusal, Rules, Traced,
};

use crate::bytes::in_pieces;

// The tests of the layer compare with them as well.
#[path = "../../../doors/tests/websocket/oracles.rs"]
mod oracles;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The first two bytes choose the end of the connection, the bound on frames and the cuts; the rest is frames.
///
/// Every way to cut gives the same events, and tungstenite and websocket-sans-io see the same.
pub fn ws_decode(input: &[u8]) {
    let [options, cuts, frames @ ..] = input else {
        return;
    };
    let role = if options & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let max_frame_bytes = u64::from(options >> 1);
    let mut cuts = std::iter::successors(Some(u32::from(*cuts)), |cut| {
        Some(cut.wrapping_mul(5).wrapping_add(1))
    });
    oracles::compare(role, max_frame_bytes, frames, || {
        cuts.next().map_or(1, |cut| cut as usize % 23)
    });
}

/// The first byte chooses the cuts, the rest is a request and the bytes behind it.
///
/// Every way to cut gives the same outcome. The answer is one of a fixed set. No request is granted that two servers could read differently.
pub fn http_head(input: &[u8]) {
    let Some((&cuts, stream)) = input.split_first() else {
        return;
    };
    let rules = rules();
    let (outcome, answer, head) = serve(&rules, stream, 0);
    assert_eq!(
        serve(&rules, stream, cuts),
        (outcome.clone(), answer.clone(), head.clone())
    );
    match outcome {
        None => assert!(answer.is_empty() && stream.len() <= rules.max_head_bytes),
        Some(Ok(outcome)) => {
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            assert!(stream.starts_with(b"GET ") && head.ends_with("\r\n\r\n"));
            let lines = || head.split("\r\n").skip(1);
            let count = |name: &str| lines().filter(|line| line.starts_with(name)).count();
            assert_eq!(count("content-length:") + count("transfer-encoding:"), 0);
            assert!(
                !lines().any(|line| line.starts_with([' ', '\t']) || line.contains(['\r', '\n']))
            );
            if outcome != Outcome::Health {
                assert_eq!([count("host:"), count("sec-websocket-key:")], [1, 1]);
                assert!(answer.starts_with(b"HTTP/1.1 101 "));
            }
        }
        Some(Err(refusal)) => {
            let mut fixed = Vec::new();
            refusal.write(&mut fixed);
            assert_eq!(answer, fixed);
        }
    }
}

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.forwarded = Forwarded::XForwardedFor;
    rules.trusted_proxies = vec![IpNet::from(PROXY)];
    let origins = ["https://example.com", "https://*.example.org"];
    let origins = origins.map(|origin| origin.parse::<Origin>().expect("an origin"));
    rules.origins = Origins::Listed(origins.to_vec());
    rules.max_head_bytes = 1_024;
    rules
}

/// Returns the outcome, the answer, and the head if it is whole.
fn serve(
    rules: &Rules,
    stream: &[u8],
    cuts: u8,
) -> (Option<Result<Outcome, Refusal>>, Vec<u8>, Vec<u8>) {
    let (mut reader, mut outcome) = (HeadReader::default(), None);
    let (mut answer, mut head) = (Vec::new(), Vec::new());
    in_pieces(stream, cuts, |mut piece| {
        if outcome.is_some() {
            return;
        }
        outcome = match reader.read(&mut piece, rules.max_head_bytes) {
            Ok(None) => None,
            Ok(Some(whole)) => {
                head = whole;
                Some(rules.answer(&head, PROXY, &mut answer))
            }
            Err(fault) => Some(Err(fault.into())),
        };
        if let Some(Err(refusal)) = outcome {
            refusal.write(&mut answer);
        }
        assert!(reader.footprint_bytes() <= 2 * rules.max_head_bytes);
    });
    (outcome, answer, head)
}

/// The first byte chooses the header; the rest are its values, one a line.
///
/// A peer that is not trusted has its own address. The address of one that is trusted is that of the plainest reader.
pub fn forwarded(input: &[u8]) {
    let Some((&kind, values)) = input.split_first() else {
        return;
    };
    let trusted: Vec<IpNet> = vec!["192.0.2.0/24".parse().expect("a network")];
    let values = values.split(|&byte| byte == b'\n');
    let trace = |kind: Forwarded, peer| kind.trace(peer, &trusted, values.clone());
    let stranger = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    if kind % 2 == 0 {
        assert_eq!(trace(Forwarded::Forwarded, stranger), Traced::Peer);
        let _ = trace(Forwarded::Forwarded, PROXY);
        return;
    }
    assert_eq!(trace(Forwarded::XForwardedFor, stranger), Traced::Peer);
    let text = values.clone().map(String::from_utf8_lossy);
    let text = text.collect::<Vec<_>>().join(",");
    let mut expected = Traced::Peer;
    for hop in text.rsplit(',') {
        let hop = hop.trim_matches([' ', '\t', '\r', '\x0c']);
        let bare = hop.trim_start_matches('[').trim_end_matches(']');
        let Some(ip) = bare
            .parse::<IpAddr>()
            .ok()
            .filter(|ip| hop == bare || hop == format!("[{bare}]") && ip.is_ipv6())
            .or_else(|| Some(hop.parse::<std::net::SocketAddr>().ok()?.ip()))
        else {
            // A bracketed IPv4 address, for one, is read by ours. What counts is that the peer is not replaced by a worse guess.
            return;
        };
        let ip = ip.to_canonical();
        expected = Traced::Address(ip);
        if !trusted[0].contains(&ip) {
            break;
        }
    }
    assert_eq!(trace(Forwarded::XForwardedFor, PROXY), expected);
}

/// The first byte chooses the layers, the second the cuts, the third how little the socket takes; the rest is what a stranger sends, behind
/// a valid request if the first byte says so.
///
/// Every way to cut gives the same stream and the same end. What is kept is bounded, and nothing is when all is sent.
pub fn door_stack(input: &[u8]) {
    let [kind, cuts, room, sent @ ..] = input else {
        return;
    };
    let mut wire = Vec::new();
    if kind & 4 != 0 {
        wire.extend_from_slice(
            b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
    }
    wire.extend_from_slice(sent);
    let whole = visit(*kind, &wire, 0, usize::MAX);
    // With more than 256 PINGs it depends on how many come together.
    if sent.len() < 1_000 {
        assert_eq!(visit(*kind, &wire, *cuts, usize::MAX), whole);
    }
    visit(*kind, &wire, *cuts, (*room).into());
}

/// Returns the stream that the edge sees, and whether and how it ends.
fn visit(kind: u8, wire: &[u8], cuts: u8, room: usize) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    use std::task::{Context, Poll, Waker};
    use voltlane_driver::Stream as _;
    let cx = &mut Context::from_waker(Waker::noop());
    let socket = Socket {
        incoming: Vec::new(),
        room,
        taken: 0,
    };
    let mut stream = door(kind).enter(socket, PROXY).expect("a door");
    let (mut seen, mut end) = (Vec::new(), None);
    in_pieces(wire, cuts, |piece| {
        if end.is_some() {
            return;
        }
        stream.get_mut().incoming.extend_from_slice(piece);
        let mut buffer = [0; 300];
        loop {
            match stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => end = Some(std::io::ErrorKind::UnexpectedEof),
                Poll::Ready(Ok(bytes)) => {
                    seen.extend_from_slice(&buffer[..bytes]);
                    continue;
                }
                Poll::Ready(Err(error)) => end = Some(error.kind()),
                // A read that gave nothing yet is worth another.
                Poll::Pending if !stream.get_ref().incoming.is_empty() && room == usize::MAX => {
                    continue;
                }
                Poll::Pending => {}
            }
            break;
        }
        assert!(stream.footprint_bytes() < 128 * 1024);
    });
    let _ = stream.poll_close(cx);
    stream.get_mut().room = usize::MAX;
    if stream.poll_flush(cx).is_ready() && end.is_some() {
        assert!(stream.footprint_bytes() < 24 * 1024);
    }
    (seen, end)
}

fn door(kind: u8) -> &'static voltlane_doors::Door {
    use std::sync::OnceLock;
    use voltlane_doors::Door;
    use voltlane_doors::tls::{CertificateFiles, ServerSettings, ServerTls};
    static DOORS: OnceLock<[Door; 3]> = OnceLock::new();
    let doors = DOORS.get_or_init(|| {
        let file = |name: &str| {
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../doors/tests/certificates")
                .join(name)
        };
        let mut settings = ServerSettings::default();
        settings.certificates = vec![CertificateFiles::new(file("edge.pem"), file("edge.key"))];
        let now = std::time::SystemTime::UNIX_EPOCH;
        let (tls, _) = ServerTls::load(&settings, now).expect("it is there");
        [
            Door::default().with_tls(tls.clone()),
            Door::default().with_websocket(Rules::default(), 0),
            Door::default()
                .with_tls(tls)
                .with_websocket(Rules::default(), 0),
        ]
    });
    &doors[usize::from(kind % 4) % 3]
}

/// A socket in memory. It takes `room` bytes, and forgets them.
struct Socket {
    incoming: Vec<u8>,
    room: usize,
    taken: usize,
}

impl voltlane_driver::Stream for Socket {
    type Parcel = Socket;

    fn pack(self) -> std::io::Result<Socket> {
        Ok(self)
    }

    fn unpack(parcel: Socket) -> std::io::Result<Socket> {
        Ok(parcel)
    }

    fn poll_read(
        &mut self,
        _: &mut std::task::Context<'_>,
        buf: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let count = self.incoming.len().min(buf.len());
        if count == 0 {
            return std::task::Poll::Pending;
        }
        buf[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        std::task::Poll::Ready(Ok(count))
    }

    fn poll_write(
        &mut self,
        _: &mut std::task::Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
        let count = offered.min(self.room - self.taken.min(self.room));
        if count == 0 {
            return std::task::Poll::Pending;
        }
        self.taken += count;
        std::task::Poll::Ready(Ok(count))
    }

    fn poll_close(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
