//! The WebSocket decoder without a socket: it is given bytes as they come, here three at a time, and tells what is in them.
//!
//!     cargo run -p voltlane-doors --example websocket_frames

use voltlane_doors::websocket::{Decoder, Event, Role, encode_message, encode_ping, encode_pong};

/// A client masks what it sends, with other bytes for each frame.
const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
/// Messages of any length: the decoder holds none.
const ANY_LENGTH: u64 = 0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut from_client = Vec::new();
    encode_message(&[b"hello, ", b"edge"], MASK, &mut from_client);
    encode_ping(b"there?", MASK, &mut from_client);

    let mut decoder = Decoder::new(Role::Server, ANY_LENGTH);
    let (mut stream, mut answers) = (Vec::new(), Vec::new());
    for bytes in from_client.chunks_mut(3) {
        let mut input = bytes;
        while let Some(event) = decoder.decode(&mut input)? {
            match event {
                // Unmasked in its place. Where messages begin and end means nothing to the protocol within.
                Event::Data(data) => stream.extend_from_slice(data),
                Event::Ping => encode_pong(decoder.control(), None, &mut answers),
                other => println!("{other:?}"),
            }
        }
    }
    println!("the stream within: {}", String::from_utf8_lossy(&stream));
    println!("{} bytes answer the ping", answers.len());
    Ok(())
}
