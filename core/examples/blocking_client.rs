//! A client on one blocking socket, without threads: sends its arguments, prints what comes back. Needs an edge at 127.0.0.1:42000.
//!
//! The socket's read timeout is the machine's deadline. A binding for another language has this shape.
//!
//! ```text
//! cargo run -p voltlane-core --example blocking_client -- hello world
//! ```

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an adapter has the clock that the core must not have"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use voltlane_core::Time;
use voltlane_core::client::{Client, ClientConfig, Closed, Event};

/// How long a read waits when the machine has no deadline.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::new(ClientConfig::default(), random()?);
    let mut awaited = 0;
    for word in std::env::args().skip(1) {
        client.send(word.as_bytes())?;
        awaited += 1;
    }

    let started = Instant::now();
    let now = || Time::ZERO + started.elapsed();
    let mut stream: Option<TcpStream> = None;
    let mut buffer = [0; 4096];
    let mut taken = 0;
    while awaited > 0 {
        client.handle_timeout(now());
        if client.wants_connect(now()) {
            match TcpStream::connect("127.0.0.1:42000") {
                Ok(opened) => {
                    stream = Some(opened);
                    client.handle_connected(now(), random()?);
                }
                Err(_) => client.handle_connect_failed(now()),
            }
        }
        let deadline = client
            .poll_timeout()
            .map_or(LONGEST_WAIT, |due| due.since(now()));
        let wait = deadline.clamp(Duration::from_millis(1), LONGEST_WAIT);
        let Some(open) = &mut stream else {
            std::thread::sleep(wait);
            continue;
        };

        // Blocks while the edge's window is full. A client that must not block would set a write timeout.
        let written = open
            .write_all(client.output())
            .map(|()| client.output().len());
        let closed = match written {
            Err(_) => Some(Closed::Error),
            Ok(n) => {
                client.handle_written(now(), n);
                open.set_read_timeout(Some(wait))?;
                match open.read(&mut buffer) {
                    Ok(0) => Some(Closed::Eof),
                    Ok(n) => {
                        let mut input = &buffer[..n];
                        while let Some(event) = client.handle_bytes(now(), &mut input) {
                            match event {
                                Event::Packet { data, number } => {
                                    println!("{}", String::from_utf8_lossy(data));
                                    taken = number;
                                    awaited -= 1;
                                }
                                other => eprintln!("{other:?}"),
                            }
                        }
                        client.taken(now(), taken);
                        client.wants_close().then_some(Closed::Eof)
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                        ) =>
                    {
                        None
                    }
                    Err(_) => Some(Closed::Error),
                }
            }
        };
        if let Some(closed) = closed {
            stream = None;
            client.handle_closed(now(), closed);
        }
        match client.poll_event() {
            Some(Event::Refused(refusal)) => return Err(refusal.to_string().into()),
            Some(Event::Ended(end)) => return Err(end.to_string().into()),
            Some(event) => eprintln!("{event:?}"),
            None => {}
        }
    }
    Ok(())
}

/// Returns bytes of the operating system.
fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(random)
}
