//! Fuzzes the backend's side of the link with arbitrary bytes from an edge.

use std::collections::VecDeque;

use voltlane_core::ClientId;
use voltlane_core::backend::{Backend, BackendConfig, BackendError, Event, Fault, SendError};
use voltlane_core::link::tagged::{Flag, HEADER_BYTES, Tagged};
use voltlane_core::wire::frame::FrameReader;

use crate::bytes::Bytes;

const MAX_EVENTS: usize = 1_000;

/// Packets are received in the order of the stream, whatever else is in it. Packets are written in order, each whole on one link. Nothing
/// is queued beyond the bounds.
pub fn backend_machine(input: &[u8]) {
    let mut input = Bytes::new(input);
    let config = BackendConfig::default()
        .with_max_receive_bytes(input.one_of(&[9, 16, 64, 1 << 20]))
        .map(|config| config.with_max_send_bytes(input.one_of(&[0, 4, 64, 1 << 20])))
        .and_then(|config| config.with_queue_bytes(input.one_of(&[14, 13, 100, 1 << 20])))
        .expect("every value drawn is one that it can have");
    let mut backend = Backend::new(config.clone());
    let mut link = Link::default();
    let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
    for _ in 0..MAX_EVENTS {
        if input.is_empty() {
            return;
        }
        match input.below(8) {
            0..=2 => link.read(input.some(), &mut backend, config.max_receive_bytes()),
            3 => {
                let (id, flag) = (ClientId::from_u64(input.byte().into()), input.byte());
                let data = input.some();
                let length = (data.len() as u32 + 9).to_le_bytes();
                let frame = [&length[..], &id.as_u64().to_le_bytes(), &[flag % 6], data].concat();
                link.read(&frame, &mut backend, config.max_receive_bytes());
            }
            4 => {
                let id = ClientId::from_u64(input.byte().into());
                let data = input.some();
                let sent = backend.send(id, data);
                note(
                    sent,
                    Tagged {
                        id,
                        flag: Flag::Data,
                        data,
                    },
                    &config,
                    &mut queue,
                );
            }
            5 => {
                let id = ClientId::from_u64(input.byte().into());
                let sent = backend.kick(id);
                note(
                    sent,
                    Tagged {
                        id,
                        flag: Flag::Kick,
                        data: &[],
                    },
                    &config,
                    &mut queue,
                );
            }
            6 => {
                let written = input.part_of(backend.output().len());
                link.written.extend_from_slice(&backend.output()[..written]);
                backend.handle_written(written);
                while queue
                    .front()
                    .is_some_and(|frame| frame.len() <= link.written.len())
                {
                    let frame = queue.pop_front().expect("it was looked at");
                    assert_eq!(link.written.drain(..frame.len()).collect::<Vec<_>>(), frame);
                }
                assert!(queue.front().map_or(link.written.is_empty(), |frame| {
                    frame.starts_with(&link.written)
                }));
            }
            _ => {
                backend.handle_closed();
                link = Link::default();
            }
        }
        assert_eq!(backend.queued_packets(), queue.len());
        let queued: usize = queue.iter().map(Vec::len).sum();
        assert_eq!(backend.queued_bytes(), queued);
        assert!(queued <= config.queue_bytes());
    }
}

/// One link, as the edge sees it.
#[derive(Default)]
struct Link {
    frames: FrameReader,
    is_lost: bool,
    /// A packet that an edge may send was received.
    was_good: bool,
    /// Written bytes that do not form a whole frame yet.
    written: Vec<u8>,
}

impl Link {
    fn read(&mut self, bytes: &[u8], backend: &mut Backend, max_body: u32) {
        let (mut theirs, mut ours) = (bytes, bytes);
        loop {
            let event = backend.handle_bytes(&mut theirs);
            if self.is_lost {
                assert!(event.is_err(), "a lost link stays lost");
                return;
            }
            if let Err(BackendError::Foreign(_) | BackendError::NoEdge { .. }) = event {
                assert!(!self.was_good, "a link with a good packet is not foreign");
                self.is_lost = true;
                return;
            }
            self.was_good |= matches!(&event, Ok(Some(event)) if !matches!(event, Event::Fault(_)));
            match self.frames.next_frame(&mut ours, max_body) {
                Ok(Some(body)) => match (event, Tagged::decode(body)) {
                    (Ok(Some(Event::Packet { id, data })), Ok(packet)) => {
                        assert_eq!(
                            Tagged {
                                id,
                                flag: Flag::Data,
                                data
                            },
                            packet
                        );
                    }
                    (Ok(Some(Event::Resumed { id })), Ok(packet)) => {
                        assert_eq!(
                            Tagged {
                                id,
                                flag: Flag::Resumed,
                                data: &[]
                            },
                            packet
                        );
                    }
                    (Ok(Some(Event::Failed { id, reason })), Ok(packet)) => {
                        assert_eq!((id, Flag::Failure), (packet.id, packet.flag));
                        assert_eq!(reason, String::from_utf8_lossy(packet.data));
                    }
                    (Ok(Some(Event::Fault(Fault::Malformed(error)))), Err(expected)) => {
                        assert_eq!(error, expected)
                    }
                    (Ok(Some(Event::Fault(Fault::Unexpected { .. }))), Ok(packet)) => {
                        assert!(
                            packet.flag == Flag::Kick
                                || packet.flag == Flag::Resumed && !packet.data.is_empty()
                        );
                    }
                    (event, packet) => panic!("{packet:?} became {event:?}"),
                },
                Ok(None) => {
                    assert_eq!(event, Ok(None));
                    return;
                }
                Err(_) => {
                    assert!(event.is_err());
                    self.is_lost = true;
                    return;
                }
            }
        }
    }
}

/// Records a packet that was accepted, or checks the reason why it was refused.
fn note(
    sent: Result<(), SendError>,
    packet: Tagged<'_>,
    config: &BackendConfig,
    queue: &mut VecDeque<Vec<u8>>,
) {
    let queued: usize = queue.iter().map(Vec::len).sum();
    let room = config.queue_bytes().saturating_sub(HEADER_BYTES);
    let max = room.min(config.max_send_bytes() as usize);
    match sent {
        Ok(()) => {
            let mut frame = Vec::new();
            packet.encode(&mut frame);
            queue.push_back(frame);
        }
        Err(SendError::TooLong { length, max: told }) => {
            assert!(length == packet.data.len() && length > max && told == max);
        }
        Err(SendError::QueueFull) => assert!(queued + packet.encoded_len() > config.queue_bytes()),
        Err(other) => panic!("the target knows no {other:?}"),
    }
}
