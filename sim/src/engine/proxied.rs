//! Connections behind a proxy: the header before their first frame, and the address that they come from.

use std::net::{IpAddr, Ipv4Addr};

use super::World;
use crate::model::proxy::BINARY;
use crate::rng::Rng;

/// The proxy that an edge trusts, and one that it does not.
pub(super) const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const STRANGE_PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 101, 7));

/// The percentage of connections that bypass the proxy, and of those with a malformed header.
const PAST_PERCENT: u64 = 4;
const ODD_PERCENT: u64 = 15;

/// Returns a header that names `address`, in either version.
fn header(address: IpAddr, rng: &mut Rng) -> Vec<u8> {
    let port = rng.below(65_536) as u16;
    if rng.chance(50) {
        let (family, to) = match address {
            IpAddr::V4(_) => ("TCP4", "203.0.113.1"),
            IpAddr::V6(_) => ("TCP6", "2001:db8::1"),
        };
        return format!("PROXY {family} {address} {to} {port} 443\r\n").into_bytes();
    }
    let (family, mut rest) = match address {
        IpAddr::V4(address) => (0x11, [address.octets(), [203, 0, 113, 1]].concat()),
        IpAddr::V6(address) => (0x21, [address.octets(), [7; 16]].concat()),
    };
    rest.extend(port.to_be_bytes());
    rest.extend([1, 187]);
    // Extensions, which a reader skips.
    let more = rng.pick(&[0, 0, 3, 90, 512 - rest.len()]);
    rest.extend(std::iter::repeat_n(0x04, more));
    binary(0x21, family, &rest)
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [BINARY, &[command, family], &length, rest].concat()
}

/// Returns a header that no proxy should send, or one that does not name the client.
fn odd(address: IpAddr, rng: &mut Rng) -> Vec<u8> {
    let good = header(address, rng);
    match rng.below(14) {
        // No header: the client's own bytes come at once.
        0 => Vec::new(),
        1 => b"GET / HTTP/1.1\r\n".to_vec(),
        // Truncated: the following bytes take the place of the rest.
        2 => good[..rng.below(good.len() as u64) as usize].to_vec(),
        3 => {
            let mut bytes = good;
            let place = rng.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << rng.below(8);
            bytes
        }
        4 => [&b"PROXY UNKNOWN "[..], &[b'x'; 150]].concat(),
        5 => b"PROXY TCP4 192.0.2.1 203.0.113.1 65536 443\r\n".to_vec(),
        6 => binary(0x21, 0x12, &[0; 12]),
        7 => binary(0x21, 0x21, &[0; 12]),
        8 => binary(0x21, 0x11, &[0; 513]),
        9 => [good.clone(), good].concat(),
        10 => b"PROXY UNKNOWN\r\n".to_vec(),
        11 => binary(0x20, 0, &vec![0; rng.below(513) as usize]),
        12 => binary(0x21, 0, &[0; 5]),
        _ => binary(0x21, 0x31, &[0; 216]),
    }
}

impl World<'_> {
    /// Returns the address that the edge sees for connection `conn`.
    pub(super) fn seen_address(&self, conn: u32) -> IpAddr {
        let peer = &self.conns[conn as usize].peer;
        match self.plan.options.proxy {
            0 => peer.address,
            _ if peer.past_the_proxy => STRANGE_PROXY,
            _ => PROXY,
        }
    }

    /// Sends the proxy's header, before anything on connection `conn`.
    pub(super) fn announce(&mut self, conn: u32) {
        if self.plan.options.proxy == 0 {
            return;
        }
        let mut rng = Rng::fork(self.plan.options.seed, "proxy", conn.into());
        // A visitor that must be admitted comes through a working proxy.
        let visitor = self.clients.len() - 1;
        let faulty = self.plan.options.proxy > 1 && !self.healed;
        let peer = &mut self.conns[conn as usize].peer;
        let faulty = faulty && peer.client != visitor;
        peer.past_the_proxy = faulty && rng.chance(PAST_PERCENT);
        let bytes = if faulty && rng.chance(ODD_PERCENT) {
            odd(peer.address, &mut rng)
        } else {
            header(peer.address, &mut rng)
        };
        peer.precede(&bytes);
    }
}
