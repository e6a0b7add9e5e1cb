//! Bans that edges share, over the engine of the simulator. (SPEC 43.9)

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use voltlane_cluster::bans::{
    CLOCK_SLACK_SECS, MAX_PAGES, MAX_SHARED_BANS, MAX_WAITING, MIN_BETWEEN, READ_EVERY, count,
};
use voltlane_cluster::testkit::{Faults, SimStore};
use voltlane_cluster::{
    BanEvent, Bans, Call, Change, ClusterName, Engine, EngineError, Moment, RecordError, Reply,
    SharedBan,
};

const NOW: u64 = 1_790_000_000;
/// What the first page is asked for with.
const FIRST_PAGE: u16 = 4_096;

fn game() -> ClusterName {
    "game".parse().expect("a name")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn numbered(number: usize) -> IpNet {
    net(&format!("10.{}.{}.0/24", number / 256, number % 256))
}

/// An edge: what it shares, and what it has in effect.
struct Edge {
    bans: Bans,
    engine: Option<Box<dyn Engine>>,
    store: SimStore,
    has: BTreeMap<IpNet, SharedBan>,
    events: Vec<BanEvent>,
    writes: usize,
    /// How far its clock is ahead, in seconds.
    ahead: i64,
}

impl Edge {
    fn new(store: &SimStore, at: Duration, seed: u64, has: &[SharedBan]) -> Edge {
        let moment = Moment { at, unix: NOW };
        Edge {
            bans: Bans::new(moment, game(), has.iter().cloned(), seed),
            engine: Some(Box::new(store.engine())),
            store: store.clone(),
            has: has.iter().map(|ban| (ban.network, ban.clone())).collect(),
            events: Vec::new(),
            writes: 0,
            ahead: 0,
        }
    }

    fn moment(&self, at: Duration) -> Moment {
        let unix = (NOW + at.as_secs()).saturating_add_signed(self.ahead);
        Moment { at, unix }
    }

    fn ban(&mut self, at: Duration, network: IpNet, note: &str) -> bool {
        let now = self.moment(at);
        let ban = SharedBan::new(network, now.unix, Some(3_600), 1, note);
        self.has.insert(network, ban.clone());
        self.bans.tell(now, Change::Ban(ban))
    }

    fn lift(&mut self, at: Duration, network: IpNet) -> bool {
        self.has.remove(&network);
        self.bans.tell(self.moment(at), Change::Lift(network))
    }

    fn turn(&mut self, at: Duration) {
        let now = self.moment(at);
        loop {
            while let Some((id, answer)) = self.engine.as_mut().and_then(|engine| engine.poll(at)) {
                assert!(self.bans.has_made(id));
                self.bans.handle_answer(now, id, answer);
            }
            let Some(request) = self.bans.poll_call(now) else {
                break;
            };
            self.writes += usize::from(matches!(request.call, Call::Write { .. }));
            if let Some(engine) = &mut self.engine {
                engine.call(at, request);
            }
        }
        let changes = self.bans.changes(now);
        self.bans.looked();
        for change in &changes {
            match change {
                Change::Ban(ban) => self.has.insert(ban.network, ban.clone()),
                Change::Lift(network) => self.has.remove(network),
            };
        }
        self.bans.done(&changes);
        self.events
            .extend(std::iter::from_fn(|| self.bans.poll_event()));
    }

    fn has(&self) -> Vec<String> {
        self.has.keys().map(ToString::to_string).collect()
    }

    fn cut_off(&mut self) {
        self.engine = None;
    }

    fn is_back(&mut self) {
        self.engine = Some(Box::new(self.store.engine()));
    }
}

/// Lets time pass, and returns the end of it.
fn pass(edges: &mut [&mut Edge], from: Duration, time: Duration) -> Duration {
    let mut at = from;
    while at < from + time {
        edges.iter_mut().for_each(|edge| edge.turn(at));
        at += Duration::from_millis(50);
    }
    at
}

fn store() -> SimStore {
    SimStore::new(1, Faults::default())
}

/// Enough for whoever reads and writes.
const ROUND: Duration = Duration::from_secs(8);

#[test]
fn a_ban_reaches_the_others_and_is_lifted_everywhere() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut other = Edge::new(&store, Duration::ZERO, 2, &[]);
    let at = pass(&mut [&mut one, &mut other], Duration::ZERO, ROUND);
    assert_eq!(one.writes, 0, "nothing is written without a ban");
    assert!(one.ban(at, net("203.0.113.7/32"), "floods"));
    assert!(one.ban(at, net("2001:db8::/32"), ""));
    let at = pass(&mut [&mut one, &mut other], at, READ_EVERY + MIN_BETWEEN);
    assert_eq!(other.has(), ["203.0.113.7/32", "2001:db8::/32"]);
    let ban = &other.has[&net("203.0.113.7/32")];
    assert_eq!((ban.home, &*ban.note), (1, "floods"));
    // One that starts later has them.
    let mut late = Edge::new(&store, at, 3, &[]);
    let at = pass(&mut [&mut late], at, MIN_BETWEEN);
    assert_eq!(late.has(), ["203.0.113.7/32", "2001:db8::/32"]);
    // Whoever lifts it need not have made it.
    assert!(late.lift(at, net("203.0.113.7/32")));
    pass(&mut [&mut one, &mut other, &mut late], at, ROUND);
    for edge in [&one, &other, &late] {
        assert_eq!(edge.has(), ["2001:db8::/32"]);
    }
}

#[test]
fn many_bans_at_once_are_few_writes_and_two_edges_lose_none() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut other = Edge::new(&store, Duration::ZERO, 2, &[]);
    let mut at = pass(&mut [&mut one, &mut other], Duration::ZERO, ROUND);
    for number in 0..20 {
        one.ban(at, numbered(number), "one");
        other.ban(at, numbered(100 + number), "other");
        at = pass(&mut [&mut one, &mut other], at, Duration::from_millis(50));
    }
    pass(&mut [&mut one, &mut other], at, ROUND);
    assert_eq!(one.has.len(), 40);
    assert_eq!(one.has, other.has);
    // 1 s of bans: at most one sweep in MIN_BETWEEN, each over the few pages.
    assert!(one.writes <= 4 * 6, "{}", one.writes);
}

#[test]
fn as_many_are_shared_as_can_be_and_one_more_stays_at_its_edge() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut other = Edge::new(&store, Duration::ZERO, 2, &[]);
    let longest = "x".repeat(64);
    for number in 0..MAX_SHARED_BANS {
        assert!(one.ban(Duration::ZERO, numbered(number), &longest));
    }
    let at = pass(&mut [&mut one, &mut other], Duration::ZERO, ROUND);
    assert_eq!(other.has.len(), MAX_SHARED_BANS);
    assert!(one.events.is_empty(), "{:?}", one.events);
    let more = numbered(MAX_SHARED_BANS);
    assert!(one.ban(at, more, ""));
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    assert_eq!(one.events, [BanEvent::NoRoom(more)]);
    assert!(one.has.contains_key(&more), "it is in effect there");
    assert_eq!((one.bans.refused(), other.has.len()), (1, MAX_SHARED_BANS));
    let mut engine = store.engine();
    let read = |call| -> Result<_, ()> {
        let id = voltlane_cluster::CallId::new(1);
        engine.call(at, voltlane_cluster::Request { id, call });
        match engine.poll(at) {
            Some((_, Ok(Reply::Read(entry)))) => Ok(entry),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&game(), NOW, read), Ok(MAX_SHARED_BANS));
    // A place that is free again is taken.
    assert!(other.lift(at, numbered(0)));
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    assert!(one.ban(at, more, ""));
    pass(&mut [&mut one, &mut other], at, ROUND);
    assert!(other.has.contains_key(&more));
}

#[test]
fn an_engine_that_is_away_is_told_later_and_so_much_waits() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut other = Edge::new(&store, Duration::ZERO, 2, &[]);
    one.ban(Duration::ZERO, net("192.0.2.1/32"), "");
    let at = pass(&mut [&mut one, &mut other], Duration::ZERO, ROUND);
    one.cut_off();
    one.ban(at, net("203.0.113.7/32"), "");
    one.lift(at, net("192.0.2.1/32"));
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    assert_eq!(other.has(), ["192.0.2.1/32"]);
    let late = BanEvent::Troubled(EngineError::Late);
    let at = pass(&mut [&mut one, &mut other], at, 5 * ROUND);
    assert_eq!(one.events, [late], "told once");
    one.is_back();
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    assert_eq!(other.has(), ["203.0.113.7/32"]);
    assert_eq!(one.has, other.has);
    other.cut_off();
    for number in 0..MAX_WAITING {
        assert!(other.ban(at, numbered(number), ""));
    }
    assert!(!other.ban(at, numbered(MAX_WAITING), ""), "beyond");
    assert!(other.lift(at, numbered(0)), "it has its place");
}

#[test]
fn an_engine_that_forgets_is_told_again_and_old_states_do_not_come_back() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut other = Edge::new(&store, Duration::ZERO, 2, &[]);
    one.ban(Duration::ZERO, net("192.0.2.1/32"), "");
    one.ban(Duration::ZERO, net("203.0.113.7/32"), "");
    let at = pass(&mut [&mut one, &mut other], Duration::ZERO, ROUND);
    let old = store.entry(FIRST_PAGE).expect("a page").value;
    other.lift(at, net("192.0.2.1/32"));
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    // The state before that is there again, and then none at all.
    store.put(FIRST_PAGE, &old);
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    store.put(FIRST_PAGE, b"");
    let at = pass(&mut [&mut one, &mut other], at, ROUND);
    for edge in [&one, &other] {
        assert_eq!(edge.has(), ["203.0.113.7/32"]);
    }
    let mut late = Edge::new(&store, at, 3, &[]);
    pass(&mut [&mut late], at, ROUND);
    assert_eq!(late.has(), ["203.0.113.7/32"]);
}

#[test]
fn what_was_lifted_while_an_edge_was_down_is_lifted_when_it_starts() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    one.ban(Duration::ZERO, net("192.0.2.1/32"), "");
    let at = pass(&mut [&mut one], Duration::ZERO, ROUND);
    let kept: Vec<_> = one.has.values().cloned().collect();
    let gone = SharedBan::new(net("203.0.113.7/32"), NOW, None, 2, "");
    let mut again = Edge::new(&store, at, 2, &[kept[0].clone(), gone.clone()]);
    pass(&mut [&mut again], at, ROUND);
    assert_eq!(again.has(), ["192.0.2.1/32"]);
    // An engine that knows of no ban has forgotten them: whoever has them tells it.
    let empty = SimStore::new(2, Faults::default());
    let mut first = Edge::new(&empty, Duration::ZERO, 1, &[gone]);
    let mut second = Edge::new(&empty, Duration::ZERO, 2, &[]);
    pass(&mut [&mut first, &mut second], Duration::ZERO, ROUND);
    assert_eq!(first.has(), ["203.0.113.7/32"]);
    assert_eq!(first.has, second.has);
}

#[test]
fn clocks_that_differ_end_no_ban_of_others() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    let mut ahead = Edge::new(&store, Duration::ZERO, 2, &[]);
    one.ban(Duration::ZERO, net("192.0.2.1/32"), "");
    let at = pass(&mut [&mut one, &mut ahead], Duration::ZERO, ROUND);
    assert_eq!(ahead.has(), ["192.0.2.1/32"]);
    // By its clock the ban is over, by an hour less than a day: it ends there, and is not taken from the page.
    let slack = i64::try_from(CLOCK_SLACK_SECS).expect("a day");
    ahead.ahead = slack - 60;
    ahead.ban(at, net("203.0.113.7/32"), "");
    let at = pass(&mut [&mut one, &mut ahead], at, ROUND);
    assert_eq!(ahead.has(), ["203.0.113.7/32"]);
    assert_eq!(one.has(), ["192.0.2.1/32", "203.0.113.7/32"]);
    // After a day and the hour of its life it is forgotten with the next write.
    ahead.ahead = slack + 3_600;
    ahead.ban(at, net("203.0.113.8/32"), "");
    pass(&mut [&mut one, &mut ahead], at, ROUND);
    assert_eq!(one.has(), ["203.0.113.7/32", "203.0.113.8/32"]);
}

#[test]
fn pages_that_make_no_sense_are_left_alone_and_named_once() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    one.ban(Duration::ZERO, net("192.0.2.1/32"), "");
    let at = pass(&mut [&mut one], Duration::ZERO, ROUND);
    let later = b"{\"form\":2,\"cluster\":\"game\"}";
    store.put(FIRST_PAGE, later);
    let at = pass(&mut [&mut one], at, 3 * ROUND);
    let error = RecordError::Later(2);
    assert_eq!(one.events, [BanEvent::PageRefused { page: 0, error }]);
    assert_eq!(one.bans.refused(), 1);
    assert_eq!(one.has(), ["192.0.2.1/32"], "what was known stays");
    // Another page takes what comes.
    one.ban(at, net("203.0.113.7/32"), "");
    let at = pass(&mut [&mut one], at, ROUND);
    assert_eq!(store.entry(FIRST_PAGE).expect("a page").value, later);
    let mut late = Edge::new(&store, at, 2, &[]);
    pass(&mut [&mut late], at, ROUND);
    assert_eq!(late.has(), ["203.0.113.7/32"]);
}

#[test]
fn a_network_around_the_machine_itself_is_not_told() {
    let store = store();
    let mut one = Edge::new(&store, Duration::ZERO, 1, &[]);
    for network in ["127.0.0.0/8", "0.0.0.0/0", "::/0", "127.0.0.1/32"] {
        assert!(!one.ban(Duration::ZERO, net(network), ""), "{network}");
    }
    assert!(one.ban(Duration::ZERO, net("127.0.0.2/32"), ""));
}

#[test]
fn edges_agree_in_the_end_whatever_an_engine_does() {
    let faults = Faults {
        late: 30,
        doubled: 50,
        lost_call: 30,
        lost_answer: 30,
        stale: 30,
        refused: 50,
        nonsense: 30,
        ..Faults::default()
    };
    for seed in 0..40 {
        let store = SimStore::new(seed, faults);
        let mut edges: Vec<_> = (0..3)
            .map(|number| Edge::new(&store, Duration::ZERO, seed * 3 + number, &[]))
            .collect();
        let mut at = Duration::ZERO;
        for number in 0..12 {
            let of = number % 3;
            edges[of].ban(at, numbered(number), "");
            if number >= 6 {
                edges[of].lift(at, numbered(number - 6));
            }
            at = pass(&mut edges.iter_mut().collect::<Vec<_>>(), at, ROUND);
        }
        pass(&mut edges.iter_mut().collect::<Vec<_>>(), at, 10 * ROUND);
        let expected: Vec<_> = (6..12).map(|number| numbered(number).to_string()).collect();
        for edge in &edges {
            assert_eq!(edge.has(), expected, "seed {seed}");
        }
    }
}

#[test]
fn no_page_is_one_of_a_home() {
    assert_eq!(FIRST_PAGE, voltlane_cluster::record::MAX_HOME + 1);
    assert!(FIRST_PAGE.checked_add(MAX_PAGES).is_some());
}
