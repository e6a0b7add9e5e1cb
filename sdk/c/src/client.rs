//! A client that owns its socket, and works while it is polled.

use std::ffi::{c_char, c_int, c_void};
use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
#[cfg(feature = "backend")]
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_doors::client::Builder;
use voltlane_driver::client::{Client, ConnectError};

use crate::event::{Kept, vl_event, vl_ledger};
use crate::handle::{Handle, bytes, copy, free, give, place, put_if, text, value_of, with};
use crate::machine::{fault_of_send, fault_of_token, put_ledgers};
use crate::net::{Net, NetRuntime, Signal, drive};
use crate::options::{some_time, vl_client_options};
use crate::result::vl_result::{
    VL_ARGUMENT, VL_CONFIG, VL_IO, VL_NO_ROOM, VL_OVER, VL_SESSION_IN_USE, VL_TIMED_OUT,
    VL_TOO_LONG,
};
use crate::result::{DONE, Fault};

/// A client with a socket of its own. One call on it at a time, from any thread; vl_client_wake may be called beside another.
#[derive(Debug)]
pub struct vl_client {
    handle: Handle<Own>,
    /// Beside the handle, for vl_client_wake.
    net: Arc<Net>,
}

#[derive(Debug)]
struct Own {
    client: Client,
    net: Arc<Net>,
    signal: Arc<Signal>,
    kept: Kept,
}

unsafe fn own(client: *const vl_client) -> *const Handle<Own> {
    // SAFETY: as the caller says.
    let client: Option<&vl_client> = unsafe { client.as_ref() };
    client.map_or(std::ptr::null(), |client| &raw const client.handle)
}

pub(crate) fn fault_of_io(error: std::io::Error) -> Fault {
    Fault::new(VL_IO, error)
}

/// Returns a time to wait: for ever if it is negative.
pub(crate) fn to_wait(timeout_us: i64) -> Option<Duration> {
    u64::try_from(timeout_us).ok().map(Duration::from_micros)
}

/// Returns what a future gives if it does so at once.
#[cfg(feature = "backend")]
pub(crate) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

unsafe fn builder(options: &vl_client_options) -> Result<Builder, Fault> {
    // SAFETY: as the caller says.
    unsafe {
        let address = text(options.address, "address")?;
        let address = address.ok_or_else(|| Fault::new(VL_CONFIG, "there is no address"))?;
        let mut builder = Builder::on::<NetRuntime>(address)
            .config(options.config()?)
            .start_over(options.start_over != 0)
            .give_up_after(to_wait(options.give_up_after_us));
        if let Some(address) = text(options.or_address, "or_address")? {
            builder = builder.or_address(address);
        }
        if let Some(token) = options.token()? {
            builder = builder.token(token);
        }
        if let Some(saved) = options.saved_session()? {
            builder = builder.saved(saved);
        }
        if let Some(file) = text(options.session_file, "session_file")? {
            if !options.saved.is_null() {
                let says = "a session file is in place of a saved session";
                return Err(Fault::new(VL_CONFIG, says));
            }
            builder = builder.session_file(file);
            if options.ack_when_saved != 0 {
                builder = builder.ack_when_saved();
            }
        } else if options.ack_when_saved != 0 {
            let says = "ack_when_saved needs a session_file";
            return Err(Fault::new(VL_CONFIG, says));
        }
        if let Some(every) = some_time(options.tick_us) {
            builder = builder.tick(every);
        }
        if let Some(file) = text(options.authority_file, "authority_file")? {
            builder = trusting(builder, file)?;
        }
        Ok(builder)
    }
}

/// The authorities in this file prove an edge within TLS.
#[cfg(feature = "tls")]
fn trusting(builder: Builder, file: &str) -> Result<Builder, Fault> {
    use voltlane_doors::client::TlsOptions;
    use voltlane_doors::tls::Roots;

    Ok(builder.tls(TlsOptions::default().roots(Roots::File(file.into()))))
}

#[cfg(not(feature = "tls"))]
fn trusting(_: Builder, _: &str) -> Result<Builder, Fault> {
    let says = "this library was built without TLS: an authority_file needs `make TLS=1`";
    Err(Fault::new(VL_CONFIG, says))
}

/// Makes a client. It never waits for the edge: VL_EVENT_CONNECTED or VL_EVENT_ENDED tells what came of it. A name in the address is looked up
/// within vl_client_poll, which blocks for as long as the system takes; an address in numbers is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_open(
    options: *const vl_client_options,
    client: *mut *mut vl_client,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        give(client, || {
            let options = vl_client_options::read(options)?;
            let net = Net::new().map_err(fault_of_io)?;
            let begun = net.make(|| builder(&options).map(Builder::begin))?;
            let client = begun.map_err(|error| match error {
                error @ ConnectError::SessionInUse { .. } => Fault::new(VL_SESSION_IN_USE, error),
                ConnectError::Io(error) => fault_of_io(error),
                error => Fault::new(VL_CONFIG, error),
            })?;
            let own = Own {
                client,
                net: Arc::clone(&net),
                signal: Arc::default(),
                kept: Kept::default(),
            };
            let handle = Handle::new(own);
            Ok(Box::new(vl_client { handle, net }))
        })
    }
}

/// Does what there is to do, and waits for an event at most `timeout_us` microseconds; for ever if that is negative. Returns 1 for an event, 0
/// for none, and a vl_result below 0: VL_OVER if nothing more comes.
///
/// All input and output happens here. A packet counts as acknowledged with the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_poll(
    client: *mut vl_client,
    event: *mut *const vl_event,
    timeout_us: i64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            let polled = drive(&own.net, &own.signal, to_wait(timeout_us), |cx| {
                own.client.poll_recv(cx)
            });
            match polled.map_err(fault_of_io)? {
                None => Ok(0),
                Some(None) => Err(Fault::new(VL_OVER, "the session is over")),
                Some(Some(heard)) => {
                    let id = own.client.id().as_u64();
                    own.kept.of_client(heard, id);
                    out.put(own.kept.event());
                    Ok(1)
                }
            }
        })
    }
}

/// Sends a packet once, in order, over any number of connections. It leaves with the next poll. `number` gets its number, and may be null.
/// VL_NO_ROOM if too much is unacknowledged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_send(
    client: *mut vl_client,
    data: *const c_void,
    len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let sent = own.client.try_send(bytes(data, len)?);
            let sent = sent.map_err(fault_of_send)?;
            put_if(number, sent.number);
            DONE
        })
    }
}

/// Sends a packet now or not at all: VL_NO_ROOM if there is no connection, or other packets wait for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_send_volatile(
    client: *mut vl_client,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let sent = own.client.send_volatile(bytes(data, len)?);
            match sent.map_err(fault_of_send)? {
                true => DONE,
                false => Ok(VL_NO_ROOM as c_int),
            }
        })
    }
}

/// Returns the number up to which the packets to the edge are acknowledged, after the end with what that told. In version 2: taken by the
/// connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_acknowledged(client: *const vl_client) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.client.settled()) }
}

/// Returns the number of packets that are kept: not sent, or not acknowledged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_unacknowledged(client: *const vl_client) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.client.unacknowledged()) }
}

/// Sets what the client shows when it joins. In a session it is sent again, at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_set_token(
    client: *mut vl_client,
    token: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let token = bytes(token, len)?;
            own.client.set_token(token).map_err(fault_of_token)?;
            DONE
        })
    }
}

/// After an end whose code allows it, forgets the session and begins a new one with the next poll. Otherwise VL_OVER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_start_over(client: *mut vl_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| match own.client.start_over() {
            true => DONE,
            false => Err(Fault::new(
                VL_OVER,
                "the session is not over, or its end says stop",
            )),
        })
    }
}

/// Drops the connection as if the network had failed. The client comes back by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_drop_connection(client: *mut vl_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            own.client.drop_connection();
            DONE
        })
    }
}

/// Returns the id of the session, or 0 before the first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_id(client: *const vl_client) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.client.id().as_u64()) }
}

/// Returns whether there is a connection on which packets go.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_is_connected(client: *const vl_client) -> bool {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), false, |own| own.client.is_connected()) }
}

/// Returns the version of the session: 2 or 3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_version(client: *const vl_client) -> u32 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.client.version().number()) }
}

/// Returns the maximum length of a packet to the edge, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_max_packet(client: *const vl_client) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), 0, |own| own.client.max_packet()) }
}

/// Returns the microseconds that a question to the edge and its answer took last. -1: none was asked. An edge is asked when it was silent for
/// a while, in version 3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_rtt_us(client: *const vl_client) -> i64 {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), -1, |own| {
            let rtt = own.client.rtt();
            rtt.map_or(-1, |rtt| i64::try_from(rtt.as_micros()).unwrap_or(i64::MAX))
        })
    }
}

/// Gives what became of the packets so far. Either place may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_ledgers(
    client: *const vl_client,
    up: *mut vl_ledger,
    down: *mut vl_ledger,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            put_ledgers(&own.client.ledger(), up, down);
            DONE
        })
    }
}

/// Copies the key that the edge has proven, as 66 hexadecimal digits and a zero, to `out`, as much as fits into `room`. Returns the number of
/// digits, or 0 if there is no key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_edge_key(
    client: *const vl_client,
    out: *mut c_char,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            let Some(key) = own.client.edge_key() else {
                return 0;
            };
            let digits = format!("{key}\0");
            copy(digits.as_bytes(), out.cast(), room) - 1
        })
    }
}

/// Copies a session of version 2 to `out`, as much as fits into `room`, so that another process can resume it. It is a secret. Returns its
/// length, 74, or 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_saved_session(
    client: *const vl_client,
    out: *mut u8,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            let saved = own.client.saved_session();
            saved.map_or(0, |saved| copy(&*saved.to_bytes(), out, room))
        })
    }
}

/// Saves up to 64 KiB of the application's own in the session file, in one step with the session. With ack_when_saved, the packets that came
/// so far are acknowledged with it, and those that were sent so far leave behind it. VL_IO if the file cannot be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_save(
    client: *mut vl_client,
    state: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(client), |own| {
            let saved = own.client.save(bytes(state, len)?);
            saved.map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => Fault::new(VL_TOO_LONG, error),
                ErrorKind::Unsupported => Fault::new(VL_ARGUMENT, "the client has no session_file"),
                _ => fault_of_io(error),
            })?;
            DONE
        })
    }
}

/// Copies the application's own state to `out`, as much as fits into `room`: what vl_client_save was given last, by this process or by one before
/// it. Returns its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_state(
    client: *const vl_client,
    out: *mut u8,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(client), 0, |own| {
            copy(&own.client.saved_state(), out, room)
        })
    }
}

/// Returns a descriptor for a loop of your own: when it is readable, or vl_client_next_us is over, call vl_client_poll with a timeout of 0 until
/// it returns 0. It belongs to the client. -1 without a client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_fd(client: *const vl_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), -1, |own| own.net.descriptor()) }
}

/// Returns the time until vl_client_poll must be called even if nothing happens, in microseconds. -1: for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_next_us(client: *const vl_client) -> i64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(client), -1, |own| next_us(&own.net, &own.signal)) }
}

pub(crate) fn next_us(net: &Net, signal: &Signal) -> i64 {
    if signal.is_set() {
        return 0;
    }
    net.next().map_or(-1, |left| {
        i64::try_from(left.as_micros().saturating_add(1)).unwrap_or(i64::MAX)
    })
}

/// Ends the poll that waits, or the next one, early: it returns 0. It may be called from any thread while the client is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_wake(client: *const vl_client) {
    // SAFETY: as the header asks of the caller.
    if let Some(client) = unsafe { client.as_ref() } {
        client.net.wake();
    }
}

/// Says goodbye, waits for the edge to answer at most `timeout_us` microseconds, and frees the client. Returns VL_TIMED_OUT if it was not answered
/// in time. Null is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_close(client: *mut vl_client, timeout_us: i64) -> c_int {
    if client.is_null() {
        return 0;
    }
    // SAFETY: as the header asks of the caller.
    unsafe {
        let closed = with(own(client), |own| {
            let sender = own.client.sender();
            let mut closing = pin!(sender.close());
            let done = drive(&own.net, &own.signal, to_wait(timeout_us), |cx| {
                closing.as_mut().poll(cx)
            });
            match done.map_err(fault_of_io)? {
                Some(_) => DONE,
                None => Err(Fault::new(VL_TIMED_OUT, "the goodbye was not answered")),
            }
        });
        let freed = vl_client_free(client);
        if closed == 0 { freed } else { closed }
    }
}

/// Frees a client as if the network had failed: the edge keeps its session for a while. Null is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_client_free(client: *mut vl_client) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { free(client, |client| &client.handle) }
}
