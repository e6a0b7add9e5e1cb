//! What an engine and a server of Redis say first, and the errors of servers.

use zeroize::Zeroizing;

use super::wire::{Said, command};
use crate::engine::EngineError;
use crate::server::{Credentials, check_version, nonsense, plain};

/// The oldest server that will do: it knows users. (SPEC 43.8(b))
pub const OLDEST: &str = "6.0.0";
/// What Redis 6 puts before the error of a command in a script.
const IN_SCRIPT: &str = "ERR Error running script";
/// The codes of errors that are told when credentials were sent.
const CODES: [&str; 7] = [
    "ERR",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "DENIED",
    "LOADING",
    "MASTERDOWN",
];

/// Appends the questions of an opening.
pub(super) fn ask(out: &mut Zeroizing<Vec<u8>>, credentials: Option<&Credentials>) {
    match credentials {
        None => {}
        Some(Credentials::User(user, password)) => {
            command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        Some(Credentials::Token(password)) => command(out, &[b"AUTH", password.as_bytes()]),
    }
    command(out, &[b"INFO", b"server"]);
    command(out, &[b"INFO", b"replication"]);
}

/// Returns the value of a field in what a server says of itself.
fn field<'a>(said: &'a Said, name: &str) -> Option<&'a str> {
    let Said::Text(text) = said else {
        return None;
    };
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Checks that a server can do what is needed, by its INFO.
pub(super) fn check_server(said: &Said) -> Result<(), EngineError> {
    let version = field(said, "redis_version").unwrap_or_default();
    check_version(version, OLDEST, "its INFO")
}

/// Returns whether a server takes writes, by its INFO: a replica may be behind.
pub(super) fn is_primary(said: &Said) -> Result<bool, EngineError> {
    match field(said, "role") {
        Some("master") => Ok(true),
        Some("slave") => Ok(false),
        _ => Err(nonsense("its INFO does not say whether it is a replica")),
    }
}

/// Returns what an error in answer to credentials means. A server that does not know AUTH, or a program that is no Redis, may repeat the
/// words of the command, so only the code of the error is told.
pub(super) fn login_error_of(text: &str) -> EngineError {
    let shown = match text.split(' ').next() {
        Some(code) if CODES.contains(&code) => format!("its answer to the credentials is {code}"),
        _ => "its answer to the credentials is an error".to_owned(),
    };
    match error_of(text).0 {
        EngineError::Denied(_) => EngineError::Denied(shown),
        EngineError::Unreachable(_) => EngineError::Unreachable(shown),
        _ => EngineError::Failed(shown),
    }
}

/// Returns what an error of a server means, and whether another server may do better.
pub(super) fn error_of(text: &str) -> (EngineError, bool) {
    // Before Redis 7, the error of a command in a script has another one around it.
    let is_read_only = text.starts_with(IN_SCRIPT) && text.contains("READONLY");
    // What a command had is not repeated.
    let text = text.split(", with args").next().unwrap_or_default();
    let text = plain(text);
    let word = text.split(' ').next().unwrap_or_default();
    let lower = text.to_ascii_lowercase();
    match word {
        _ if is_read_only => (EngineError::Unreachable(text), true),
        "NOAUTH" => {
            let what = "it demands credentials, and there are none";
            (EngineError::Denied(what.to_owned()), true)
        }
        "WRONGPASS" | "NOPERM" | "DENIED" => (EngineError::Denied(text), true),
        "ERR" if lower.contains("auth") || lower.contains("password") => {
            (EngineError::Denied(text), true)
        }
        "LOADING" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" => {
            (EngineError::Unreachable(text), true)
        }
        "ERR" if lower.contains("max number of clients") => (EngineError::Unreachable(text), true),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            let what = "it is a part of a Redis Cluster that does not have the records: name the one that has them, or a server of its own";
            (EngineError::Failed(what.to_owned()), true)
        }
        _ => (EngineError::Failed(text), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_will_do_is_told_from_one_that_will_not() {
        let info = |version: &str| {
            let text = format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n");
            check_server(&Said::Text(text.into_bytes()))
        };
        for good in ["6.0.0", "6.0.16", "7.0.15", "7.2.4-rc1", "255.255.255"] {
            assert_eq!(info(good), Ok(()), "{good}");
        }
        for old in ["5.0.14", "2.8.0", "0.0.0"] {
            let error = info(old).expect_err(old);
            assert!(matches!(error, EngineError::TooOld { .. }), "{error}");
            assert!(error.to_string().contains(OLDEST), "{error}");
        }
        for nonsense in ["", "six", "6", "6.0", "6.0.x", "-1.0.0"] {
            let error = info(nonsense).expect_err(nonsense);
            assert!(matches!(error, EngineError::Nonsense(_)), "{error}");
        }
        for said in [Said::Nothing, Said::Number(1), Said::Text(vec![0xff])] {
            assert!(check_server(&said).is_err());
            assert!(is_primary(&said).is_err());
        }
    }

    #[test]
    fn no_error_tells_what_was_sent() {
        let unknown =
            "ERR unknown command `AUTH`, with args beginning with: `edge`, `secret`, ".to_owned();
        let error = login_error_of(&unknown);
        assert!(matches!(error, EngineError::Denied(_)), "{error}");
        let stranger = login_error_of("secret is no word that I know");
        assert!(matches!(stranger, EngineError::Failed(_)), "{stranger}");
        let says = "ERR: no AUTH edge secret".to_owned();
        let later = error_of(&unknown).0;
        for error in [error, stranger, login_error_of(&says), later] {
            let text = error.to_string();
            assert!(!text.contains("secret") && !text.contains("edge"), "{text}");
        }
        let loading = login_error_of("LOADING Redis is loading the dataset in memory");
        assert!(matches!(loading, EngineError::Unreachable(_)), "{loading}");
        let wrong = login_error_of("WRONGPASS invalid username-password pair");
        assert!(wrong.to_string().contains("WRONGPASS"), "{wrong}");
    }

    #[test]
    fn errors_are_told_apart_and_none_steers_a_terminal() {
        let of = |text: &str| error_of(text).0;
        for denied in [
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'eval' command",
            "ERR AUTH <password> called without any password configured",
            "ERR invalid password",
            "DENIED Redis is running in protected mode",
        ] {
            assert!(matches!(of(denied), EngineError::Denied(_)), "{denied}");
        }
        for gone in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "ERR Error running script (call to f_0123456789012345678901234567890123456789): @user_script:44: @user_script: 44: -READONLY You can't write against a read only replica. ",
            "MASTERDOWN Link with MASTER is down",
            "ERR max number of clients reached",
        ] {
            let (error, goes_on) = error_of(gone);
            assert!(matches!(error, EngineError::Unreachable(_)), "{gone}");
            assert!(goes_on);
        }
        assert!(
            of("MOVED 3999 127.0.0.1:6381")
                .to_string()
                .contains("Redis Cluster")
        );
        let oom = of("OOM command not allowed\u{1b}[2J when used memory > 'maxmemory'.");
        let text = "OOM command not allowed[2J when used memory > 'maxmemory'.";
        assert_eq!(oom, EngineError::Failed(text.into()));
        assert!(of(&"x".repeat(9_999)).to_string().len() < 300);
    }
}
