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
