//! A port that gives back what it gets, over the reactor of this crate and without a runtime. One connection at a time.
//!
//!     cargo run -p voltlane-reactor --example echo -- 127.0.0.1:7007

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::future::poll_fn;
    use std::io::IoSlice;

    use voltlane_driver::{Listener as _, Stream as _};
    use voltlane_reactor::{Epoll, Reactor as _, TcpListener};

    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    Epoll::block_on(async {
        let mut listener = TcpListener::<Epoll>::bind(&address).await?;
        println!("echoes at {}", listener.local_addr()?);
        loop {
            let (mut stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
            let mut buffer = [0; 4096];
            let outcome = loop {
                let read = match poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await {
                    Ok(0) => break poll_fn(|cx| stream.poll_close(cx)).await,
                    Ok(read) => read,
                    Err(error) => break Err(error),
                };
                let mut rest = &buffer[..read];
                while !rest.is_empty() {
                    let slices = [IoSlice::new(rest)];
                    let written = poll_fn(|cx| stream.poll_write(cx, &slices)).await?;
                    rest = &rest[written..];
                }
            };
            println!("{peer}: {outcome:?}");
        }
    })?
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the reactor of this crate is one of Linux");
}
