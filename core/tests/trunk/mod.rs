//! The trunk between scripted shards and a scripted backend. (SPEC 9.9)

mod down;
mod life;
#[cfg(feature = "upgrade")]
mod moving;
mod parts;
mod up;

use core::num::NonZeroU8;

use voltlane_core::edge::HasLink;
use voltlane_core::edge::trunk::{BATCH_BYTES, Batch, Downward, Trunk, Upward};
use voltlane_core::edge::{Closed, DeadlineReason, MasterConfig};
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ShardId, Time};

const A: ShardId = ShardId::new(0);
const B: ShardId = ShardId::new(1);
const C: ShardId = ShardId::new(2);
/// In the texts of these tests: that a shard has announced everything, and that the trunk has room for the rest.
const MARK: [u8; 4] = [0; 4];
/// The number of bytes from which no shard is read, and the one from which the backend is not.
const LINK_BYTES: usize = 256 * 1024;
const BRANCH_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 * 1024;

/// A trunk at an instant.
struct Rig {
    trunk: Trunk,
    now: Time,
    /// Whether each shard has announced everything on its branch.
    announced: Vec<bool>,
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(body, &mut out);
    out
}

/// Returns a tagged data packet of a client at this shard.
fn packet(shard: ShardId, data: &[u8]) -> Vec<u8> {
    frame(&[&[7, 7, 7, 7, 7, 7, 7, shard.as_u8(), 0][..], data].concat())
}

/// Returns a tagged packet whose frame has this many bytes.
fn packet_of(shard: ShardId, frame_bytes: usize) -> Vec<u8> {
    packet(shard, &vec![b'.'; frame_bytes - 13])
}

/// Returns the data of whole frames as text.
fn texts(bytes: &[u8]) -> Vec<String> {
    let (mut reader, mut input, mut texts) = (FrameReader::default(), bytes, Vec::new());
    while let Ok(Some(body)) = reader.next_frame(&mut input, u32::MAX) {
        texts.push(String::from_utf8_lossy(body.get(9..).unwrap_or(b"short")).into_owned());
    }
    assert_eq!(reader.buffered_bytes(), 0, "whole frames only");
    texts
}

impl Rig {
    /// Creates two shards without a backend.
    fn new() -> Self {
        Rig::of(2, &MasterConfig::default())
    }

    fn of(shards: u8, config: &MasterConfig) -> Self {
        let announced = vec![false; shards.into()];
        let shards = NonZeroU8::new(shards).unwrap();
        Rig {
            trunk: Trunk::new(config, shards, [3; 32]),
            now: Time::from_millis(1),
            announced,
        }
    }

    /// Creates two shards that have announced everything, with a backend.
    fn open() -> Self {
        let mut rig = Rig::new();
        rig.backend_comes();
        for shard in [A, B] {
            rig.dial(shard);
            rig.says(shard, &MARK);
            assert_eq!(rig.hears(shard), MARK, "there is room");
        }
        rig
    }

    fn backend_comes(&mut self) {
        let due = self.trunk.poll_timeout().expect("the link is down");
        assert_eq!(due.reason, DeadlineReason::LinkRetry);
        self.now = self.now.max(due.at);
        assert!(self.trunk.link_wants_connect(self.now));
        self.trunk.handle_link_connecting(self.now);
        self.trunk.handle_link_connected(self.now);
    }

    fn backend_goes(&mut self) {
        self.trunk.handle_link_closed(self.now, Closed::Error);
    }

    fn dial(&mut self, shard: ShardId) {
        assert!(self.trunk.branch_accepts(shard));
        self.trunk.handle_branch_opened(self.now, shard);
        self.announced[usize::from(shard.as_u8())] = false;
        assert!(
            !self.trunk.branch_accepts(shard),
            "one branch for each shard"
        );
    }

    /// The shard has everything that the trunk handed down, and closes, too.
    fn ends(&mut self, shard: ShardId) {
        assert!(self.trunk.branch_wants_close(shard));
        self.trunk.handle_branch_closed(self.now, shard);
    }

    /// The shard hands up whole frames, up to its mark as announcements.
    fn says(&mut self, shard: ShardId, bytes: &[u8]) {
        let (mut reader, mut input, mut batch) = (FrameReader::default(), bytes, Batch::new());
        let mut bodies = Vec::new();
        while let Ok(Some(body)) = reader.next_frame(&mut input, u32::MAX) {
            bodies.push(body.to_vec());
        }
        assert_eq!(reader.buffered_bytes(), 0, "whole frames only");
        for body in bodies {
            if body.is_empty() {
                self.hands_up(shard, std::mem::take(&mut batch));
                self.announced[usize::from(shard.as_u8())] = true;
                let announced = Upward::Announced;
                self.trunk.handle_branch_input(self.now, shard, announced);
            } else {
                batch.push(&body);
            }
        }
        self.hands_up(shard, batch);
    }

    fn hands_up(&mut self, shard: ShardId, batch: Batch) {
        if batch.frames() > 0 {
            let input = if self.announced[usize::from(shard.as_u8())] {
                Upward::Packets(batch)
            } else {
                Upward::Announcements(batch)
            };
            self.trunk.handle_branch_input(self.now, shard, input);
        }
    }

    fn backend_says(&mut self, bytes: &[u8]) {
        self.trunk.handle_link_bytes(self.now, bytes);
    }

    fn output(&self) -> Vec<u8> {
        self.trunk.link_output().concat()
    }

    /// Returns the trunk's output for the backend now.
    fn backend_hears(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let bytes = self.output();
            if bytes.is_empty() {
                return texts(&heard);
            }
            self.trunk.handle_link_written(self.now, bytes.len());
            heard.extend(bytes);
        }
    }

    /// Returns the trunk's output for a shard now.
    fn hears(&mut self, shard: ShardId) -> Vec<u8> {
        let mut heard = Vec::new();
        while let Some(output) = self.takes(shard) {
            match output {
                Downward::Released => heard.extend(MARK),
                Downward::Packets(batch) => heard.extend(batch.bytes()),
                Downward::Version2 | Downward::Returned(_) => panic!("a link of version 2 alone"),
            }
        }
        assert!(!self.trunk.branch_has_output(shard));
        heard
    }

    /// The shard takes what it is handed next.
    fn takes(&mut self, shard: ShardId) -> Option<Downward> {
        self.trunk
            .take_branch_output(self.now, shard, &mut Batch::new())
    }
}
