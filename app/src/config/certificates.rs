//! The type of the key about further certificates: an array of tables, each with its files and the names it is for.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::value::{Data, Kind, Value, quoted};

/// The maximum number of certificates beside that of `certificate_file`.
pub const MAX_CERTIFICATES: usize = 64;
/// The maximum number of names that one of them is given.
pub const MAX_CERTIFICATE_NAMES: usize = 64;
/// The maximum length of a DNS name (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// The maximum length of one of its labels.
const MAX_LABEL_BYTES: usize = 63;

/// A certificate, its key, and the names that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamedCertificate {
    /// PEM: the certificate, and behind it those that lead to an authority.
    pub file: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// The names, with `*` for the first label or without. Empty: those in the certificate.
    pub names: Vec<String>,
}

impl fmt::Display for NamedCertificate {
    /// Formats it as an inline table of TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, key) = (self.file.to_string_lossy(), self.key.to_string_lossy());
        write!(f, "{{ file = {}, key = {}", quoted(&file), quoted(&key))?;
        if !self.names.is_empty() {
            let names: Vec<_> = self.names.iter().map(|name| quoted(name)).collect();
            write!(f, ", names = [{}]", names.join(", "))?;
        }
        f.write_str(" }")
    }
}

/// A table of the file. A variable has the two files of each, with a colon between them.
impl<'de> Deserialize<'de> for NamedCertificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            file: PathBuf,
            key: PathBuf,
            #[serde(default)]
            names: Vec<String>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = NamedCertificate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let Table { file, key, names } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NamedCertificate { file, key, names })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text.split_once(':') {
                    Some((file, key)) if !file.is_empty() && !key.is_empty() => {
                        Ok(NamedCertificate {
                            file: file.into(),
                            key: key.into(),
                            names: Vec::new(),
                        })
                    }
                    _ => Err(E::custom(format!("{text:?} is not CERTIFICATE:KEY"))),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The certificates of a listener beside that of `certificate_file`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateList(pub Vec<NamedCertificate>);

impl Value for CertificateList {
    type Allowed = ();

    const KIND: Kind = Kind::Tables;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<NamedCertificate>::deserialize(deserializer)?;
        all.iter()
            .try_for_each(check)
            .and_then(|()| check_names(&all))
            .map_err(D::Error::custom)?;
        Ok(CertificateList(all))
    }

    fn check(&self, (): &()) -> Result<(), String> {
        if self.0.len() > MAX_CERTIFICATES {
            return Err(format!("there are more than {MAX_CERTIFICATES}"));
        }
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "tables [[listener.certificate]], each with \"file\" and \"key\", and with \"names\" if those in the certificate are not meant"
            .into()
    }

    fn data(&self) -> Data {
        Data::Certificates(self.0.clone())
    }
}

fn check(certificate: &NamedCertificate) -> Result<(), String> {
    let file = certificate.file.to_string_lossy();
    for path in [&certificate.file, &certificate.key] {
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(format!(
                "a path of {file:?} is empty, or there is a zero byte in it"
            ));
        }
    }
    if certificate.names.len() > MAX_CERTIFICATE_NAMES {
        let most = MAX_CERTIFICATE_NAMES;
        return Err(format!("{file:?} has more than {most} names"));
    }
    match certificate.names.iter().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(format!(
            "{name:?} is not a name such as \"play.example.com\" or \"*.example.com\""
        )),
    }
}

/// Checks that no two of the certificates are given one name: the later one would never be chosen for it.
fn check_names(all: &[NamedCertificate]) -> Result<(), String> {
    let mut given: Vec<String> = Vec::new();
    for name in all.iter().flat_map(|certificate| &certificate.names) {
        let name = name.to_ascii_lowercase();
        if given.contains(&name) {
            return Err(format!("the name {name:?} is given twice"));
        }
        given.push(name);
    }
    Ok(())
}

/// Returns whether a text is a DNS name, of which the first label may be a star.
fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let is_of_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_of_label)
    };
    // A client that connects to an address asks for no name.
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    text.len() <= MAX_NAME_BYTES && !is_address && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_star_for_its_first_label() {
        for right in [
            "localhost",
            "play.example.com",
            "*.example.com",
            "xn--bcher-kva.example",
            "A-1_b.example",
            &format!("{}.example", "a".repeat(63)),
        ] {
            assert!(is_name(right), "{right}");
        }
        for wrong in [
            "",
            "*",
            "*.",
            "a.*.example",
            "*a.example",
            ".example",
            "example.",
            "a..b",
            "192.0.2.1",
            "bücher.example",
            "https://example.com",
            &format!("{}.example", "a".repeat(64)),
            &"a.".repeat(127),
        ] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_number_of_certificates_and_of_names_is_bounded() {
        let list = |count| CertificateList(vec![NamedCertificate::default(); count]);
        assert_eq!(list(MAX_CERTIFICATES).check(&()), Ok(()));
        let beyond = list(MAX_CERTIFICATES + 1).check(&());
        assert_eq!(beyond, Err("there are more than 64".into()));
        let named = |count: usize| NamedCertificate {
            file: "a".into(),
            key: "b".into(),
            names: (0..count).map(|name| format!("n{name}")).collect(),
        };
        assert_eq!(check(&named(MAX_CERTIFICATE_NAMES)), Ok(()));
        let beyond = check(&named(MAX_CERTIFICATE_NAMES + 1));
        assert_eq!(beyond, Err("\"a\" has more than 64 names".into()));
    }
}
