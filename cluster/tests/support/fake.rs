//! Servers that do what a test says.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voltlane_cluster::engine::MAX_CALLS;
use voltlane_cluster::{Answer, Call, CallId, Credentials, EngineError, Request};

use super::{Make, Remote, config};

/// The time of the tests. What is due later is asked for as if that time had come.
pub(crate) struct Time(Instant, Duration);

impl Time {
    pub(crate) fn new() -> Time {
        Time(Instant::now(), Duration::ZERO)
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed() + self.1
    }

    /// Returns the next answer. If `skips`, the time goes on at once to when the engine is due.
    pub(crate) fn answer(&mut self, engine: &mut dyn Remote, skips: bool) -> (CallId, Answer) {
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

/// An engine and its servers.
pub(crate) struct Kind {
    pub(crate) make: Make,
    /// Starts a server that will do. What is said to each read or write has its token as an argument.
    pub(crate) good: fn(Script) -> u16,
    /// The answer to a read with this token: a revision, and the value `hi`.
    pub(crate) record: fn(&str, u64) -> String,
}

pub(crate) type Script = Box<dyn FnMut(&str) -> String + Send>;

impl Kind {
    pub(crate) fn engine_at(&self, port: u16, credentials: Option<&str>) -> Box<dyn Remote> {
        let credentials = credentials.map(Credentials::of);
        (self.make)(config(&[port], credentials, 1))
    }

    /// Returns why a call at a server fails.
    pub(crate) fn error_of(&self, port: u16, credentials: Option<&str>, call: Call) -> EngineError {
        let mut engine = self.engine_at(port, credentials);
        let mut time = Time::new();
        let id = CallId::new(1);
        engine.call(time.now(), Request { id, call });
        let (answered, answer) = time.answer(&mut *engine, false);
        assert_eq!(answered, id);
        answer.expect_err("an error")
    }

    /// Returns why a read at a server fails.
    pub(crate) fn first_error(&self, port: u16, credentials: Option<&str>) -> EngineError {
        self.error_of(port, credentials, Call::Read { home: 1 })
    }
}

pub(crate) fn read(engine: &mut dyn Remote, now: Duration, number: u64) -> CallId {
    let id = CallId::new(number);
    let call = Call::Read { home: 1 };
    engine.call(now, Request { id, call });
    id
}

/// Makes calls from this number up to the bound and one beyond it. That one is refused, and all others are late.
pub(crate) fn fill(engine: &mut dyn Remote, time: &mut Time, from: u64) {
    let beyond = MAX_CALLS as u64 + 1;
    for number in from..=beyond {
        read(engine, time.now(), number);
    }
    let (id, answer) = time.answer(engine, false);
    assert_eq!(id, CallId::new(beyond), "beyond the bound");
    assert!(matches!(answer, Err(EngineError::Failed(_))), "{answer:?}");
    for _ in 0..MAX_CALLS {
        let (_, answer) = time.answer(engine, true);
        assert_eq!(answer, Err(EngineError::Late), "at the bound");
    }
}

/// Listens, and takes nobody: only the system has accepted.
pub(crate) fn silent() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (port, listener)
}

/// A server for one client: it greets, and `answer` reads what it is told and returns what is said to it, until there is no more.
pub(crate) fn serve(
    greeting: String,
    mut answer: impl FnMut(&mut BufReader<TcpStream>) -> Option<String> + Send + 'static,
) -> u16 {
    let (port, listener) = silent();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let _ = socket.write_all(greeting.as_bytes());
        let mut lines = BufReader::new(socket.try_clone().expect("a socket"));
        while let Some(said) = answer(&mut lines) {
            let _ = socket.write_all(said.as_bytes());
        }
    });
    port
}
