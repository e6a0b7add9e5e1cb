//! The bans that the edges of a cluster share, as a state machine. (SPEC 43.9)
//!
//! Its user carries each [`Request`] of [`poll_call`](Bans::poll_call) to an engine, and each answer to
//! [`handle_answer`](Bans::handle_answer). What the others have changed comes from [`changes`](Bans::changes).

mod page;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;

use self::page::{BadEntry, Page};
pub use self::page::{
    CLOCK_SLACK_SECS, MAX_PAGES, MAX_SHARED_BANS, MAX_SHARED_NOTE_BYTES, MAX_SHARED_SECS,
    SharedBan, may_be_shared,
};
use crate::engine::{Answer, CALL_TIMEOUT, Call, CallId, EngineError, Entry, Reply, Request};
use crate::lease::Moment;
use crate::record::{ClusterName, MAX_HOME, RecordError};
use crate::spread::Spread;

/// The pages are read after half of this to all of it, at random.
pub const READ_EVERY: Duration = Duration::from_secs(3);
/// The pages are read and written no more often than this, however many bans are made.
pub const MIN_BETWEEN: Duration = Duration::from_millis(500);
/// The most changes of this edge that wait until the engine can be used.
pub const MAX_WAITING: usize = 2 * MAX_SHARED_BANS;
/// So many failures in a row are told, once. An engine that restarts is no news.
pub const FAILURES_TOLD: u32 = 5;
/// Events that are not taken yet. The oldest has to go.
const MAX_EVENTS: usize = 64;
/// The calls of bans have numbers from here, so that they are told from those of a lease.
const FIRST_CALL: u64 = 1 << 63;

/// Returns what the record of a page is asked for with, in place of a home. (SPEC 43.9(a))
fn place(page: u16) -> u16 {
    MAX_HOME + 1 + page
}

/// A change of the bans.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an edge does all of them")]
pub enum Change {
    /// A network is banned, or its ban has changed.
    Ban(SharedBan),
    /// The ban of a network is lifted.
    Lift(IpNet),
}

/// What has happened to the bans that are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BanEvent {
    /// A page is none of this cluster, or of a later version. It is left alone, and what was known of it stays.
    PageRefused {
        /// The page.
        page: u16,
        /// What is wrong with it.
        error: RecordError,
    },
    /// Entries of a page make no sense, and are left out.
    EntriesRefused {
        /// The page.
        page: u16,
        /// How many.
        count: usize,
        /// What is wrong with the first of them.
        why: &'static str,
    },
    /// The engine has failed [`FAILURES_TOLD`] times in a row. What waits goes on to wait.
    Troubled(EngineError),
    /// [`MAX_SHARED_BANS`] are shared already, or the pages have no room, so the ban of this network stays at this edge.
    NoRoom(IpNet),
}

/// A page, as it was last seen.
#[derive(Debug, Default)]
struct Seen {
    revision: u64,
    /// Its serial is the greatest that was seen.
    page: Page,
    /// It is of a later version, or nonsense, at the revision.
    is_refused: bool,
    /// The engine has an older one, or none.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Nothing is under way.
    Rest,
    /// The page is to be read.
    Read(u16),
    /// All pages are read, and those are written that are to be.
    Write,
}

#[derive(Clone, Debug)]
enum Asked {
    Read(u16),
    Write(u16, Page),
}

/// The bans that the edges of a cluster share, as one edge sees them. (SPEC 43.9)
#[derive(Debug)]
pub struct Bans {
    cluster: ClusterName,
    pages: Vec<Seen>,
    /// What this edge has changed and no page has yet. `None`: lifted.
    waiting: BTreeMap<IpNet, Option<SharedBan>>,
    /// What this edge has in effect of the shared bans.
    known: BTreeMap<IpNet, SharedBan>,
    has_read: bool,
    is_news: bool,
    step: Step,
    due: Duration,
    began: Option<Duration>,
    calls: u64,
    pending: Option<(CallId, Asked, Duration)>,
    failures: u32,
    refused: u64,
    spread: Spread,
    events: VecDeque<BanEvent>,
}

impl Bans {
    /// Begins to share. `known` are bans that were shared when this edge ended, and that it has in effect: those that the cluster has lifted
    /// meanwhile will be lifted.
    #[must_use]
    pub fn new(
        now: Moment,
        cluster: ClusterName,
        known: impl IntoIterator<Item = SharedBan>,
        seed: u64,
    ) -> Bans {
        let known = known.into_iter().filter(|ban| may_be_shared(&ban.network));
        let known = known.take(MAX_SHARED_BANS).map(|ban| (ban.network, ban));
        Bans {
            cluster,
            pages: (0..MAX_PAGES).map(|_| Seen::default()).collect(),
            waiting: BTreeMap::new(),
            known: known.collect(),
            has_read: false,
            is_news: false,
            step: Step::Rest,
            due: now.at,
            began: None,
            calls: 0,
            pending: None,
            failures: 0,
            refused: 0,
            spread: Spread::new(seed),
            events: VecDeque::new(),
        }
    }

    /// Tells the others of a change of this edge. Returns false if it is not shared: [`may_be_shared`] says no, or [`MAX_WAITING`] wait.
    pub fn tell(&mut self, now: Moment, change: Change) -> bool {
        let (network, ban) = match change {
            Change::Ban(ban) => (ban.network, Some(ban)),
            Change::Lift(network) => (network.trunc(), None),
        };
        let has_room = self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&network);
        if !may_be_shared(&network) || !has_room {
            return false;
        }
        match &ban {
            Some(ban) => self.known.insert(network, ban.clone()),
            None => self.known.remove(&network),
        };
        self.waiting.insert(network, ban);
        if self.failures == 0 {
            let soonest = self.began.map_or(now.at, |began| began + MIN_BETWEEN);
            self.due = self.due.min(soonest.max(now.at));
        }
        true
    }

    /// Returns whether an answer is to a call of these bans.
    #[must_use]
    pub fn has_made(&self, id: CallId) -> bool {
        id >= CallId::new(FIRST_CALL)
    }

    /// Returns the call that is due, if there is one. While one waits for its answer, no other is.
    pub fn poll_call(&mut self, now: Moment) -> Option<Request> {
        if let Some((_, _, sent)) = self.pending
            && now.at >= sent + CALL_TIMEOUT
        {
            self.pending = None;
            self.fail(now, EngineError::Late);
        }
        if self.pending.is_some() {
            return None;
        }
        if let Step::Rest = self.step {
            if now.at < self.due {
                return None;
            }
            self.began = Some(now.at);
            self.step = Step::Read(0);
        }
        let asked = match self.step {
            Step::Read(page) => Asked::Read(page),
            _ => match self.next_write(now) {
                Some((page, next)) => Asked::Write(page, next),
                None => {
                    self.rest(now);
                    return None;
                }
            },
        };
        let call = match &asked {
            Asked::Read(page) => Call::Read { home: place(*page) },
            Asked::Write(page, next) => Call::Write {
                home: place(*page),
                expected: self.seen(*page).map_or(0, |seen| seen.revision),
                value: next.encode(&self.cluster, *page).unwrap_or_default(),
            },
        };
        self.calls += 1;
        let id = CallId::new(FIRST_CALL + self.calls);
        self.pending = Some((id, asked, now.at));
        Some(Request { id, call })
    }

    /// Returns when [`poll_call`](Bans::poll_call) is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        match (&self.pending, self.step) {
            (Some((_, _, sent)), _) => *sent + CALL_TIMEOUT,
            (None, Step::Rest) => self.due,
            (None, _) => Duration::ZERO,
        }
    }

    /// Handles the answer to a call. One that nothing waits for is ignored.
    pub fn handle_answer(&mut self, now: Moment, id: CallId, answer: Answer) {
        let is_pending = |(pending, _, _): &mut (CallId, Asked, Duration)| *pending == id;
        let Some((_, asked, sent)) = self.pending.take_if(is_pending) else {
            return;
        };
        if now.at >= sent + CALL_TIMEOUT {
            return self.fail(now, EngineError::Late);
        }
        match (asked, answer) {
            (Asked::Read(page), Ok(Reply::Read(entry))) => self.found(now, page, entry),
            (Asked::Write(page, next), Ok(Reply::Written(revision))) => {
                if let Some(seen) = self.pages.get_mut(usize::from(page)) {
                    seen.revision = revision;
                    seen.page = next;
                    seen.is_lost = false;
                }
            }
            (Asked::Write(..), Err(EngineError::Refused)) => {
                // The pages are read again. An engine may refuse what is right, so only the first time at once.
                match self.failures {
                    0 => {
                        self.failures = 1;
                        self.step = Step::Read(0);
                    }
                    _ => self.fail(now, EngineError::Refused),
                }
            }
            (_, Err(error)) => self.fail(now, error),
            (_, Ok(_)) => {
                let error = EngineError::Nonsense("it answers another question".to_owned());
                self.fail(now, error);
            }
        }
    }

    /// Returns what the others have changed, for this edge to do, if all pages were read since the last time. Then
    /// [`done`](Bans::done) is called.
    #[must_use]
    pub fn changes(&self, now: Moment) -> Vec<Change> {
        if !self.is_news {
            return Vec::new();
        }
        let view = self.view(now);
        let lifted = self.known.keys().filter(|known| !view.contains_key(*known));
        let lifted = lifted.map(|network| Change::Lift(*network));
        let banned = view.values().filter(|ban| {
            let known = self.known.get(&ban.network);
            known != Some(*ban)
        });
        // What was lifted makes room first.
        lifted
            .chain(banned.map(|ban| Change::Ban((*ban).clone())))
            .collect()
    }

    /// Tells that this edge has done these changes. Without it they are returned again after the next reading.
    pub fn done(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Ban(ban) => self.known.insert(ban.network, ban.clone()),
                Change::Lift(network) => self.known.remove(network),
            };
        }
    }

    /// Ends the news: [`changes`](Bans::changes) has none before the pages are read again.
    pub fn looked(&mut self) {
        self.is_news = false;
    }

    /// Returns the shared bans that this edge has in effect.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<IpNet, SharedBan> {
        &self.known
    }

    /// Returns how many pages and entries were refused, and bans of this edge had no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<BanEvent> {
        self.events.pop_front()
    }

    fn seen(&self, page: u16) -> Option<&Seen> {
        self.pages.get(usize::from(page))
    }

    fn event(&mut self, event: BanEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The engine did not do it. What waits goes on to wait.
    fn fail(&mut self, now: Moment, error: EngineError) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == FAILURES_TOLD {
            self.event(BanEvent::Troubled(error));
        }
        self.step = Step::Rest;
        self.due = now.at + self.spread.upper_half(READ_EVERY);
    }

    /// A page was read.
    fn found(&mut self, now: Moment, page: u16, entry: Option<Entry>) {
        let Some(seen) = self.pages.get_mut(usize::from(page)) else {
            return;
        };
        let (revision, value) = entry.map_or((0, Vec::new()), |e| (e.revision, e.value));
        let is_there = !value.is_empty();
        let is_other = revision != seen.revision;
        seen.revision = revision;
        let read = match is_there {
            true => Page::decode(&value, &self.cluster, page, now.unix),
            false => Ok((Page::default(), Vec::new())),
        };
        let mut event = None;
        match read {
            Err(error) => {
                if is_other {
                    self.refused += 1;
                    event = Some(BanEvent::PageRefused { page, error });
                }
                seen.is_refused = true;
            }
            Ok((read, bad)) => {
                seen.is_refused = false;
                if let Some(BadEntry(why)) = bad.first()
                    && is_other
                {
                    let count = bad.len();
                    self.refused += count as u64;
                    event = Some(BanEvent::EntriesRefused { page, count, why });
                }
                // What is older than what was seen was lost by the engine. What was seen is written again.
                seen.is_lost = read.serial < seen.page.serial;
                if !seen.is_lost {
                    seen.page = read;
                }
            }
        }
        if let Some(event) = event {
            self.event(event);
        }
        let later = self.pages.iter().skip(usize::from(page) + 1);
        let goes_on = is_there || later.into_iter().any(|seen| seen.page.serial > 0);
        if goes_on && page + 1 < MAX_PAGES {
            self.step = Step::Read(page + 1);
            return;
        }
        if !self.has_read && self.pages.iter().all(|seen| seen.page.serial == 0) {
            self.fill();
        }
        self.step = Step::Write;
    }

    /// Puts what this edge has from an earlier run on the pages: an engine that has none has forgotten them, or is new.
    fn fill(&mut self) {
        let mut known = self.known.values().peekable();
        for (number, seen) in (0..).zip(&mut self.pages) {
            while let Some(ban) = known.peek() {
                seen.page.bans.push((*ban).clone());
                seen.is_lost = true;
                if seen.page.encode(&self.cluster, number).is_none() {
                    seen.page.bans.pop();
                    break;
                }
                known.next();
            }
        }
    }

    /// Returns the next page that is to be written, and as what.
    fn next_write(&self, now: Moment) -> Option<(u16, Page)> {
        let mut count: usize = self.pages.iter().map(|seen| seen.page.bans.len()).sum();
        let is_elsewhere = |but: u16, network: &IpNet| {
            (0..).zip(&self.pages).any(|(page, seen)| {
                page != but && seen.page.bans.iter().any(|ban| ban.network == *network)
            })
        };
        for (number, seen) in (0..).zip(&self.pages) {
            if seen.is_refused {
                continue;
            }
            let mut next = Page {
                serial: seen.page.serial.saturating_add(1),
                bans: Vec::new(),
            };
            let mut has_changed = seen.is_lost;
            for ban in &seen.page.bans {
                match self.waiting.get(&ban.network) {
                    Some(Some(other)) => {
                        has_changed |= other != ban;
                        next.bans.push(other.clone());
                    }
                    Some(None) => has_changed = true,
                    // Clocks differ, so what is over here may not be over elsewhere.
                    None if ban.until.saturating_add(CLOCK_SLACK_SECS) <= now.unix => {}
                    None => next.bans.push(ban.clone()),
                }
            }
            if next.encode(&self.cluster, number).is_none() {
                // A longer note has no room here. Its ban goes to another page.
                let before = &seen.page.bans;
                next.bans.retain(|ban| before.contains(ban));
            }
            count = (count + next.bans.len()).saturating_sub(seen.page.bans.len());
            for (network, ban) in &self.waiting {
                let Some(ban) = ban else { continue };
                let is_here = next.bans.iter().any(|here| here.network == *network);
                if is_here || is_elsewhere(number, network) || count >= MAX_SHARED_BANS {
                    continue;
                }
                next.bans.push(ban.clone());
                if next.encode(&self.cluster, number).is_some() {
                    has_changed = true;
                    count += 1;
                } else {
                    next.bans.pop();
                }
            }
            if has_changed {
                next.bans.sort_by_key(|ban| ban.network);
                return Some((number, next));
            }
        }
        None
    }

    /// All is read and written.
    fn rest(&mut self, now: Moment) {
        self.failures = 0;
        self.step = Step::Rest;
        self.due = now.at + self.spread.upper_half(READ_EVERY);
        self.has_read = true;
        self.is_news = true;
        for (network, ban) in std::mem::take(&mut self.waiting) {
            let mut all = self.pages.iter().flat_map(|seen| &seen.page.bans);
            if ban.is_some() && !all.any(|ban| ban.network == network) {
                // It is not shared, so the others do not lift it here.
                self.known.remove(&network);
                self.refused += 1;
                self.event(BanEvent::NoRoom(network));
            }
        }
    }

    /// Returns the bans of all pages that are not over, as they are once this edge has written.
    fn view(&self, now: Moment) -> BTreeMap<IpNet, SharedBan> {
        let all = self.pages.iter().flat_map(|seen| &seen.page.bans);
        let all = all.filter(|ban| ban.until > now.unix);
        let mut view = BTreeMap::new();
        for ban in all.take(MAX_SHARED_BANS) {
            view.entry(ban.network).or_insert_with(|| ban.clone());
        }
        for (network, ban) in &self.waiting {
            match ban {
                Some(ban) => view.insert(*network, ban.clone()),
                None => view.remove(network),
            };
        }
        view
    }
}

/// Counts the bans that an engine has, page by page, for people. `read` reads the record of a page.
///
/// # Errors
/// Those of `read`.
pub fn count<E>(
    cluster: &ClusterName,
    now: u64,
    mut read: impl FnMut(Call) -> Result<Option<Entry>, E>,
) -> Result<usize, E> {
    let mut bans = 0;
    for page in 0..MAX_PAGES {
        let entry = read(Call::Read { home: place(page) })?;
        let Some(entry) = entry.filter(|entry| !entry.value.is_empty()) else {
            break;
        };
        if let Ok((page, _)) = Page::decode(&entry.value, cluster, page, now) {
            bans += page.bans.iter().filter(|ban| ban.until > now).count();
        }
    }
    Ok(bans)
}
