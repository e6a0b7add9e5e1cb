//! The types of keys about TLS on the link: the name of the backend, and pins of its public key.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::value::{Data, Kind, Value};

/// The name or the IP address that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(String);

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for ServerName {
    type Allowed = ();

    const KIND: Kind = Kind::Text;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(ServerName)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        self.0
            .bytes()
            .all(is_of_name)
            .then_some(())
            .ok_or_else(String::new)
    }

    fn expected((): &(), _unit: &str) -> String {
        "a name such as \"backend.example.com\", or an IP address".into()
    }

    fn data(&self) -> Data {
        Data::Text(self.0.clone())
    }
}

/// The length of a SHA-256.
const PIN_BYTES: usize = 32;

/// Public keys, each as the SHA-256 of its SubjectPublicKeyInfo in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinList(Vec<String>);

impl PinList {
    /// Returns the digests.
    #[must_use]
    pub fn digests(&self) -> Vec<[u8; PIN_BYTES]> {
        self.0.iter().filter_map(|text| digest(text)).collect()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn digest(text: &str) -> Option<[u8; PIN_BYTES]> {
    if text.len() != 2 * PIN_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; PIN_BYTES];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

impl Value for PinList {
    type Allowed = ();

    const KIND: Kind = Kind::Texts;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(PinList)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        match self.0.iter().find(|text| digest(text).is_none()) {
            None => Ok(()),
            Some(text) => Err(format!("{text:?} is not 64 hexadecimal digits")),
        }
    }

    fn expected((): &(), _unit: &str) -> String {
        "a list of SHA-256 digests of public keys, each of 64 hexadecimal digits".into()
    }

    fn data(&self) -> Data {
        Data::Texts(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_64_digits() {
        let text = "00ff".repeat(16);
        let pins = PinList(vec![text.clone(), text.to_uppercase()]);
        assert_eq!(pins.check(&()), Ok(()));
        assert_eq!(pins.digests().len(), 2);
        assert_eq!(pins.digests()[0][..4], [0, 255, 0, 255]);
        for wrong in [
            "",
            "0",
            &text[1..],
            &format!("{text}0"),
            &text.replace('f', "g"),
            &"é".repeat(32),
        ] {
            assert!(
                PinList(vec![wrong.to_owned()]).check(&()).is_err(),
                "{wrong}"
            );
        }
    }
}
