//! Lists of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use super::value::{Raw, Value, found, quoted, text_of};

/// Networks, each an address and the length of its prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// This machine.
    #[must_use]
    pub fn loopback() -> Networks {
        let (v4, v6) = (Ipv4Addr::new(127, 0, 0, 0), Ipv6Addr::LOCALHOST);
        Networks(vec![
            IpNet::new_assert(v4.into(), 8),
            IpNet::new_assert(v6.into(), 128),
        ])
    }
}

impl Value for Networks {
    type Allowed = ();

    fn read(raw: Raw<'_>, (): &()) -> Result<Self, String> {
        let networks: Result<_, String> = match raw {
            Raw::Toml(DeValue::Array(list)) => list
                .iter()
                .map(|element| network(text_of(Raw::Toml(element.get_ref()))?))
                .collect(),
            Raw::Toml(other) => Err(found(other)),
            Raw::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
            Raw::Text(text) => text.split(',').map(|part| network(part.trim())).collect(),
        };
        Ok(Networks(networks?))
    }

    fn expected((): &(), _unit: &str) -> String {
        "a list of networks such as [\"10.0.0.0/8\", \"::1/128\"]".into()
    }

    fn show(&self) -> String {
        let networks: Vec<_> = self
            .0
            .iter()
            .map(|network| quoted(&network.to_string()))
            .collect();
        format!("[{}]", networks.join(", "))
    }
}

/// A network, or a single address. What is of IPv4 and written as IPv6 (`::ffff:10.0.0.0/104`) becomes IPv4, which is how
/// every peer's address is looked at.
fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is not a network"))?;
    if network.trunc() == network {
        Ok(canonical(network))
    } else {
        // The mistake may be in the address or in the prefix.
        Err(format!(
            "{text:?} has bits beyond its prefix, unlike {}",
            network.trunc()
        ))
    }
}

fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let v4 = match (network.addr().to_canonical(), network) {
        (IpAddr::V4(address), IpNet::V6(v6)) if v6.prefix_len() >= MAPPED => {
            Ipv4Net::new(address, v6.prefix_len() - MAPPED).ok()
        }
        _ => None,
    };
    v4.map_or(network, IpNet::V4)
}
