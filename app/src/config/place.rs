//! The place where a process listens or connects: an address, a Unix socket, or sockets that were passed to it. Also the types of keys about Unix sockets.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
#[cfg(feature = "backends")]
use voltlane_core::edge::MAX_BACKENDS;
use voltlane_driver::unix::{PeerUids, UnixPlace};

use super::address::Address;
use super::value::{Data, Kind, Value};
use crate::passed::PassedName;

/// A host and a port, a Unix socket, or sockets of a service manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host and a port.
    Net(Address),
    /// A Unix socket.
    Unix(UnixPlace),
    /// TCP sockets that the service manager passes to the process, by their name. Only listeners take them.
    Passed(PassedName),
}

impl Place {
    /// Creates a place on loopback.
    #[must_use]
    pub fn loopback(port: u16) -> Place {
        Place::Net(Address::loopback(port))
    }

    /// Returns the address, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Place::Net(address) => Some(address),
            Place::Unix(_) | Place::Passed(_) => None,
        }
    }

    /// Returns the Unix socket, if it is one.
    #[must_use]
    pub fn unix(&self) -> Option<&UnixPlace> {
        match self {
            Place::Net(_) | Place::Passed(_) => None,
            Place::Unix(place) => Some(place),
        }
    }

    /// Returns whether it is one place, and not one of several that the system chooses.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        self.address().is_none_or(|address| address.port() != 0)
    }
}

impl From<Address> for Place {
    fn from(address: Address) -> Place {
        Place::Net(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Net(address) => address.fmt(f),
            Place::Unix(place) => place.fmt(f),
            Place::Passed(name) => name.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if let Some(name) = PassedName::parse(text)? {
            return Ok(Place::Passed(name));
        }
        match UnixPlace::parse(text) {
            Ok(Some(place)) => Ok(Place::Unix(place)),
            Ok(None) => match text.parse() {
                Ok(address) => Ok(Place::Net(address)),
                Err(error) => Err(format!("{error}")),
            },
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Value for Place {
    /// The lowest port: 0 to bind, 1 to connect.
    type Allowed = RangeInclusive<u16>;

    const KIND: Kind = Kind::Text;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }

    fn check(&self, allowed: &Self::Allowed) -> Result<(), String> {
        self.address()
            .map_or(Ok(()), |address| address.check(allowed))
    }

    fn expected(_: &Self::Allowed, _unit: &str) -> String {
        "an address such as \"127.0.0.1:42000\", \"[::1]:42000\", \"name:42000\" or \"unix:/run/voltlane.sock\""
            .into()
    }

    fn data(&self) -> Data {
        Data::Text(self.to_string())
    }
}

/// Places of several backends.
#[cfg(feature = "backends")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceList(pub Vec<Place>);

#[cfg(feature = "backends")]
impl Value for PlaceList {
    type Allowed = ();

    const KIND: Kind = Kind::Texts;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let places = texts.iter().map(|text| {
            let place = text.parse();
            place.map_err(|error: String| D::Error::custom(format!("{text:?}: {error}")))
        });
        places.collect::<Result<_, _>>().map(PlaceList)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        if self.0.len() > usize::from(MAX_BACKENDS) {
            return Err(format!("there are more than {MAX_BACKENDS}"));
        }
        for (at, place) in self.0.iter().enumerate() {
            if let Place::Passed(_) = place {
                return Err(format!(
                    "{place} is no address: only a listener takes sockets of a service manager"
                ));
            }
            let checked = place.check(&(1..=u16::MAX));
            checked.map_err(|error| format!("\"{place}\": {error}"))?;
            if self.0[..at].contains(place) {
                return Err(format!("{place} is there twice"));
            }
        }
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        format!(
            "a list of up to {MAX_BACKENDS} addresses such as [\"10.0.0.1:42001\", \"10.0.0.2:42001\"]"
        )
    }

    fn data(&self) -> Data {
        Data::Texts(self.0.iter().map(Place::to_string).collect())
    }
}

/// The mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Value for FileMode {
    type Allowed = ();

    const KIND: Kind = Kind::Text;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(&text, 8);
        match mode {
            Ok(mode) if is_octal && mode <= 0o777 => Ok(FileMode(mode)),
            _ => Err(D::Error::custom("not a mode")),
        }
    }

    fn check(&self, (): &()) -> Result<(), String> {
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "the mode of a file in octal digits such as \"0660\"".into()
    }

    fn data(&self) -> Data {
        Data::Text(format!("{:04o}", self.0))
    }
}

/// Users, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserIds(pub Vec<u32>);

impl UserIds {
    /// Returns them as a listener takes them.
    #[must_use]
    pub fn peers(&self) -> PeerUids {
        PeerUids::of(&self.0).expect("checked when it was read")
    }
}

impl Value for UserIds {
    type Allowed = ();

    const KIND: Kind = Kind::Texts;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let read = texts.iter().map(|text| {
            let uid = text.parse::<u32>();
            uid.map_err(|_| D::Error::custom(format!("{text:?} is not the id of a user")))
        });
        read.collect::<Result<_, _>>().map(UserIds)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        if self.0.len() > PeerUids::MAX {
            return Err(format!("there are more than {}", PeerUids::MAX));
        }
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        format!(
            "a list of up to {} ids of users such as [\"0\", \"1000\"]",
            PeerUids::MAX
        )
    }

    fn data(&self) -> Data {
        Data::Texts(self.0.iter().map(ToString::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "backends")]
    #[test]
    fn sixteen_backends_may_be_named_each_once_and_none_more() {
        let list = |count: u16| {
            let places = (1..=count).map(Place::loopback);
            PlaceList(places.collect())
        };
        let most = u16::from(MAX_BACKENDS);
        assert_eq!(list(0).check(&()), Ok(()));
        assert_eq!(list(most).check(&()), Ok(()));
        assert!(list(most + 1).check(&()).is_err(), "one too many");
        let mut twice = list(2);
        twice.0.push(Place::loopback(1));
        assert!(twice.check(&()).is_err(), "one is there twice");
        assert!(PlaceList(vec![Place::loopback(0)]).check(&()).is_err());
        let passed = "fd:main".parse().expect("a place");
        assert!(PlaceList(vec![passed]).check(&()).is_err());
    }
}
