//! The machine of a client.

use std::ffi::{c_int, c_void};

use voltlane_core::client::{Client, Closed, SendError, State, TokenError};

use super::{Input, micros, put_output, random, time};
use crate::event::{Kept, vl_event, vl_ledger};
use crate::handle::{self, Handle, bytes, copy, give, place, put_if, value_of, with};
use crate::options::vl_client_options;
use crate::result::vl_result::{VL_ARGUMENT, VL_CONFIG, VL_NO_ROOM, VL_OVER, VL_TOO_LONG};
use crate::result::{DONE, Fault};

/// A client without a socket. One call on it at a time, from any thread.
///
/// Its owner opens a connection when vl_machine_client_wants_connect says so, feeds what it reads, writes what is put out, and closes the
/// connection when vl_machine_client_wants_close says so. Times are microseconds of any clock that never goes back.
#[derive(Debug)]
pub struct vl_machine_client(Handle<Machine>);

unsafe fn own(client: *const vl_machine_client) -> *const Handle<Machine> {
    // SAFETY: as the caller says.
    let client: Option<&vl_machine_client> = unsafe { client.as_ref() };
    client.map_or(std::ptr::null(), |client| &raw const client.0)
}

#[derive(Debug)]
struct Machine {
    machine: Client,
    /// The event that C has, if it has one. An idle client takes no memory for it.
    kept: Option<Box<Kept>>,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum vl_state {
    /// It waits until it tries again.
    VL_STATE_WAITING = 1,
    /// A connection is being opened.
    VL_STATE_CONNECTING,
    /// Version 2: for the edge's key.
    VL_STATE_AWAIT_KEY,
    /// Version 2: for its id.
    VL_STATE_AWAIT_ID,
    /// Version 2: for a challenge.
    VL_STATE_AWAIT_CHALLENGE,
    /// Version 2: for a Ping.
    VL_STATE_AWAIT_PING,
    /// Version 3: for a Welcome.
    VL_STATE_AWAIT_WELCOME,
    /// Version 3: for an Answer.
    VL_STATE_AWAIT_ANSWER,
    /// Version 3: for a RESUMED.
    VL_STATE_AWAIT_RESUMED,
    /// Packets go.
    VL_STATE_ESTABLISHED,
    /// It has said why it leaves.
    VL_STATE_LEAVING,
    /// The connection is to be closed.
    VL_STATE_CLOSING,
    /// The session is over.
    VL_STATE_ENDED,
    /// Another one, of a later version.
    VL_STATE_OTHER,
}

pub(crate) fn state_of(state: State) -> vl_state {
    use vl_state::*;
    match state {
        State::Waiting => VL_STATE_WAITING,
        State::Connecting => VL_STATE_CONNECTING,
        State::AwaitKey => VL_STATE_AWAIT_KEY,
        State::AwaitId => VL_STATE_AWAIT_ID,
        State::AwaitChallenge => VL_STATE_AWAIT_CHALLENGE,
        State::AwaitPing => VL_STATE_AWAIT_PING,
        State::AwaitWelcome => VL_STATE_AWAIT_WELCOME,
        State::AwaitAnswer => VL_STATE_AWAIT_ANSWER,
        State::AwaitResumed => VL_STATE_AWAIT_RESUMED,
        State::Established => VL_STATE_ESTABLISHED,
        State::Leaving => VL_STATE_LEAVING,
        State::Closing => VL_STATE_CLOSING,
        State::Ended => VL_STATE_ENDED,
        _ => VL_STATE_OTHER,
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum vl_closed {
    /// In order: everything that the peer sent was read.
    VL_CLOSED_EOF = 0,
    /// With an error, or by this side.
    VL_CLOSED_ERROR = 1,
}

pub(crate) fn fault_of_send(error: SendError) -> Fault {
    let code = match error {
        SendError::TooLong { .. } => VL_TOO_LONG,
        SendError::NoRoom => VL_NO_ROOM,
        _ => VL_OVER,
    };
    Fault::new(code, error)
}

pub(crate) fn fault_of_token(error: TokenError) -> Fault {
    let code = match error {
        TokenError::TooLong { .. } => VL_TOO_LONG,
        _ => VL_CONFIG,
    };
    Fault::new(code, error)
}

/// Makes a client that wants to connect at once. `seed` has 32 bytes that nobody can know or guess, and that were never used before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_new(
    options: *const vl_client_options,
    seed: *const u8,
    client: *mut *mut vl_machine_client,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        give(client, || {
            let options = vl_client_options::read(options)?;
            let (config, seed) = (options.config()?, random(seed)?);
            let demands_v3 = config.demands_v3();
            let mut machine = match options.saved_session()? {
                Some(_) if demands_v3 => {
                    let says = "a saved session is one of version 2, which proves no key";
                    return Err(Fault::new(VL_CONFIG, says));
                }
                Some(saved) => Client::restore(config, seed, &saved),
                None => Client::new(config, seed),
            };
            if let Some(token) = options.token()? {
                machine.set_token(token).map_err(fault_of_token)?;
            }
            let machine = Machine {
                machine,
                kept: None,
            };
            Ok(Box::new(vl_machine_client(Handle::new(machine))))
        })
    }
}

/// Frees a client. Null is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_free(client: *mut vl_machine_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { handle::free(client, |client| &client.0) }
}

/// Returns whether a connection is to be opened now, unless one is being opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_wants_connect(
    client: *const vl_machine_client,
    now_us: u64,
) -> bool {
    let now = time(now_us);
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), false, |own| own.machine.wants_connect(now)) }
}

/// The connection is open. `random` has 32 bytes of the system's randomness, others for each connection: keys are made of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_connected(
    client: *mut vl_machine_client,
    now_us: u64,
    random_bytes: *const u8,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine
                .handle_connected(time(now_us), random(random_bytes)?);
            DONE
        })
    }
}

/// The connection could not be opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_connect_failed(
    client: *mut vl_machine_client,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.handle_connect_failed(time(now_us));
            DONE
        })
    }
}

/// The connection is gone. `how` is a vl_closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_closed(
    client: *mut vl_machine_client,
    now_us: u64,
    how: c_int,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let closed = match how {
                0 => Closed::Eof,
                1 => Closed::Error,
                _ => return Err(Fault::argument("`how` is no vl_closed")),
            };
            own.machine.handle_closed(time(now_us), closed);
            DONE
        })
    }
}

/// Feeds bytes that were read. Returns 1 for an event, which may point into these bytes, and 0 when all of them are taken. Advances `data` and
/// `len`: call it again until it returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_feed(
    client: *mut vl_machine_client,
    now_us: u64,
    data: *mut *const u8,
    len: *mut usize,
    event: *mut *const vl_event,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            let mut input = Input::new(data, len)?;
            let mut rest = input.bytes()?;
            let Machine { machine, kept } = own;
            let ledgers = voltlane_core::client::Ledgers::default();
            let heard = machine.handle_bytes(time(now_us), &mut rest);
            let has_event = heard.is_some();
            match heard {
                Some(heard) => {
                    let kept = kept.get_or_insert_default();
                    kept.of_machine(heard, &ledgers);
                    out.put(kept.event());
                }
                None => *kept = None,
            }
            input.advance(rest.len());
            Ok(has_event.into())
        })
    }
}

/// Returns 1 for an event that no bytes brought: a drop, or an end. 0: none. Call it after each other call, until it returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_event(
    client: *mut vl_machine_client,
    event: *mut *const vl_event,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            let Some(heard) = own.machine.poll_event() else {
                own.kept = None;
                return Ok(0);
            };
            let ledgers = own.machine.ledgers();
            let kept = own.kept.get_or_insert_default();
            kept.of_machine(heard, &ledgers);
            out.put(kept.event());
            Ok(1)
        })
    }
}

/// Gives the bytes to write now, perhaps none. They are valid until the next call. Call it when the connection can take bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_output(
    client: *mut vl_machine_client,
    data: *mut *const u8,
    len: *mut usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            put_output(own.machine.output(), data, len)?;
            DONE
        })
    }
}

/// The connection took the first `len` bytes of the output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_written(
    client: *mut vl_machine_client,
    now_us: u64,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let offered = own.machine.output().len();
            if len > offered {
                let says = format!("{len} bytes written, {offered} were to be");
                return Err(Fault::new(VL_ARGUMENT, says));
            }
            own.machine.handle_written(time(now_us), len);
            DONE
        })
    }
}

/// Returns whether the connection is to be closed, or not to be opened any more. Then call vl_machine_client_closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_wants_close(client: *const vl_machine_client) -> bool {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), false, |own| own.machine.wants_close()) }
}

/// Returns when vl_machine_client_tick must be called unless something else happens before, in microseconds. -1: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_next_us(client: *const vl_machine_client) -> i64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), -1, |own| micros(own.machine.poll_timeout())) }
}

/// Tells the time. Once a frame is enough, or when vl_machine_client_next_us has come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_tick(
    client: *mut vl_machine_client,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.handle_timeout(time(now_us));
            DONE
        })
    }
}

/// Queues a packet. `number` gets its number, and may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_send(
    client: *mut vl_machine_client,
    data: *const c_void,
    len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let sent = own.machine.send(bytes(data, len)?).map_err(fault_of_send)?;
            put_if(number, sent);
            DONE
        })
    }
}

/// The application is done with the packet of this number, and all before: it is acknowledged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_taken(
    client: *mut vl_machine_client,
    now_us: u64,
    number: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.taken(time(now_us), number);
            DONE
        })
    }
}

/// Returns the number up to which the packets to the edge are acknowledged. In version 2: taken by the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_acknowledged(client: *const vl_machine_client) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.machine.acknowledged()) }
}

/// Says goodbye: sends what waits, and ends the session. VL_EVENT_ENDED follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_close(
    client: *mut vl_machine_client,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.close(time(now_us));
            DONE
        })
    }
}

/// Drops the connection as if the network had failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_drop_connection(
    client: *mut vl_machine_client,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.drop_connection();
            DONE
        })
    }
}

/// After an end whose code allows it, forgets the session and joins as a new client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_start_over(client: *mut vl_machine_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.machine.start_over();
            DONE
        })
    }
}

/// Sets what the client shows when it joins. In a session it is sent again, at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_set_token(
    client: *mut vl_machine_client,
    token: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let token = bytes(token, len)?;
            own.machine.set_token(token).map_err(fault_of_token)?;
            DONE
        })
    }
}

/// Returns what the client is doing: a vl_state, or 0 without a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_state(client: *const vl_machine_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| state_of(own.machine.state()) as c_int) }
}

/// Returns the id of the session, or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_id(client: *const vl_machine_client) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            own.machine.id().map_or(0, |id| id.as_u64())
        })
    }
}

/// Returns the version of the session, or the one that the next session is to have: 2 or 3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_version(client: *const vl_machine_client) -> u32 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.machine.version().number()) }
}

/// Returns the maximum length of a packet to the edge, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_max_packet(client: *const vl_machine_client) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.machine.max_packet_bytes()) }
}

/// Returns whether there is room for a packet of this length now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_has_room(
    client: *const vl_machine_client,
    len: usize,
) -> bool {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), false, |own| own.machine.has_room(len)) }
}

/// Returns the number of packets that are kept: not sent, or not acknowledged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_unacknowledged(
    client: *const vl_machine_client,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.machine.queued_packets()) }
}

/// Gives what became of the packets so far. Either place may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_ledgers(
    client: *const vl_machine_client,
    up: *mut vl_ledger,
    down: *mut vl_ledger,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let ledgers = own.machine.ledgers();
            put_ledgers(&ledgers, up, down);
            DONE
        })
    }
}

/// # Safety
/// Both places are null or may be written.
pub(crate) unsafe fn put_ledgers(
    ledgers: &voltlane_core::client::Ledgers,
    up: *mut vl_ledger,
    down: *mut vl_ledger,
) {
    // SAFETY: as the caller says.
    unsafe {
        put_if(up, ledgers.up.into());
        put_if(down, ledgers.down.into());
    }
}

/// Copies the key that the edge has proven, 33 bytes, to `out`, as much as fits into `room`. Returns its length, or 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_edge_key(
    client: *const vl_machine_client,
    out: *mut u8,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            let key = own.machine.edge_key();
            key.map_or(0, |key| copy(key.as_bytes(), out, room))
        })
    }
}

/// Copies a session of version 2 to `out`, as much as fits into `room`, so that another process can resume it. It is a secret. Returns its
/// length, 74, or 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_client_saved_session(
    client: *const vl_machine_client,
    out: *mut u8,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            let saved = own.machine.saved_session();
            saved.map_or(0, |saved| copy(&*saved.to_bytes(), out, room))
        })
    }
}
