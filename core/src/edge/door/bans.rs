//! Networks that an operator has banned (SPEC 10.6(l)).

use core::net::IpAddr;
use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::time::Time;

/// The maximum number of banned networks.
pub const MAX_BANS: usize = 65_536;
/// The maximum length of the note of a ban, in bytes.
pub const MAX_BAN_NOTE_BYTES: usize = 256;

/// The lengths that a prefix of either family can have, longest first.
const MOST_BITS: u8 = 128;

/// A network from which no connection is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// When it ends. `None`: not before it is lifted.
    pub(crate) until: Option<Time>,
    /// Words for people, of up to [`MAX_BAN_NOTE_BYTES`].
    pub(crate) note: Box<str>,
}

image!(Ban { until, note });

impl Ban {
    fn is_over(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Why a network is not banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BanError {
    /// There are [`MAX_BANS`] already.
    #[error("{MAX_BANS} networks are banned, which is the most")]
    TooMany,
    /// The note is longer than [`MAX_BAN_NOTE_BYTES`].
    #[error("a note has at most {MAX_BAN_NOTE_BYTES} bytes")]
    NoteTooLong,
}

/// The banned networks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    bans: BTreeMap<IpNet, Ban>,
    /// How many of them have each length: of IPv4, and of IPv6. Lengths that none has are not looked up.
    lengths: [BTreeMap<u8, u32>; 2],
}

image!(Bans { bans, lengths });

fn family(network: &IpNet) -> usize {
    usize::from(matches!(network, IpNet::V6(_)))
}

impl Bans {
    /// Returns the number of banned networks, with those whose time is over and that were not forgotten yet.
    pub(crate) fn len(&self) -> usize {
        self.bans.len()
    }

    /// Adds a network, or replaces its ban.
    pub(crate) fn add(&mut self, now: Time, network: IpNet, ban: Ban) -> Result<(), BanError> {
        if ban.note.len() > MAX_BAN_NOTE_BYTES {
            return Err(BanError::NoteTooLong);
        }
        let network = network.trunc();
        if self.bans.len() >= MAX_BANS && !self.bans.contains_key(&network) {
            self.forget_over(now);
            if self.bans.len() >= MAX_BANS {
                return Err(BanError::TooMany);
            }
        }
        if self.bans.insert(network, ban).is_none()
            && let Some(lengths) = self.lengths.get_mut(family(&network))
        {
            *lengths.entry(network.prefix_len()).or_default() += 1;
        }
        Ok(())
    }

    /// Removes a network. Returns false if it is not banned, even if one around it is.
    pub(crate) fn remove(&mut self, network: IpNet) -> bool {
        let network = network.trunc();
        let was_there = self.bans.remove(&network).is_some();
        if was_there
            && let Some(lengths) = self.lengths.get_mut(family(&network))
            && let Some(count) = lengths.get_mut(&network.prefix_len())
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                lengths.remove(&network.prefix_len());
            }
        }
        was_there
    }

    /// Forgets those whose time is over.
    pub(crate) fn forget_over(&mut self, now: Time) {
        let over = self.bans.iter().filter(|(_, ban)| ban.is_over(now));
        let over: Vec<IpNet> = over.map(|(network, _)| *network).collect();
        for network in over {
            self.remove(network);
        }
    }

    /// Returns the narrowest network around `address` whose ban is in effect.
    pub(crate) fn find(&self, now: Time, address: IpAddr) -> Option<(&IpNet, &Ban)> {
        let address = address.to_canonical();
        let lengths = self.lengths.get(usize::from(address.is_ipv6()))?;
        lengths.range(..=MOST_BITS).rev().find_map(|(&bits, _)| {
            let network = IpNet::new(address, bits).ok()?.trunc();
            let found = self.bans.get_key_value(&network);
            found.filter(|(_, ban)| !ban.is_over(now))
        })
    }

    /// Returns those that are in effect and come after a network, in their order.
    pub(crate) fn after(
        &self,
        now: Time,
        after: Option<IpNet>,
    ) -> impl Iterator<Item = (&IpNet, &Ban)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |after| Excluded(after.trunc()));
        let range = self.bans.range((from, Unbounded));
        range.filter(move |(_, ban)| !ban.is_over(now))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ban(note: &str, secs: Option<u64>) -> Ban {
        Ban {
            until: secs.map(|secs| Time::ZERO + Duration::from_secs(secs)),
            note: note.into(),
        }
    }

    fn noted(bans: &Bans, at: u64, address: &str) -> Option<String> {
        let now = Time::ZERO + Duration::from_secs(at);
        let found = bans.find(now, address.parse().expect("an address"));
        found.map(|(_, ban)| ban.note.to_string())
    }

    #[test]
    fn the_longest_prefix_in_effect_counts() {
        let mut bans = Bans::default();
        for (network, note, secs) in [
            ("10.0.0.0/8", "wide", None),
            ("10.1.0.0/16", "narrow", Some(5)),
            ("10.1.2.3/32", "one", Some(3)),
            ("2001:db8::/32", "six", None),
            ("0.0.0.0/0", "all", Some(1)),
        ] {
            bans.add(Time::ZERO, net(network), ban(note, secs)).unwrap();
        }
        let all = |at: u64, address: &str| noted(&bans, at, address);
        assert_eq!(all(0, "192.0.2.1").as_deref(), Some("all"));
        assert_eq!(all(1, "192.0.2.1"), None, "over at its instant");
        assert_eq!(all(2, "10.1.2.3").as_deref(), Some("one"));
        assert_eq!(all(3, "10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(all(5, "10.1.2.3").as_deref(), Some("wide"));
        assert_eq!(all(5, "::ffff:10.1.2.3").as_deref(), Some("wide"));
        assert_eq!(all(9, "2001:db8:1::1").as_deref(), Some("six"));
        assert_eq!(all(9, "2001:db9::1"), None);
        assert_eq!(all(9, "11.0.0.1"), None);
    }

    #[test]
    fn a_network_has_one_ban_whichever_of_its_addresses_names_it() {
        let mut bans = Bans::default();
        bans.add(Time::ZERO, net("10.1.2.3/16"), ban("a", None))
            .unwrap();
        bans.add(Time::ZERO, net("10.1.0.0/16"), ban("b", None))
            .unwrap();
        assert_eq!(bans.len(), 1);
        assert_eq!(noted(&bans, 0, "10.1.9.9").as_deref(), Some("b"));
        assert!(!bans.remove(net("10.1.0.0/17")));
        assert!(bans.remove(net("10.1.255.255/16")));
        assert_eq!(noted(&bans, 0, "10.1.9.9"), None);
        assert!(bans.lengths.iter().all(BTreeMap::is_empty));
    }

    #[test]
    fn there_is_a_bound_and_those_that_are_over_make_room() {
        let mut bans = Bans::default();
        for number in 0..MAX_BANS as u32 {
            let address = core::net::Ipv4Addr::from_bits(number << 8);
            let network = IpNet::new(address.into(), 24).unwrap();
            let secs = if number == 7 { Some(1) } else { None };
            bans.add(Time::ZERO, network, ban("", secs)).unwrap();
        }
        let one_more = net("2001:db8::/32");
        let add = |bans: &mut Bans, at| {
            let now = Time::ZERO + Duration::from_secs(at);
            bans.add(now, one_more, ban("", None))
        };
        assert_eq!(add(&mut bans, 0), Err(BanError::TooMany));
        let again = bans.add(Time::ZERO, net("0.0.0.0/24"), ban("again", None));
        assert_eq!(again, Ok(()), "it has its place");
        assert_eq!(add(&mut bans, 1), Ok(()));
        assert_eq!(bans.len(), MAX_BANS);
    }

    #[test]
    fn a_note_has_a_bound() {
        let mut bans = Bans::default();
        let longest = "x".repeat(MAX_BAN_NOTE_BYTES);
        let network = net("10.0.0.0/8");
        bans.add(Time::ZERO, network, ban(&longest, None)).unwrap();
        let longer = ban(&format!("{longest}x"), None);
        let refused = bans.add(Time::ZERO, network, longer);
        assert_eq!(refused, Err(BanError::NoteTooLong));
        assert_eq!(noted(&bans, 0, "10.0.0.1").as_deref(), Some(&*longest));
    }
}
