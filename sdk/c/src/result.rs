//! The results of calls, and the words for them.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Display;

/// What a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum vl_result {
    /// It is done.
    VL_OK = 0,
    /// There is no room for the packet now. Poll, and try again.
    VL_NO_ROOM = -1,
    /// A packet or a text is too long. It will never be taken.
    VL_TOO_LONG = -2,
    /// The session is over, or the backend is closed. Nothing more comes.
    VL_OVER = -3,
    /// Another client, of this process or another one, has the session file.
    VL_SESSION_IN_USE = -4,
    /// An option cannot be.
    VL_CONFIG = -5,
    /// Another thread is in a call on this handle, or this call is within one.
    VL_WRONG_THREAD = -6,
    /// The library has a defect: this call or an earlier one on this handle ended in the middle. The handle can only be freed.
    VL_PANIC = -7,
    /// An argument is null, or out of its range.
    VL_ARGUMENT = -8,
    /// It was not done in time.
    VL_TIMED_OUT = -9,
    /// The system refused something.
    VL_IO = -10,
    /// The peer of a backend is no edge, or broke the protocol. Close its connection.
    VL_PROTOCOL = -11,
}

use vl_result::*;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: vl_result,
    pub(crate) says: String,
}

impl Fault {
    pub(crate) fn new(code: vl_result, says: impl Display) -> Fault {
        Fault {
            code,
            says: says.to_string(),
        }
    }

    pub(crate) fn argument(says: impl Display) -> Fault {
        Fault::new(VL_ARGUMENT, says)
    }

    /// Keeps the words for `vl_last_error`, and returns the code.
    pub(crate) fn tell(self) -> c_int {
        // While a thread ends there is nowhere to keep them.
        let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = c_text(&self.says));
        self.code as c_int
    }
}

/// What a call returns: a result, or a number.
pub(crate) type Outcome = Result<c_int, Fault>;
pub(crate) const DONE: Outcome = Ok(VL_OK as c_int);

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Returns a text as C has it. It ends at its first zero.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Returns what the last failed call of this thread has to say. It is valid until the next one that fails.
#[unsafe(no_mangle)]
pub extern "C" fn vl_last_error() -> *const c_char {
    LAST_ERROR
        .try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// Returns what a result means. It is valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn vl_strerror(result: c_int) -> *const c_char {
    let text: &CStr = match result {
        0.. => c"done",
        -1 => c"no room now",
        -2 => c"too long",
        -3 => c"over",
        -4 => c"another client has the session file",
        -5 => c"an option cannot be",
        -6 => c"another thread is in a call on this handle",
        -7 => c"the library has a defect, and the handle is dead",
        -8 => c"an argument is null or out of range",
        -9 => c"not done in time",
        -10 => c"the system refused something",
        -11 => c"the peer broke the protocol",
        _ => c"unknown",
    };
    text.as_ptr()
}

/// Returns the version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn vl_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
