//! What an engine is told to let an edge in.

use std::fmt;

use zeroize::Zeroizing;

/// What an engine is told to be let in.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password.
    User(String, Zeroizing<String>),
    /// A token, or for Redis the password of its default user.
    Token(Zeroizing<String>),
}

impl Credentials {
    /// Reads `user:password`, or a token, which has no colon.
    #[must_use]
    pub fn of(text: &str) -> Credentials {
        match text.split_once(':') {
            Some((user, password)) => {
                Credentials::User(user.to_owned(), Zeroizing::new(password.to_owned()))
            }
            None => Credentials::Token(Zeroizing::new(text.to_owned())),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}
