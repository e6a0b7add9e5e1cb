//! A client on a runtime of its own: sockets of the standard library, and a thread that looks at them every millisecond.
//!
//! It is all that a runtime must bring. A real one wakes a task when its socket is ready, as `voltlane-tokio` and `voltlane-smol` do.
//!
//!     cargo run -p voltlane-driver --example own_runtime -- 127.0.0.1:42000 hello

use std::future::{Future, ready};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use voltlane_core::Time;
use voltlane_driver::client::{Event, Means, Options};
use voltlane_driver::{Client, Connect, Connector, Stream, Timer};

/// How long the thread sleeps before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

struct Socket(TcpStream);

/// `WouldBlock` becomes `Pending`. The executor polls again in any case, so the waker is woken at once.
fn polled<T>(cx: &Context<'_>, outcome: io::Result<T>) -> Poll<io::Result<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        outcome => Poll::Ready(outcome),
    }
}

impl Stream for Socket {
    type Parcel = TcpStream;

    fn pack(self) -> io::Result<TcpStream> {
        Ok(self.0)
    }

    fn unpack(stream: TcpStream) -> io::Result<Self> {
        Ok(Socket(stream))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        polled(cx, self.0.read(buf))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        polled(cx, self.0.write_vectored(bufs))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

struct ToEdge(String);

impl ToEdge {
    fn open(&self) -> io::Result<Socket> {
        let stream = TcpStream::connect(&self.0)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Socket(stream))
    }
}

impl Connector for ToEdge {
    type Stream = Socket;

    fn connect(&mut self) -> Connect<Socket> {
        Box::pin(ready(self.open()))
    }
}

struct Clock(Instant);

impl Timer for Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        if self.now() >= at {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Runs a future to completion on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns 32 bytes of the system's randomness.
fn entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:42000".to_owned());
    let words: Vec<String> = args.collect();
    let means = Means::new(ToEdge(address), Clock(Instant::now()), entropy);
    block_on(async {
        let mut client = Client::connect(Options::default(), means).await?;
        println!("joined as {}", client.id());
        for word in &words {
            client.send(word).await?;
        }
        let mut awaited = words.len();
        while awaited > 0 {
            match client.recv().await {
                Some(Event::Packet { data, .. }) => {
                    println!("{}", String::from_utf8_lossy(&data));
                    awaited -= 1;
                }
                Some(other) => eprintln!("{other:?}"),
                None => break,
            }
        }
        println!("{}", client.close().await);
        Ok(())
    })
}
