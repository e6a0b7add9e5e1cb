//! The token that a caller over TCP shows.

use std::io;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret_file;

/// A secret that both ends know. It is never shown.
#[derive(Clone)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Returns whether this is the token, in a time that does not depend on where they differ.
    pub(crate) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// Returns it, to be shown to the other end.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Creates a token of 256 random bits.
pub(crate) fn make() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).expect("the system has randomness");
    Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice()))
}

/// Reads the token in a file, without white space around it.
///
/// # Errors
/// When the file cannot be read, others than its owner and its group may read it, or its content is no token. No error quotes the content.
pub(crate) fn read(path: &Path) -> io::Result<Token> {
    secret_file::read(path, "a token", "voltlane admin-token").map(Token)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret_file::MIN_BYTES as MIN_TOKEN_BYTES;

    fn read_one(name: &str, text: &str, mode: u32) -> Result<Token, String> {
        let name = format!("voltlane-token-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a file");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).expect("it is ours");
        let token = read(&path).map_err(|error| error.to_string());
        fs::remove_file(&path).expect("it is there");
        token
    }

    #[test]
    fn a_token_is_long_enough_and_hidden_from_others() {
        let good = "x".repeat(MIN_TOKEN_BYTES);
        let token = read_one("good", &format!(" {good}\n"), 0o640).expect("good");
        assert!(token.is(&good));
        assert!(!token.is(&good[1..]) && !token.is("") && !token.is(&format!("{good}x")));
        for (name, text, mode, says) in [
            ("short", &good[1..], 0o600, "32 to 512"),
            ("empty", "", 0o600, "32 to 512"),
            ("two", &format!("{good} {good}"), 0o600, "32 to 512"),
            ("open", &*good, 0o644, "mode 0644"),
        ] {
            let error = read_one(name, text, mode).map(|_| ()).expect_err(name);
            assert!(error.contains(says), "{error}");
            assert!(!error.contains(&good[1..]), "{error}");
        }
    }

    #[test]
    fn made_tokens_differ_and_are_good() {
        let (one, other) = (make(), make());
        assert_ne!(*one, *other);
        assert!(one.len() >= MIN_TOKEN_BYTES);
        read_one("made", &one, 0o600).expect("good");
    }
}
