//! Lists of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};

use super::value::{Data, Kind, Value};

/// Networks, each an address and the length of its prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Returns the networks of this machine.
    #[must_use]
    pub fn loopback() -> Networks {
        let (v4, v6) = (Ipv4Addr::new(127, 0, 0, 0), Ipv6Addr::LOCALHOST);
        Networks(vec![
            IpNet::new_assert(v4.into(), 8),
            IpNet::new_assert(v6.into(), 128),
        ])
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let networks = Vec::<Network>::deserialize(deserializer)?;
        Ok(Networks(networks.into_iter().map(|one| one.0).collect()))
    }
}

/// One network of a list.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        network(&text).map(Network)
    }
}

impl Value for Networks {
    type Allowed = ();

    const KIND: Kind = Kind::Texts;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "a list of networks such as [\"10.0.0.0/8\", \"::1/128\"]".into()
    }

    fn data(&self) -> Data {
        Data::Texts(self.0.iter().map(IpNet::to_string).collect())
    }
}

/// Parses a network or a single address. An IPv4-mapped IPv6 network (`::ffff:10.0.0.0/104`) becomes an IPv4 one, in the form in which
/// every peer's address is checked.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
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
