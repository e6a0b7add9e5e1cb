//! One thread of a crew.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::load::{Advice, Limits, Load, Usage};
use super::{CREW, Entered, Shared, Tenant, Wait};

/// The event data of the post in a thread's epoll instance. Tenants are numbered from 0.
const POST: u64 = u64::MAX;

/// A thread and its current tenants.
pub(super) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    tenants: Vec<Tenant>,
    /// Where it waits while it has no tenant or several.
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    wait: Wait,
    load: Load,
}

impl Worker {
    pub(super) fn new(number: usize, epoll: OwnedFd, shared: Arc<Shared>, limits: Limits) -> Self {
        Worker {
            number,
            tenants: Vec::new(),
            epoll,
            // One for each that it may have, and the post.
            events: Vec::with_capacity(shared.running.load(Ordering::Relaxed) + 1),
            shared,
            wait: Wait::default(),
            load: Load::new(limits),
        }
    }

    /// Runs its tenants, and those given to it, until all futures of the crew have ended.
    pub(super) fn run(mut self, tenants: Vec<Tenant>) -> io::Result<()> {
        CREW.set(Arc::as_ptr(&self.shared));
        self.load.restart();
        self.rearrange(|own| *own = tenants)?;
        while !self.shared.is_over() {
            // Packets down come first: they wake tenants, which are served next. Packets up are sent right after that.
            let mut has_more = self.shared.carry();
            self.poll_tenants();
            has_more |= self.shared.carry();
            self.wait(!has_more)?;
            self.take_given()?;
            self.balance()?;
        }
        Ok(())
    }

    fn poll_tenants(&mut self) {
        for tenant in &mut self.tenants {
            if !tenant.poller.take_wake() {
                continue;
            }
            let Some(task) = &mut tenant.task else {
                continue;
            };
            let _entered = Entered::new(Arc::clone(&tenant.poller));
            let mut cx = Context::from_waker(&tenant.waker);
            if task.as_mut().poll(&mut cx).is_ready() {
                tenant.task = None;
                self.shared.end_one();
            }
        }
    }

    /// Waits for events if it `may_block` and no tenant was woken, and wakes the tenants concerned.
    fn wait(&mut self, may_block: bool) -> io::Result<()> {
        match &self.tenants[..] {
            [tenant] if may_block => tenant.poller.wait(&mut self.wait),
            [tenant] => tenant.poller.look(&mut self.wait).map(drop),
            _ => self.wait_for_many(may_block),
        }
    }

    fn wait_for_many(&mut self, may_block: bool) -> io::Result<()> {
        let mut blocks = may_block;
        for tenant in &self.tenants {
            blocks &= tenant.poller.become_waiting();
        }
        let timeout = (!blocks).then(Timespec::default);
        self.events.clear();
        let room = spare_capacity(&mut self.events);
        let waited = epoll::wait(&self.epoll, room, timeout.as_ref());
        for tenant in &self.tenants {
            tenant.poller.become_running();
        }
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            // The number of the post is above those of all tenants.
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(tenant) = self.tenants.get(number) {
                tenant.poller.look(&mut self.wait)?;
            }
        }
        Ok(())
    }

    /// Takes in the tenants that other threads gave to it.
    fn take_given(&mut self) -> io::Result<()> {
        let own = self.tenants.len();
        let mut given = self.post().tenants.take(own);
        if given.is_empty() {
            return Ok(());
        }
        self.rearrange(|own| own.append(&mut given))?;
        self.load.restart();
        Ok(())
    }

    /// Gives half of its tenants away, or all of them, if the load advises it.
    fn balance(&mut self) -> io::Result<()> {
        let Some(own) = self.load.measure() else {
            return Ok(());
        };
        self.post().set_usage(own);
        if self.tenants.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        // Only threads with a smaller number, so that two never give theirs to each other.
        let quietest = shared.posts[..self.number]
            .iter()
            .enumerate()
            .filter(|(_, post)| post.tenants.count() > 0)
            .map(|(number, post)| (post.usage(), number))
            .min_by_key(|(usage, number)| (usage.used, *number));
        let is_free = |number: &usize| shared.posts[*number].tenants.count() == 0;
        let free = (0..shared.posts.len()).find(is_free);
        let free = free.filter(|_| self.tenants.len() > 1);
        let other = quietest.map(|(usage, _)| usage);
        let Ok(mut rest) = shared.plan.try_lock() else {
            // Another thread is moving tenants. The next window tells whether this is still needed.
            return Ok(());
        };
        let advice = self.load.advise(own, free.is_some(), other);
        let now = Instant::now();
        match (advice, free, quietest) {
            (Advice::Spread, Some(free), _) if rest.is_over(now) => {
                self.give(free, self.tenants.len().div_ceil(2))
            }
            (Advice::Join, _, Some((_, quietest))) => {
                rest.forget();
                self.give(quietest, 0)
            }
            (Advice::Retreat, _, Some((_, quietest))) => {
                rest.begin(now);
                self.give(quietest, 0)
            }
            _ => Ok(()),
        }
    }

    /// Gives the tenants from the one at `from` on to another thread. The caller holds the plan.
    fn give(&mut self, to: usize, from: usize) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let post = &shared.posts[to];
        let mut given = Vec::new();
        self.rearrange(|own| given = own.split_off(from))?;
        tracing::debug!(
            from = self.number,
            to,
            shards = given.len(),
            "shards move to another thread"
        );
        // It counts as busy until it has measured them, so that nobody gives it more.
        post.set_usage(Usage {
            used: 100,
            waited: 0,
        });
        post.tenants.give(given);
        post.ring();
        self.load.restart();
        Ok(())
    }

    fn post(&self) -> &super::Post {
        &self.shared.posts[self.number]
    }

    /// Changes its tenants, and the descriptors that it waits on.
    fn rearrange(&mut self, change: impl FnOnce(&mut Vec<Tenant>)) -> io::Result<()> {
        let wake = self.post().wake.as_fd();
        if let [tenant] = &self.tenants[..] {
            tenant.poller.forget_post(wake)?;
        } else {
            for tenant in &self.tenants {
                epoll::delete(&self.epoll, tenant.poller.as_fd())?;
            }
            // Not registered at the beginning.
            let _ = epoll::delete(&self.epoll, wake);
        }
        let before = self.tenants.len();
        change(&mut self.tenants);
        let wake = self.shared.posts[self.number].wake.as_fd();
        if let [tenant] = &self.tenants[..] {
            tenant.poller.watch_post(wake)?;
        } else {
            let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&self.epoll, wake, epoll::EventData::new_u64(POST), edge)?;
            for (number, tenant) in (0..).zip(&self.tenants) {
                let data = epoll::EventData::new_u64(number);
                epoll::add(
                    &self.epoll,
                    tenant.poller.as_fd(),
                    data,
                    epoll::EventFlags::IN,
                )?;
            }
        }
        // Tenants given meanwhile are already counted.
        let post = self.post();
        if self.tenants.len() < before {
            post.tenants.gave(before - self.tenants.len());
        }
        Ok(())
    }
}
