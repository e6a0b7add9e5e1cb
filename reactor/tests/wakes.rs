//! Wakes of tenants that move from one thread of a crew to another, in every interleaving of threads.

#[path = "../src/epoll/crew/given.rs"]
mod given;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}
#[path = "../src/epoll/waking.rs"]
mod waking;

use given::Given;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use waking::Waking;

/// The maximum number of preemptions in a run. Two are enough for each fault that was planted here.
const PREEMPTIONS: usize = 3;

fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(run);
}

/// A future with its reactor, that is done once it has taken what is left for it.
struct Tenant {
    number: usize,
    expects: usize,
    task: Arc<Task>,
    is_done: bool,
}

struct Task {
    waking: Waking,
    left: AtomicUsize,
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Task {
            waking: Waking::new(),
            left: AtomicUsize::new(0),
        })
    }

    /// Leaves something for the tenant, and wakes it, as any thread may.
    fn bring(&self, number: usize, crew: &Crew) {
        self.left.fetch_add(1, Relaxed);
        if self.waking.wake() {
            crew.ring(Descriptor::Tenant(number));
        }
    }
}

#[derive(Clone, Copy)]
enum Descriptor {
    /// The eventfd of a tenant's reactor. It moves together with the tenant.
    Tenant(usize),
    /// The eventfd of a thread's post.
    Post(usize),
}

/// Two threads, and what they wait on.
struct Crew {
    posts: [Given<Tenant>; 2],
    readable: Mutex<Readable>,
    changed: Condvar,
}

#[derive(Default)]
struct Readable {
    tenants: [bool; 2],
    posts: [bool; 2],
}

impl Crew {
    fn new(at_first: usize) -> Arc<Self> {
        let crew = Crew {
            posts: [Given::new(), Given::new()],
            readable: Mutex::new(Readable::default()),
            changed: Condvar::new(),
        };
        crew.posts[0].begin_with(at_first);
        Arc::new(crew)
    }

    fn ring(&self, descriptor: Descriptor) {
        let mut readable = self.readable.lock().unwrap();
        match descriptor {
            Descriptor::Tenant(number) => readable.tenants[number] = true,
            Descriptor::Post(number) => readable.posts[number] = true,
        }
        drop(readable);
        self.changed.notify_all();
    }

    /// Takes events as `epoll_wait` does, and waits for one if it `may_block`.
    fn wait(&self, thread: usize, tenants: &[Tenant], may_block: bool) {
        let mut readable = self.readable.lock().unwrap();
        loop {
            let mut any = std::mem::take(&mut readable.posts[thread]);
            for tenant in tenants {
                any |= std::mem::take(&mut readable.tenants[tenant.number]);
            }
            if any || !may_block {
                return;
            }
            readable = self.changed.wait(readable).unwrap();
        }
    }

    /// Runs a thread, as `Worker::run` does, until `ends` tenants are done on it. It gives its last tenant to the other thread if it `gives`.
    fn run(&self, thread: usize, mut tenants: Vec<Tenant>, ends: usize, mut gives: bool) {
        loop {
            for tenant in &mut tenants {
                if tenant.task.waking.take() {
                    tenant.is_done = tenant.task.left.load(Relaxed) == tenant.expects;
                }
            }
            if !gives && tenants.iter().filter(|tenant| tenant.is_done).count() == ends {
                return;
            }
            let mut blocks = true;
            for tenant in &tenants {
                blocks &= tenant.task.waking.become_waiting();
            }
            // A thread that is busy looks for more before it waits.
            self.wait(thread, &tenants, blocks && !gives);
            for tenant in &tenants {
                tenant.task.waking.become_running();
            }
            tenants.append(&mut self.posts[thread].take(tenants.len()));
            if std::mem::take(&mut gives) {
                let given = tenants.split_off(tenants.len() - 1);
                self.posts[thread].gave(1);
                self.posts[1 - thread].give(given);
                self.ring(Descriptor::Post(1 - thread));
            }
        }
    }
}

fn tenant(number: usize, expects: usize, task: &Arc<Task>) -> Tenant {
    Tenant {
        number,
        expects,
        task: Arc::clone(task),
        is_done: false,
    }
}

#[test]
fn a_tenant_that_moves_takes_every_wake_along() {
    check(|| {
        let (crew, task) = (Crew::new(1), Task::new());
        let taker = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.run(1, Vec::new(), 1, false))
        };
        let bringer = {
            let (crew, task) = (Arc::clone(&crew), Arc::clone(&task));
            thread::spawn(move || (0..2).for_each(|_| task.bring(0, &crew)))
        };
        crew.run(0, vec![tenant(0, 2, &task)], 0, true);
        taker.join().unwrap();
        bringer.join().unwrap();
        assert_eq!([crew.posts[0].count(), crew.posts[1].count()], [0, 1]);
    });
}

#[test]
fn a_thread_that_waits_for_two_tenants_is_woken_by_each() {
    check(|| {
        let (crew, tasks) = (Crew::new(2), [Task::new(), Task::new()]);
        let bringer = {
            let (crew, tasks) = (Arc::clone(&crew), tasks.clone());
            thread::spawn(move || {
                for number in [1, 0, 1] {
                    tasks[number].bring(number, &crew);
                }
            })
        };
        let tenants = vec![tenant(0, 1, &tasks[0]), tenant(1, 2, &tasks[1])];
        crew.run(0, tenants, 2, false);
        bringer.join().unwrap();
    });
}

#[test]
fn a_tenant_that_stays_hears_of_a_wake_while_its_neighbour_moves() {
    check(|| {
        let (crew, tasks) = (Crew::new(2), [Task::new(), Task::new()]);
        let taker = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.run(1, Vec::new(), 1, false))
        };
        let tenants = vec![tenant(0, 1, &tasks[0]), tenant(1, 1, &tasks[1])];
        let stays = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.run(0, tenants, 1, true))
        };
        for (number, task) in tasks.iter().enumerate() {
            task.bring(number, &crew);
        }
        taker.join().unwrap();
        stays.join().unwrap();
    });
}
