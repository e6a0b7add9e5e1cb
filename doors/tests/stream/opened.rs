//! Connections to a backend, which come only once they are open.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_doors::websocket::http::Rules;
use voltlane_doors::{DoorListener, DoorStream, MAX_OPENING, OpenedListener};
use voltlane_driver::{Connector, Listener};

use super::reluctant::*;

/// Connections that wait to be accepted.
#[derive(Clone, Debug, Default)]
struct Queue(Arc<Mutex<Vec<Reluctant>>>);

impl Queue {
    fn push(&self, stream: Reluctant) {
        self.0.lock().expect("no panic").push(stream);
    }

    /// Connects `count` peers that say nothing. They last as long as what this returns.
    fn flood(&self, count: usize) -> Vec<Reluctant> {
        let peers = (0..count).map(|_| {
            let (peer, own) = pipe(0);
            self.push(own);
            peer
        });
        peers.collect()
    }
}

impl Listener for Queue {
    type Stream = Reluctant;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(Reluctant, SocketAddr)>> {
        match self.0.lock().expect("no panic").pop() {
            Some(stream) => Poll::Ready(Ok((stream, SocketAddr::new(PEER, 1)))),
            None => Poll::Pending,
        }
    }
}

fn listener(queue: &Queue) -> OpenedListener<Queue> {
    let door = door(Kind::Ws, Rules::default());
    OpenedListener::new(DoorListener::new(queue.clone(), door))
}

fn accept(listener: &mut OpenedListener<Queue>) -> Option<DoorStream<Reluctant>> {
    match listener.poll_accept(&mut cx()) {
        Poll::Ready(accepted) => Some(accepted.expect("no error").0),
        Poll::Pending => None,
    }
}

#[test]
fn newcomers_displace_none_that_is_open() {
    let queue = Queue::default();
    let mut listener = listener(&queue);
    let (client, server) = pipe(0);
    queue.push(server);
    assert!(accept(&mut listener).is_none(), "it has said nothing yet");
    let mut attempt = connector(Kind::Ws, client).connect();
    assert!(attempt.as_mut().poll(&mut cx()).is_pending());
    let _silent = queue.flood(10 * MAX_OPENING);
    assert!(accept(&mut listener).is_some(), "it is open");
    assert!(attempt.as_mut().poll(&mut cx()).is_ready());
}

#[test]
fn those_that_open_are_bounded_in_number_and_in_time() {
    let opening = |count: usize| format!("opening: {count} ");
    let queue = Queue::default();
    let mut bounded = listener(&queue);
    for (flood, expected) in [(MAX_OPENING, MAX_OPENING), (1, MAX_OPENING)] {
        let _silent = queue.flood(flood);
        assert!(accept(&mut bounded).is_none());
        let shown = format!("{bounded:?}");
        assert!(shown.contains(&opening(expected)), "{shown}");
    }
    let mut brief = listener(&queue).with_timeout(Duration::ZERO);
    let _silent = queue.flood(3);
    assert!(accept(&mut brief).is_none());
    let shown = format!("{brief:?}");
    assert!(shown.contains(&opening(1)), "{shown}");
}
