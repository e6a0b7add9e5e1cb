//! What is left to take over of a link of version 2, whose socket another process had (SPEC 41.1(e)).

use crate::edge::uplink::batch::Batch;
use crate::edge::uplink::link::Link;
use crate::wire::saved::{Saved, put_bytes, put_numbers};

/// What one process knows of the stream to the backend, and the next one must.
#[derive(Clone, Debug)]
pub(crate) struct MovedLink {
    /// What was read of an unfinished frame.
    read: Vec<u8>,
    /// The body of the frame that was begun, and how many bytes of the frame were written. Without one: nothing, and 0.
    frame: Vec<u8>,
    begun: usize,
}

image!(MovedLink { read, frame, begun });

impl MovedLink {
    /// Takes what there is of `link`, which has written `begun` bytes of a frame with this body.
    pub(crate) fn of(link: &Link, (frame, begun): (&[u8], usize)) -> Self {
        MovedLink {
            read: link.reader.held().to_vec(),
            frame: frame.to_vec(),
            begun,
        }
    }

    /// Returns about as many bytes as it takes.
    pub(crate) fn bytes(&self) -> usize {
        64 + self.read.len() + self.frame.len()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.read);
        put_bytes(out, &self.frame);
        put_numbers(out, &[self.begun as u64]);
    }

    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Some(MovedLink {
            read: saved.bytes()?.to_vec(),
            frame: saved.bytes()?.to_vec(),
            begun: usize::try_from(saved.u64()?).ok()?,
        })
    }

    /// Returns the frame that was begun, which goes before all others.
    pub(crate) fn begun_frame(&self) -> Option<Batch> {
        (self.begun > 0).then(|| {
            let mut batch = Batch::new();
            batch.push(&self.frame);
            batch
        })
    }

    /// Returns how many bytes of that frame were written.
    pub(crate) fn begun_bytes(&self) -> usize {
        self.begun
    }

    /// Has `link`, which is up, go on within the unfinished frame of the backend.
    pub(crate) fn go_on(&self, link: &mut Link) {
        link.trust();
        link.reader.hold(&self.read);
    }
}
