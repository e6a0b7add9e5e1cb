//! The engine NATS at servers that do not do what they should. (SPEC 43.2(e), 43.7)

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voltlane_cluster::engine::{CALL_TIMEOUT, MAX_CALLS};
use voltlane_cluster::{
    Answer, Call, CallId, Credentials, Engine, EngineConfig, EngineError, NatsEngine, Reply,
    Request,
};

const GREETING: &str = "{\"version\":\"2.15.1\",\"headers\":true}";
const BUCKET: &str = "{\"config\":{\"max_msgs_per_subject\":1},\"state\":{}}";

/// The time of the tests. What is due later is asked for as if that time had come.
struct Time(Instant, Duration);

impl Time {
    fn new() -> Time {
        Time(Instant::now(), Duration::ZERO)
    }

    fn now(&self) -> Duration {
        self.0.elapsed() + self.1
    }

    /// Returns the next answer. If `skips`, the time goes on at once to when the engine is due.
    fn answer(&mut self, engine: &mut NatsEngine, skips: bool) -> (CallId, Answer) {
        let began = Instant::now();
        loop {
            if let Some(answer) = engine.poll(self.now()) {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer");
            let due = engine.poll_timeout().expect("it waits for something");
            match engine.socket() {
                Some((socket, _)) if !skips => {
                    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
                    let second = Timespec {
                        tv_sec: 1,
                        tv_nsec: 0,
                    };
                    poll(&mut fds, Some(&second)).expect("a socket");
                }
                _ => self.1 += due.saturating_sub(self.now()),
            }
        }
    }
}

fn engine_at(port: u16, credentials: Option<Credentials>) -> NatsEngine {
    NatsEngine::new(EngineConfig {
        servers: vec![("127.0.0.1".into(), port)],
        cluster: "game".parse().expect("a name"),
        credentials,
        seed: 1,
    })
}

fn read(engine: &mut NatsEngine, now: Duration, number: u64) -> CallId {
    let id = CallId::new(number);
    let call = Call::Read { home: 1 };
    engine.call(now, Request { id, call });
    id
}

/// A server that greets, and answers each request: `script` has its subject, and returns what is sent to where it wants its answer.
fn serve(
    greeting: &str,
    script: impl Fn(&str) -> Vec<String> + Send + 'static,
) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let greeting = format!("INFO {greeting}\r\n");
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let _ = socket.write_all(greeting.as_bytes());
        let mut lines = BufReader::new(socket.try_clone().expect("a socket"));
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap_or(0) > 0 {
            answer(&mut socket, &mut lines, &line, &script);
            line.clear();
        }
    });
    (port, thread)
}

fn answer(
    socket: &mut TcpStream,
    lines: &mut BufReader<TcpStream>,
    line: &str,
    script: &impl Fn(&str) -> Vec<String>,
) {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        ["PING"] => {
            let _ = socket.write_all(b"PONG\r\n");
        }
        ["PUB" | "HPUB", subject, reply, .., length] => {
            let mut content = vec![0; length.parse::<usize>().expect("a length") + 2];
            lines.read_exact(&mut content).expect("the content");
            for text in script(subject) {
                let said = format!("MSG {reply} 1 {}\r\n{text}\r\n", text.len());
                let _ = socket.write_all(said.as_bytes());
            }
        }
        _ => {}
    }
}

/// A server that has a bucket, and answers all else like this.
fn with_bucket(text: &'static str, times: usize) -> (u16, JoinHandle<()>) {
    serve(GREETING, move |subject| {
        match subject.contains("STREAM.INFO") {
            true => vec![BUCKET.to_owned()],
            false => vec![text.to_owned(); times],
        }
    })
}

fn first_error(port: u16, credentials: Option<Credentials>) -> EngineError {
    let mut engine = engine_at(port, credentials);
    let mut time = Time::new();
    let id = read(&mut engine, time.now(), 1);
    let (answered, answer) = time.answer(&mut engine, false);
    assert_eq!(answered, id);
    answer.expect_err("an error")
}

#[test]
fn a_server_that_lacks_something_is_told_apart() {
    let greet = |greeting: &'static str| {
        let (port, _) = serve(greeting, |_| Vec::new());
        first_error(port, None)
    };
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
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let error = first_error(port, None);
    assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
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
        let (port, _) = with_bucket(text, 1);
        let error = first_error(port, None);
        assert!(nonsense(&error), "{text}: {error}");
    }
    let (port, _) = with_bucket(
        "{\"error\":{\"code\":503,\"description\":\"no\\u001b leader\"}}",
        1,
    );
    let error = first_error(port, None);
    assert_eq!(error, EngineError::Unreachable("no leader".into()));
    let (port, _) = with_bucket("{\"error\":7}", 1);
    let error = first_error(port, None);
    assert_eq!(error, EngineError::Failed("no reason".into()));
    // A stream of that name that is no bucket of ours.
    let (port, _) = serve(GREETING, |_| vec!["{\"config\":{}}".to_owned()]);
    let error = first_error(port, None).to_string();
    assert!(
        error.contains("KV_voltlane-game is not one of ours"),
        "{error}"
    );
}

#[test]
fn an_answer_that_comes_twice_is_dropped() {
    let text =
        "{\"message\":{\"subject\":\"$KV.voltlane-game.home.1\",\"seq\":9,\"data\":\"aGk=\"}}";
    let (port, _) = with_bucket(text, 2);
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    for number in 1..=3 {
        let id = read(&mut engine, time.now(), number);
        let (answered, answer) = time.answer(&mut engine, false);
        assert_eq!(answered, id);
        let Ok(Reply::Read(Some(entry))) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((entry.revision, &entry.value[..]), (9, &b"hi"[..]));
    }
    assert!(engine.strays() >= 2, "{}", engine.strays());
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    // Not even a greeting: only the system has accepted.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    read(&mut engine, time.now(), 1);
    let (_, answer) = time.answer(&mut engine, true);
    assert_eq!(answer, Err(EngineError::Late));
    // No answer to a call.
    let (port, _) = serve(GREETING, |subject| match subject.contains("STREAM.INFO") {
        true => vec![BUCKET.to_owned()],
        false => Vec::new(),
    });
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    let ready = read(&mut engine, time.now(), 1);
    // It is opened in real time, and its time is over then.
    let opening = engine.poll_timeout();
    while engine.poll_timeout() == opening
        || engine
            .poll_timeout()
            .is_none_or(|due| due > time.now() + CALL_TIMEOUT)
    {
        assert_eq!(engine.poll(time.now()), None);
        thread::yield_now();
    }
    assert_eq!(
        time.answer(&mut engine, true),
        (ready, Err(EngineError::Late))
    );
}

/// What is due is looked at before all is read that a server has.
#[test]
fn a_server_that_never_stops_to_speak_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (tell, told) = channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let greeting = format!("INFO {GREETING}\r\n");
        socket.write_all(greeting.as_bytes()).expect("it reads");
        let mut lines = BufReader::new(socket.try_clone().expect("a socket"));
        let mut line = String::new();
        while line != "PING\r\n" {
            line.clear();
            lines.read_line(&mut line).expect("it writes");
        }
        let _ = socket.write_all(b"PONG\r\n");
        let some = "+OK\r\n".repeat(1 << 14);
        for _ in 0..256 {
            let _ = socket.write_all(some.as_bytes());
            let _ = tell.send(());
        }
        // It is not reached.
        let _ = socket.write_all(b"nonsense\r\n");
    });
    let mut engine = engine_at(port, None);
    let time = Time::new();
    let id = read(&mut engine, time.now(), 1);
    while told.try_recv().is_err() {
        assert_eq!(engine.poll(time.now()), None);
        thread::yield_now();
    }
    let late = engine.poll(time.now() + 2 * CALL_TIMEOUT);
    assert_eq!(late, Some((id, Err(EngineError::Late))));
}

#[test]
fn calls_at_once_have_a_bound() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    for number in 1..=MAX_CALLS as u64 + 1 {
        read(&mut engine, time.now(), number);
    }
    let (id, answer) = time.answer(&mut engine, false);
    assert_eq!(id, CallId::new(MAX_CALLS as u64 + 1));
    assert!(matches!(answer, Err(EngineError::Failed(_))), "{answer:?}");
    for _ in 0..MAX_CALLS {
        let (_, answer) = time.answer(&mut engine, true);
        assert_eq!(answer, Err(EngineError::Late));
    }
}

/// A list is one call, whatever it reads.
#[test]
fn calls_have_the_same_bound_beside_a_list() {
    let (tell, told) = channel();
    let (port, _thread) = serve(GREETING, move |subject| {
        if subject.contains("MSG.GET") {
            let _ = tell.send(());
            return Vec::new();
        }
        let subjects = (1..=20).map(|home| format!("\"$KV.voltlane-game.home.{home}\":1"));
        let subjects = subjects.collect::<Vec<_>>().join(",");
        let bucket = "{\"config\":{\"max_msgs_per_subject\":1},\"state\":{\"subjects\":{";
        vec![format!("{bucket}{subjects}}}}}}}")]
    });
    let mut engine = engine_at(port, None);
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
    for number in 2..=MAX_CALLS as u64 + 1 {
        read(&mut engine, time.now(), number);
    }
    let (id, answer) = time.answer(&mut engine, false);
    assert_eq!(id, CallId::new(MAX_CALLS as u64 + 1), "beyond the bound");
    assert!(matches!(answer, Err(EngineError::Failed(_))), "{answer:?}");
    for _ in 0..MAX_CALLS {
        let (_, answer) = time.answer(&mut engine, true);
        assert_eq!(answer, Err(EngineError::Late), "at the bound");
    }
}
