//! The guard: the conditions under which a caller is answered.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::request::{Refusal, Request};
use super::token::Token;

/// Wrong tokens that are answered as such in a second, of all callers together. Those beyond are answered 429, and so is the right one.
pub(super) const MAX_WRONG_TOKENS: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// The caller of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A process on this machine, by the id of its user.
    User(u32),
    /// Somebody with the token, at this address.
    Token(IpAddr),
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::User(uid) => write!(f, "uid {uid}"),
            Caller::Token(from) => write!(f, "token from {from}"),
        }
    }
}

/// The conditions of a request. They are checked before it is looked at.
pub(super) struct Guard {
    /// The token of callers over TCP.
    token: Option<Token>,
    is_read_only: bool,
    /// The beginning of a second, and the number of wrong tokens in it.
    wrong: Mutex<(Instant, u32)>,
}

impl Guard {
    pub(super) fn new(token: Option<Token>, is_read_only: bool) -> Guard {
        Guard {
            token,
            is_read_only,
            wrong: Mutex::new((Instant::now(), 0)),
        }
    }

    /// Checks a request of `caller`.
    pub(super) fn check(&self, caller: &Caller, request: &Request) -> Result<(), Refusal> {
        // A page of another site that was rebound to this address has a name of its own.
        let host = request.header("host")?;
        if !host.is_some_and(is_of_this_machine) {
            return Err(Refusal::new(403, "Host must be an address or localhost"));
        }
        if let Caller::Token(_) = caller {
            self.check_token(request, Instant::now())?;
        }
        match &*request.method {
            "GET" => Ok(()),
            "POST" | "DELETE" => self.check_change(request),
            _ => Err(Refusal::new(405, "only GET, POST and DELETE")),
        }
    }

    fn check_token(&self, request: &Request, now: Instant) -> Result<(), Refusal> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(wrong.0) >= SECOND {
            *wrong = (now, 0);
        }
        if wrong.1 >= MAX_WRONG_TOKENS {
            return Err(Refusal::new(429, "too many wrong tokens; try again"));
        }
        let shown = request.header("authorization")?;
        let shown = shown.and_then(bearer);
        let is_right = match (&self.token, shown) {
            (Some(token), Some(shown)) => token.is(shown.trim()),
            _ => false,
        };
        if !is_right {
            wrong.1 += 1;
            return Err(Refusal::new(401, "the token is missing or wrong"));
        }
        Ok(())
    }

    /// A browser sends an Origin with whatever changes something, and no JSON without asking first.
    fn check_change(&self, request: &Request) -> Result<(), Refusal> {
        if request.header("origin")?.is_some() {
            return Err(Refusal::new(403, "no page may change anything"));
        }
        let media = request.header("content-type")?.unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::new(415, "Content-Type must be application/json"));
        }
        if self.is_read_only {
            return Err(Refusal::new(403, "admin.read_only is set"));
        }
        Ok(())
    }
}

/// Returns the token in an Authorization. The name of the scheme has no case (RFC 9110 11.1).
fn bearer(shown: &str) -> Option<&str> {
    let (scheme, token) = shown.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Returns whether a Host names an address, or this machine.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_scheme_has_no_case() {
        for good in ["Bearer x", "bearer x", "BEARER x"] {
            assert_eq!(bearer(good), Some("x"));
        }
        for bad in ["", "Bearer", "Bearerx", "Basic x", " Bearer x", "x"] {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_this_machine() {
        for good in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "10.0.0.1:9",
            "[::1]:9",
            "[::1]",
        ] {
            assert!(is_of_this_machine(good), "{good}");
        }
        for bad in ["", "evil.example", "127.0.0.1.evil.example:1", "[x]", "a:b"] {
            assert!(!is_of_this_machine(bad), "{bad}");
        }
    }
}
