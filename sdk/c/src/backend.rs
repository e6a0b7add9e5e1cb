//! A backend that owns its sockets, and works while it is polled.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_driver::backend::{
    Backend, Builder, Everyone, Group, Joined, ListenError, Refuse, SendError, Without,
};

use crate::client::{fault_of_io, next_us, now, to_wait};
use crate::event::{Kept, vl_event, vl_ledger};
use crate::handle::{Handle, bytes, copy, free, give, place, put_if, text, value_of, with};
use crate::machine::put_ledgers;
use crate::net::{Net, NetRuntime, Signal, drive};
use crate::options::{some_time, vl_backend_options};
use crate::result::vl_result::{
    VL_ARGUMENT, VL_CONFIG, VL_IO, VL_NO_ROOM, VL_OVER, VL_TIMED_OUT, VL_TOO_LONG,
};
use crate::result::{DONE, Fault, Outcome};
use crate::target::{Aim, vl_target, vl_to_group_number};

/// A backend with sockets of its own. One call on it at a time, from any thread; vl_backend_wake may be called beside another.
#[derive(Debug)]
pub struct vl_backend {
    handle: Handle<Own>,
    /// Beside the handle, for vl_backend_wake.
    net: Arc<Net>,
}

#[derive(Debug)]
struct Own {
    backend: Backend,
    address: String,
    net: Arc<Net>,
    signal: Arc<Signal>,
    kept: Kept,
    applicants: Arc<Applicants>,
}

type Verdict = Result<String, Refuse>;

/// Clients that wait for a verdict. The driver bounds how many.
#[derive(Debug, Default)]
struct Applicants(Mutex<Desk>);

#[derive(Debug, Default)]
struct Desk {
    /// Those of whom the application was not told.
    untold: VecDeque<Joined>,
    /// Who is being judged, and the verdict once there is one.
    judged: BTreeMap<ClientId, (Option<Verdict>, Option<Waker>)>,
}

impl Applicants {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the one who waits longest of those of whom the application was not told.
    fn next(&self) -> Option<Joined> {
        self.desk().untold.pop_front()
    }

    fn judge(&self, id: u64, verdict: Verdict) {
        let waker = {
            let mut desk = self.desk();
            // Who has left meanwhile is passed over.
            let Some((found, waker)) = desk.judged.get_mut(&ClientId::from_u64(id)) else {
                return;
            };
            *found = Some(verdict);
            waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Asks for a verdict.
    async fn verify(self: Arc<Self>, joined: Joined) -> Verdict {
        /// Forgets who is not waited for any more.
        struct Application(Arc<Applicants>, ClientId);
        impl Drop for Application {
            fn drop(&mut self) {
                let mut desk = self.0.desk();
                desk.judged.remove(&self.1);
                desk.untold.retain(|joined| joined.id != self.1);
            }
        }
        let id = joined.id;
        {
            let mut desk = self.desk();
            desk.judged.insert(id, (None, None));
            desk.untold.push_back(joined);
        }
        let application = Application(self, id);
        poll_fn(|cx| {
            let mut desk = application.0.desk();
            match desk.judged.get_mut(&id) {
                Some((verdict, waker)) => match verdict.take() {
                    Some(verdict) => Poll::Ready(verdict),
                    None => {
                        *waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                },
                // Nobody has judged, and nobody is let in for want of a verdict.
                None => Poll::Ready(Err(Refuse::new(405, ""))),
            }
        })
        .await
    }
}

unsafe fn own(backend: *const vl_backend) -> *const Handle<Own> {
    // SAFETY: as the caller says.
    let backend: Option<&vl_backend> = unsafe { backend.as_ref() };
    backend.map_or(std::ptr::null(), |backend| &raw const backend.handle)
}

fn fault_of(error: SendError) -> Fault {
    let code = match error {
        SendError::TooLong { .. } | SendError::TooManyLeftOut { .. } => VL_TOO_LONG,
        SendError::NoRoom => VL_NO_ROOM,
        SendError::Ended(_) | SendError::Closed => VL_OVER,
        _ => VL_ARGUMENT,
    };
    Fault::new(code, error)
}

/// Returns what a call gave that does not wait.
fn at_once<T>(call: impl Future<Output = Result<T, SendError>>) -> Result<T, Fault> {
    match now(call) {
        Some(done) => done.map_err(fault_of),
        None => Err(Fault::new(VL_NO_ROOM, "too much waits for the link")),
    }
}

/// Leaves clients out of a target that begins with the first of them.
fn without(first: impl FnOnce(ClientId) -> Without, ids: &[ClientId]) -> Option<Without> {
    let (one, rest) = ids.split_first()?;
    Some(rest.iter().fold(first(*one), |of, id| of.without(*id)))
}

/// Makes a backend that listens, and serves one edge at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_open(
    options: *const vl_backend_options,
    backend: *mut *mut vl_backend,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        give(backend, || {
            let options = vl_backend_options::read(options)?;
            let address = text(options.address, "address")?;
            let address = address.ok_or_else(|| Fault::new(VL_CONFIG, "there is no address"))?;
            let mut builder = Builder::on::<NetRuntime>(address).config(options.host()?);
            if options.asks_for_version_3()? {
                builder = builder.ask_for_version_3();
            }
            if let Some(secret) = options.secret()? {
                builder = builder.with_secret(secret);
            }
            if let Some(every) = some_time(options.tick_us) {
                builder = builder.tick(every);
            }
            builder = builder.restore(options.restored()?);
            let applicants = Arc::<Applicants>::default();
            if options.verify != 0 {
                let desk = Arc::clone(&applicants);
                builder = builder.verify(move |joined| Arc::clone(&desk).verify(joined));
            }
            let net = Net::new().map_err(fault_of_io)?;
            let listening = net.make(|| now(builder.listen_at()));
            let listening =
                listening.ok_or_else(|| Fault::new(VL_IO, "the address was not bound at once"))?;
            let (backend, places) = listening.map_err(|error| match error {
                ListenError::Listen { .. } => Fault::new(VL_IO, error),
                error => Fault::new(VL_CONFIG, error),
            })?;
            let address = match places.first() {
                Some(place) if !address.starts_with("unix:") => place.to_string(),
                _ => address.to_owned(),
            };
            let own = Own {
                backend,
                address,
                net: Arc::clone(&net),
                signal: Arc::default(),
                kept: Kept::default(),
                applicants,
            };
            let handle = Handle::new(own);
            Ok(Box::new(vl_backend { handle, net }))
        })
    }
}

/// Copies the address at which it listens, and a zero, to `out`, as much as fits into `room`. Returns its length. With port 0 in the options
/// this is the one that the system chose.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_address(
    backend: *const vl_backend,
    out: *mut c_char,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            let text = format!("{}\0", own.address);
            copy(text.as_bytes(), out.cast(), room) - 1
        })
    }
}

/// Does what there is to do, and waits for an event at most `timeout_us` microseconds; for ever if that is negative. Returns 1 for an event, 0
/// for none, and a vl_result below 0: VL_OVER if nothing more comes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_poll(
    backend: *mut vl_backend,
    event: *mut *const vl_event,
    timeout_us: i64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let out = place(event, "`event`")?;
            out.put(std::ptr::null());
            let applicants = Arc::clone(&own.applicants);
            let polled = drive(&own.net, &own.signal, to_wait(timeout_us), |cx| {
                // They go first: packets may never end. There are no more than the driver verifies at a time, and new ones come only with
                // the events.
                if let Some(joined) = applicants.next() {
                    return Poll::Ready(Err(joined));
                }
                let polled = own.backend.poll_recv(cx).map(Ok);
                if polled.is_pending()
                    && let Some(joined) = applicants.next()
                {
                    return Poll::Ready(Err(joined));
                }
                polled
            });
            match polled.map_err(fault_of_io)? {
                None => return Ok(0),
                Some(Ok(None)) => return Err(Fault::new(VL_OVER, "the backend is closed")),
                Some(Ok(Some(heard))) => own.kept.of_backend(heard),
                Some(Err(joined)) => own.kept.of_applicant(joined),
            }
            out.put(own.kept.event());
            Ok(1)
        })
    }
}

/// Sends a packet once, in order. `number` gets its number if it is for one client, and may be null. VL_NO_ROOM if too much waits for the
/// link. To a client that has ended nothing is sent, and that is no error. It leaves with the next poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_send(
    backend: *mut vl_backend,
    to: vl_target,
    data: *const c_void,
    len: usize,
    number: *mut u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let (aim, data) = (to.aim()?, bytes(data, len)?);
            let backend = &own.backend;
            match aim {
                Aim::One(id) => {
                    let sent = at_once(backend.send(id, data))?;
                    put_if(number, sent.number);
                }
                Aim::Many(group, ids) => match (group.map(Group::from), &ids[..]) {
                    (Some(group), []) => at_once(backend.send(group, data))?,
                    (None, []) => at_once(backend.send(Everyone, data))?,
                    (Some(group), ids) => {
                        if let Some(to) = without(|id| group.without(id), ids) {
                            at_once(backend.send(to, data))?;
                        }
                    }
                    (None, ids) => {
                        if let Some(to) = without(|id| Everyone.without(id), ids) {
                            at_once(backend.send(to, data))?;
                        }
                    }
                },
            }
            DONE
        })
    }
}

/// Sends a packet in place of an older one that waits under the same key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_send_latest(
    backend: *mut vl_backend,
    to: vl_target,
    key: u64,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let (aim, data) = (to.aim()?, bytes(data, len)?);
            let backend = &own.backend;
            match aim {
                Aim::One(id) => drop(at_once(backend.send_latest(id, key, data))?),
                Aim::Many(group, ids) => match (group.map(Group::from), &ids[..]) {
                    (Some(group), []) => at_once(backend.send_latest(group, key, data))?,
                    (None, []) => at_once(backend.send_latest(Everyone, key, data))?,
                    (Some(group), ids) => {
                        if let Some(to) = without(|id| group.without(id), ids) {
                            at_once(backend.send_latest(to, key, data))?;
                        }
                    }
                    (None, ids) => {
                        if let Some(to) = without(|id| Everyone.without(id), ids) {
                            at_once(backend.send_latest(to, key, data))?;
                        }
                    }
                },
            }
            DONE
        })
    }
}

/// Sends a packet now or not at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_send_volatile(
    backend: *mut vl_backend,
    to: vl_target,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let (aim, data) = (to.aim()?, bytes(data, len)?);
            let backend = &own.backend;
            let sent = match aim {
                Aim::One(id) => backend.send_volatile(id, data),
                Aim::Many(group, ids) => match (group.map(Group::from), &ids[..]) {
                    (Some(group), []) => backend.send_volatile(group, data),
                    (None, []) => backend.send_volatile(Everyone, data),
                    (Some(group), ids) => without(|id| group.without(id), ids)
                        .map_or(Ok(()), |to| backend.send_volatile(to, data)),
                    (None, ids) => without(|id| Everyone.without(id), ids)
                        .map_or(Ok(()), |to| backend.send_volatile(to, data)),
                },
            };
            sent.map_err(fault_of)?;
            DONE
        })
    }
}

/// The members of the group of this name, which exists while it has members. Without a backend or a name, the target of nobody.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_to_group(backend: *const vl_backend, name: *const c_char) -> vl_target {
    let mut target = vl_to_group_number(u64::MAX);
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let name = text(name, "name")?.ok_or_else(|| Fault::argument("the name is null"))?;
            let group: voltlane_core::backend::host::GroupId = own.backend.group(name).into();
            target = vl_to_group_number(group.0);
            DONE
        });
    }
    target
}

unsafe fn about(
    backend: *const vl_backend,
    act: impl FnOnce(&Backend) -> Result<(), Fault>,
) -> c_int {
    let act = |own: &mut Own| -> Outcome {
        act(&own.backend)?;
        DONE
    };
    // SAFETY: as the caller says.
    unsafe { with(own(backend), act) }
}

/// Makes a client a member of a group. One that has ended is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_add(
    backend: *mut vl_backend,
    group: vl_target,
    id: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            at_once(backend.add(group.group()?.into(), ClientId::from_u64(id)))
        })
    }
}

/// Ends a membership, if there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_remove(
    backend: *mut vl_backend,
    group: vl_target,
    id: u64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            at_once(backend.remove(group.group()?.into(), ClientId::from_u64(id)))
        })
    }
}

/// Ends a session with a code (401, 405, or 500 to 699) and a text, which may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_kick(
    backend: *mut vl_backend,
    id: u64,
    code: u16,
    words: *const c_char,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            let words = text(words, "text")?.unwrap_or("");
            at_once(backend.kick(ClientId::from_u64(id), code, words))
        })
    }
}

/// Lets a client in that waits since VL_EVENT_VERIFY, with a note of at most 64 bytes, which may be null. One that has left is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_admit(
    backend: *mut vl_backend,
    id: u64,
    note: *const c_char,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let note = text(note, "note")?.unwrap_or("");
            own.applicants.judge(id, Ok(note.to_owned()));
            DONE
        })
    }
}

/// Refuses a client that waits since VL_EVENT_VERIFY, with a code (405, or 600 to 699) and a text, which may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_refuse(
    backend: *mut vl_backend,
    id: u64,
    code: u16,
    words: *const c_char,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let words = text(words, "text")?.unwrap_or("");
            own.applicants.judge(id, Err(Refuse::new(code, words)));
            DONE
        })
    }
}

/// Reads no more packets of a client, until vl_backend_unpause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_pause(backend: *mut vl_backend, id: u64) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            backend.pause(ClientId::from_u64(id));
            Ok(())
        })
    }
}

/// Goes on after vl_backend_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_unpause(backend: *mut vl_backend, id: u64) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            backend.unpause(ClientId::from_u64(id));
            Ok(())
        })
    }
}

/// Asks a client, or vl_to_everyone, to leave and to come back: it does so at a random time within `within_us` microseconds. One that is still
/// there then is closed, and so is one of version 2, which cannot be asked. Its session goes on, and nothing is lost. A link of version 2
/// cannot carry it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_ask_to_leave(
    backend: *mut vl_backend,
    who: vl_target,
    within_us: i64,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            let within = u64::try_from(within_us)
                .map_err(|_| Fault::argument("a time below 0 is no time to leave in"))?;
            let who = match who.aim()? {
                Aim::One(id) => Some(id),
                Aim::Many(None, without) if without.is_empty() => None,
                Aim::Many(..) => {
                    let says = "one client is asked to leave, or everyone";
                    return Err(Fault::argument(says));
                }
            };
            backend.ask_to_leave(who, Duration::from_micros(within));
            Ok(())
        })
    }
}

/// Notes something of a client, in at most 64 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_set_note(
    backend: *mut vl_backend,
    id: u64,
    note: *const c_char,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        about(backend, |backend| {
            let note = text(note, "note")?.unwrap_or("");
            backend.set_note(ClientId::from_u64(id), note);
            Ok(())
        })
    }
}

/// Copies the note of a client and a zero to `out`, as much as fits into `room`. Returns its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_note(
    backend: *const vl_backend,
    id: u64,
    out: *mut c_char,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            let mut note = own.backend.note(ClientId::from_u64(id));
            note.push('\0');
            copy(note.as_bytes(), out.cast(), room) - 1
        })
    }
}

/// Copies ids to `out`, as many as fit into `room`.
///
/// # Safety
/// `out` is null or has so much room.
unsafe fn copy_ids(ids: impl Iterator<Item = ClientId>, out: *mut u64, room: usize) {
    if !out.is_null() {
        for (at, id) in ids.take(room).enumerate() {
            // SAFETY: as the caller says.
            unsafe { out.add(at).write(id.as_u64()) };
        }
    }
}

/// Copies the ids of the clients that are there to `ids`, as many as fit into `room`. Returns how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_clients(
    backend: *const vl_backend,
    ids: *mut u64,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            let clients = own.backend.clients();
            copy_ids(clients.iter().map(|client| client.id), ids, room);
            clients.len()
        })
    }
}

/// Copies the ids of the members of a group to `ids`, as many as fit into `room`. Returns how many there are: 0 for a target that is no group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_members(
    backend: *const vl_backend,
    group: vl_target,
    ids: *mut u64,
    room: usize,
) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            let members = group.group().map(|group| own.backend.members(group.into()));
            let members = members.unwrap_or_default();
            copy_ids(members.iter().copied(), ids, room);
            members.len()
        })
    }
}

/// Tells whether a client that is there has a connection, and what became of its packets so far. Each place may be null. VL_OVER: it is not
/// there. Over a link of version 2 it is connected, and nobody tells what arrived at it. Its note: vl_backend_note.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_client(
    backend: *const vl_backend,
    id: u64,
    is_connected: *mut bool,
    up: *mut vl_ledger,
    down: *mut vl_ledger,
) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe {
        with(own(backend), |own| {
            let info = own.backend.client(ClientId::from_u64(id));
            let info = info.ok_or_else(|| Fault::new(VL_OVER, "the client is not there"))?;
            put_if(is_connected, info.is_connected);
            put_ledgers(&info.ledgers, up, down);
            DONE
        })
    }
}

/// Returns whether an edge is connected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_is_connected(backend: *const vl_backend) -> bool {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), false, |own| own.backend.is_connected()) }
}

/// Returns the maximum length of a packet to a client, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_max_packet(backend: *const vl_backend) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), 0, |own| own.backend.max_packet()) }
}

/// Returns the number up to which every packet to this client is settled: its application came back for more, or the packet was given up. Of
/// one of the last 65,536 that have ended it is what the end told. 0 for any other, and over a link of version 2, where nobody tells.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_acknowledged(backend: *const vl_backend, id: u64) -> u64 {
    // SAFETY: as the header asks of the caller.
    unsafe {
        value_of(own(backend), 0, |own| {
            own.backend.settled(ClientId::from_u64(id))
        })
    }
}

/// Returns the number of packets that wait to be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_queued(backend: *const vl_backend) -> usize {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), 0, |own| own.backend.queued()) }
}

/// Returns a descriptor for a loop of your own: see vl_client_fd.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_fd(backend: *const vl_backend) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), -1, |own| own.net.descriptor()) }
}

/// Returns the time until vl_backend_poll must be called even if nothing happens, in microseconds. -1: for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_next_us(backend: *const vl_backend) -> i64 {
    // SAFETY: as the header asks of the caller.
    unsafe { value_of(own(backend), -1, |own| next_us(&own.net, &own.signal)) }
}

/// Ends the poll that waits, or the next one, early: it returns 0. It may be called from any thread while the backend is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_wake(backend: *const vl_backend) {
    // SAFETY: as the header asks of the caller.
    if let Some(backend) = unsafe { backend.as_ref() } {
        backend.net.wake();
    }
}

/// Writes what waits, at most for `timeout_us` microseconds, closes the link, and frees the backend. The edge keeps its clients. Null is passed
/// over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_close(backend: *mut vl_backend, timeout_us: i64) -> c_int {
    if backend.is_null() {
        return 0;
    }
    // SAFETY: as the header asks of the caller.
    unsafe {
        let closed = with(own(backend), |own| {
            let closing_handle = own.backend.handle();
            let mut closing = pin!(closing_handle.close());
            let done = drive(&own.net, &own.signal, to_wait(timeout_us), |cx| {
                closing.as_mut().poll(cx)
            });
            match done.map_err(fault_of_io)? {
                Some(()) => DONE,
                None => Err(Fault::new(VL_TIMED_OUT, "not everything was written")),
            }
        });
        let freed = vl_backend_free(backend);
        if closed == 0 { freed } else { closed }
    }
}

/// Frees a backend as if the network had failed. The edge keeps its clients. Null is passed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vl_backend_free(backend: *mut vl_backend) -> c_int {
    // SAFETY: as the header asks of the caller.
    unsafe { free(backend, |backend| &backend.handle) }
}
