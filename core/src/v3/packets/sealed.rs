//! What is sealed in the packets of an opening. (SPEC 19.2 to 19.4)

use crate::ClientId;

use super::super::MAX_NUMBER;
use super::super::code::Code;
use super::super::schedule::ClaimKey;
use super::{Fields, Handle, PacketError};
use super::{POSITION_BYTES, SETTINGS_BYTES, VERDICT_BYTES};

/// What the edge tells a client that joins. (SPEC 19.2)
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Settings {
    /// The client's id.
    pub id: ClientId,
    /// The key of that id.
    pub claim_key: ClaimKey,
    /// The handle for the first attempt to resume.
    pub handle: Handle,
    /// The run of the edge.
    pub run: [u8; 8],
    /// The features that the edge grants, of those that were asked for.
    pub features: u32,
    /// The longest packet up in bytes.
    pub longest_packet_up: u32,
    /// How many packets a side may have sent and not seen acknowledged.
    pub ring_packets: u32,
    /// How many bytes of packets a side may have sent and not seen acknowledged.
    pub ring_bytes: u32,
    /// How long the session may be away, in seconds.
    pub window_secs: u32,
    /// The time after which packets are acknowledged at the latest, in milliseconds (SPEC 24.3(d)).
    pub ack_delay_ms: u16,
    /// The silence after which a side asks whether the other is there, in seconds. 0 means never.
    pub keep_alive_secs: u16,
}

impl Settings {
    pub(in crate::v3) fn write(&self, out: &mut [u8; SETTINGS_BYTES]) {
        let mut room = Room(out);
        room.put(&self.id.as_u64().to_le_bytes());
        room.put(self.claim_key.as_bytes());
        room.put(&self.handle.0);
        room.put(&self.run);
        room.put(&[0; 8]);
        for number in [
            self.features,
            self.longest_packet_up,
            self.ring_packets,
            self.ring_bytes,
            self.window_secs,
        ] {
            room.put(&number.to_le_bytes());
        }
        room.put(&self.ack_delay_ms.to_le_bytes());
        room.put(&self.keep_alive_secs.to_le_bytes());
    }

    pub(in crate::v3) fn read(plain: &[u8; SETTINGS_BYTES]) -> Result<Self, PacketError> {
        let mut fields = Fields(plain);
        let settings = Settings {
            id: ClientId::from_u64(fields.u64()),
            claim_key: ClaimKey::from_bytes(fields.array()),
            handle: Handle(fields.array()),
            run: fields.array(),
            features: {
                let _reserved: [u8; 8] = fields.array();
                fields.u32()
            },
            longest_packet_up: fields.u32(),
            ring_packets: fields.u32(),
            ring_bytes: fields.u32(),
            window_secs: fields.u32(),
            ack_delay_ms: u16::from_le_bytes(fields.array()),
            keep_alive_secs: u16::from_le_bytes(fields.array()),
        };
        // With a ring of no packets nobody could send one.
        let packets = settings.ring_packets.into();
        in_range("ring packets", packets, 1, u32::MAX.into())?;
        Ok(settings)
    }
}

/// Where a client is when it comes back. (SPEC 19.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Position {
    /// The number of the attempt, from 1.
    pub counter: u64,
    /// The run of the edge that the session belongs to.
    pub run: [u8; 8],
    /// The number of the first early packet: the client's first unacknowledged one, or the next one.
    pub first_up: u64,
    /// The highest number down that the client has received.
    pub received_down: u64,
}

image!(Position {
    counter,
    run,
    first_up,
    received_down
});

impl Position {
    pub(in crate::v3) fn write(&self, out: &mut [u8; POSITION_BYTES]) {
        let mut room = Room(out);
        room.put(&self.counter.to_le_bytes());
        room.put(&[0; 8]);
        room.put(&self.run);
        room.put(&self.first_up.to_le_bytes());
        room.put(&self.received_down.to_le_bytes());
        room.put(&[0; 8]);
    }

    pub(in crate::v3) fn read(plain: &[u8; POSITION_BYTES]) -> Result<Self, PacketError> {
        let mut fields = Fields(plain);
        let counter = fields.u64();
        let life = fields.u64();
        let position = Position {
            counter,
            run: fields.array(),
            first_up: fields.u64(),
            received_down: fields.u64(),
        };
        let (features, flags) = (fields.u32(), fields.u32());
        in_range("counter", counter, 1, MAX_NUMBER)?;
        in_range("first packet up", position.first_up, 1, MAX_NUMBER)?;
        in_range(
            "packets down received",
            position.received_down,
            0,
            MAX_NUMBER,
        )?;
        for (field, value) in [
            ("life", life),
            ("features", features.into()),
            ("flags", flags.into()),
        ] {
            if value != 0 {
                return Err(PacketError::Reserved { field });
            }
        }
        Ok(position)
    }
}

/// What the edge makes of an attempt. (SPEC 19.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Verdict {
    /// Taken up ([`Code::TAKEN_UP`]), or why not.
    pub code: Code,
    /// The highest counter that the edge has accepted.
    pub highest: u64,
    /// How long the client is to wait, in milliseconds.
    pub wait_ms: u32,
    /// The longest random time to add to that, in milliseconds.
    pub jitter_ms: u32,
    /// The run of the edge.
    pub run: [u8; 8],
    /// The handle for the next attempt.
    pub handle: Handle,
    /// The highest number up that the edge has acknowledged, as far as it knows.
    pub acknowledged_up: u64,
    /// The highest number down that the client has acknowledged, as far as the edge knows.
    pub acknowledged_down: u64,
}

image!(Verdict {
    code,
    highest,
    wait_ms,
    jitter_ms,
    run,
    handle,
    acknowledged_up,
    acknowledged_down,
});

impl Verdict {
    pub(in crate::v3) fn write(&self, out: &mut [u8; VERDICT_BYTES]) {
        let mut room = Room(out);
        room.put(&self.code.to_u16().to_le_bytes());
        room.put(&[0; 2]);
        room.put(&self.highest.to_le_bytes());
        room.put(&self.wait_ms.to_le_bytes());
        room.put(&self.jitter_ms.to_le_bytes());
        room.put(&self.run);
        room.put(&self.handle.0);
        room.put(&self.acknowledged_up.to_le_bytes());
        room.put(&self.acknowledged_down.to_le_bytes());
        // The rest is reserved and 0.
    }

    pub(in crate::v3) fn read(plain: &[u8; VERDICT_BYTES]) -> Result<Self, PacketError> {
        let mut fields = Fields(plain);
        let number = u16::from_le_bytes(fields.array());
        let _reserved: [u8; 2] = fields.array();
        let code = Code::from_u16(number).ok_or(PacketError::Code {
            code: number,
            packet: "Answer",
        })?;
        let verdict = Verdict {
            code,
            highest: fields.u64(),
            wait_ms: fields.u32(),
            jitter_ms: fields.u32(),
            run: fields.array(),
            handle: Handle(fields.array()),
            acknowledged_up: fields.u64(),
            acknowledged_down: fields.u64(),
        };
        for (field, value) in [
            ("highest counter", verdict.highest),
            ("acknowledged up", verdict.acknowledged_up),
            ("acknowledged down", verdict.acknowledged_down),
        ] {
            in_range(field, value, 0, MAX_NUMBER)?;
        }
        Ok(verdict)
    }
}

fn in_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), PacketError> {
    let is_right = (min..=max).contains(&value);
    is_right.then_some(()).ok_or(PacketError::OutOfRange {
        field,
        value,
        min,
        max,
    })
}

/// Room for the fields of a body of fixed length.
struct Room<'a>(&'a mut [u8]);

impl Room<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = core::mem::take(&mut self.0);
        let (field, rest) = room
            .split_at_mut_checked(bytes.len())
            .expect("the fields of a layout fit into its length");
        field.copy_from_slice(bytes);
        self.0 = rest;
    }
}
