//! Addresses in the configuration: a host, which may be a name, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;

/// A host and a port. The host is an IP address or a name. A name is resolved at each attempt to bind or to connect, not here.
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
    /// Creates an address on loopback.
    #[must_use]
    pub fn loopback(port: u16) -> Address {
        Address {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
        }
    }

    /// Returns the host: an IP address without brackets, or a name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port. 0 means any free one, and is allowed only for binding.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the socket address if the host is an IP address, so that nothing has to be resolved.
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

/// Why a text is not an address. The message around it quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text contains white space.
    #[error("there is white space in it")]
    WhiteSpace,
    /// A comma or a semicolon separates several addresses.
    #[error("there is more than one address in it")]
    Several,
    /// The text is a URL, such as `http://host:80/`.
    #[error("write it without a scheme and without a path")]
    Url,
    /// There is no colon, or the text is a bare IPv6 address.
    #[error("the port is missing")]
    NoPort,
    /// There is nothing in front of the port.
    #[error("the host is missing (0.0.0.0 or [::] for every interface)")]
    NoHost,
    /// The text after the last colon is not all digits.
    #[error("the port {0:?} is not a number")]
    PortNotANumber(String),
    /// The port is above 65535.
    #[error("the port {0} is above 65535")]
    PortTooLarge(String),
    /// The host has brackets or colons and is not an IPv6 address.
    #[error("{0:?} is not an IPv6 address")]
    NotIpv6(String),
    /// The host has only digits and dots and is not an IPv4 address.
    #[error("{0:?} is not an IPv4 address")]
    NotIpv4(String),
    /// The host has a character that no name has, or is too long.
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
        // The standard library parses every form with brackets, with a zone too.
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        // The last colon separates: `::1:42000` is ::1 and 42000. A text that does not split into a host and a port but is an address
        // lacks the port.
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
    // An IPv6 address can be written in more than one way: keep the canonical one.
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
    // The resolver would accept "1.2.3" or "300.1", which is never what the user meant.
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
    fn a_text_that_is_not_an_address_has_a_reason() {
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
