//! Handles: one call at a time, and none after a panic. Also what is read from pointers of C.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::result::vl_result::{VL_PANIC, VL_WRONG_THREAD};
use crate::result::{Fault, Outcome};

const FREE: u8 = 0;
const BUSY: u8 = 1;
const DEAD: u8 = 2;

/// The maximum length of a text from C, in bytes. A longer one is taken for a pointer to something else.
const MAX_TEXT_BYTES: usize = 1 << 16;

/// Something that C owns.
#[derive(Debug)]
pub(crate) struct Handle<T> {
    state: AtomicU8,
    value: UnsafeCell<T>,
}

impl<T> Handle<T> {
    pub(crate) fn new(value: T) -> Handle<T> {
        Handle {
            state: AtomicU8::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) == BUSY
    }

    fn enter<V>(&self, act: impl FnOnce(&mut T) -> Result<V, Fault>) -> Result<V, Fault> {
        match self
            .state
            .compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => {}
            Err(DEAD) => {
                return Err(Fault::new(
                    VL_PANIC,
                    "an earlier call on this handle panicked",
                ));
            }
            Err(_) => {
                return Err(Fault::new(
                    VL_WRONG_THREAD,
                    "another call on this handle has not returned",
                ));
            }
        }
        // SAFETY: the state was FREE and is BUSY now, so no other call has a reference to the value.
        let value = unsafe { &mut *self.value.get() };
        let done = caught(|| act(value));
        let next = match &done {
            Err(fault) if fault.code == VL_PANIC => DEAD,
            _ => FREE,
        };
        self.state.store(next, Ordering::Release);
        done
    }
}

/// Runs something. A panic in it becomes an error.
pub(crate) fn caught<V>(act: impl FnOnce() -> Result<V, Fault>) -> Result<V, Fault> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(words_of(&*panic)))
}

fn words_of(panic: &(dyn Any + Send)) -> Fault {
    let says = panic.downcast_ref::<&str>().copied();
    let says = says.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::new(VL_PANIC, says.unwrap_or("a panic without words"))
}

/// Runs something that has no handle yet.
pub(crate) fn call(act: impl FnOnce() -> Outcome) -> c_int {
    caught(act).unwrap_or_else(Fault::tell)
}

/// Runs a call on a handle.
///
/// # Safety
/// `handle` is null or a live handle of this type.
pub(crate) unsafe fn with<T>(
    handle: *const Handle<T>,
    act: impl FnOnce(&mut T) -> Outcome,
) -> c_int {
    // SAFETY: as the caller says.
    let entered = unsafe { look(handle, act) };
    entered.unwrap_or_else(Fault::tell)
}

/// Runs a call on a handle that returns a value, or `otherwise` if it cannot.
///
/// # Safety
/// `handle` is null or a live handle of this type.
pub(crate) unsafe fn value_of<T, V>(
    handle: *const Handle<T>,
    otherwise: V,
    act: impl FnOnce(&mut T) -> V,
) -> V {
    // SAFETY: as the caller says.
    match unsafe { look(handle, |value| Ok(act(value))) } {
        Ok(value) => value,
        Err(fault) => {
            fault.tell();
            otherwise
        }
    }
}

/// Enters a handle.
///
/// # Safety
/// `handle` is null or a live handle of this type.
unsafe fn look<T, V>(
    handle: *const Handle<T>,
    act: impl FnOnce(&mut T) -> Result<V, Fault>,
) -> Result<V, Fault> {
    // SAFETY: as the caller says.
    match unsafe { handle.as_ref() } {
        Some(handle) => handle.enter(act),
        None => Err(Fault::argument("the handle is null")),
    }
}

/// Frees what has a handle. Null is passed over.
///
/// # Safety
/// `owner` is null or was made by [`give`], and is not used any more.
pub(crate) unsafe fn free<H, T>(owner: *mut H, handle: impl FnOnce(&H) -> &Handle<T>) -> c_int {
    call(|| {
        // SAFETY: as the caller says.
        let Some(live) = (unsafe { owner.as_ref() }) else {
            return Ok(0);
        };
        if handle(live).is_busy() {
            let says = "it is freed within a call on it";
            return Err(Fault::new(VL_WRONG_THREAD, says));
        }
        // SAFETY: it was made by `Box::into_raw`, and nobody is in a call on it.
        drop(unsafe { Box::from_raw(owner) });
        Ok(0)
    })
}

/// Puts a new handle where C wants it.
///
/// # Safety
/// `out` is null or may be written.
pub(crate) unsafe fn give<T>(
    out: *mut *mut T,
    make: impl FnOnce() -> Result<Box<T>, Fault>,
) -> c_int {
    call(|| {
        // SAFETY: as the caller says.
        let out = unsafe { place(out, "the place for the handle") }?;
        out.put(std::ptr::null_mut());
        out.put(Box::into_raw(make()?));
        Ok(0)
    })
}

/// Where C wants something. C need not have set what is there, so there is no reference to it: it is written, and never read.
#[derive(Debug)]
pub(crate) struct Place<T>(NonNull<T>);

impl<T: Copy> Place<T> {
    pub(crate) fn put(&self, value: T) {
        // SAFETY: whoever made it said that it may be written.
        unsafe { self.0.write(value) }
    }
}

/// Returns where C wants something.
///
/// # Safety
/// `out` is null, or is aligned and may be written as long as the place lives.
pub(crate) unsafe fn place<T>(out: *mut T, what: &str) -> Result<Place<T>, Fault> {
    let null = || Fault::argument(format_args!("{what} is null"));
    NonNull::new(out).map(Place).ok_or_else(null)
}

/// Puts something where C wants it. Null is passed over.
///
/// # Safety
/// `out` is null, or is aligned and may be written.
pub(crate) unsafe fn put_if<T: Copy>(out: *mut T, value: T) {
    if let Some(out) = NonNull::new(out).map(Place) {
        out.put(value);
    }
}

/// Returns what C has set and wants changed.
///
/// # Safety
/// `out` is null, or points to a value that nobody else uses as long as the reference lives.
pub(crate) unsafe fn changing<'a, T>(out: *mut T, what: &str) -> Result<&'a mut T, Fault> {
    // SAFETY: as the caller says.
    unsafe { out.as_mut() }.ok_or_else(|| Fault::argument(format_args!("{what} is null")))
}

/// Returns bytes of C.
///
/// # Safety
/// `data` is null or has `len` bytes that do not change as long as the slice lives.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Fault> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Fault::argument(format_args!("{len} bytes at null")));
    }
    if isize::try_from(len).is_err() {
        let says = format!("{len} bytes are more than an object can have");
        return Err(Fault::argument(says));
    }
    // SAFETY: as the caller says; it is not null, and not too long.
    Ok(unsafe { slice::from_raw_parts(data.cast(), len) })
}

/// Returns a text of C, or `None` for null.
///
/// # Safety
/// `text` is null or ends with a zero, and does not change as long as the text lives.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(text) };
    let length = text.count_bytes();
    if length > MAX_TEXT_BYTES {
        let says = format!("{what} has {length} bytes, {MAX_TEXT_BYTES} allowed");
        return Err(Fault::argument(says));
    }
    let wrong = |error| Fault::argument(format_args!("{what} is not UTF-8: {error}"));
    text.to_str().map(Some).map_err(wrong)
}

/// Copies bytes to where C wants them, as many as fit, and returns how many there are.
///
/// # Safety
/// `out` is null or has room for `room` bytes.
pub(crate) unsafe fn copy(from: &[u8], out: *mut u8, room: usize) -> usize {
    let length = from.len().min(room);
    if !out.is_null() && length > 0 {
        // SAFETY: both have `length` bytes, and the caller's are not ours.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), out, length) };
    }
    from.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::DONE;
    use crate::result::vl_result::VL_ARGUMENT;

    #[test]
    fn a_panic_is_an_error_and_kills_the_handle() {
        let handle = Handle::new(1);
        let raw: *const _ = &raw const handle;
        // SAFETY: it is live.
        unsafe {
            assert_eq!(with(raw, |_| panic!("on purpose")), VL_PANIC as c_int);
            assert_eq!(with(raw, |_| DONE), VL_PANIC as c_int);
            assert_eq!(value_of(raw, 7, |value| *value), 7);
        }
    }

    #[test]
    fn one_call_at_a_time_and_none_within_another() {
        let handle = Handle::new(1);
        let raw: *const _ = &raw const handle;
        // SAFETY: it is live.
        unsafe {
            let within = with(raw, |_| Ok(with(raw, |_| DONE)));
            assert_eq!(within, VL_WRONG_THREAD as c_int);
            assert_eq!(with(raw, |_| DONE), 0);
            assert_eq!(with::<u8>(std::ptr::null(), |_| DONE), VL_ARGUMENT as c_int);
        }
    }
}
