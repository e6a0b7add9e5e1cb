//! The networks that an address belongs to (SPEC 10.6(b)).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How wide a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The minimum that one subscriber has: an IPv4 address, an IPv6 /64.
    Narrow,
    /// What a household often has: an IPv6 /56.
    Middle,
    /// What a site or a part of a carrier has: an IPv4 /24, an IPv6 /48.
    Wide,
}

/// A network, as one entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) bits: u8,
}

image!(Prefix { address, bits });

impl Prefix {
    /// Returns the sources of `address`, each within the next one.
    pub(super) fn all(address: IpAddr) -> impl DoubleEndedIterator<Item = Prefix> {
        let [narrow, middle, wide] = match address.to_canonical() {
            IpAddr::V4(v4) => [Some(cut_v4(v4, 32)), None, Some(cut_v4(v4, 24))],
            IpAddr::V6(v6) => [64, 56, 48].map(|bits| Some(cut_v6(v6, bits))),
        };
        [narrow, middle, wide].into_iter().flatten()
    }

    /// Returns the narrowest source of `address`.
    pub(super) fn narrow(address: IpAddr) -> Prefix {
        match address.to_canonical() {
            IpAddr::V4(v4) => cut_v4(v4, 32),
            IpAddr::V6(v6) => cut_v6(v6, 64),
        }
    }

    pub(super) fn width(self) -> Width {
        match self.bits {
            24 | 48 => Width::Wide,
            56 => Width::Middle,
            _ => Width::Narrow,
        }
    }
}

fn cut_v4(address: Ipv4Addr, bits: u8) -> Prefix {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    Prefix {
        address: IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask)),
        bits,
    }
}

fn cut_v6(address: Ipv6Addr, bits: u8) -> Prefix {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Prefix {
        address: IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask)),
        bits,
    }
}
