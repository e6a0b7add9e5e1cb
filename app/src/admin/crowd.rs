//! An operator who looks at a crowd of sessions, through the real calls, while the edge serves. (SPEC 9.5(f))

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use voltlane_core::edge::{Duty, Edge, EdgeConfig, Enforce, HasLink as _, MAX_PAGE};
use voltlane_core::keys::KeyPair;
use voltlane_core::v2::packets::Handshake;
use voltlane_core::{Closed, Time};
use voltlane_driver::{EdgeDriver, EdgeHandle, Errands, Runtime as _, SocketOptions};
use voltlane_smol::Smol;

use super::desk::Desk;
use super::request::{Request, read_from_memory};
use super::sessions;
use crate::commands::InEffect;
use crate::config::Settings;
use crate::metrics::Exchange;

type Timer = <Smol as voltlane_driver::Runtime>::Timer;

/// The sessions of the crowd, without `VL_FULL` and with it.
const FEW: usize = 30_000;
const MANY: usize = 1_000_000;
/// The most time of a processor that the edge's thread takes between two calls of others while somebody looks at the crowd, in a test build.
/// It has no part in how busy the machine is.
const HELD_UP_AT_MOST: Duration = Duration::from_millis(20);
/// The most bytes of an answer with a full page.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Returns an edge with this many sessions whose clients are away.
fn crowd(count: usize) -> Edge {
    let mut config = EdgeConfig::default();
    config.limits.enforce_accepts = Enforce::Off;
    config.limits.enforce_sources = Enforce::Off;
    config.limits.enforce_memory = Enforce::Off;
    config.limits.max_sessions = count;
    config.clients.max_stale_clients = count;
    config.clients.stale_timeout = Duration::from_secs(86_400);
    let keys = KeyPair::from_bytes(&[1; 32]).expect("below the order");
    let client = keys.public();
    let mut hello = Vec::new();
    Handshake::ProtocolVersion(2).encode(&mut hello);
    Handshake::PubKey(client.as_bytes()).encode(&mut hello);
    let mut edge = Edge::new(config, keys, [9; 32]);
    let now = Time::ZERO;
    edge.handle_link_connecting(now);
    edge.handle_link_connected(now);
    for _ in 0..count {
        let conn = edge.handle_accepted(now, [127, 0, 0, 1].into());
        let conn = conn.expect("room");
        edge.handle_client_bytes(now, conn, &hello);
        while let Duty::Write(parts) = edge.client_duty(conn) {
            let bytes = parts.iter().map(|part| part.len()).sum();
            edge.handle_client_written(now, conn, bytes);
        }
        edge.handle_client_closed(now, conn, Closed::Eof);
        let bytes = edge.link_output().iter().map(|part| part.len()).sum();
        edge.handle_link_written(now, bytes);
    }
    while edge.poll_client().is_some() {}
    edge.handle_link_closed(now, Closed::Eof);
    assert_eq!(edge.gauges().away, count);
    edge
}

/// Serves the edge on a thread of its own.
fn serve(edge: Edge) -> (Errands, EdgeHandle, JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let serves = thread::spawn(move || {
        let served = Smol::block_on(async move {
            let bound = Smol::bind("127.0.0.1:0".into(), SocketOptions::default()).await;
            let (listener, _) = bound.expect("a port");
            // The edge has no backend: nothing listens at this port.
            let backend = Smol::connector("127.0.0.1:1".into(), SocketOptions::default());
            let driver = EdgeDriver::new(edge, listener, backend, Timer::default());
            let _ = tell.send((driver.errands(), driver.handle()));
            driver.await;
        });
        served.expect("a runtime");
    });
    let (errands, handle) = told.recv().expect("it serves");
    (errands, handle, serves)
}

fn request(query: &str) -> Request {
    let text = format!("GET /v1/sessions?{query} HTTP/1.1\r\n\r\n");
    let read = read_from_memory(&mut text.as_bytes()).expect("memory");
    read.expect("not nothing").expect("good")
}

fn list(desk: &Desk, query: &str) -> Value {
    let (status, answer) = sessions::list(desk, &request(query)).expect("an answer");
    assert_eq!(status, 200);
    assert!(answer.to_string().len() <= MAX_ANSWER_BYTES);
    answer
}

/// Returns how long the calling thread has had a processor.
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// `VL_FULL=1 cargo test -p voltlane --lib crowd` has a million of them.
#[test]
fn who_looks_at_a_crowd_holds_up_nobody() {
    let count = match std::env::var_os("VL_FULL") {
        None => FEW,
        Some(_) => MANY,
    };
    let (errands, handle, serves) = serve(crowd(count));
    let in_effect = InEffect::new(Settings::default());
    let desk = Desk::new(Exchange::new().0, Arc::new(Mutex::new(in_effect)));
    desk.serves(vec![errands]);
    // Others ask the same shard meanwhile, as a client would.
    let is_over = Arc::new(AtomicBool::new(false));
    let asks = thread::spawn({
        let (desk, is_over) = (desk.clone(), Arc::clone(&is_over));
        move || {
            let took = || desk.ask(0, |_, _| thread_time()).expect("it answers");
            let (mut before, mut most, mut calls) = (took(), Duration::ZERO, 0);
            while !is_over.load(Relaxed) {
                let now = took();
                most = most.max(now.saturating_sub(before));
                (before, calls) = (now, calls + 1);
            }
            (most, calls)
        }
    });
    let (mut seen, mut pages, mut after) = (0, 0, String::new());
    loop {
        let answer = list(&desk, &format!("limit={MAX_PAGE}&after={after}"));
        seen += answer["sessions"].as_array().map_or(0, Vec::len);
        pages += 1;
        match answer["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, count);
    assert!(pages >= count / MAX_PAGE);
    // None is wanted: it goes on until its time is over, and says where.
    let none = list(&desk, "state=attached");
    assert_eq!(none["sessions"].as_array().map(Vec::len), Some(0));
    let sorted = list(&desk, "sort=age&limit=5");
    assert_eq!(sorted["sessions"].as_array().map(Vec::len), Some(5));
    is_over.store(true, Relaxed);
    let (most, calls) = asks.join().expect("no panic");
    println!("{calls} calls of others; between two of them at most {most:?}");
    assert!(calls > 100);
    assert!(most < HELD_UP_AT_MOST, "{most:?}");
    handle.shutdown(Duration::ZERO);
    serves.join().expect("no panic");
}
