//! Options, as C gives them.

use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};
use std::time::Duration;

#[cfg(feature = "backend")]
use voltlane_core::ClientId;
#[cfg(feature = "backend")]
use voltlane_core::backend::host::{HostConfig, LinkSecret, Overflow};
use voltlane_core::client::{ClientConfig, SavedSession, Versions};
use voltlane_core::keys::PublicKey;

use crate::handle::{bytes, text};
use crate::result::Fault;
use crate::result::vl_result::VL_CONFIG;

/// The maximum size of options, so that garbage is not taken for a later version of them.
const MAX_OPTIONS_BYTES: usize = 4096;

/// The options of a client. Begin with VL_CLIENT_OPTIONS, which sets `size` and what is not 0 by default.
///
/// Texts end with a zero. Nothing is kept of them when the call returns.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct vl_client_options {
    /// sizeof(vl_client_options)
    pub size: u32,
    /// The versions of the protocol: 2, 3, or 0 for version 3 and version 2 with an edge that has no other.
    pub version: u32,
    /// The edge: "host:port", "unix:/path" or "unix:@name"; with the build options WS and TLS also "ws://", "tls://" and "wss://". A machine
    /// ignores it.
    pub address: *const c_char,
    /// Another address of the edge, to be tried when the first cannot be reached. Null: none.
    pub or_address: *const c_char,
    /// What the client shows when it joins, at most 4,096 bytes. It goes only to an edge that is known: by `edge_key`, by its certificate, or
    /// at a Unix socket.
    pub token: *const c_void,
    /// The length of the token.
    pub token_len: usize,
    /// The public key that the edge must prove, as 66 hexadecimal digits. Null: any.
    pub edge_key: *const c_char,
    /// Another key that it may have instead, while keys are changed. Null: none.
    pub or_edge_key: *const c_char,
    /// A session of version 2 to be resumed, as vl_client_saved_session gave it. Null: none.
    pub saved: *const c_void,
    /// The length of the saved session.
    pub saved_len: usize,
    /// Whether a new session begins by itself after one whose end allows that. A machine ignores it.
    pub start_over: u8,
    /// Whether the client goes on when somebody else has resumed its session.
    pub take_over: u8,
    /// Whether a token may go to the first edge that answers. Somebody in between can read it then.
    pub trust_first_use: u8,
    /// How long the client tries to begin its first session, in microseconds. Negative: for ever. A machine ignores it.
    pub give_up_after_us: i64,
    /// How often VL_EVENT_TICK comes, in microseconds. 0: never. A machine ignores it.
    pub tick_us: i64,
    /// The maximum length of a packet to the client. 0: 8 MiB.
    pub max_receive_bytes: u32,
    /// The capacity of the send queue in packets. 0: 8,192.
    pub queue_packets: u32,
    /// The capacity of the send queue in bytes. 0: 8 MiB.
    pub queue_bytes: usize,
    /// A PEM file with the authorities that an edge at "tls://" or "wss://" is to be proven by. Null: those that browsers trust. A machine
    /// ignores it.
    pub authority_file: *const c_char,
    /// A file that keeps the session, so that a process that begins again, however it ended, goes on with it. Nothing leaves before it is in
    /// the file, so each write waits for the disk. It is locked while the client lives, has mode 0600, and is as secret as the session's keys.
    /// Null: none. A machine ignores it.
    pub session_file: *const c_char,
    /// With a session file: whether packets count as acknowledged, and leave, with vl_client_save. Then each counts once in both directions,
    /// however often the process is killed. Otherwise packets that were taken since the file was written last come again.
    pub ack_when_saved: u8,
}

impl vl_client_options {
    const DEFAULT: Self = vl_client_options {
        size: 0,
        version: 0,
        address: std::ptr::null(),
        or_address: std::ptr::null(),
        token: std::ptr::null(),
        token_len: 0,
        edge_key: std::ptr::null(),
        or_edge_key: std::ptr::null(),
        saved: std::ptr::null(),
        saved_len: 0,
        start_over: 0,
        take_over: 0,
        trust_first_use: 0,
        give_up_after_us: 30_000_000,
        tick_us: 0,
        max_receive_bytes: 0,
        queue_packets: 0,
        queue_bytes: 0,
        authority_file: std::ptr::null(),
        session_file: std::ptr::null(),
        ack_when_saved: 0,
    };

    /// What earlier versions had.
    const EARLIER_BYTES: &[usize] = &[
        offset_of!(Self, queue_bytes) + size_of::<usize>(),
        offset_of!(Self, authority_file) + size_of::<usize>(),
    ];

    /// # Safety
    /// As that of [`read`], and its pointers are null or what the fields say.
    pub(crate) unsafe fn read(from: *const Self) -> Result<Self, Fault> {
        // SAFETY: as the caller says; integers and pointers have every pattern of bits.
        unsafe { read(from, Self::DEFAULT, Self::EARLIER_BYTES) }
    }

    /// Returns the configuration of the machine.
    ///
    /// # Safety
    /// The keys are null or texts.
    pub(crate) unsafe fn config(&self) -> Result<ClientConfig, Fault> {
        let wrong = |error: voltlane_core::ConfigError| Fault::new(VL_CONFIG, error);
        let mut config = ClientConfig::default()
            .with_versions(self.versions()?)
            .with_take_over(self.take_over != 0)
            .with_trust_first_use(self.trust_first_use != 0);
        if self.max_receive_bytes != 0 {
            config = config.with_max_receive_bytes(self.max_receive_bytes);
        }
        if self.queue_packets != 0 {
            let packets = usize::try_from(self.queue_packets).unwrap_or(usize::MAX);
            config = config.with_queue_packets(packets).map_err(wrong)?;
        }
        if self.queue_bytes != 0 {
            config = config.with_queue_bytes(self.queue_bytes).map_err(wrong)?;
        }
        // SAFETY: as the caller says.
        for key in unsafe { self.edge_keys() }? {
            config = config.with_edge_key(key_of(key)?);
        }
        Ok(config)
    }

    fn versions(&self) -> Result<Versions, Fault> {
        match self.version {
            0 => Ok(Versions::V3OrV2),
            2 => Ok(Versions::V2),
            3 => Ok(Versions::V3),
            other => {
                let says = format!("version {other} is unknown: there are 2 and 3, and 0 for both");
                Err(Fault::new(VL_CONFIG, says))
            }
        }
    }

    /// # Safety
    /// The keys are null or texts, which do not change as long as what is returned lives.
    unsafe fn edge_keys<'a>(&self) -> Result<Vec<&'a str>, Fault> {
        let mut keys = Vec::new();
        for key in [self.edge_key, self.or_edge_key] {
            // SAFETY: as the caller says.
            keys.extend(unsafe { text(key, "edge_key") }?);
        }
        Ok(keys)
    }

    /// # Safety
    /// The token is null or has its length, and does not change as long as what is returned lives.
    pub(crate) unsafe fn token<'a>(&self) -> Result<Option<&'a [u8]>, Fault> {
        if self.token.is_null() && self.token_len == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller says.
        unsafe { bytes(self.token, self.token_len) }.map(Some)
    }

    /// # Safety
    /// The saved session is null or has its length.
    pub(crate) unsafe fn saved_session(&self) -> Result<Option<SavedSession>, Fault> {
        if self.saved.is_null() && self.saved_len == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller says.
        let saved = unsafe { bytes(self.saved, self.saved_len) }?;
        let saved = SavedSession::from_bytes(saved);
        saved
            .map(Some)
            .map_err(|error| Fault::new(VL_CONFIG, error))
    }
}

fn key_of(digits: &str) -> Result<PublicKey, Fault> {
    digits.parse().map_err(|why| {
        let says = format!("an edge's key has 66 hexadecimal digits: {why}");
        Fault::new(VL_CONFIG, says)
    })
}

/// The options of a backend. Begin with VL_BACKEND_OPTIONS, which sets `size`.
#[cfg(feature = "backend")]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct vl_backend_options {
    /// sizeof(vl_backend_options)
    pub size: u32,
    /// The version of the link that the edge is asked for: 2, 3, or 0 for 2.
    pub version: u32,
    /// Where the edge comes: "host:port", "unix:/path" or "unix:@name". A machine ignores it.
    pub address: *const c_char,
    /// How often VL_EVENT_TICK comes, in microseconds. 0: never. A machine ignores it.
    pub tick_us: i64,
    /// Whether each client waits for vl_backend_admit or vl_backend_refuse, after VL_EVENT_VERIFY. A machine ignores it.
    pub verify: u8,
    /// The maximum length of a packet to a client. 0: 8 MiB.
    pub max_send_bytes: u32,
    /// The capacity of the send queue in bytes. 0: 64 MiB.
    pub queue_bytes: usize,
    /// The secret that the edge must prove, and that is proven to it: 32 to 512 bytes, those of its master.token_file. Such a link has version
    /// 3. Null: none.
    pub secret: *const c_void,
    /// The length of the secret.
    pub secret_len: usize,
    /// Where an earlier process of the application ended: it has saved what came of these packets, and they are not told again. So each packet
    /// counts once even if that process was killed. A client that is not there any more ends. Version 3 of the link; a machine ignores it.
    pub restored: *const vl_restored,
    /// How many there are.
    pub restored_len: usize,
    /// What becomes of a client for which there is no room, since it takes less than it is sent: VL_OVERFLOW_END or VL_OVERFLOW_GAP.
    pub overflow: u32,
}

/// Its session ends with 303.
#[cfg(feature = "backend")]
pub const VL_OVERFLOW_END: u32 = 0;
/// The oldest packets for it are given up, it and the backend are told with VL_EVENT_GAP, and it goes on. Over a link of version 2, and for a
/// client of version 2, the session ends in any case.
#[cfg(feature = "backend")]
pub const VL_OVERFLOW_GAP: u32 = 1;

/// What an application has saved of a client.
#[cfg(feature = "backend")]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct vl_restored {
    /// The client.
    pub id: u64,
    /// The number of its last packet that the application has saved with what came of it.
    pub number: u64,
}

#[cfg(feature = "backend")]
impl vl_backend_options {
    const DEFAULT: Self = vl_backend_options {
        size: 0,
        version: 0,
        address: std::ptr::null(),
        tick_us: 0,
        verify: 0,
        max_send_bytes: 0,
        queue_bytes: 0,
        secret: std::ptr::null(),
        secret_len: 0,
        restored: std::ptr::null(),
        restored_len: 0,
        overflow: VL_OVERFLOW_END,
    };

    /// What earlier versions had.
    const EARLIER_BYTES: &[usize] = &[
        offset_of!(Self, queue_bytes) + size_of::<usize>(),
        offset_of!(Self, restored_len) + size_of::<usize>(),
    ];

    /// # Safety
    /// As that of [`read`], and the address is null or a text.
    pub(crate) unsafe fn read(from: *const Self) -> Result<Self, Fault> {
        // SAFETY: as the caller says; integers and pointers have every pattern of bits.
        unsafe { read(from, Self::DEFAULT, Self::EARLIER_BYTES) }
    }

    pub(crate) unsafe fn secret(&self) -> Result<Option<LinkSecret>, Fault> {
        if self.secret.is_null() && self.secret_len == 0 {
            return Ok(None);
        }
        // SAFETY: as the caller says.
        let secret = unsafe { bytes(self.secret, self.secret_len) }?;
        let secret = LinkSecret::new(secret);
        secret
            .map(Some)
            .map_err(|error| Fault::new(VL_CONFIG, error))
    }

    pub(crate) unsafe fn restored(&self) -> Result<Vec<(ClientId, u64)>, Fault> {
        let length = self.restored_len.checked_mul(size_of::<vl_restored>());
        let length = length.ok_or_else(|| Fault::argument("too many clients are restored"))?;
        // SAFETY: as the caller says; `bytes` refuses null.
        unsafe { bytes(self.restored.cast(), length) }?;
        let each = (0..self.restored_len).map(|at| {
            // SAFETY: as the caller says, there are as many.
            let one = unsafe { self.restored.add(at).read_unaligned() };
            (ClientId::from_u64(one.id), one.number)
        });
        Ok(each.collect())
    }

    pub(crate) fn host(&self) -> Result<HostConfig, Fault> {
        let config = HostConfig::from(self.link()?);
        match self.overflow {
            VL_OVERFLOW_END => Ok(config),
            VL_OVERFLOW_GAP => Ok(config.with_overflow(Overflow::Gap)),
            _ => Err(Fault::new(
                VL_CONFIG,
                "overflow is neither VL_OVERFLOW_END nor VL_OVERFLOW_GAP",
            )),
        }
    }

    fn link(&self) -> Result<voltlane_core::backend::BackendConfig, Fault> {
        let mut config = voltlane_core::backend::BackendConfig::default();
        if self.max_send_bytes != 0 {
            config = config.with_max_send_bytes(self.max_send_bytes);
        }
        if self.queue_bytes != 0 {
            let wrong = |error| Fault::new(VL_CONFIG, error);
            config = config.with_queue_bytes(self.queue_bytes).map_err(wrong)?;
        }
        Ok(config)
    }

    pub(crate) fn asks_for_version_3(&self) -> Result<bool, Fault> {
        match self.version {
            0 | 2 => Ok(false),
            3 => Ok(true),
            other => {
                let says = format!("version {other} of the link is unknown: there are 2 and 3");
                Err(Fault::new(VL_CONFIG, says))
            }
        }
    }
}

/// Reads options. Those of `earlier` versions have so many bytes, and those of a later one are longer. What is between would cut a field.
///
/// # Safety
/// `from` is null, or begins with a size and has as many bytes. Every pattern of bits is a `T`.
unsafe fn read<T: Copy>(from: *const T, default: T, earlier: &[usize]) -> Result<T, Fault> {
    if from.is_null() {
        return Err(Fault::argument("the options are null"));
    }
    // SAFETY: as the caller says; options begin with their size.
    let size = unsafe { from.cast::<u32>().read_unaligned() };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let known = size_of::<T>();
    if !earlier.contains(&size) && !(known..=MAX_OPTIONS_BYTES).contains(&size) {
        let says = format!("options of {size} bytes, {known} expected: set `size` to their sizeof");
        return Err(Fault::argument(says));
    }
    let mut options = default;
    let shared = size.min(known);
    // SAFETY: `from` has `size` bytes, and `options` has `known`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            from.cast::<u8>(),
            std::ptr::from_mut(&mut options).cast::<u8>(),
            shared,
        );
    }
    // SAFETY: `from` has `size` bytes.
    let more = unsafe { bytes(from.cast::<u8>().add(shared).cast(), size - shared) }?;
    if more.iter().any(|byte| *byte != 0) {
        let says = "an option is set that this version of the library does not know";
        return Err(Fault::new(VL_CONFIG, says));
    }
    Ok(options)
}

/// Reads a time that may be missing: `None` for what is not above 0.
pub(crate) fn some_time(us: i64) -> Option<Duration> {
    let us = u64::try_from(us).ok().filter(|us| *us > 0)?;
    Some(Duration::from_micros(us))
}
