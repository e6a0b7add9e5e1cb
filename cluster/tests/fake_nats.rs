//! The engine NATS at servers that do not do what they should. (SPEC 43.2(e), 43.7)

use std::io::{BufRead as _, Read as _};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use voltlane_cluster::{Call, CallId, Engine as _, EngineError, Request};

use crate::support::fake::{self, Kind, Time, fill};
use crate::support::nats;

pub(crate) const KIND: Kind = Kind {
    make: nats,
    good: |mut script| with_bucket(move |reply| script(reply)),
    record: |reply, revision| {
        let subject = "$KV.voltlane-game.home.1";
        let record = format!("{{\"subject\":\"{subject}\",\"seq\":{revision},\"data\":\"aGk=\"}}");
        message(reply, &format!("{{\"message\":{record}}}"))
    },
};
const GREETING: &str = "{\"version\":\"2.15.1\",\"headers\":true}";
const BUCKET: &str = "{\"config\":{\"max_msgs_per_subject\":1},\"state\":{}}";

fn message(subject: &str, text: &str) -> String {
    format!("MSG {subject} 1 {}\r\n{text}\r\n", text.len())
}

/// A server that greets. What it says to each request comes from `script`, by the subject, and that of the answer.
fn serve(greeting: &str, mut script: impl FnMut(&str, &str) -> String + Send + 'static) -> u16 {
    fake::serve(format!("INFO {greeting}\r\n"), move |lines| {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        Some(match words[..] {
            ["PING"] => "PONG\r\n".to_owned(),
            ["PUB" | "HPUB", subject, reply, .., length] => {
                let mut content = vec![0; length.parse::<usize>().expect("a length") + 2];
                lines.read_exact(&mut content).expect("the content");
                script(subject, reply)
            }
            _ => String::new(),
        })
    })
}

/// A server that has a bucket. `script` has where it wants all other answers.
fn with_bucket(mut script: impl FnMut(&str) -> String + Send + 'static) -> u16 {
    serve(GREETING, move |subject, reply| {
        match subject.contains("STREAM.INFO") {
            true => message(reply, BUCKET),
            false => script(reply),
        }
    })
}

#[test]
fn a_server_that_lacks_something_is_told_apart() {
    let greet =
        |greeting: &'static str| KIND.first_error(serve(greeting, |_, _| String::new()), None);
    assert_eq!(
        greet("{\"version\":\"2.8.4\",\"headers\":true}"),
        EngineError::TooOld {
            found: "2.8.4".into(),
            needed: "2.9.0"
        }
    );
    let denied = greet("{\"version\":\"2.15.1\",\"headers\":true,\"auth_required\":true}");
    assert!(matches!(denied, EngineError::Denied(_)), "{denied}");
    for (greeting, says) in [
        (
            "{\"version\":\"2.15.1\",\"headers\":true,\"tls_required\":true}",
            "TLS",
        ),
        ("{\"version\":\"2.15.1\"}", "headers"),
        ("{\"version\":\"new\",\"headers\":true}", "version"),
        ("{}", "version"),
        ("hello", "JSON"),
    ] {
        let error = greet(greeting).to_string();
        assert!(error.contains(says), "{greeting}: {error}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error_of_that_call() {
    let nonsense = |error: &EngineError| matches!(error, EngineError::Nonsense(_));
    for text in [
        "hello",
        "[]",
        "{}",
        "{\"message\":{\"subject\":\"$KV.voltlane-game.home.2\",\"seq\":1}}",
        "{\"message\":{\"subject\":\"$KV.voltlane-game.home.1\",\"seq\":0}}",
        "{\"message\":{\"subject\":\"$KV.voltlane-game.home.1\",\"seq\":1,\"data\":\"*\"}}",
    ] {
        let port = with_bucket(move |reply| message(reply, text));
        let error = KIND.first_error(port, None);
        assert!(nonsense(&error), "{text}: {error}");
    }
    let leaderless = "{\"error\":{\"code\":503,\"description\":\"no\\u001b leader\"}}";
    let port = with_bucket(|reply| message(reply, leaderless));
    let error = KIND.first_error(port, None);
    assert_eq!(error, EngineError::Unreachable("no leader".into()));
    let port = with_bucket(|reply| message(reply, "{\"error\":7}"));
    let error = KIND.first_error(port, None);
    assert_eq!(error, EngineError::Failed("no reason".into()));
    // A stream of that name that is no bucket of ours.
    let port = serve(GREETING, |_, reply| message(reply, "{\"config\":{}}"));
    let error = KIND.first_error(port, None).to_string();
    assert!(
        error.contains("KV_voltlane-game is not one of ours"),
        "{error}"
    );
}

/// A list is one call, whatever it reads.
#[test]
fn calls_have_the_same_bound_beside_a_list() {
    let (tell, told) = channel();
    let port = serve(GREETING, move |subject, reply| {
        if subject.contains("MSG.GET") {
            let _ = tell.send(());
            return String::new();
        }
        let subjects = (1..=20).map(|home| format!("\"$KV.voltlane-game.home.{home}\":1"));
        let subjects = subjects.collect::<Vec<_>>().join(",");
        let bucket = "{\"config\":{\"max_msgs_per_subject\":1},\"state\":{\"subjects\":{";
        message(reply, &format!("{bucket}{subjects}}}}}}}"))
    });
    let mut engine = KIND.engine_at(port, None);
    let mut time = Time::new();
    let id = CallId::new(1);
    let call = Call::List;
    engine.call(time.now(), Request { id, call });
    let began = Instant::now();
    while told.try_recv().is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "it reads none");
        assert_eq!(engine.poll(time.now()), None);
        thread::yield_now();
    }
    fill(&mut *engine, &mut time, 2);
}
