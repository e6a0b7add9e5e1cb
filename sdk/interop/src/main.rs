//! A client or a backend of the Rust library, which does what the lines on its standard input say and tells what happens, as `README.md`
//! describes: `interop-peer RUNTIME client|backend ADDRESS VERSION`.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process;
use std::thread;

use voltlane_core::ClientId;
use voltlane_core::protocol::Versions;
use voltlane_driver::Runtime;
use voltlane_driver::backend::{self, Backend, BackendHandle, Everyone};
use voltlane_driver::client::{self, Client, ClientSender};
use voltlane_smol::Smol;
use voltlane_tokio::Tokio;
use voltlane_tokio::client::{Roots, TlsOptions};

type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Problem> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [runtime, side, address, version] = words.as_slice() else {
        return Err("usage: interop-peer RUNTIME client|backend ADDRESS VERSION".into());
    };
    let (address, version) = (address.clone(), version.parse()?);
    match (runtime.as_str(), side.as_str()) {
        ("tokio", "client") => Tokio::block_on(serve_client::<Tokio>(address, version))?,
        ("smol", "client") => Smol::block_on(serve_client::<Smol>(address, version))?,
        ("tokio", "backend") => Tokio::block_on(serve_backend::<Tokio>(address, version))?,
        ("smol", "backend") => Smol::block_on(serve_backend::<Smol>(address, version))?,
        _ => Err("the runtime is tokio or smol, and the side client or backend".into()),
    }
}

/// Writes a line. The driver of the tests is gone if it cannot be written.
fn tell(line: impl Display) {
    let mut output = io::stdout().lock();
    if writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .is_err()
    {
        process::exit(1);
    }
}

/// Calls `obey` with the words of each line, on a thread of its own. The process ends with the lines.
fn read_lines(mut obey: impl FnMut(&[&str]) -> Result<(), Problem> + Send + 'static) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let Err(problem) = obey(&words) {
                tell(format_args!("fault {line}: {problem}"));
            }
        }
        process::exit(0);
    });
}

/// The bytes that a length and a seed stand for.
fn packet(length: &str, seed: &str) -> Result<Vec<u8>, Problem> {
    let (length, seed): (u32, u8) = (length.parse()?, seed.parse()?);
    let bytes = (0..length).map(|at| ((at * 7) >> 3).to_le_bytes()[0].wrapping_add(seed));
    Ok(bytes.collect())
}

/// CRC-32, as of zlib.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

async fn serve_client<R: Runtime>(address: String, version: u32) -> Result<(), Problem> {
    let mut begins = voltlane_tokio::client::Builder::on::<R>(&address);
    begins = begins.versions(if version == 2 {
        Versions::V2
    } else {
        Versions::V3
    });
    if let Some(authority) = env::var_os("INTEROP_AUTHORITY") {
        let mut tls = TlsOptions::default();
        tls.roots = Some(Roots::File(PathBuf::from(authority)));
        begins = begins.tls(tls);
    }
    let mut client: Client = begins.begin()?;
    let sender: ClientSender = client.sender();
    read_lines(move |words| {
        match words {
            ["send", length, seed] => {
                let _ = sender.try_send(packet(length, seed)?)?;
            }
            ["close"] => {
                let end = smol::block_on(sender.close());
                tell(format_args!("closed {}", end.code.to_u16()));
            }
            _ => return Err("it is no command".into()),
        }
        Ok(())
    });
    while let Some(event) = client.recv().await {
        match event {
            client::Event::Connected { id, .. } => {
                tell(format_args!("connected {:016x}", id.as_u64()))
            }
            client::Event::Packet { data, .. } => {
                tell(format_args!("packet {} {:08x}", data.len(), crc(&data)));
            }
            client::Event::Dropped { .. } => tell("dropped"),
            client::Event::Resumed { .. } => tell("resumed"),
            client::Event::Ended { end, .. } => {
                tell(format_args!("ended {} {}", end.code.to_u16(), end.text));
            }
            _ => {}
        }
    }
    // The lines end it.
    std::future::pending().await
}

async fn serve_backend<R: Runtime>(address: String, version: u32) -> Result<(), Problem> {
    let mut begins = backend::Builder::on::<R>(&address);
    if version == 3 {
        begins = begins.ask_for_version_3();
    }
    let (mut backend, places): (Backend, _) = begins.listen_at().await?;
    tell(format_args!(
        "listening {}",
        places.first().ok_or("no address")?
    ));
    let handle: BackendHandle = backend.handle();
    read_lines(move |words| {
        let client = |id: &str| Ok::<_, Problem>(ClientId::from_u64(u64::from_str_radix(id, 16)?));
        match words {
            ["send", id, length, seed] => {
                let _ = handle.try_send(client(id)?, packet(length, seed)?)?;
            }
            ["all", length, seed] => {
                smol::block_on(handle.send(Everyone, packet(length, seed)?))?;
            }
            ["kick", id, code, text] => {
                smol::block_on(handle.kick(client(id)?, code.parse()?, text))?;
            }
            _ => return Err("it is no command".into()),
        }
        Ok(())
    });
    while let Some(event) = backend.recv().await {
        match event {
            backend::Event::EdgeConnected { .. } => tell("edge"),
            backend::Event::EdgeLost { .. } => tell("edge-lost"),
            backend::Event::Joined(joined) => {
                tell(format_args!("joined {:016x}", joined.id.as_u64()));
            }
            backend::Event::Packet { id, data, .. } => {
                let (id, length) = (id.as_u64(), data.len());
                tell(format_args!("packet {id:016x} {length} {:08x}", crc(&data)));
            }
            backend::Event::Away { id, .. } => tell(format_args!("away {:016x}", id.as_u64())),
            backend::Event::Resumed { id, .. } => {
                tell(format_args!("resumed {:016x}", id.as_u64()));
            }
            backend::Event::Ended { id, end, .. } => {
                tell(format_args!(
                    "ended {:016x} {}",
                    id.as_u64(),
                    end.code.to_u16()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
