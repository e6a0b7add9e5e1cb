//! Addresses in the configuration: a host, which may be a name, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;

/// A host and a port. The host is an IP address or a name. A name is not resolved here, but at every attempt to bind or to
/// connect.
///
/// ```
/// use voltlane_app::config::Address;
///
/// let address: Address = "::1:42000".parse().unwrap(); // the last colon splits
/// assert_eq!(address.to_string(), "[::1]:42000");
/// assert!(address.socket_addr().is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// Without brackets.
    host: String,
    port: u16,
}

impl Address {
    /// An address of loopback, where no name and no syntax can be wrong.
    #[must_use]
    pub fn loopback(port: u16) -> Address {
        Address {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
        }
    }

    /// The host: an IP address without brackets, or a name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 means any free one, and only where something is bound.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, if the host is an IP address and nothing has to be resolved.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.to_string().parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        match address {
            SocketAddr::V4(v4) => Address {
                host: v4.ip().to_string(),
                port: v4.port(),
            },
            SocketAddr::V6(v6) => {
                let zone = if v6.scope_id() == 0 {
                    String::new()
                } else {
                    format!("%{}", v6.scope_id())
                };
                Address {
                    host: format!("{}{zone}", v6.ip()),
                    port: v6.port(),
                }
            }
        }
    }
}

/// Why a text is no address. The message that quotes this quotes the text as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Blanks are part of no address.
    #[error("there is white space in it")]
    WhiteSpace,
    /// More than one address, by a comma or a semicolon.
    #[error("there is more than one address in it")]
    Several,
    /// Something like `http://host:80/`.
    #[error("write it without a scheme and without a path")]
    Url,
    /// No colon, or a bare IPv6 address.
    #[error("the port is missing")]
    NoPort,
    /// Nothing before the port.
    #[error("the host is missing (0.0.0.0 or [::] for every interface)")]
    NoHost,
    /// The text after the last colon is not all digits.
    #[error("the port {0:?} is not a number")]
    PortNotANumber(String),
    /// Above 65535.
    #[error("the port {0} is above 65535")]
    PortTooLarge(String),
    /// In brackets, or with colons, but not an IPv6 address.
    #[error("{0:?} is not an IPv6 address")]
    NotIpv6(String),
    /// Digits and dots only, but not an IPv4 address.
    #[error("{0:?} is not an IPv4 address")]
    NotIpv4(String),
    /// A character that no name has, or a name that is too long.
    #[error("{0:?} is not a host name")]
    NotAName(String),
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(AddressError::WhiteSpace);
        }
        if text.contains([',', ';']) {
            return Err(AddressError::Several);
        }
        if text.contains('/') {
            return Err(AddressError::Url);
        }
        // The standard library knows every form with brackets, a zone included.
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        // The last colon splits, so `::1:42000` is ::1 and 42000, and so is `::1:4200`. What does not split into a
        // host and a port and is an address of its own lacks the port.
        split(text).map_err(|error| {
            if text.parse::<IpAddr>().is_ok() {
                AddressError::NoPort
            } else {
                error
            }
        })
    }
}

fn split(text: &str) -> Result<Address, AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or_else(|| AddressError::NotIpv6(text.to_owned()))?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(AddressError::NotIpv6(host.to_owned()));
            }
            (host, after.strip_prefix(':').ok_or(AddressError::NoPort)?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
            check_host(host)?;
            (host, port)
        }
    };
    if port.is_empty() {
        return Err(AddressError::NoPort);
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::PortNotANumber(port.to_owned()));
    }
    let port = port
        .parse()
        .map_err(|_| AddressError::PortTooLarge(port.to_owned()))?;
    // An IPv6 address is written in more than one way; keep the usual one.
    let host = host
        .parse::<IpAddr>()
        .map_or_else(|_| host.to_owned(), |ip| ip.to_string());
    Ok(Address { host, port })
}

fn check_host(host: &str) -> Result<(), AddressError> {
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    if host.contains(':') {
        return host
            .parse::<Ipv6Addr>()
            .map(|_| ())
            .map_err(|_| AddressError::NotIpv6(host.to_owned()));
    }
    // The resolver would take "1.2.3" or "300.1" for something; that is never what is meant.
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return host
            .parse::<Ipv4Addr>()
            .map(|_| ())
            .map_err(|_| AddressError::NotIpv4(host.to_owned()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.len() > 253 || !host.bytes().all(legal) || host.split('.').any(|label| label.len() > 63)
    {
        return Err(AddressError::NotAName(host.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address() {
        for (text, host, port) in [
            ("127.0.0.1:42000", "127.0.0.1", 42000),
            ("0.0.0.0:0", "0.0.0.0", 0),
            ("[::1]:42000", "::1", 42000),
            ("::1:42000", "::1", 42000),
            ("::1:4200", "::1", 4200),
            (":::42000", "::", 42000),
            ("[::]:1", "::", 1),
            ("[0:0:0:0:0:0:0:1]:65535", "::1", 65535),
            ("[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80),
            ("[fe80::1%2]:80", "fe80::1%2", 80),
            ("localhost:1", "localhost", 1),
            (
                "my_edge-1.example.com:42000",
                "my_edge-1.example.com",
                42000,
            ),
            ("example.com.:42000", "example.com.", 42000),
            ("edge:00080", "edge", 80),
        ] {
            let address: Address = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(
                address.to_string().parse(),
                Ok(address),
                "{text}: its own display parses to itself"
            );
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("", "it is empty"),
            (" 127.0.0.1:1", "there is white space in it"),
            ("127.0.0.1: 1", "there is white space in it"),
            ("a:1,b:2", "there is more than one address in it"),
            ("tcp://a:1", "write it without a scheme and without a path"),
            ("localhost", "the port is missing"),
            ("localhost:", "the port is missing"),
            ("127.0.0.1", "the port is missing"),
            ("[::1]", "the port is missing"),
            ("[::1]:", "the port is missing"),
            ("[::1]42", "the port is missing"),
            ("::1", "the port is missing"),
            ("::", "the port is missing"),
            ("fe80::1", "the port is missing"),
            (
                ":42000",
                "the host is missing (0.0.0.0 or [::] for every interface)",
            ),
            ("a:b", "the port \"b\" is not a number"),
            ("a:-1", "the port \"-1\" is not a number"),
            ("a:+1", "the port \"+1\" is not a number"),
            ("a:1.5", "the port \"1.5\" is not a number"),
            ("a:65536", "the port 65536 is above 65535"),
            (
                "a:99999999999999999999",
                "the port 99999999999999999999 is above 65535",
            ),
            ("[::1:42000", "\"[::1:42000\" is not an IPv6 address"),
            ("[::g]:1", "\"::g\" is not an IPv6 address"),
            ("[127.0.0.1]:1", "\"127.0.0.1\" is not an IPv6 address"),
            ("a:1:2", "\"a:1\" is not an IPv6 address"),
            ("256.0.0.1:1", "\"256.0.0.1\" is not an IPv4 address"),
            ("1.2.3:1", "\"1.2.3\" is not an IPv4 address"),
            ("na!me:1", "\"na!me\" is not a host name"),
            ("naïve:1", "\"naïve\" is not a host name"),
        ] {
            assert_eq!(
                text.parse::<Address>().map_err(|error| error.to_string()),
                Err(why.to_owned()),
                "{text:?}"
            );
        }
        let long = format!("{}:1", "a".repeat(64));
        assert!(matches!(
            long.parse::<Address>(),
            Err(AddressError::NotAName(_))
        ));
    }
}
