//! Connections that another process takes over (SPEC 41.1).

use super::saving::sealed;
use super::*;
use crate::edge::Moving;

impl World {
    /// Has another machine take over what is in `moving`. Returns its connections.
    fn hand_over(&mut self, moving: &Moving, name: u8) -> Vec<Option<ConnKey>> {
        let bytes = sealed(self, self.edge.run(), &moving.parts, name);
        let snapshot = Snapshot::open(bytes, &self.edge_keys).unwrap();
        let connections = (moving.connections.len(), moving.link);
        assert_eq!(snapshot.connections(), connections);
        let mut edge = Edge::new(self.edge.config.clone(), self.edge_keys.clone(), [name; 32]);
        self.now = Time::ZERO;
        edge.restore(self.now, &snapshot);
        let keys = edge.take_over(self.now, &snapshot);
        self.edge = edge;
        self.edge.audit();
        keys
    }

    fn moving(&self, link: bool) -> Moving {
        let moving = self.edge.save_moving(self.now, &[], |_, _| true, link);
        self.edge.audit();
        moving
    }

    /// The transport takes the first `bytes` bytes of what waits for this connection. Returns them.
    fn takes(&mut self, conn: ConnKey, bytes: usize) -> Vec<u8> {
        let taken = self.edge.client_takes(self.now, conn, bytes);
        assert_eq!(taken.len(), bytes);
        taken
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(body, &mut bytes);
    bytes
}

#[test]
fn connections_go_on_within_a_frame_of_each_direction() {
    let mut world = world(|_| {});
    let (old, mut one) = (world.join(), world.join3());
    world.send3(&mut one, b"up 1");
    world.down(&one, b"down 1");
    world.hear3(&mut one);
    world.backend_hears();
    // A frame down and a frame up of each are half-way.
    world.backend_says(old.id, Flag::Data, b"down of 2");
    world.down(&one, b"down 2");
    let of_old = world.takes(old.conn, 6);
    let of_one = world.takes(one.conn, 7);
    let up = frame(b"up of 2");
    world.write(old.conn, &up[..5]);
    one.outbox.push(b"up 2");
    let record = one
        .channel
        .fill(&mut one.outbox, &mut one.progress)
        .to_vec();
    one.channel.written(record.len());
    world.write(one.conn, &record[..9]);

    let moving = world.moving(false);
    assert_eq!(moving.connections, [old.conn, one.conn]);
    let keys = world.hand_over(&moving, 1);
    world.backend_comes();
    let (conn, of_three) = (keys[0].unwrap(), keys[1].unwrap());
    one.conn = of_three;
    let rest = world.hear_bytes(conn);
    assert_eq!([of_old, rest].concat(), frame(b"down of 2"));
    let rest = world.hear_bytes(one.conn);
    let came = world.read3(&mut one, &[of_one, rest].concat()).unwrap();
    assert_eq!(packets(&came), [(2, &b"down 2"[..])]);
    world.write(conn, &up[5..]);
    world.write(one.conn, &record[9..]);
    let expected = [data(old.id, "up of 2"), data(one.id(), "up 2")];
    assert_eq!(world.backend_hears(), expected);
    // They are as good as any others, in another move as well.
    world.down(&one, b"down 3");
    let keys = world.hand_over(&world.moving(false), 2);
    world.backend_comes();
    one.conn = keys[1].unwrap();
    assert_eq!(packets(&world.hear3(&mut one)), [(3, &b"down 3"[..])]);
    world.acknowledge(&mut one);
    world.leave(keys[0].unwrap());
    world.down(&one, b"down 4");
    world.leave(one.conn);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(packets(&came[1..]), [(4, &b"down 4"[..])]);
}

#[test]
fn nothing_changes_where_it_is_saved() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let (old, mut one) = (world.join(), world.join3());
    world.backend_hears();
    // One is in line behind the other, and holds whole packets.
    world.send(old.conn, b"queued");
    one.outbox.push(b"in line");
    world.send3(&mut one, b"behind");
    world.backend_says(old.id, Flag::Data, b"down");
    let begun = world.takes(old.conn, 5);
    let stranger = world.accept();
    for _ in 0..2 {
        let moving = world.moving(true);
        assert_eq!(moving.connections, [old.conn, one.conn]);
    }
    let none = world.edge.save_moving(world.now, &[], |_, _| false, false);
    assert!(none.connections.is_empty() && !none.link);
    let rest = world.hear_bytes(old.conn);
    assert_eq!([begun, rest].concat(), frame(b"down"));
    let texts: Vec<_> = world.backend_hears().into_iter().map(|it| it.2).collect();
    assert_eq!(texts, ["queued", "in line", "behind"]);
    assert!(!world.is_closed(stranger));
    world.send3(&mut one, b"last");
    assert_eq!(world.backend_hears(), [data(one.id(), "last")]);
}

#[test]
fn what_waits_in_line_goes_before_what_comes_on_the_moved_connection() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let (old, mut one) = (world.join(), world.join3());
    world.backend_hears();
    world.send(old.conn, b"queued");
    one.outbox.push(b"in line");
    world.send3(&mut one, b"behind");
    let keys = world.hand_over(&world.moving(false), 1);
    world.backend_comes();
    one.conn = keys[1].unwrap();
    let mut texts: Vec<_> = world.backend_hears().into_iter().map(|it| it.2).collect();
    world.send3(&mut one, b"last");
    texts.extend(world.backend_hears().into_iter().map(|it| it.2));
    assert_eq!(texts, ["queued", "in line", "behind", "last"]);
}

#[test]
fn who_is_not_moved_comes_back_and_has_missed_nothing() {
    let mut world = world(|_| {});
    let (mut old, mut one, stranger) = (world.join(), world.join3(), world.accept());
    world.backend_hears();
    world.backend_says(old.id, Flag::Data, b"missed");
    world.down(&one, b"down 1");
    let moving = world
        .edge
        .save_moving(world.now, &[], |conn, _| conn == stranger, false);
    assert!(moving.connections.is_empty(), "a stranger is not moved");
    assert_eq!(world.hand_over(&moving, 1), []);
    world.backend_comes();
    let heard = world.come_back(&mut old);
    assert_eq!(heard.last(), Some(&b"missed".to_vec()));
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(packets(&came[1..]), [(1, &b"down 1"[..])]);
}

#[test]
fn a_link_of_version_2_goes_on_within_a_frame_of_each_direction() {
    let mut world = world(|config| config.master.protocol = LinkProtocol::V2);
    let old = world.join();
    world.backend_hears();
    world.send(old.conn, b"up 1");
    world.send(old.conn, b"up 2");
    let begun = world.edge.link_takes(world.now, 7);
    let mut down = Vec::new();
    let (id, flag) = (old.id, Flag::Data);
    Tagged {
        id,
        flag,
        data: b"down",
    }
    .encode(&mut down);
    world.edge.handle_link_bytes(world.now, &down[..9]);
    let moving = world.moving(true);
    assert!(moving.link);
    let keys = world.hand_over(&moving, 1);
    world.backend_comes();
    let rest = world.edge.link_takes(world.now, usize::MAX);
    let heard = [begun, rest].concat();
    let texts = bodies(&heard).into_iter();
    let texts: Vec<_> = texts
        .map(|body| Tagged::decode(&body).unwrap().data.to_vec())
        .collect();
    assert_eq!(texts, [b"up 1", b"up 2"]);
    world.edge.handle_link_bytes(world.now, &down[9..]);
    assert_eq!(world.hear(keys[0].unwrap()), [b"down"]);
    // The next one begins anew, as after any loss.
    world.send(keys[0].unwrap(), b"up 3");
    world.edge.link_takes(world.now, 3);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(core::time::Duration::from_secs(10));
    world.backend_comes();
    assert_eq!(world.backend_hears(), [data(old.id, "up 3")]);
}

#[test]
fn changed_parts_cause_no_panic() {
    let mut world = world(|_| {});
    let (old, _one) = (world.join(), world.join3());
    world.backend_says(old.id, Flag::Data, b"down");
    world.takes(old.conn, 3);
    let moving = world.moving(false);
    let sessions = moving.parts[0].0.to_vec();
    let connections = moving.parts[1].0.to_vec();
    // Any byte that is changed, and any cut: no panic, and what is taken is sound.
    for at in 0..connections.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = connections.clone();
            changed[at] ^= change;
            take(&world, &sessions, &changed);
        }
        take(&world, &sessions, &connections[..at]);
    }
}

/// Has another machine take these parts, if they can be, and everything that it then has to say.
fn take(world: &World, sessions: &[u8], connections: &[u8]) {
    crate::v3::watch::begin();
    let part = |bytes: &[u8]| Part(bytes.to_vec().into());
    let parts = [part(sessions), part(connections)];
    let bytes = sealed(world, world.edge.run(), &parts, 9);
    let Ok(snapshot) = Snapshot::open(bytes, &world.edge_keys) else {
        return;
    };
    let mut edge = Edge::new(world.edge.config.clone(), world.edge_keys.clone(), [1; 32]);
    edge.restore(Time::ZERO, &snapshot);
    for key in edge.take_over(Time::ZERO, &snapshot).into_iter().flatten() {
        edge.audit();
        edge.client_takes(Time::ZERO, key, 10_000);
    }
    edge.audit();
}
