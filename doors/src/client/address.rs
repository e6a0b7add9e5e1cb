//! The address of an edge.

use voltlane_driver::address::HostPort;
use voltlane_driver::client::ConnectError;
use voltlane_driver::unix::UnixPlace;

/// How an edge is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Plain,
    Unix,
    Tls,
    Ws,
    Wss,
}

impl Scheme {
    pub(super) fn has_tls(self) -> bool {
        matches!(self, Scheme::Tls | Scheme::Wss)
    }

    pub(super) fn has_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }

    /// The port that may be left out, and whether a path may follow.
    fn default_port(self) -> Option<u16> {
        match self {
            Scheme::Ws => Some(80),
            Scheme::Wss => Some(443),
            Scheme::Plain | Scheme::Unix | Scheme::Tls => None,
        }
    }
}

/// An address, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// For the connector: `host:port`, or a Unix socket.
    pub(super) place: String,
    /// Without port and brackets.
    pub(super) host: String,
    /// As it is in a request.
    pub(super) authority: String,
    pub(super) path: String,
}

const FORMS: &str = "an address is host:port, tcp://host:port, tls://host:port, ws://host/path, wss://host/path, \
                     unix:/path or unix:@name";

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// [`ConnectError::Config`] with what is wrong, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Address, ConnectError> {
        let wrong = |why: &str| ConnectError::Config(format!("`{text}`: {why}; {FORMS}"));
        if let Some(unix) = UnixPlace::parse(text).map_err(|error| wrong(&error.to_string()))? {
            return Ok(Address {
                scheme: Scheme::Unix,
                place: unix.to_string(),
                host: "localhost".to_owned(),
                authority: "localhost".to_owned(),
                path: "/".to_owned(),
            });
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Plain, text),
            Some(("tcp", rest)) => (Scheme::Plain, rest),
            Some(("tls", rest)) => (Scheme::Tls, rest),
            Some(("ws", rest)) => (Scheme::Ws, rest),
            Some(("wss", rest)) => (Scheme::Wss, rest),
            Some((other, _)) => return Err(wrong(&format!("the scheme {other} is unknown"))),
        };
        if scheme.has_tls() && cfg!(not(feature = "tls")) {
            return Err(wrong("this build has no TLS, which is the feature `tls`"));
        }
        if scheme.has_websocket() && cfg!(not(feature = "websocket")) {
            return Err(wrong(
                "this build has no WebSocket, which is the feature `websocket`",
            ));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) if scheme.has_websocket() => rest.split_at(at),
            Some(_) => return Err(wrong("only ws:// and wss:// have a path")),
            None => (rest, "/"),
        };
        if authority.contains(['@', '?', '#']) || authority.contains(char::is_whitespace) {
            return Err(wrong("only a host and a port can be there"));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let place = match (has_port, scheme.default_port()) {
            (false, Some(port)) => format!("{authority}:{port}"),
            _ => authority.to_owned(),
        };
        let (host, port) = match HostPort::parse(&place) {
            Ok(HostPort::Address(address)) => (address.ip().to_string(), address.port()),
            Ok(HostPort::Name(host, port)) => (host.trim_matches(['[', ']']).to_owned(), port),
            Err(_) => return Err(wrong("there is no port")),
        };
        if host.is_empty() {
            return Err(wrong("there is no host"));
        }
        if port == 0 {
            return Err(wrong("port 0 cannot be connected to"));
        }
        Ok(Address {
            scheme,
            place,
            host,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Returns whether an edge at this address is known without a pinned key: by its certificate, or because it is on this host.
    pub(super) fn is_trusted(&self) -> bool {
        // Anybody on this host can take an abstract name.
        let is_file = self.scheme == Scheme::Unix && !self.place.contains('@');
        self.scheme.has_tls() || is_file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address() {
        let parsed = |text: &str| Address::parse(text).expect("an address");
        let places = [
            (
                "edge.example:7",
                Scheme::Plain,
                "edge.example:7",
                "edge.example",
                "/",
            ),
            ("tcp://[::1]:7", Scheme::Plain, "[::1]:7", "::1", "/"),
            ("::1:7", Scheme::Plain, "::1:7", "::1", "/"),
            (
                "unix:/run/edge.sock",
                Scheme::Unix,
                "unix:/run/edge.sock",
                "localhost",
                "/",
            ),
            ("unix:@edge", Scheme::Unix, "unix:@edge", "localhost", "/"),
            #[cfg(feature = "tls")]
            (
                "tls://edge.example:443",
                Scheme::Tls,
                "edge.example:443",
                "edge.example",
                "/",
            ),
            #[cfg(feature = "websocket")]
            (
                "ws://edge.example",
                Scheme::Ws,
                "edge.example:80",
                "edge.example",
                "/",
            ),
            #[cfg(feature = "websocket")]
            ("ws://[::1]:8/a/b?c", Scheme::Ws, "[::1]:8", "::1", "/a/b?c"),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            (
                "wss://edge.example/play",
                Scheme::Wss,
                "edge.example:443",
                "edge.example",
                "/play",
            ),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            ("wss://[::1]/", Scheme::Wss, "[::1]:443", "::1", "/"),
        ];
        for (text, scheme, place, host, path) in places {
            let address = parsed(text);
            assert_eq!(address.scheme, scheme, "{text}");
            assert_eq!(address.place, place, "{text}");
            assert_eq!(address.host, host, "{text}");
            assert_eq!(address.path, path, "{text}");
        }
    }

    #[test]
    fn only_a_certificate_or_a_file_tells_who_an_edge_is() {
        let is_trusted = |text: &str| Address::parse(text).expect("an address").is_trusted();
        assert!(is_trusted("unix:/run/edge.sock"));
        #[cfg(feature = "tls")]
        assert!(is_trusted("tls://edge.example:443"));
        assert!(!is_trusted("unix:@edge"));
        assert!(!is_trusted("127.0.0.1:7"));
        #[cfg(feature = "websocket")]
        assert!(!is_trusted("ws://edge.example"));
    }

    #[test]
    fn what_is_no_address_is_told_with_what_would_be_one() {
        let wrong = [
            ("", "there is no port"),
            ("edge.example", "there is no port"),
            (":7", "there is no host"),
            ("edge.example:0", "port 0 cannot be connected to"),
            ("edge.example:70000", "there is no port"),
            (
                "tcp://edge.example:7/path",
                "only ws:// and wss:// have a path",
            ),
            ("http://edge.example", "the scheme http is unknown"),
            ("tcp://me@edge.example:7", "only a host and a port"),
            #[cfg(feature = "tls")]
            ("tls://edge.example", "there is no port"),
            #[cfg(not(feature = "tls"))]
            ("tls://edge.example:7", "this build has no TLS"),
        ];
        for (text, why) in wrong {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(FORMS), "{error}");
        }
    }
}
