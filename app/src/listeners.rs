//! The listeners of the process: their sockets and doors, and how a reload changes them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tracing::{error, info, warn};
use voltlane_core::edge::{EdgeConfig, ListenerConfig};
use voltlane_driver::unix::{UnixFile, UnixListening, UnixPlace};
use voltlane_driver::{BoundAddresses, Runtime, SocketOptions};

use crate::accepts::{Accepts, Count};
use crate::config::{Change, Listener, ListenerName, Place, Settings};
use crate::doors::{Doors, Frame, Framed};
use crate::listen;
use crate::passed;

/// Logged when certificates that were read again are wrong.
const CERTIFICATES_STAY: &str = "the certificates in effect stay";

/// A listener of a runtime, with its number and its door.
pub(crate) struct Listening<R: Runtime> {
    /// Removed with the last socket of its listener. Fields are dropped in order, and this is the first: while the socket is open no other
    /// process takes its place, and its inode is not given to another file.
    _file: Option<Arc<UnixFile>>,
    inner: Framed<R>,
    number: usize,
    accepts: Arc<AtomicU64>,
}

impl<R: Runtime> voltlane_driver::Listener for Listening<R> {
    type Stream = <Framed<R> as voltlane_driver::Listener>::Stream;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        let accepted = ready!(self.inner.poll_accept(cx));
        if accepted.is_ok() {
            self.accepts.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(accepted)
    }

    fn number(&self) -> usize {
        self.number
    }

    fn place(&self) -> Option<SocketAddr> {
        self.inner.place()
    }

    #[cfg(feature = "upgrade")]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.socket()
    }

    fn shed(&mut self) {
        self.inner.shed();
    }
}

/// The settings that a listener gives to each of its sockets.
#[derive(Clone)]
pub(crate) struct Entrance {
    name: ListenerName,
    number: usize,
    /// The account of its connections. It keeps the account when it moves, and no other listener gets it.
    account: u16,
    options: SocketOptions,
    frame: Frame,
    accepts: Arc<AtomicU64>,
}

impl Entrance {
    /// Wraps a socket, on the thread that serves it.
    ///
    /// # Errors
    /// When the runtime cannot register it.
    pub(crate) fn listen<R: Runtime>(&self, socket: OwnSocket) -> io::Result<Listening<R>> {
        let listener = R::listener(socket.listener, self.options)?;
        Ok(Listening {
            inner: self.frame.wrap::<R>(listener),
            number: self.number,
            accepts: Arc::clone(&self.accepts),
            _file: socket.file,
        })
    }
}

/// A socket that listens, and its file if it has one.
pub(crate) struct OwnSocket {
    /// The first field, so that it is dropped before its socket, as in [`Listening`].
    file: Option<Arc<UnixFile>>,
    listener: TcpListener,
}

/// The sockets of a listener: for each shard, one at each address.
pub(crate) struct Opening {
    entrance: Entrance,
    place: Place,
    sockets: Vec<Vec<OwnSocket>>,
}

/// The sockets of one shard, each with what makes a listener of it.
pub(crate) type Sockets = Vec<(Entrance, OwnSocket)>;

impl Opening {
    /// Returns the addresses. A Unix socket has none.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if self.place.unix().is_some() {
            return Ok(Vec::new());
        }
        let of_first = self.sockets.iter().take(1).flatten();
        let addresses = of_first.map(|socket| socket.listener.local_addr());
        let mut addresses = addresses.collect::<io::Result<Vec<_>>>()?;
        // The first shard of a process that took over may have several at one address.
        addresses.dedup();
        Ok(addresses)
    }

    /// Returns where it listens: each address, or the Unix socket.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub(crate) fn places(&self) -> io::Result<Vec<String>> {
        if self.place.unix().is_some() {
            return Ok(vec![self.place.to_string()]);
        }
        let addresses = self.addresses()?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    /// Returns the name of the listener.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.entrance.name
    }

    /// Gives each shard its sockets.
    pub(crate) fn distribute(self, shards: &mut [Sockets]) {
        for (shard, sockets) in shards.iter_mut().zip(self.sockets) {
            let entrance = &self.entrance;
            shard.extend(sockets.into_iter().map(|socket| (entrance.clone(), socket)));
        }
    }
}

/// A listener whose addresses are bound.
pub(crate) struct Bound {
    entrance: Entrance,
    sockets: BoundSockets,
    settings: Listener,
}

/// The sockets of a listener before it listens.
enum BoundSockets {
    /// Addresses.
    Net(BoundAddresses),
    /// Nothing: a Unix socket is not bound before it listens, since another process would take it for a dead one.
    Unix(UnixPlace),
    /// Sockets that listen already.
    Passed(Vec<TcpListener>),
    /// Those of the process before, for each address.
    Taken(Vec<Vec<TcpListener>>),
}

fn cannot_listen(listener: &Listener, error: &io::Error) -> String {
    format!("cannot listen on {}: {error}", listener.address)
}

impl Bound {
    /// Binds every address of a listener that this machine has, checks that its Unix socket is free, or takes the sockets that were passed.
    ///
    /// # Errors
    /// Those of [`listen::bind`], of [`UnixPlace::check`](voltlane_driver::unix::UnixPlace::check) or of [`passed::listeners`], with the
    /// address.
    pub(crate) fn new(entrance: Entrance, listener: &Listener) -> Result<Bound, String> {
        let options = entrance.options;
        let sockets = match &listener.address {
            Place::Net(address) => listen::bind(address, options).map(BoundSockets::Net),
            Place::Unix(place) => place.check().map(|()| BoundSockets::Unix(place.clone())),
            Place::Passed(name) => passed::listeners(name, options).map(BoundSockets::Passed),
        };
        let sockets = sockets.map_err(|error| cannot_listen(listener, &error))?;
        Ok(Bound {
            entrance,
            sockets,
            settings: listener.clone(),
        })
    }

    /// Returns the number of addresses.
    pub(crate) fn len(&self) -> usize {
        match &self.sockets {
            BoundSockets::Net(addresses) => addresses.len(),
            BoundSockets::Unix(_) => 1,
            BoundSockets::Passed(sockets) => sockets.len(),
            BoundSockets::Taken(addresses) => addresses.len(),
        }
    }

    /// Listens with a socket for each shard at each address.
    ///
    /// # Errors
    /// Those of [`BoundAddresses::listen`].
    pub(crate) fn listen(self, shards: usize) -> Result<Opening, String> {
        let Bound {
            entrance,
            sockets,
            settings,
        } = self;
        let sockets = match sockets {
            BoundSockets::Net(addresses) => addresses.listen(shards).map(without_files),
            BoundSockets::Unix(place) => listen_at_file(&place, &settings, shards),
            BoundSockets::Passed(sockets) => share(&sockets, shards).map(without_files),
            BoundSockets::Taken(addresses) => deal(addresses, shards).map(without_files),
        };
        Ok(Opening {
            entrance,
            sockets: sockets.map_err(|error| cannot_listen(&settings, &error))?,
            place: settings.address,
        })
    }
}

fn without_files(shards: Vec<Vec<TcpListener>>) -> Vec<Vec<OwnSocket>> {
    let socket = |listener| OwnSocket {
        listener,
        file: None,
    };
    let shards = shards.into_iter();
    shards
        .map(|own| own.into_iter().map(socket).collect())
        .collect()
}

/// Gives each shard all of these sockets.
fn share(sockets: &[TcpListener], shards: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let for_shard = |_| sockets.iter().map(TcpListener::try_clone).collect();
    (0..shards).map(for_shard).collect()
}

/// Sorts the sockets of the process before by their addresses. Those of Unix sockets have none.
fn by_address(sockets: Vec<TcpListener>) -> Vec<Vec<TcpListener>> {
    let mut addresses: Vec<(Option<SocketAddr>, Vec<TcpListener>)> = Vec::new();
    for socket in sockets {
        let address = socket.local_addr().ok();
        match addresses.iter_mut().find(|(of, _)| *of == address) {
            Some((_, at)) => at.push(socket),
            None => addresses.push((address, vec![socket])),
        }
    }
    addresses.into_iter().map(|(_, at)| at).collect()
}

/// Deals the sockets of each address out to the shards. None is left out, as connections may wait there, and each shard has one of each
/// address, if need be another's.
fn deal(addresses: Vec<Vec<TcpListener>>, shards: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut dealt: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for sockets in addresses {
        let again = sockets.iter().cycle().skip(sockets.len());
        let missing = shards.saturating_sub(sockets.len());
        let again = again.take(missing).map(TcpListener::try_clone);
        let again = again.collect::<io::Result<Vec<_>>>()?;
        let places = (0..shards).cycle();
        for (shard, socket) in places.zip(sockets.into_iter().chain(again)) {
            dealt[shard].push(socket);
        }
    }
    Ok(dealt)
}

/// Listens at a Unix socket, which the shards share.
fn listen_at_file(
    place: &UnixPlace,
    settings: &Listener,
    shards: usize,
) -> io::Result<Vec<Vec<OwnSocket>>> {
    let UnixListening { listener, file, .. } =
        place.listen(&settings.options(), settings.socket_mode.0)?;
    let file = file.map(Arc::new);
    let shared = (0..shards).map(|_| {
        Ok(vec![OwnSocket {
            listener: listener.try_clone()?,
            file: file.clone(),
        }])
    });
    shared.collect()
}

/// A change of the sockets that shards have.
pub(crate) enum SocketChange {
    /// Listen at these.
    Open(Opening),
    /// Listen at these in place of those of this number, which stay where the others cannot be opened.
    Move(Opening, usize),
    /// Close those of this number. Their clients stay.
    Close(usize),
}

/// A change of the listeners of a running process.
#[derive(Default)]
pub(crate) struct ListenerChange {
    /// The changes to sockets, in the order in which they are made.
    pub(crate) sockets: Vec<SocketChange>,
    /// The numbers and the accounts of the listeners, in the order of the settings.
    numbers: Vec<(usize, u16)>,
    /// The number of their addresses, at each of which every shard has a socket.
    pub(crate) addresses: usize,
}

impl ListenerChange {
    /// Adds a later change.
    pub(crate) fn then(&mut self, later: ListenerChange) {
        self.sockets.extend(later.sockets);
        (self.numbers, self.addresses) = (later.numbers, later.addresses);
    }

    /// Puts what the machine must know of each listener at the place of its number. `rules` are those in effect: that of a number that no
    /// listener has any more stays, since sockets may be open until they are closed.
    pub(crate) fn arrange(&self, config: &mut EdgeConfig, rules: &mut Vec<ListenerConfig>) {
        let more = std::mem::take(&mut config.more_listeners);
        let all = std::iter::once(std::mem::take(&mut config.listener)).chain(more);
        for (mut of_listener, &(number, account)) in all.zip(&self.numbers) {
            of_listener.account = Some(account);
            let length = rules.len().max(number + 1);
            rules.resize_with(length, Default::default);
            rules[number] = of_listener;
        }
        let mut rules = rules.iter().cloned();
        config.listener = rules.next().unwrap_or_default();
        config.more_listeners = rules.collect();
    }

    /// Puts the name of each listener at the place of its number. That of a number that no listener has any more stays, as in
    /// [`arrange`](Self::arrange).
    pub(crate) fn name(&self, settings: &Settings, names: &mut Vec<String>) {
        for (listener, &(number, _)) in settings.listeners().zip(&self.numbers) {
            names.resize(names.len().max(number + 1), String::new());
            names[number] = listener.name.to_string();
        }
    }
}

/// The listeners in effect, and what a reload needs to change them.
pub(crate) struct Listeners {
    open: Vec<Open>,
    shards: usize,
    accepts: Accepts,
    /// The account of the next listener that is new.
    next_account: u16,
    /// Where the search for the number of a listener that is new, or moves, begins.
    next_number: usize,
}

/// The number of numbers. The next one is given before any is given again: a shard may still have a socket of an earlier listener.
const NUMBERS: usize = 1_024;

struct Open {
    settings: Listener,
    doors: Doors,
    entrance: Entrance,
    /// The files of TLS, as they were when they were last read.
    files: Vec<FileState>,
    /// When the times of its certificates were last warned of.
    warned: Option<SystemTime>,
    /// The number of its addresses.
    addresses: usize,
    /// The number that it had before it moved. A shard that could not open the sockets after it still has those before, until it moves again.
    left: Option<usize>,
}

/// The state of a file: time, inode and length. If it differs, the file has changed. `None` if it cannot be read.
type FileState = Option<(SystemTime, u64, u64)>;

/// Returns the states of the files that a listener's TLS is made of.
fn file_states(listener: &Listener) -> Vec<FileState> {
    let files = [
        &listener.certificate_file,
        &listener.key_file,
        &listener.client_ca_file,
        &listener.client_crl_file,
    ];
    let more = listener.certificate.0.iter();
    let more = more.flat_map(|own| [&own.file, &own.key]);
    let files = files.into_iter().flatten().chain(more);
    let state = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.ino(), found.len()))
    };
    files.map(state).collect()
}

/// How often a certificate that expires soon, or has expired, is told.
const DAY: Duration = Duration::from_secs(86_400);

impl Open {
    fn new(listener: &Listener, number: usize, account: u16) -> Result<Open, String> {
        let files = file_states(listener);
        let doors = Doors::open(listener)?;
        let entrance = Entrance {
            name: listener.name.clone(),
            number,
            account,
            options: listener.options(),
            frame: doors.frame(),
            accepts: Arc::default(),
        };
        // Opening them has told it.
        let now = SystemTime::now();
        let warned = (!doors.warnings(now).is_empty()).then_some(now);
        Ok(Open {
            settings: listener.clone(),
            doors,
            entrance,
            files,
            warned,
            addresses: 0,
            left: None,
        })
    }

    /// Reads certificates again if their files have changed, and warns before they expire.
    fn look(&mut self, now: SystemTime) {
        let name = &self.settings.name;
        let files = file_states(&self.settings);
        if files != self.files {
            // Also if they are wrong: whoever changes them will change them again.
            self.files = files;
            match self.doors.reload(&self.settings) {
                // Reading them has told it.
                Ok(()) => self.warned = (!self.doors.warnings(now).is_empty()).then_some(now),
                Err(error) => warn!(listener = %name, %error, "{CERTIFICATES_STAY}"),
            }
        }
        let is_told = |told: SystemTime| now.duration_since(told).is_ok_and(|age| age < DAY);
        if self.warned.is_some_and(is_told) {
            return;
        }
        let warnings = self.doors.warnings(now);
        if !warnings.is_empty() {
            self.warned = Some(now);
        }
        for warning in warnings {
            warn!(listener = %name, "{warning}");
        }
    }

    /// Returns the numbers that its sockets may have.
    fn sockets(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.entrance.number).chain(self.left)
    }

    fn bind(&mut self, listener: &Listener, shards: usize) -> Result<Opening, String> {
        let bound = Bound::new(self.entrance.clone(), listener)?;
        self.addresses = bound.len();
        bound.listen(shards)
    }
}

impl Listeners {
    /// Reads certificates, and logs what should not stay as it is.
    ///
    /// # Errors
    /// The first fault of a file, with its remedy.
    pub(crate) fn open(settings: &Settings) -> Result<Listeners, String> {
        // The machine counts under the number where it is told nothing else.
        let all = settings.listeners().zip(0..).enumerate();
        let open = all.map(|(number, (listener, account))| Open::new(listener, number, account));
        let open = open.collect::<Result<Vec<_>, _>>()?;
        let listeners = Listeners {
            next_account: u16::try_from(open.len()).unwrap_or(u16::MAX),
            next_number: open.len(),
            open,
            shards: settings.shards().get().into(),
            accepts: Accepts::default(),
        };
        listeners.count();
        Ok(listeners)
    }

    /// Binds the addresses of all listeners. One for which `taken` gives sockets that listen already has these.
    ///
    /// # Errors
    /// Those of [`Bound::new`], at the first listener that has one.
    pub(crate) fn bind(
        &mut self,
        mut taken: impl FnMut(&Listener) -> Vec<TcpListener>,
    ) -> Result<Vec<Bound>, String> {
        let open = self.open.iter_mut();
        let bound = open.map(|open| {
            let entrance = open.entrance.clone();
            let bound = match taken(&open.settings) {
                none if none.is_empty() => Bound::new(entrance, &open.settings)?,
                sockets => Bound {
                    entrance,
                    sockets: BoundSockets::Taken(by_address(sockets)),
                    settings: open.settings.clone(),
                },
            };
            open.addresses = bound.len();
            Ok(bound)
        });
        bound.collect()
    }

    /// Returns the counts of accepted connections, which stay up to date.
    pub(crate) fn accepts(&self) -> Accepts {
        self.accepts.clone()
    }

    /// Looks whether files of certificates have changed, and whether one expires soon.
    pub(crate) fn look(&mut self) {
        let now = SystemTime::now();
        self.open.iter_mut().for_each(|open| open.look(now));
        self.count();
    }

    /// Publishes which listeners there are.
    fn count(&self) {
        let open = self.open.iter();
        let counts = open.map(|open| Count {
            name: open.entrance.name.clone(),
            accepts: Arc::clone(&open.entrance.accepts),
            expires: open.doors.expires(),
            lists_expire: open.doors.lists_expire(),
            #[cfg(feature = "tls")]
            handshakes: open.doors.handshakes(),
            #[cfg(feature = "websocket")]
            refusals: open.doors.refusals(),
        });
        self.accepts.publish(counts.collect());
    }

    /// Reads the certificates again under the settings in effect, mostly because their files were renewed.
    pub(crate) fn refresh(&mut self) {
        for open in &mut self.open {
            open.files = file_states(&open.settings);
            let Open {
                settings, doors, ..
            } = open;
            if let Err(error) = doors.reload(settings) {
                error!(listener = %settings.name, %error, "{CERTIFICATES_STAY}");
            }
        }
        self.count();
    }

    /// Returns an account that none of the listeners has, neither of those that are open nor of those `before`. There are far fewer listeners
    /// than accounts.
    fn new_account(&mut self, before: &[Option<Open>]) -> u16 {
        loop {
            let account = self.next_account;
            self.next_account = account.wrapping_add(1);
            let mut open = self.open.iter().chain(before.iter().flatten());
            if open.all(|open| open.entrance.account != account) {
                return account;
            }
        }
    }

    /// Puts `change`, which is one of the settings in effect, into effect as far as it concerns listeners. What cannot be is taken back in
    /// it, each listener by itself.
    pub(crate) fn reload(&mut self, change: &mut Change) -> ListenerChange {
        let open = std::mem::take(&mut self.open).into_iter();
        let mut before: Vec<Option<Open>> = open.map(Some).collect();
        let mut done = ListenerChange::default();
        for (listener, predecessor) in &change.listeners() {
            match predecessor.map(|at| before[at].take().expect("it is continued once")) {
                Some(open) => {
                    let taken: Vec<usize> = self.numbers(&before, &done);
                    let open = self.change(open, listener, taken, change, &mut done);
                    self.open.push(open);
                }
                None => {
                    let taken = self.numbers(&before, &done);
                    let number = self.new_number(&taken);
                    let account = self.new_account(&before);
                    let opened = Open::new(listener, number, account)
                        .and_then(|mut open| Ok((open.bind(listener, self.shards)?, open)));
                    match opened {
                        Ok((opening, open)) => {
                            done.sockets.push(SocketChange::Open(opening));
                            self.open.push(open);
                        }
                        Err(error) => {
                            error!(listener = %listener.name, %error, "a new listener is left out");
                            change.refuse(&listener.name, None);
                        }
                    }
                }
            }
        }
        let mut before: Vec<Open> = before.into_iter().flatten().collect();
        if self.open.is_empty() {
            // No new one could be opened. Without any the edge would be of no use.
            let kept = before.iter().map(|open| open.settings.clone()).collect();
            change.refuse_listeners(kept);
            self.open.append(&mut before);
        }
        for gone in before {
            info!(listener = %gone.settings.name, "no longer listening");
            done.sockets.extend(gone.sockets().map(SocketChange::Close));
        }
        let open = self.open.iter().map(|open| &open.entrance);
        done.numbers = open.map(|own| (own.number, own.account)).collect();
        done.addresses = self.open.iter().map(|open| open.addresses).sum();
        self.count();
        done
    }

    /// Changes a listener that is there, all or nothing.
    fn change(
        &mut self,
        mut open: Open,
        listener: &Listener,
        mut taken: Vec<usize>,
        change: &mut Change,
        done: &mut ListenerChange,
    ) -> Open {
        taken.extend(open.sockets());
        let mut changed = Open {
            settings: listener.clone(),
            doors: open.doors,
            entrance: open.entrance.clone(),
            files: file_states(listener),
            warned: open.warned,
            addresses: open.addresses,
            left: open.left,
        };
        changed.entrance.name = listener.name.clone();
        let mut moved = None;
        if listener.address != open.settings.address {
            changed.entrance.number = self.new_number(&taken);
            // Its sockets are new.
            changed.entrance.options = listener.options();
            match changed.bind(listener, self.shards) {
                Ok(opening) => moved = Some(opening),
                Err(error) => {
                    error!(listener = %listener.name, %error, "the listener in effect stays");
                    change.refuse(&listener.name, Some(&open.settings));
                    open.doors = changed.doors;
                    return open;
                }
            }
        }
        // Last, since certificates are in effect once they are read.
        if let Err(error) = changed.doors.reload(listener) {
            change.refuse(&listener.name, Some(&open.settings));
            let keys = change.refused.join(", ");
            error!(listener = %listener.name, %error, %keys, "{CERTIFICATES_STAY}");
            open.doors = changed.doors;
            return open;
        }
        if let Some(opening) = moved {
            let move_from = open.entrance.number;
            done.sockets.push(SocketChange::Move(opening, move_from));
            // Also where the sockets in between could not be opened.
            done.sockets
                .extend(changed.left.replace(move_from).map(SocketChange::Close));
        }
        changed
    }

    /// Returns the numbers that sockets have.
    fn numbers(&self, before: &[Option<Open>], done: &ListenerChange) -> Vec<usize> {
        let open = self.open.iter().chain(before.iter().flatten());
        let open = open.flat_map(Open::sockets);
        let changing = done.sockets.iter().map(|change| match change {
            SocketChange::Open(opening) => opening.entrance.number,
            // The new one is open by then.
            SocketChange::Move(_, number) | SocketChange::Close(number) => *number,
        });
        open.chain(changing).collect()
    }

    /// Returns a number that is not taken.
    fn new_number(&mut self, taken: &[usize]) -> usize {
        let number = free_from(self.next_number, taken);
        self.next_number = number + 1;
        number
    }
}

/// Returns the first number from `next` on that is not taken. After the last comes 0.
fn free_from(next: usize, taken: &[usize]) -> usize {
    let mut numbers = (next..NUMBERS).chain(0..NUMBERS);
    let free = numbers.find(|number| !taken.contains(number));
    free.expect("there are more numbers than listeners")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_after_all_others() {
        let mut given = Vec::new();
        let mut next = 3;
        while given.len() < NUMBERS - 2 {
            let number = free_from(next, &[1, 2]);
            assert!(!given.contains(&number), "{number}");
            given.push(number);
            next = number + 1;
        }
        assert_eq!(free_from(next, &[1, 2]), 3);
    }

    /// A shard that cannot open new sockets keeps the old ones. They are closed at the next move, and when the listener goes.
    #[test]
    fn no_socket_outlives_the_next_move_of_its_listener() {
        let at = |names: &[&'static str], host: u8| {
            let listener = |name: &&'static str| Listener {
                name: ListenerName::of(name),
                address: format!("127.0.0.{host}:0").parse().expect("an address"),
                ..Listener::default()
            };
            let mut settings = Settings::default();
            settings.set_listeners(names.iter().map(listener).collect());
            settings
        };
        let mut current = at(&["a", "b"], 1);
        let mut listeners = Listeners::open(&current).expect("nothing is wrong");
        let _bound = listeners.bind(|_| Vec::new()).expect("free ports");
        let mut reload = |read: Settings| {
            let mut change = Change::between(&current, read);
            let done = listeners.reload(&mut change);
            current = change.settings;
            let text = |change: &SocketChange| match change {
                SocketChange::Open(opening) => format!("open {}", opening.entrance.number),
                SocketChange::Move(opening, from) => {
                    format!("move {from} to {}", opening.entrance.number)
                }
                SocketChange::Close(number) => format!("close {number}"),
            };
            done.sockets.iter().map(text).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(reload(at(&["a", "b"], 2)), "move 0 to 2, move 1 to 3");
        assert_eq!(
            reload(at(&["a", "b"], 3)),
            "move 2 to 4, close 0, move 3 to 5, close 1"
        );
        assert_eq!(reload(at(&["a"], 3)), "close 5, close 3");
        assert_eq!(reload(at(&["a"], 4)), "move 4 to 6, close 2");
    }
}
