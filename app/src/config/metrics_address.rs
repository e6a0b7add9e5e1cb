//! Where the metrics are answered: at an address, or where they usually are.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer};

use super::address::Address;
use super::contradictions::own_backend;
use super::keys::Settings;
use super::place::Place;
use super::value::{Data, Kind, Value};

/// The port at which the metrics usually are: the next one after that of the backend. 9100 would be that of the node exporter of Prometheus.
const USUAL_PORT: u16 = 42002;
const AUTO: &str = "auto";

/// Where the metrics are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricsAddress {
    /// At the usual port on loopback. If that is taken, nowhere.
    Auto,
    /// There. An edge that cannot listen there does not start.
    At(Address),
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Auto => f.write_str(AUTO),
            MetricsAddress::At(address) => address.fmt(f),
        }
    }
}

impl From<Address> for MetricsAddress {
    fn from(address: Address) -> MetricsAddress {
        MetricsAddress::At(address)
    }
}

impl<'de> Deserialize<'de> for MetricsAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.eq_ignore_ascii_case(AUTO) {
            return Ok(MetricsAddress::Auto);
        }
        let address: Result<Address, _> = text.parse();
        address
            .map(MetricsAddress::At)
            .map_err(serde::de::Error::custom)
    }
}

impl Value for MetricsAddress {
    /// The lowest port.
    type Allowed = RangeInclusive<u16>;

    const KIND: Kind = Kind::Text;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, allowed: &Self::Allowed) -> Result<(), String> {
        match self {
            MetricsAddress::Auto => Ok(()),
            MetricsAddress::At(address) => address.check(allowed),
        }
    }

    fn expected(allowed: &Self::Allowed, unit: &str) -> String {
        format!("\"{AUTO}\", {}", Address::expected(allowed, unit))
    }

    fn data(&self) -> Data {
        Data::Text(self.to_string())
    }
}

impl Settings {
    /// Returns whether the metrics would be at the usual address, if nothing else is there.
    #[must_use]
    pub fn metrics_give_way(&self) -> bool {
        self.metrics.address == Some(MetricsAddress::Auto)
    }

    /// Returns the address at which the metrics are answered, if there is to be one. At the usual one there may be none after all: see
    /// [`MetricsAddress::Auto`].
    #[must_use]
    pub fn metrics_address(&self) -> Option<Address> {
        match self.metrics.address.as_ref()? {
            MetricsAddress::At(address) => Some(address.clone()),
            MetricsAddress::Auto => {
                let usual = Address::loopback(USUAL_PORT);
                // A backend that is not there yet needs the port itself.
                let is_backend = own_backend(self, &Place::Net(usual.clone())).is_some();
                (!is_backend).then_some(usual)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_address_is_one_unless_the_backend_is_there() {
        let mut settings = Settings::default();
        let usual = Address::loopback(USUAL_PORT);
        assert_eq!(settings.metrics_address(), Some(usual.clone()));
        settings.master.address = Place::loopback(USUAL_PORT);
        assert_eq!(settings.metrics_address(), None);
        settings.metrics.address = Some(Address::loopback(1).into());
        assert_eq!(settings.metrics_address(), Some(Address::loopback(1)));
        settings.metrics.address = None;
        assert_eq!(settings.metrics_address(), None);
    }
}
