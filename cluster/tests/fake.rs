//! What every engine does at servers that do not do what they should. (SPEC 43.2(d), 43.2(e))

use std::thread;

use voltlane_cluster::engine::CALL_TIMEOUT;
use voltlane_cluster::{CallId, EngineError, Reply};

use crate::support::fake::{Kind, Time, fill, read, silent};
use crate::{fake_nats, fake_redis};

const KINDS: [Kind; 2] = [fake_nats::KIND, fake_redis::KIND];

#[test]
fn a_server_that_is_not_there_is_named() {
    for kind in KINDS {
        let (port, nobody) = silent();
        drop(nobody);
        let error = kind.first_error(port, None);
        assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
        let place = format!("127.0.0.1:{port}");
        assert!(error.to_string().contains(&place), "{error}");
    }
}

#[test]
fn an_answer_that_comes_twice_is_of_no_other_call() {
    for kind in KINDS {
        let mut revision = 0;
        let port = (kind.good)(Box::new(move |token| {
            revision += 1;
            (kind.record)(token, revision).repeat(2)
        }));
        let mut engine = kind.engine_at(port, Some("secret"));
        let mut time = Time::new();
        for number in 1..=3 {
            let id = read(&mut *engine, time.now(), number);
            let (answered, answer) = time.answer(&mut *engine, false);
            assert_eq!(answered, id);
            let Ok(Reply::Read(Some(entry))) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((entry.revision, &entry.value[..]), (number, &b"hi"[..]));
        }
        assert!(engine.strays() >= 2, "{}", engine.strays());
    }
}

#[test]
fn answers_in_another_order_are_of_their_calls() {
    for kind in KINDS {
        let mut held: Option<String> = None;
        let port = (kind.good)(Box::new(move |token| match held.take() {
            Some(first) => (kind.record)(token, 2) + &(kind.record)(&first, 1),
            None => {
                // It waits for the next one.
                held = Some(token.to_owned());
                String::new()
            }
        }));
        let mut engine = kind.engine_at(port, None);
        let mut time = Time::new();
        for number in [1, 2] {
            read(&mut *engine, time.now(), number);
        }
        for expected in [2, 1] {
            let (id, answer) = time.answer(&mut *engine, false);
            assert_eq!(id, CallId::new(expected));
            let Ok(Reply::Read(Some(entry))) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(entry.revision, expected);
        }
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    for kind in KINDS {
        // Not even a greeting.
        let (port, _silent) = silent();
        let mut engine = kind.engine_at(port, None);
        let mut time = Time::new();
        read(&mut *engine, time.now(), 1);
        let (_, answer) = time.answer(&mut *engine, true);
        assert_eq!(answer, Err(EngineError::Late));
        // No answer to a call.
        let port = (kind.good)(Box::new(|_| String::new()));
        let mut engine = kind.engine_at(port, None);
        let mut time = Time::new();
        let ready = read(&mut *engine, time.now(), 1);
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
        let late = time.answer(&mut *engine, true);
        assert_eq!(late, (ready, Err(EngineError::Late)));
    }
}

/// What is due is looked at before all is read that a server has.
#[test]
fn a_server_that_never_stops_to_speak_is_given_up_in_time() {
    for kind in KINDS {
        // It ends with nonsense, which is not reached.
        let port = (kind.good)(Box::new(move |_| {
            (kind.record)("x", 1).repeat(1 << 18) + "nonsense\r\n"
        }));
        let mut engine = kind.engine_at(port, None);
        let time = Time::new();
        let id = read(&mut *engine, time.now(), 1);
        while engine.strays() == 0 {
            assert_eq!(engine.poll(time.now()), None);
            thread::yield_now();
        }
        let late = engine.poll(time.now() + CALL_TIMEOUT);
        assert_eq!(late, Some((id, Err(EngineError::Late))));
    }
}

#[test]
fn calls_at_once_have_a_bound() {
    for kind in KINDS {
        let (port, _silent) = silent();
        let mut engine = kind.engine_at(port, None);
        fill(&mut *engine, &mut Time::new(), 1);
    }
}
