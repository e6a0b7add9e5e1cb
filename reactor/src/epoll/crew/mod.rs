//! Several futures, each with a reactor of its own, on as few threads as their work needs.
//!
//! A *tenant* is a future with its reactor. Tenants begin on one thread. A busy thread gives half of its tenants to another one, up to one
//! thread per processor, and quiet threads give theirs back (`load.rs`). A tenant takes its reactor along, so a move costs the same
//! whatever it serves: no socket is registered again, and no event is lost.
//!
//! One more future, the *carried* one, belongs to no thread. The thread that wakes it polls it: a thread of the crew does so before it
//! waits, once it has served its tenants (`claim.rs`). Its sockets and alarms are registered with the reactor of the first tenant, which
//! stays on the first thread.
//!
//! A thread with one tenant waits on that tenant's reactor. A thread with several waits on an epoll instance of its own, which has their
//! descriptors, and then checks those with events. While a thread is awake, a wake from one of its tenants to another needs no system call.

mod claim;
mod given;
mod load;
mod worker;

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use rustix::event::{EventfdFlags, epoll, eventfd};
use voltlane_driver::{Crew, Task};

use super::poller::{Poller, Wait};
use super::{Entered, sync};

use self::claim::Claim;
use self::given::Given;
use self::load::{Limits, Rest, Usage};
use self::worker::Worker;

/// The number of consecutive polls of the carried future, if it always has more to do, before the tenants have their turn.
const CARRIES_AT_ONCE: usize = 4;

/// Starts threads that run `tenants` and the `carried` future to their ends, as many as their work needs and at most one for each
/// processor.
///
/// # Errors
/// When the system has no descriptors or no thread to give.
pub fn start(tenants: Vec<Task>, carried: Task) -> io::Result<Crew> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    start_on(processors, Limits::default(), tenants, carried)
}

/// Like [`start`], with a maximum number of threads.
fn start_on(threads: usize, limits: Limits, tenants: Vec<Task>, carried: Task) -> io::Result<Crew> {
    let threads = threads.clamp(1, tenants.len().max(1));
    let tenants = tenants.into_iter().map(Tenant::new);
    let tenants = tenants.collect::<io::Result<Vec<Tenant>>>()?;
    let Some(first) = tenants.first() else {
        return Err(io::Error::other("a crew needs something to do"));
    };
    let posts = (0..threads).map(|_| Post::new());
    let shared = Arc::new(Shared {
        home: Arc::clone(&first.poller),
        running: AtomicUsize::new(tenants.len() + 1),
        posts: posts.collect::<io::Result<_>>()?,
        claim: Claim::new(),
        carried: Mutex::new(Some(carried)),
        plan: Mutex::new(Rest::new(limits)),
    });
    let post = &shared.posts[0];
    post.tenants.begin_with(tenants.len());
    // All are created before a thread runs: its tenants may accept until no descriptor is left.
    let epolls = (0..threads).map(|_| epoll::create(epoll::CreateFlags::CLOEXEC));
    let epolls = epolls.collect::<Result<Vec<OwnedFd>, _>>()?;
    let mut given = Some(tenants);
    let mut crew = Crew::new();
    for (number, epoll) in epolls.into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        let tenants = given.take().unwrap_or_default();
        crew.start(format!("shards-{number}"), move || {
            Worker::new(number, epoll, shared, limits).run(tenants)
        })?;
    }
    Ok(crew)
}

/// A future and the reactor that it takes along.
struct Tenant {
    /// `None` once it has ended. The reactor of the first tenant stays, for the carried future.
    task: Option<Task>,
    poller: Arc<Poller>,
    waker: Waker,
}

impl Tenant {
    fn new(task: Task) -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        Ok(Tenant {
            task: Some(task),
            waker: Waker::from(Arc::clone(&poller)),
            poller,
        })
    }
}

/// The state shared by all threads of a crew.
struct Shared {
    posts: Box<[Post]>,
    /// The reactor of the first tenant. Waking it wakes the first thread.
    home: Arc<Poller>,
    /// The number of futures that have not ended, including the carried one.
    running: AtomicUsize,
    claim: Claim,
    /// The carried future, for the holder of the claim.
    carried: Mutex<Option<Task>>,
    /// Held by a thread that gives tenants away, so that no two count on the same thread.
    plan: Mutex<Rest>,
}

/// The part of a thread that others see, and where they leave tenants for it.
struct Post {
    tenants: Given<Tenant>,
    /// Readable when the thread must check its post.
    wake: OwnedFd,
    /// What it used and waited for in its last window.
    used: AtomicU32,
    waited: AtomicU32,
}

impl Post {
    fn new() -> io::Result<Self> {
        Ok(Post {
            tenants: Given::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            used: AtomicU32::new(0),
            waited: AtomicU32::new(0),
        })
    }

    fn usage(&self) -> Usage {
        Usage {
            used: self.used.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
        }
    }

    fn set_usage(&self, usage: Usage) {
        self.used.store(usage.used, Ordering::Relaxed);
        self.waited.store(usage.waited, Ordering::Relaxed);
    }

    /// Makes the thread check its post.
    fn ring(&self) {
        // Fails only when the counter is at its maximum, and then the descriptor is readable already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

thread_local! {
    /// The crew of this thread, which polls the carried future before it waits.
    static CREW: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

impl Shared {
    /// Records that one of the futures has ended. All threads end with the last one.
    fn end_one(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            for post in &self.posts {
                post.ring();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// Polls the carried future if it was woken and no other thread is polling it. Returns whether it has more to do at once.
    fn carry(self: &Arc<Self>) -> bool {
        for _ in 0..CARRIES_AT_ONCE {
            if !self.claim.take() {
                return false;
            }
            self.poll_carried();
            if !self.claim.give_back() {
                return false;
            }
        }
        true
    }

    fn poll_carried(self: &Arc<Self>) {
        // Only the holder of the claim comes here. After a panic in the future it is not polled again.
        let Ok(mut carried) = self.carried.lock() else {
            return;
        };
        let Some(task) = carried.as_mut() else {
            return;
        };
        let _entered = Entered::new(Arc::clone(&self.home));
        let waker = Waker::from(Arc::clone(self));
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            *carried = None;
            self.end_one();
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.claim.want();
        if !ptr::eq(CREW.get(), Arc::as_ptr(self)) {
            self.home.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
