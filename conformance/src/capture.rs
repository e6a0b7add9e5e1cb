//! A relay between two parties that records what passes, as a capture that Wireshark reads.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// The most bytes that one segment of the capture has.
const SEGMENT_BYTES: usize = 16 * 1024;
/// LINKTYPE_RAW: a packet begins with its IP header.
const RAW_IP: u32 = 101;
const SYN: u8 = 0x02;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What has passed so far, over any number of relays.
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    packets: Vec<u8>,
    /// The number of packets, which is also their time in microseconds.
    count: u32,
    connections: u16,
}

/// One connection in the capture. It has addresses of its own: a port tells it from the others.
struct Conversation {
    capture: Capture,
    client: u16,
    server: u16,
    /// The next sequence numbers of client and server.
    next: Mutex<[u32; 2]>,
}

impl Capture {
    /// Opens a port that leads to `target`. In the capture the server has the port `server`.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn before(&self, target: SocketAddr, server: u16) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let capture = self.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A failure is the end of both connections, which the scenario sees.
                let _ = capture.relay(near, target, server);
            }
        });
        address
    }

    /// Adds a conversation that did not happen: whether the client speaks, and what is said.
    pub fn add<'a>(&self, server: u16, said: impl IntoIterator<Item = (bool, &'a [u8])>) {
        let conversation = self.begin(server);
        for (by_client, bytes) in said {
            conversation.say(by_client, bytes);
        }
    }

    /// Writes the capture.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) {
        let mut file = File::create(path).expect("the capture can be written");
        let mut header = Vec::new();
        for field in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, RAW_IP] {
            header.extend(field.to_le_bytes());
        }
        let log = self.log();
        let written = file
            .write_all(&header)
            .and_then(|()| file.write_all(&log.packets));
        written.expect("the capture can be written");
    }

    fn relay(&self, near: TcpStream, target: SocketAddr, server: u16) -> io::Result<()> {
        let far = TcpStream::connect(target)?;
        let conversation = Arc::new(self.begin(server));
        for (from, to, by_client) in [
            (near.try_clone()?, far.try_clone()?, true),
            (far, near, false),
        ] {
            let conversation = Arc::clone(&conversation);
            thread::spawn(move || pass(from, to, &conversation, by_client));
        }
        Ok(())
    }

    fn begin(&self, server: u16) -> Conversation {
        let client = {
            let mut log = self.log();
            log.connections += 1;
            50_000 + log.connections
        };
        let conversation = Conversation {
            capture: self.clone(),
            client,
            server,
            next: Mutex::new([1, 1]),
        };
        conversation.write(true, 0, 0, SYN, &[]);
        conversation.write(false, 0, 1, SYN | ACK, &[]);
        conversation.write(true, 1, 1, ACK, &[]);
        conversation
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Conversation {
    fn say(&self, by_client: bool, bytes: &[u8]) {
        let mut next = self.next.lock().expect("nobody panics with it");
        for segment in bytes.chunks(SEGMENT_BYTES) {
            let [of_client, of_server] = *next;
            let (sequence, acknowledged) = match by_client {
                true => (of_client, of_server),
                false => (of_server, of_client),
            };
            self.write(by_client, sequence, acknowledged, PUSH | ACK, segment);
            let speaker = usize::from(!by_client);
            next[speaker] += u32::try_from(segment.len()).expect("a segment is short");
        }
    }

    /// Adds a packet from 127.0.0.1 (the client) or 127.0.0.2 (the server).
    fn write(&self, by_client: bool, sequence: u32, acknowledged: u32, flags: u8, data: &[u8]) {
        let length = u16::try_from(40 + data.len()).expect("a segment is short");
        let (from, to) = match by_client {
            true => ((1, self.client), (2, self.server)),
            false => ((2, self.server), (1, self.client)),
        };
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        // No fragment; 64 hops; TCP; no checksum.
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        packet.extend([127, 0, 0, from.0, 127, 0, 0, to.0]);
        packet.extend(from.1.to_be_bytes());
        packet.extend(to.1.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend(acknowledged.to_be_bytes());
        // A header of five words; the greatest window; no checksum.
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(data);
        let mut log = self.capture.log();
        log.count += 1;
        for field in [0, log.count, u32::from(length), u32::from(length)] {
            log.packets.extend(field.to_le_bytes());
        }
        log.packets.extend(packet);
    }
}

/// Passes on what one side says, until it ends.
fn pass(mut from: TcpStream, mut to: TcpStream, conversation: &Conversation, by_client: bool) {
    let mut buffer = vec![0; SEGMENT_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).expect("it was read");
        conversation.say(by_client, bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
