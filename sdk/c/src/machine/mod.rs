//! The machines, without sockets: bytes and times go in, bytes and events come out.

#[cfg(feature = "backend")]
mod backend;
mod client;

use std::ffi::c_void;
use std::slice;

use voltlane_core::Time;

use crate::handle::{bytes, changing, place};
use crate::result::Fault;

#[cfg(feature = "backend")]
pub use backend::*;
pub use client::*;

/// The seed of a machine, and the randomness of a connection, in bytes.
pub const VL_RANDOM_BYTES: usize = 32;

fn time(us: u64) -> Time {
    Time::from_nanos(us.saturating_mul(1_000))
}

/// Returns a deadline in microseconds, not too early, or -1.
fn micros(deadline: Option<Time>) -> i64 {
    deadline.map_or(-1, |at| {
        i64::try_from(at.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
    })
}

/// Returns 32 bytes that C gives.
unsafe fn random(from: *const u8) -> Result<[u8; VL_RANDOM_BYTES], Fault> {
    // SAFETY: as the caller says.
    let given = unsafe { bytes(from.cast::<c_void>(), VL_RANDOM_BYTES) }?;
    given
        .try_into()
        .map_err(|_| Fault::argument("32 random bytes are needed"))
}

/// The bytes that C feeds, of which the machine takes some.
struct Input<'a> {
    data: &'a mut *const u8,
    len: &'a mut usize,
}

impl<'a> Input<'a> {
    /// # Safety
    /// Both are null or set, and nobody else uses them as long as this lives.
    unsafe fn new(data: *mut *const u8, len: *mut usize) -> Result<Input<'a>, Fault> {
        // SAFETY: as the caller says.
        let (data, len) = unsafe { (changing(data, "`data`")?, changing(len, "`len`")?) };
        Ok(Input { data, len })
    }

    /// # Safety
    /// The bytes do not change as long as the slice lives.
    unsafe fn bytes<'b>(&self) -> Result<&'b [u8], Fault> {
        // SAFETY: as the caller says.
        unsafe { bytes((*self.data).cast::<c_void>(), *self.len) }
    }

    /// Only the last `left` bytes are left.
    fn advance(&mut self, left: usize) {
        let taken = self.len.saturating_sub(left);
        if taken > 0 {
            // SAFETY: the bytes are those of one object, of which this many were taken.
            *self.data = unsafe { self.data.add(taken) };
        }
        *self.len = left;
    }
}

/// Gives output to C.
///
/// # Safety
/// Both places are null or may be written.
unsafe fn put_output(output: &[u8], data: *mut *const u8, len: *mut usize) -> Result<(), Fault> {
    // SAFETY: as the caller says.
    let (data, len) = unsafe { (place(data, "`data`")?, place(len, "`len`")?) };
    let output: &[u8] = if output.is_empty() {
        // SAFETY: no bytes.
        unsafe { slice::from_raw_parts(c"".as_ptr().cast(), 0) }
    } else {
        output
    };
    data.put(output.as_ptr());
    len.put(output.len());
    Ok(())
}
