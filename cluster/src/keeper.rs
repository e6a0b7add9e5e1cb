//! The thread that drives a lease over an engine.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bans::{BanEvent, Bans, Change, MAX_WAITING, SharedBan, may_be_shared};
use crate::engine::{Answer, Call, CallId, Engine, EngineError, Request};
use crate::lease::{Event, Lease, LeaseConfig, Moment, Standing};
use crate::record::ClusterName;

/// How long giving back may take at the end. (SPEC 43.6)
pub const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(2);

/// What an edge has become, for its record: its run, and whether it has a link.
pub type Look = Box<dyn FnMut() -> (Option<u64>, bool) + Send>;

/// Does what other edges have changed of the shared bans. Returns false if it could not: it is asked again.
pub type Adopt = Box<dyn FnMut(&[Change]) -> bool + Send>;

/// Is told what has happened to the shared bans.
pub type TellOfBans = Box<dyn FnMut(&BanEvent) + Send>;

/// Why a home was not taken in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// Another process has it.
    #[error("{holder} has it, and renews its lease")]
    Held {
        /// That process.
        holder: String,
    },
    /// The engine does not do what it is asked.
    #[error("{0}")]
    Trouble(String),
    /// There is no word of it yet.
    #[error("there was not enough time")]
    Time,
}

#[derive(Default)]
struct Orders {
    look: Option<Look>,
    share: Option<Share>,
    /// At most [`MAX_WAITING`].
    changes: Vec<Change>,
    give_back: bool,
}

/// What begins the sharing of bans.
struct Share {
    known: Vec<SharedBan>,
    adopt: Adopt,
    tell: TellOfBans,
}

/// The shared bans, as others may look at them.
#[derive(Default)]
struct Shown {
    known: BTreeMap<IpNet, SharedBan>,
    refused: u64,
    /// Whether they are shared.
    is_shared: bool,
}

struct State {
    shown: Shown,
    standing: Standing,
    term: Option<u32>,
    holder: Option<String>,
    trouble: Option<String>,
    waker: Option<Waker>,
    orders: Orders,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a call, and waits for its answer. An engine that cannot be reached is tried again, up to `tries` times, `within` the time.
///
/// # Errors
/// Those of the last try.
pub fn ask(engine: &mut impl Engine, call: &Call, tries: usize, within: Duration) -> Answer {
    let began = Instant::now();
    let mut answer = Err(EngineError::Late);
    for number in 0..tries.max(1) as u64 {
        let id = CallId::new(number);
        let call = call.clone();
        engine.call(began.elapsed(), Request { id, call });
        answer = loop {
            match engine.poll(began.elapsed()) {
                Some((answered, answer)) if answered == id => break answer,
                Some(_) => {}
                None if began.elapsed() >= within => break Err(EngineError::Late),
                None => {
                    let due = engine.poll_timeout().unwrap_or(within).min(within);
                    rest(engine, None, due.saturating_sub(began.elapsed()).into());
                }
            }
        };
        let is_gone = matches!(answer, Err(EngineError::Unreachable(_) | EngineError::Late));
        if !is_gone || began.elapsed() >= within {
            break;
        }
    }
    answer
}

/// Waits until the engine or the pipe can be read, or until so much time is over.
fn rest(engine: &impl Engine, woken: Option<&UnixStream>, left: Option<Duration>) {
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let woken = woken.map(|woken| PollFd::new(woken, PollFlags::IN));
    let mut fds: Vec<_> = woken.into_iter().collect();
    if let Some((socket, waits)) = engine.socket() {
        let flags = match waits {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        fds.push(PollFd::from_borrowed_fd(socket, flags));
    }
    // An interrupted wait is a turn for nothing.
    let _ = poll(&mut fds, left.as_ref());
}

/// Keeps the lease of a home, in a thread of its own. When it is dropped, the home is given back.
pub struct Keeper {
    shared: Arc<Shared>,
    wake: Arc<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// Shares bans by the thread of a [`Keeper`]. It may outlive that, and then does nothing. Cheap to clone.
#[derive(Clone)]
pub struct Teller {
    shared: Arc<Shared>,
    wake: Arc<UnixStream>,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}

impl Teller {
    /// Begins to share, once. `known` are bans that were shared when this edge ended, and that it has in effect. `adopt` and `tell` are
    /// called in the thread.
    pub fn begin(&self, known: Vec<SharedBan>, adopt: Adopt, tell: TellOfBans) {
        let mut state = self.shared.lock();
        state.orders.share = Some(Share { known, adopt, tell });
        state.shown.is_shared = true;
        drop(state);
        wake(&self.wake);
    }

    /// Tells the others of a change of this edge, now or once the engine can be used. It waits for nothing. Returns false if it is not
    /// told: it is not shared, [`may_be_shared`] says no, or too many changes wait.
    #[must_use]
    pub fn tell(&self, change: Change) -> bool {
        let network = match &change {
            Change::Ban(ban) => ban.network,
            Change::Lift(network) => *network,
        };
        let mut state = self.shared.lock();
        let has_room = state.orders.changes.len() < MAX_WAITING && !state.is_over;
        if !state.shown.is_shared || !has_room || !may_be_shared(&network) {
            return false;
        }
        match &change {
            Change::Ban(ban) => state.shown.known.insert(network, ban.clone()),
            Change::Lift(network) => state.shown.known.remove(network),
        };
        state.orders.changes.push(change);
        drop(state);
        wake(&self.wake);
        true
    }

    /// Returns the shared bans that this edge has in effect, by their networks.
    #[must_use]
    pub fn known(&self) -> BTreeMap<IpNet, SharedBan> {
        self.shared.lock().shown.known.clone()
    }

    /// Returns how many bans are shared, and how many were refused. `None`: nothing is shared.
    #[must_use]
    pub fn counts(&self) -> Option<(usize, u64)> {
        let shown = &self.shared.lock().shown;
        shown
            .is_shared
            .then_some((shown.known.len(), shown.refused))
    }
}

fn wake(pipe: &UnixStream) {
    // A full pipe wakes it as well.
    let _ = (&mut &*pipe).write(&[0]);
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Begins to take the home. `tell` is called for each event, in the thread.
    ///
    /// # Errors
    /// When the system gives no thread, or no pipe to wake it.
    pub fn start(
        config: LeaseConfig,
        engine: impl Engine + Send + 'static,
        tell: impl FnMut(&Event) + Send + 'static,
    ) -> io::Result<Keeper> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                shown: Shown::default(),
                standing: Standing::Waits,
                term: None,
                holder: None,
                trouble: None,
                waker: None,
                orders: Orders::default(),
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let began = Instant::now();
        let work = Work {
            shared: Arc::clone(&shared),
            woken,
            began,
            cluster: config.cluster.clone(),
            seed: config.seed,
            lease: Lease::new(moment(began), config),
            bans: None,
            engine,
            tell,
            look: None,
            gives_back_until: None,
        };
        let thread = thread::Builder::new().name("engine".into());
        let thread = thread.spawn(move || work.run())?;
        Ok(Keeper {
            shared,
            wake: Arc::new(wake),
            thread: Some(thread),
        })
    }

    /// Waits until the home is held, and returns its term.
    ///
    /// # Errors
    /// Why it is not held `within` the time. `None`: the wait has no bound.
    pub fn wait(&self, within: Option<Duration>) -> Result<u32, NotTaken> {
        let until = within.map(|within| Instant::now() + within);
        let mut state = self.shared.lock();
        loop {
            if let Some(term) = state.term {
                return Ok(term);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if state.is_over || left.is_some_and(|left| left.is_zero()) {
                return Err(match (&state.trouble, &state.holder) {
                    (Some(trouble), _) => NotTaken::Trouble(trouble.clone()),
                    (None, Some(holder)) => NotTaken::Held {
                        holder: holder.clone(),
                    },
                    (None, None) => NotTaken::Time,
                });
            }
            state = match left {
                None => {
                    let waited = self.shared.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(left) => {
                    let waited = self.shared.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Has the records say what the edge has become. `look` is called in the thread, before each renewal.
    pub fn watch(&self, look: Look) {
        self.shared.lock().orders.look = Some(look);
        self.wake();
    }

    /// Returns how the lease is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.lock().standing
    }

    /// Ready once another process has the home for certain. The task is woken then.
    pub fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.standing == Standing::Lost {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Gives the home back, so that the next process does not wait. It takes no longer than [`GIVE_BACK_TIMEOUT`] and what the engine is
    /// at. Returns whether it was given back.
    pub fn give_back(mut self) -> bool {
        self.end();
        self.standing() == Standing::GivenBack
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.lock().orders.give_back = true;
        self.wake();
        let _ = thread.join();
    }

    fn wake(&self) {
        wake(&self.wake);
    }

    /// Returns what shares bans.
    #[must_use]
    pub fn teller(&self) -> Teller {
        Teller {
            shared: Arc::clone(&self.shared),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn moment(began: Instant) -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment {
        at: began.elapsed(),
        unix: since.map_or(0, |since| since.as_secs()),
    }
}

/// What the thread has.
struct Work<E, F> {
    shared: Arc<Shared>,
    woken: UnixStream,
    began: Instant,
    cluster: ClusterName,
    seed: u64,
    lease: Lease,
    bans: Option<(Bans, Adopt, TellOfBans)>,
    engine: E,
    tell: F,
    look: Option<Look>,
    gives_back_until: Option<Duration>,
}

impl<E: Engine, F: FnMut(&Event)> Work<E, F> {
    fn run(mut self) {
        while !self.turn() {
            self.rest();
        }
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.changed.notify_all();
    }

    /// Does what is due. Returns whether nothing is left to do.
    fn turn(&mut self) -> bool {
        let orders = std::mem::take(&mut self.shared.lock().orders);
        if orders.look.is_some() {
            self.look = orders.look;
        }
        let now = moment(self.began);
        if let Some(Share { known, adopt, tell }) = orders.share {
            let bans = Bans::new(now, self.cluster.clone(), known, self.seed);
            self.bans = Some((bans, adopt, tell));
        }
        if let Some((bans, ..)) = &mut self.bans {
            for change in orders.changes {
                // What has no room stays at this edge, as the log says of those that are refused.
                bans.tell(now, change);
            }
        }
        if orders.give_back && self.gives_back_until.is_none() {
            let now = moment(self.began);
            self.gives_back_until = Some(now.at + GIVE_BACK_TIMEOUT);
            self.lease.give_back(now);
        }
        loop {
            while let Some((id, answer)) = self.engine.poll(self.began.elapsed()) {
                // Opening a connection takes time.
                let now = moment(self.began);
                match &mut self.bans {
                    Some((bans, ..)) if bans.has_made(id) => bans.handle_answer(now, id, answer),
                    _ => self.lease.handle_answer(now, id, answer),
                }
            }
            let is_due = self
                .lease
                .poll_timeout()
                .is_some_and(|at| at <= self.began.elapsed());
            if is_due && let Some(look) = &mut self.look {
                let (run, is_linked) = look();
                self.lease.describe(run, is_linked);
            }
            let now = moment(self.began);
            let request = self.lease.poll_call(now);
            // The lease goes first.
            let request = request.or_else(|| self.bans.as_mut()?.0.poll_call(now));
            match request {
                Some(request) => self.engine.call(now.at, request),
                None => break,
            }
        }
        self.share();
        let events: Vec<Event> = std::iter::from_fn(|| self.lease.poll_event()).collect();
        let standing = self.lease.standing();
        let mut state = self.shared.lock();
        state.standing = standing;
        state.term = self.lease.term();
        state.trouble = self.lease.trouble().map(ToString::to_string);
        for event in &events {
            if let Event::Waits { holder, .. } = event {
                state.holder = Some(holder.label.clone());
            }
        }
        let waker = match standing {
            Standing::Lost => state.waker.take(),
            _ => None,
        };
        drop(state);
        // Whoever is told of an event finds the state that it has made.
        for event in &events {
            (self.tell)(event);
        }
        self.shared.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        let is_late = self
            .gives_back_until
            .is_some_and(|until| self.began.elapsed() >= until);
        is_late || matches!(standing, Standing::Lost | Standing::GivenBack)
    }

    /// Has the edge do what others have changed of the bans.
    fn share(&mut self) {
        let Some((bans, adopt, tell)) = &mut self.bans else {
            return;
        };
        let changes = bans.changes(moment(self.began));
        bans.looked();
        if !changes.is_empty() && adopt(&changes) {
            bans.done(&changes);
        }
        while let Some(event) = bans.poll_event() {
            tell(&event);
        }
        let mut state = self.shared.lock();
        // What this edge has changed meanwhile is shown already.
        if state.orders.changes.is_empty() {
            state.shown.known.clone_from(bans.known());
        }
        state.shown.refused = bans.refused();
    }

    /// Waits for an order, for the engine, or for the next time that something is due.
    fn rest(&mut self) {
        let due = [
            self.lease.poll_timeout(),
            self.engine.poll_timeout(),
            self.gives_back_until,
            self.bans.as_ref().map(|(bans, ..)| bans.poll_timeout()),
        ];
        let due = due.into_iter().flatten().min();
        let left = due.map(|due| due.saturating_sub(self.began.elapsed()));
        rest(&self.engine, Some(&self.woken), left);
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(1..)) {}
    }
}
