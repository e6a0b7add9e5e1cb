//! The engine Redis at servers that do not do what they should. (SPEC 43.2(e), 43.8)

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

use voltlane_cluster::{Call, EngineError};

use crate::support::fake::{self, Kind};
use crate::support::redis;

pub(crate) const KIND: Kind = Kind {
    make: redis,
    good: |mut script| good(move |token| script(token)),
    record: |token, revision| record(token, &revision.to_string(), "hi"),
};
const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\n";
const PRIMARY: &str = "# Replication\r\nrole:master\r\n";

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What a script answers to a read with this token.
fn record(token: &str, revision: &str, value: &str) -> String {
    format!("*3\r\n{}{}{}", bulk(token), bulk(revision), bulk(value))
}

/// A server: `script` has the words of each command, and returns what is sent.
fn serve(mut script: impl FnMut(&[String]) -> String + Send + 'static) -> u16 {
    fake::serve(String::new(), move |lines| {
        command(lines).map(|words| script(&words))
    })
}

fn command(lines: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let number = |lines: &mut BufReader<TcpStream>, kind: char| {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(kind)?.parse::<usize>().ok()
    };
    let words = number(lines, '*')?;
    let mut all = Vec::new();
    for _ in 0..words {
        let length = number(lines, '$')?;
        let mut word = vec![0; length + 2];
        lines.read_exact(&mut word).ok()?;
        word.truncate(length);
        all.push(String::from_utf8(word).expect("text"));
    }
    Some(all)
}

/// A server that will do, and answers calls like this, by their token.
fn good(mut answer: impl FnMut(&str) -> String + Send + 'static) -> u16 {
    serve(move |words| match (&words[0][..], words[1].as_str()) {
        ("AUTH", _) => "+OK\r\n".to_owned(),
        ("INFO", "server") => bulk(SERVER),
        ("INFO", _) => bulk(PRIMARY),
        _ => answer(&words[6]),
    })
}

#[test]
fn a_server_that_lacks_something_is_told_apart() {
    let info = |server: &'static str, role: &'static str| {
        let port = serve(move |words| match words[1].as_str() {
            "server" => bulk(server),
            _ => bulk(role),
        });
        KIND.first_error(port, None)
    };
    assert_eq!(
        info("redis_version:5.0.14\r\n", PRIMARY),
        EngineError::TooOld {
            found: "5.0.14".into(),
            needed: "6.0.0"
        }
    );
    for (server, role, says) in [
        ("redis_mode:standalone\r\n", PRIMARY, "version"),
        ("redis_version:new\r\n", PRIMARY, "version"),
        ("", PRIMARY, "version"),
        (SERVER, "role:slave\r\n", "it is a replica"),
        (SERVER, "role:sentinel\r\n", "whether it is a replica"),
        (SERVER, "", "whether it is a replica"),
    ] {
        let error = info(server, role).to_string();
        assert!(error.contains(says), "{server}{role}: {error}");
    }
    let says = |text: &'static str, credentials| {
        let port = serve(move |_| text.to_owned());
        KIND.first_error(port, credentials)
    };
    let denied = says("-NOAUTH Authentication required.\r\n", None);
    assert!(matches!(denied, EngineError::Denied(_)), "{denied}");
    let denied = says("-WRONGPASS invalid username-password pair\r\n", Some("a:b"));
    assert!(matches!(denied, EngineError::Denied(_)), "{denied}");
    let unknown = "-ERR unknown command `AUTH`, with args beginning with: `edge`, `secret`, \r\n";
    let denied = says(unknown, Some("edge:secret"));
    assert!(matches!(denied, EngineError::Denied(_)), "{denied}");
    assert!(!denied.to_string().contains("secret"), "{denied}");
    let odd = says(":1\r\n", Some("a:b"));
    assert!(matches!(odd, EngineError::Nonsense(_)), "{odd}");
    let nats = says("INFO {}\r\n", None);
    assert!(nats.to_string().contains("protocol of Redis"), "{nats}");
    let loading = says("-LOADING Redis is loading\r\n", None);
    assert!(matches!(loading, EngineError::Unreachable(_)), "{loading}");
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    let of_read = |answer: fn(&str) -> String| KIND.first_error(good(answer), None);
    let nonsense: [fn(&str) -> String; 9] = [
        |_| "hello\r\n".to_owned(),
        |_| "+OK\r\n".to_owned(),
        |_| "*0\r\n".to_owned(),
        |_| "*1\r\n:1\r\n".to_owned(),
        |token| format!("*1\r\n{}", bulk(token)),
        |token| record(token, "0", "x"),
        |token| record(token, "+1", "x"),
        |token| format!("*3\r\n{}$-1\r\n{}", bulk(token), bulk("x")),
        |token| format!("*4\r\n{}{}{}:1\r\n", bulk(token), bulk("1"), bulk("x")),
    ];
    for answer in nonsense {
        let error = of_read(answer);
        let is_nonsense = matches!(error, EngineError::Nonsense(_));
        assert!(is_nonsense, "{}: {error}", answer("token"));
    }
    let failed = of_read(|_| "-ERR no\u{1b} memory\r\n".to_owned());
    assert_eq!(failed, EngineError::Failed("ERR no memory".into()));
    let moved = of_read(|_| "-MOVED 1 127.0.0.1:1\r\n".to_owned());
    assert!(moved.to_string().contains("Redis Cluster"), "{moved}");
    let read_only = of_read(|_| "-READONLY You can't write\r\n".to_owned());
    let is_gone = matches!(read_only, EngineError::Unreachable(_));
    assert!(is_gone, "{read_only}");
    // So Redis 6 says it.
    let read_only = of_read(|_| {
        "-ERR Error running script (call to f_1): @user_script:44: @user_script: 44: -READONLY You can't write\r\n".to_owned()
    });
    let is_gone = matches!(read_only, EngineError::Unreachable(_));
    assert!(is_gone, "{read_only}");
    // The answer to a write, and to a list.
    for (call, answer) in [
        (
            Call::Write {
                home: 1,
                expected: 0,
                value: b"x".to_vec(),
            },
            ":-1\r\n".to_owned(),
        ),
        (Call::List, bulk("4096")),
        (Call::List, bulk("1")),
    ] {
        let port = good(move |token| {
            let record = format!("{}{}", bulk("1"), bulk("x"));
            match answer.as_str() {
                "$4\r\n4096\r\n" => format!("*4\r\n{}{answer}{record}", bulk(token)),
                _ => format!("*2\r\n{}{answer}", bulk(token)),
            }
        });
        let error = KIND.error_of(port, None, call);
        assert!(matches!(error, EngineError::Nonsense(_)), "{error}");
    }
}
