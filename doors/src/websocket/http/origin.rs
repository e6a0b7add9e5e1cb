//! The pages that may connect (SPEC 16.2(e)).

use std::str::FromStr;

/// The origins that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// That of the host that the request asks for.
    #[default]
    SameHost,
    /// These, and any at all if one of them is [`Origin::Any`].
    Listed(Vec<Origin>),
}

/// An origin that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Any, `*`.
    Any,
    /// `https://example.com` or `https://example.com:8443`.
    Exact(String),
    /// `https://*.example.com`: any one label in place of the star.
    AnyLabel {
        /// The scheme with its colon and slashes.
        scheme: String,
        /// Everything behind the star, which begins with a dot.
        suffix: String,
    },
}

/// A text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: expected \"https://example.com\", \"https://*.example.com\" or \"*\""
)]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        if text == "*" {
            return Ok(Origin::Any);
        }
        let wrong = || OriginError(text.to_owned());
        let normal = normal(text.as_bytes()).ok_or_else(wrong)?;
        let (scheme, host) = normal.split_once("://").ok_or_else(wrong)?;
        if let Some(suffix) = host.strip_prefix('*') {
            if !suffix.starts_with('.') || suffix.contains('*') || suffix.len() < 2 {
                return Err(wrong());
            }
            return Ok(Origin::AnyLabel {
                scheme: format!("{scheme}://"),
                suffix: suffix.to_owned(),
            });
        }
        if host.contains('*') {
            return Err(wrong());
        }
        Ok(Origin::Exact(normal))
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Any => f.write_str("*"),
            Origin::Exact(origin) => f.write_str(origin),
            Origin::AnyLabel { scheme, suffix } => write!(f, "{scheme}*{suffix}"),
        }
    }
}

impl Origins {
    /// Returns whether a page of this origin may connect to `host`. Both are as in their headers.
    #[must_use]
    pub fn allow(&self, origin: &[u8], host: &[u8]) -> bool {
        match self {
            Origins::SameHost => {
                let Some(origin) = normal(origin) else {
                    return false;
                };
                let Some((scheme, authority)) = origin.split_once("://") else {
                    return false;
                };
                let host = String::from_utf8_lossy(host).to_ascii_lowercase();
                without_default_port(scheme, &host) == authority
            }
            Origins::Listed(listed) => listed.iter().any(|allowed| allowed.is(origin)),
        }
    }
}

impl Origin {
    fn is(&self, origin: &[u8]) -> bool {
        match self {
            Origin::Any => true,
            Origin::Exact(exact) => normal(origin).as_ref() == Some(exact),
            Origin::AnyLabel { scheme, suffix } => {
                let Some(origin) = normal(origin) else {
                    return false;
                };
                let rest = origin.strip_prefix(scheme.as_str());
                let label = rest.and_then(|rest| rest.strip_suffix(suffix.as_str()));
                label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

/// Returns an origin in lower case, without the default port of its scheme. `None` if it has no scheme and host, or more than these.
fn normal(origin: &[u8]) -> Option<String> {
    let origin = std::str::from_utf8(origin).ok()?.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]*".contains(&byte);
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || authority.is_empty() {
        return None;
    }
    if !scheme.bytes().all(is_of_scheme) || !authority.bytes().all(is_of_host) {
        return None;
    }
    let authority = without_default_port(scheme, authority);
    Some(format!("{scheme}://{authority}"))
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}
