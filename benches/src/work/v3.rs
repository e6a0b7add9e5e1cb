//! The work of clients of version 3. What a client seals is made beforehand, so that the counts are those of the edge.

use std::hint::black_box;
use std::time::Duration;

use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{Closed, ConnKey};
use voltlane_core::keys::NONCE_BYTES;
use voltlane_core::v2::packets::Handshake;
use voltlane_core::v3::client::{Joining, Outcome, Resumable};
use voltlane_core::v3::items::Item;
use voltlane_core::v3::record::Sealer;
use voltlane_core::wire::frame::encode_frame;

use super::edge::{ACTIVE, BURST, Rig, active};
use super::{Kind, SIZES, Work};
use crate::wire;

/// Steps whose records are made beforehand: more than any count takes. Criterion takes more, and measures the client's part with it then.
const MADE_STEPS: usize = 400;
/// Packets down that a client acknowledges at once, where it sends nothing else.
const ACKED: u64 = 16;
/// What a client and the edge draw for each join. So each of them has the same keys, and the client's part is made once.
const DRAWN: [[u8; 32]; 2] = [[8; 32], [9; 32]];
const LONGEST: u32 = 8 << 20;

pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for size in SIZES {
        kinds.push(Kind::new("up3", size, |size| up(size, 1)));
        kinds.push(Kind::new("down3", size, |size| down(size, 1)));
    }
    kinds.push(Kind::new("up3-burst", 64, |size| up(size, BURST)));
    kinds.push(Kind::new("down3-burst", 64, |size| down(size, BURST)));
    kinds.push(Kind::new("echo3", 64, |size| echo(size, 1)));
    kinds.push(Kind::new("echo3-burst", 64, |size| echo(size, BURST)));
    kinds.push(Kind::new("echo3", 16 * 1024, |size| echo(size, 1)));
    kinds.push(Kind::allocating("join3", 1, 40, join));
    kinds.push(Kind::allocating("resume3", 1, 60, resume));
    kinds
}

/// The records of a client, made beforehand.
struct Source {
    sealer: Sealer,
    /// The number of the next packet.
    next: u64,
    records: Vec<u8>,
    ends: Vec<usize>,
    taken: usize,
}

impl Source {
    /// Begins after the Join record.
    fn new(sealer: Sealer) -> Self {
        Source {
            sealer,
            next: 1,
            records: Vec::new(),
            ends: Vec::new(),
            taken: 0,
        }
    }

    /// Makes one more record.
    fn make(&mut self, items: &[Item<'_>]) {
        let start = self.records.len();
        self.records.extend_from_slice(&[0; wire::LENGTH_BYTES]);
        items.iter().for_each(|item| item.encode(&mut self.records));
        let sealed = self.sealer.seal(self.next, &mut self.records, start);
        sealed.expect("it is short");
        self.next += items.iter().map(Item::numbers).sum::<u64>();
        self.ends.push(self.records.len());
    }

    fn take(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.taken)?;
        let start = match self.taken {
            0 => 0,
            taken => self.ends[taken - 1],
        };
        self.taken += 1;
        Some(&self.records[start..end])
    }
}

struct Client {
    conn: ConnKey,
    id: u64,
    source: Source,
    session: Resumable,
}

/// Clients that have joined.
pub(super) struct Clients {
    pub(super) rig: Rig,
    clients: Vec<Client>,
    /// The first flight of a join, and its Join record.
    join: [Vec<u8>; 2],
}

impl Clients {
    fn new(clients: usize) -> Self {
        let mut all = Clients::on(Rig::new(0));
        (0..clients).for_each(|_| all.join());
        all
    }

    /// None yet.
    pub(super) fn on(rig: Rig) -> Self {
        Clients {
            rig,
            clients: Vec::new(),
            join: Default::default(),
        }
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.clients.iter().map(|client| client.id).collect()
    }

    pub(super) fn join(&mut self) {
        let mut flight = version();
        let joining = Joining::begin(DRAWN[0], &[], LONGEST, &mut flight);
        let conn = self.rig.accept_silent();
        let rig = &mut self.rig;
        rig.edge.handle_client_bytes(rig.now, conn, &flight);
        rig.edge.give_entropy(rig.now, conn, || DRAWN[1]);
        let heard = rig.edge.client_output(conn).concat();
        rig.edge.handle_client_written(rig.now, conn, heard.len());
        let (body, _) = wire::split_frame(&heard).expect("the edge welcomes");
        let welcomed = joining.welcome(body).expect("the edge welcomes");
        let mut source = Source::new(Sealer::new(&welcomed.join.up));
        source.make(&[Item::Token(b"")]);
        let record = source.take().expect("it was made").to_vec();
        rig.edge.handle_client_bytes(rig.now, conn, &record);
        rig.take_client_output();
        self.join = [flight, record];
        self.clients.push(Client {
            conn,
            id: welcomed.session.id().as_u64(),
            source,
            session: welcomed.session,
        });
    }

    /// Makes a record for each step and each client.
    fn prepare(&mut self, items: impl Fn(usize) -> Vec<Item<'static>>) {
        self.prepare_steps(MADE_STEPS, items);
    }

    /// Makes a record for each of some steps and each client.
    pub(super) fn prepare_steps(
        &mut self,
        steps: usize,
        items: impl Fn(usize) -> Vec<Item<'static>>,
    ) {
        for client in &mut self.clients {
            (0..steps).for_each(|step| client.source.make(&items(step)));
        }
    }

    /// Sends the next record of a client, which is made of `items` if none is left.
    pub(super) fn say(&mut self, nth: usize, items: impl FnOnce() -> Vec<Item<'static>>) {
        let client = &mut self.clients[nth];
        if client.source.taken == client.source.ends.len() {
            (client.source.taken, client.source.records) = (0, Vec::new());
            client.source.ends.clear();
            client.source.make(&items());
        }
        let record = client.source.take().expect("it was made");
        let rig = &mut self.rig;
        rig.edge
            .handle_client_bytes(rig.now, client.conn, black_box(record));
    }

    /// Returns what the backend sends: `packets` to each client.
    fn backend_bytes(&self, size: usize, packets: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for client in &self.clients {
            (0..packets).for_each(|_| {
                wire::put_tagged(&mut bytes, client.id, wire::FLAG_DATA, &vec![7; size]);
            });
        }
        bytes
    }
}

fn version() -> Vec<u8> {
    let mut out = Vec::new();
    Handshake::ProtocolVersion(3).encode(&mut out);
    out
}

fn packet(size: usize) -> Item<'static> {
    Item::Packet(&[7; 16 * 1024][..size])
}

/// Client to backend.
fn up(size: usize, packets: usize) -> Work {
    let count = active(size * packets);
    let mut all = Clients::new(count);
    let items = move || vec![packet(size); packets];
    all.prepare(|_| items());
    Work::new(count * packets, move || {
        all.rig.pass_time();
        (0..count).for_each(|nth| all.say(nth, items));
        all.rig.take_link_output();
        all.rig.take_client_output();
    })
}

/// Backend to client. Each client acknowledges once in a while.
fn down(size: usize, packets: usize) -> Work {
    let count = active(size * packets);
    let mut all = Clients::new(count);
    let every = ACKED as usize / packets;
    let items = || vec![Item::Ack(ACKED)];
    all.prepare(|_| items());
    let bytes = all.backend_bytes(size, packets);
    let mut steps = 0;
    Work::new(count * packets, move || {
        steps += 1;
        all.rig.pass_time();
        all.rig.backend_says(black_box(&bytes));
        all.rig.take_client_output();
        // In turn, so that each step is like the others.
        let due = |nth: &usize| steps >= every && (steps + nth).is_multiple_of(every);
        (0..count).filter(due).for_each(|nth| all.say(nth, items));
    })
}

/// Both directions, each packet acknowledged with the next one.
fn echo(size: usize, packets: usize) -> Work {
    let count = match size {
        64 => ACTIVE,
        _ => active(size),
    };
    let mut all = Clients::new(count);
    let items = move |step: usize| {
        let ack = Item::Ack(packets as u64);
        let ack = Some(ack).filter(|_| step > 0).into_iter();
        let packets = core::iter::repeat_n(packet(size), packets);
        ack.chain(packets).collect::<Vec<_>>()
    };
    all.prepare(items);
    let bytes = all.backend_bytes(size, packets);
    Work::new(count * packets, move || {
        all.rig.pass_time();
        (0..count).for_each(|nth| all.say(nth, || items(1)));
        all.rig.take_link_output();
        all.rig.backend_says(black_box(&bytes));
        all.rig.take_client_output();
    })
}

/// A client joins and leaves; its session expires in a later step.
fn join(_: usize) -> Work {
    let Clients { mut rig, join, .. } = Clients::new(1);
    Work::new(1, move || {
        rig.pass_time();
        let conn = rig.accept_silent();
        rig.edge.handle_client_bytes(rig.now, conn, &join[0]);
        rig.edge.give_entropy(rig.now, conn, || DRAWN[1]);
        rig.take_client_output();
        rig.edge.handle_client_bytes(rig.now, conn, &join[1]);
        rig.take_client_output();
        rig.take_link_output();
        rig.edge.handle_client_closed(rig.now, conn, Closed::Eof);
        rig.take_client_output();
    })
}

/// A client leaves and resumes. Includes the client's own computation.
fn resume(_: usize) -> Work {
    let mut all = Clients::new(1);
    let mut nonces = 0_u64;
    Work::new(1, move || {
        all.rig.pass(Duration::from_micros(100));
        nonces += 1;
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&nonces.to_le_bytes());
        let client = &mut all.clients[0];
        let rig = &mut all.rig;
        rig.edge
            .handle_client_closed(rig.now, client.conn, Closed::Eof);
        let attempt = client.session.attempt(nonce, 1, 0);
        let mut flight = version();
        encode_frame(attempt.claim(), &mut flight);
        let mut early = Source::new(Sealer::new(&attempt.early()));
        early.make(&[]);
        early.make(&[Item::EarlyEnd]);
        flight.extend_from_slice(early.take().expect("it was made"));
        client.conn = rig.accept_silent();
        rig.edge.handle_client_bytes(rig.now, client.conn, &flight);
        rig.edge.give_entropy(rig.now, client.conn, || DRAWN[1]);
        let heard = rig.edge.client_output(client.conn).concat();
        rig.edge
            .handle_client_written(rig.now, client.conn, heard.len());
        let (body, _) = wire::split_frame(&heard).expect("the edge answers");
        let answer = attempt.answer(&mut client.session, body);
        let Ok(Outcome::TakenUp(returning)) = answer else {
            panic!("the session is taken up: {answer:?}");
        };
        returning.resumed(&mut client.session, &[]);
        let end = early.take().expect("it was made");
        rig.edge.handle_client_bytes(rig.now, client.conn, end);
        rig.take_link_output();
        rig.take_client_output();
    })
}
