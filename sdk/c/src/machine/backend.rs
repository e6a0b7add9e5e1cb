//! The machine of a backend.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};

use voltlane_core::ClientId;
use voltlane_core::backend::SendError;
use voltlane_core::backend::host::{Event, Host, KickError};

use super::{Input, micros, put_output, random, time};
use crate::event::{Kept, vl_event};
use crate::handle::{self, Handle, bytes, give, place, put_if, text, value_of, with};
use crate::options::vl_backend_options;
use crate::result::vl_result::{VL_ARGUMENT, VL_NO_ROOM, VL_PROTOCOL, VL_TOO_LONG};
use crate::result::{DONE, Fault, Outcome};
use crate::target::{Aim, vl_target};

/// A backend without sockets. One call on it at a time, from any thread.
///
/// Its owner accepts the edge's connection, feeds what it reads, writes what is put out, and closes the connection when
/// vl_machine_backend_wants_close says so or a feed fails.
#[derive(Debug)]
pub struct vl_machine_backend(Handle<Machine>);

unsafe fn own(backend: *const vl_machine_backend) -> *const Handle<Machine> {
    // SAFETY: as the caller says.
    let backend: Option<&vl_machine_backend> = unsafe { backend.as_ref() };
    backend.map_or(std::ptr::null(), |backend| &raw const backend.0)
}

#[derive(Debug)]
struct Machine {
    host: Host,
    kept: Kept,
    /// Events that are to be given before more bytes are looked at.
    held: VecDeque<Kept>,
}

fn fault_of(error: SendError) -> Fault {
    let code = match error {
        SendError::QueueFull => VL_NO_ROOM,
        _ => VL_TOO_LONG,
    };
    Fault::new(code, error)
}

/// Makes a backend that knows no session yet. `boot` has 32 random bytes, others in each process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_new(
    options: *const vl_backend_options,
    boot: *const u8,
    backend: *mut *mut vl_machine_backend,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        give(backend, || {
            let options = vl_backend_options::read(options)?;
            let mut config = options.host()?;
            let random = random(boot)?;
            if options.asks_for_version_3()? {
                config = config.asking(std::array::from_fn(|at| random[at]));
            }
            if let Some(secret) = options.secret()? {
                config = config.proving(secret, random);
            }
            let machine = Machine {
                host: Host::new(config),
                kept: Kept::default(),
                held: VecDeque::new(),
            };
            Ok(Box::new(vl_machine_backend(Handle::new(machine))))
        })
    }
}

/// Frees a backend. Null is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_free(backend: *mut vl_machine_backend) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { handle::free(backend, |backend| &backend.0) }
}

unsafe fn act(
    backend: *const vl_machine_backend,
    act: impl FnOnce(&mut Host) -> Result<(), Fault>,
) -> c_int {
    let act = |own: &mut Machine| -> Outcome {
        act(&mut own.host)?;
        DONE
    };
    // SAFETY: as the caller says.
    unsafe { with(own(backend), act) }
}

/// The edge has connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_connected(
    backend: *mut vl_machine_backend,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            host.handle_connected(time(now_us));
            Ok(())
        })
    }
}

/// The edge's connection is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_closed(backend: *mut vl_machine_backend) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            host.handle_closed();
            Ok(())
        })
    }
}

/// Feeds bytes that were read. Returns 1 for an event, which may point into these bytes, and 0 when all of them are taken. Advances `data` and
/// `len`: call it again until it returns 0. VL_PROTOCOL: close the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_feed(
    backend: *mut vl_machine_backend,
    now_us: u64,
    data: *mut *const u8,
    len: *mut usize,
    event: *mut *const vl_event,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            let mut input = Input::new(data, len)?;
            let mut rest = input.bytes()?;
            loop {
                if let Some(held) = own.held.pop_front() {
                    own.kept = held;
                    break;
                }
                let heard = own.host.handle_bytes(time(now_us), &mut rest);
                let heard = heard.map_err(|error| Fault::new(VL_PROTOCOL, error));
                let mut this = Kept::default();
                let first = match &heard {
                    Ok(Some(Event::Packet { id, is_first, .. })) => is_first.then_some(*id),
                    _ => None,
                };
                let (has_frame, is_told) = match heard {
                    Ok(None) => (false, false),
                    Ok(Some(event)) => (true, this.of_host(event)),
                    Err(fault) => {
                        input.advance(rest.len());
                        return Err(fault);
                    }
                };
                let precedes = own.host.pending_precedes();
                if is_told && !precedes && first.is_none() {
                    own.kept = this;
                    break;
                }
                // What the first frame of a link brought comes before it.
                while let Some(event) = own.host.poll_event() {
                    let mut pending = Kept::default();
                    if pending.of_host(event) {
                        pending.keep();
                        own.held.push_back(pending);
                    }
                }
                if let Some(id) = first {
                    let mut joined = Kept::default();
                    joined.of_first(id.as_u64());
                    own.held.push_back(joined);
                }
                if is_told {
                    this.keep();
                    own.held.push_back(this);
                }
                if !has_frame && own.held.is_empty() {
                    input.advance(rest.len());
                    return Ok(0);
                }
            }
            out.put(own.kept.event());
            input.advance(rest.len());
            Ok(1)
        })
    }
}

/// Returns 1 for an event that no bytes brought, and 0 for none. Call it after each other call, until it returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_event(
    backend: *mut vl_machine_backend,
    event: *mut *const vl_event,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            if let Some(held) = own.held.pop_front() {
                own.kept = held;
                out.put(own.kept.event());
                return Ok(1);
            }
            while let Some(heard) = own.host.poll_event() {
                if own.kept.of_host(heard) {
                    own.kept.keep();
                    out.put(own.kept.event());
                    return Ok(1);
                }
            }
            Ok(0)
        })
    }
}

/// The application is done with all events that it got: what they told is acknowledged to the edge.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_taken(
    backend: *mut vl_machine_backend,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let mark = host.mark();
            host.taken_up(time(now_us), mark);
            Ok(())
        })
    }
}

/// Gives the bytes to write now, perhaps none. They are valid until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_output(
    backend: *mut vl_machine_backend,
    data: *mut *const u8,
    len: *mut usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { act(backend, |host| put_output(host.output(), data, len)) }
}

/// The connection took the first `len` bytes of the output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_written(
    backend: *mut vl_machine_backend,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let offered = host.output().len();
            if len > offered {
                let says = format!("{len} bytes written, {offered} were to be");
                return Err(Fault::new(VL_ARGUMENT, says));
            }
            host.handle_written(len);
            Ok(())
        })
    }
}

/// Returns whether the connection is to be closed. Then call vl_machine_backend_closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_wants_close(
    backend: *const vl_machine_backend,
) -> bool {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), false, |own| own.host.wants_close()) }
}

/// Returns when vl_machine_backend_tick must be called, in microseconds. -1: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_next_us(backend: *const vl_machine_backend) -> i64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), -1, |own| micros(own.host.poll_timeout())) }
}

/// Tells the time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_tick(
    backend: *mut vl_machine_backend,
    now_us: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            host.handle_timeout(time(now_us));
            Ok(())
        })
    }
}

/// Queues a packet. `number` gets its number if it is for one client, and may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_send(
    backend: *mut vl_machine_backend,
    to: vl_target,
    data: *const c_void,
    len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let data = bytes(data, len)?;
            match to.aim()? {
                Aim::One(id) => {
                    let sent = host.send(id, data).map_err(fault_of)?;
                    put_if(number, sent);
                }
                Aim::Many(group, ids) => host
                    .send_to_many(group, &ids, None, data)
                    .map_err(fault_of)?,
            }
            Ok(())
        })
    }
}

/// Queues a packet in place of an older one that waits under the same key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_send_latest(
    backend: *mut vl_machine_backend,
    to: vl_target,
    key: u64,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let data = bytes(data, len)?;
            match to.aim()? {
                Aim::One(id) => drop(host.send_latest(id, key, data).map_err(fault_of)?),
                Aim::Many(group, ids) => host
                    .send_to_many(group, &ids, Some(key), data)
                    .map_err(fault_of)?,
            }
            Ok(())
        })
    }
}

/// Queues a packet that the edge delivers now or not at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_send_volatile(
    backend: *mut vl_machine_backend,
    to: vl_target,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let data = bytes(data, len)?;
            let sent = match to.aim()? {
                Aim::One(id) => host.send_volatile(id, data),
                Aim::Many(group, ids) => host.send_volatile_to_many(group, &ids, data),
            };
            sent.map_err(fault_of)
        })
    }
}

/// Makes a client a member of a group, whose number the application chooses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_add(
    backend: *mut vl_machine_backend,
    group: vl_target,
    id: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let added = host.add(group.group()?, ClientId::from_u64(id));
            added.map_err(|error| Fault::new(VL_NO_ROOM, error))
        })
    }
}

/// Ends a membership, if there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_remove(
    backend: *mut vl_machine_backend,
    group: vl_target,
    id: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            host.remove(group.group()?, ClientId::from_u64(id));
            Ok(())
        })
    }
}

/// Ends a session with a code (401, 405, or 500 to 699) and a text, which may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_kick(
    backend: *mut vl_machine_backend,
    id: u64,
    code: u16,
    words: *const c_char,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        act(backend, |host| {
            let words = text(words, "text")?.unwrap_or("");
            let kicked = host.kick(ClientId::from_u64(id), code, words);
            kicked.map_err(|error| {
                let code = match error {
                    KickError::QueueFull => VL_NO_ROOM,
                    KickError::Code { .. } => VL_ARGUMENT,
                    _ => VL_TOO_LONG,
                };
                Fault::new(code, error)
            })
        })
    }
}

/// Returns the maximum length of a packet to a client, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_max_packet(
    backend: *const vl_machine_backend,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), 0, |own| own.host.max_packet_bytes()) }
}

/// Returns the number down up to which everything of a client is settled: acknowledged, or given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_machine_backend_settled(
    backend: *const vl_machine_backend,
    id: u64,
) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            own.host.settled(ClientId::from_u64(id))
        })
    }
}
