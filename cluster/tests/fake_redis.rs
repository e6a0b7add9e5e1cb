//! The engine Redis at servers that do not do what they should. (SPEC 43.2(e), 43.8)

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voltlane_cluster::engine::{CALL_TIMEOUT, MAX_CALLS};
use voltlane_cluster::{
    Answer, Call, CallId, Credentials, Engine, EngineConfig, EngineError, RedisEngine, Reply,
    Request,
};

const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\n";
const PRIMARY: &str = "# Replication\r\nrole:master\r\n";

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
    fn answer(&mut self, engine: &mut RedisEngine, skips: bool) -> (CallId, Answer) {
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

fn engine_at(port: u16, credentials: Option<&str>) -> RedisEngine {
    RedisEngine::new(EngineConfig {
        servers: vec![("127.0.0.1".into(), port)],
        cluster: "game".parse().expect("a name"),
        credentials: credentials.map(Credentials::of),
        seed: 1,
    })
}

fn read(engine: &mut RedisEngine, now: Duration, number: u64) -> CallId {
    let id = CallId::new(number);
    let call = Call::Read { home: 1 };
    engine.call(now, Request { id, call });
    id
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What a script answers to a read with this token.
fn record(token: &str, revision: &str, value: &str) -> String {
    format!("*3\r\n{}{}{}", bulk(token), bulk(revision), bulk(value))
}

/// A server: `script` has the words of each command, and returns what is sent.
fn serve(script: impl Fn(&[String]) -> String + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(socket.try_clone().expect("a socket"));
        while let Some(words) = command(&mut lines) {
            let _ = socket.write_all(script(&words).as_bytes());
        }
    });
    (port, thread)
}

fn command(lines: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut number = |kind: char| {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(kind)?.parse::<usize>().ok()
    };
    let words = number('*')?;
    let mut all = Vec::new();
    for _ in 0..words {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        lines.read_exact(&mut word).ok()?;
        word.truncate(length);
        all.push(String::from_utf8(word).expect("text"));
    }
    Some(all)
}

/// A server that will do, and answers calls like this, by their token.
fn good(answer: impl Fn(&str) -> String + Send + 'static) -> (u16, JoinHandle<()>) {
    serve(move |words| match (&words[0][..], words[1].as_str()) {
        ("AUTH", _) => "+OK\r\n".to_owned(),
        ("INFO", "server") => bulk(SERVER),
        ("INFO", _) => bulk(PRIMARY),
        _ => answer(&words[6]),
    })
}

fn first_error(port: u16, credentials: Option<&str>) -> EngineError {
    let mut engine = engine_at(port, credentials);
    let mut time = Time::new();
    let id = read(&mut engine, time.now(), 1);
    let (answered, answer) = time.answer(&mut engine, false);
    assert_eq!(answered, id);
    answer.expect_err("an error")
}

#[test]
fn a_server_that_lacks_something_is_told_apart() {
    let info = |server: &'static str, role: &'static str| {
        let (port, _) = serve(move |words| match words[1].as_str() {
            "server" => bulk(server),
            _ => bulk(role),
        });
        first_error(port, None)
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
        let (port, _) = serve(move |_| text.to_owned());
        first_error(port, credentials)
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
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let error = first_error(port, None);
    assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
    let place = format!("127.0.0.1:{port}");
    assert!(error.to_string().contains(&place), "{error}");
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    let of_read = |answer: fn(&str) -> String| {
        let (port, _) = good(answer);
        first_error(port, None)
    };
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
        let (port, _) = good(move |token| {
            let record = format!("{}{}", bulk("1"), bulk("x"));
            match answer.as_str() {
                "$4\r\n4096\r\n" => format!("*4\r\n{}{answer}{record}", bulk(token)),
                _ => format!("*2\r\n{}{answer}", bulk(token)),
            }
        });
        let mut engine = engine_at(port, None);
        let mut time = Time::new();
        let id = CallId::new(1);
        engine.call(time.now(), Request { id, call });
        let (_, answer) = time.answer(&mut engine, false);
        assert!(
            matches!(answer, Err(EngineError::Nonsense(_))),
            "{answer:?}"
        );
    }
}

#[test]
fn an_answer_that_comes_twice_is_of_no_other_call() {
    let (port, _) = good(|token| record(token, token.rsplit('.').next().unwrap(), "hi").repeat(2));
    let mut engine = engine_at(port, Some("secret"));
    let mut time = Time::new();
    for number in 1..=3 {
        let id = read(&mut engine, time.now(), number);
        let (answered, answer) = time.answer(&mut engine, false);
        assert_eq!(answered, id);
        let Ok(Reply::Read(Some(entry))) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((entry.revision, &entry.value[..]), (number, &b"hi"[..]));
    }
    assert!(engine.strays() >= 2, "{}", engine.strays());
}

#[test]
fn answers_in_another_order_are_of_their_calls() {
    use std::sync::Mutex;
    let held: Mutex<Option<String>> = Mutex::default();
    let (port, _) = good(move |token| {
        let of = |token: &str| record(token, token.rsplit('.').next().unwrap(), "hi");
        let before = held.lock().unwrap().take();
        match before {
            Some(first) => format!("{}{}", of(token), of(&first)),
            None => {
                // It waits for the next one.
                *held.lock().unwrap() = Some(token.to_owned());
                String::new()
            }
        }
    });
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    for number in [1, 2] {
        read(&mut engine, time.now(), number);
    }
    for expected in [2, 1] {
        let (id, answer) = time.answer(&mut engine, false);
        assert_eq!(id, CallId::new(expected));
        let Ok(Reply::Read(Some(entry))) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(entry.revision, expected);
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    // Only the system has accepted.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let mut engine = engine_at(port, None);
    let mut time = Time::new();
    read(&mut engine, time.now(), 1);
    let (_, answer) = time.answer(&mut engine, true);
    assert_eq!(answer, Err(EngineError::Late));
    // No answer to a call.
    let (port, _) = good(|_| String::new());
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
    // It ends with nonsense, which is not reached.
    let (port, _) = good(|_| "*1\r\n$1\r\nx\r\n".repeat(1 << 20) + "nonsense\r\n");
    let mut engine = engine_at(port, None);
    let time = Time::new();
    let id = read(&mut engine, time.now(), 1);
    while engine.strays() == 0 {
        assert_eq!(engine.poll(time.now()), None);
        thread::yield_now();
    }
    let late = engine.poll(time.now() + CALL_TIMEOUT);
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
