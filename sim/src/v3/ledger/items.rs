//! What is sealed and what comes: each item of a record, judged.

use super::*;

impl Ledger {
    /// A client has sealed items.
    pub(in crate::v3) fn sealed_up(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        for (item, number) in items {
            match item {
                Item::Packet(bytes) => self.packet_sealed(session, watch, true, *number, bytes),
                Item::Latest { .. } | Item::Volatile(_) => {
                    self.fail("V9", "21.3(a)", format!("{item:?} of a client"));
                }
                Item::Ping(_) => watch.pinged_at = Some(self.now),
                Item::Ack(more) => {
                    watch.acks_sealed.0 += more;
                    let entry = &self.sessions[session];
                    let (said, taken) = (watch.acks_sealed.0, entry.fates.passed(entry.down.taken));
                    if said > taken {
                        let text = format!("client acknowledges {said} of {taken} packets taken");
                        self.fail("V6", "24.3(b)", text);
                    }
                }
                Item::Close { code, up, down, .. } => {
                    if *code != 0 {
                        let entry = &self.sessions[session];
                        let text = format!(
                            "an honest edge is closed with {code}: ring {:?}, {:?}",
                            entry.ring, entry.fates
                        );
                        self.fail("V9", "25.4(b)", text);
                    }
                    watch.has_parted = true;
                    self.account(session, up, down, true);
                }
                _ => {}
            }
        }
    }

    /// The edge has sealed items.
    pub(in crate::v3) fn sealed_down(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        for (item, number) in items {
            if watch.closed.is_some() && *item != Item::Pad {
                return self.fail("V9", "21.4(d)", format!("{item:?} after CLOSE"));
            }
            let is_first = watch.accepted.is_some() && !watch.has_resumed;
            watch.has_resumed = true;
            if is_first && !matches!(item, Item::Resumed { .. } | Item::Close { .. }) {
                return self.fail("V5", "21.4(c)", format!("{item:?} before RESUMED"));
            }
            match item {
                Item::Packet(bytes) => {
                    self.fate_sealed(session, watch, *number, None);
                    self.packet_sealed(session, watch, false, *number, bytes);
                }
                Item::Latest { key, packet } => {
                    self.fate_sealed(session, watch, *number, Some(*key));
                    self.packet_sealed(session, watch, false, *number, packet);
                    self.reached("latest sent");
                }
                Item::Volatile(bytes) => {
                    let Some(place) = self.volatile_place(session, bytes) else {
                        return;
                    };
                    let sealed = self.sessions[session].fates.sealed_volatile(place);
                    self.expect("V19", "24.6(b)", sealed);
                    self.reached("volatile sent");
                }
                Item::Superseded(count) => {
                    let told = self.sessions[session]
                        .fates
                        .sealed_superseded(*number, *count);
                    self.expect("V17", "24.6(c)", told);
                    self.reached("superseded");
                    if watch.accepted.is_some_and(|own| own.until >= *number) {
                        self.reached("superseded in a replay");
                    }
                }
                Item::Gap { count, reason: 1 } => {
                    let told = self.sessions[session].fates.sealed_gap(*number, *count);
                    self.expect("V8", "24.4", told);
                    self.reached("gap");
                    if watch.accepted.is_some_and(|own| own.until >= *number) {
                        self.reached("gap in a replay");
                    }
                }
                Item::Skipped(count) if self.sessions[session].fates.has_volatile() => {
                    self.sessions[session].fates.sealed_skipped(*count);
                    self.reached("skipped");
                }
                Item::Ack(more) => {
                    watch.acks_sealed.1 += more;
                    let said = watch.acks_sealed.1;
                    let in_queue = self.queued_of(session).packets;
                    let entry = &self.sessions[session].up;
                    let (arrived, queued) = (entry.arrived, entry.taken + in_queue);
                    if said > arrived || said > queued {
                        let text = format!(
                            "the edge acknowledges {said} packets, {arrived} have come and at most {queued} are in its queue"
                        );
                        self.fail("V6", "24.3(b)", text);
                    }
                }
                Item::Resumed {
                    until,
                    received_up,
                    cause,
                    marks,
                } => {
                    let (until, received_up) = (*until, *received_up);
                    self.resumed(session, watch, until, received_up, *cause, marks);
                }
                Item::GoAway {
                    code,
                    earliest,
                    latest,
                    drain,
                } => {
                    let is_right =
                        matches!(code, 101 | 104) && *earliest == 0 && *latest == drain - drain / 8;
                    if !is_right {
                        return self.fail("V15", "25.3(c)", format!("{item:?}"));
                    }
                    self.reached("asked to leave");
                }
                Item::Gap { count, reason: 2 }
                    if watch.accepted.is_some_and(|own| own.gap == *count) =>
                {
                    self.reached("gap of a claim");
                }
                Item::Gap { .. } | Item::Skipped(_) => {
                    let text = format!("{item:?} for a client that claims all that it has");
                    self.fail("V8", "24.4", text);
                }
                Item::Close {
                    code,
                    detail,
                    up,
                    down,
                } => {
                    watch.closed = Some(*code);
                    self.closed(session, watch, *code, *detail);
                    self.account(session, up, down, false);
                }
                _ => {}
            }
        }
    }

    /// Fails if something is not so.
    pub(super) fn expect(
        &mut self,
        id: &'static str,
        section: &'static str,
        so: Result<(), String>,
    ) {
        if let Err(text) = so {
            self.fail(id, section, text);
        }
    }

    /// A packet down was sealed with this number, and the key of a LATEST.
    pub(super) fn fate_sealed(
        &mut self,
        session: usize,
        watch: &Watch,
        number: u64,
        key: Option<u8>,
    ) {
        let was_superseded = watch.superseded_before.contains(&number);
        let sealed = self.sessions[session].fates.sealed_packet(
            number,
            key,
            was_superseded,
            watch.is_displaced,
        );
        self.expect("V17", "24.6(c)", sealed);
    }

    /// Returns which VOLATILE of a session this is.
    pub(super) fn volatile_place(&mut self, session: usize, bytes: &[u8]) -> Option<u64> {
        let entry = &self.sessions[session];
        let place = payload::decode(bytes).ok().filter(|label| {
            let whose = (label.direction, label.owner, label.conn);
            whose == (Direction::Down, entry.owner as u32, entry.id as u32)
        });
        let place = place.and_then(|label| label.seq.checked_sub(FIRST_VOLATILE));
        if place.is_none() {
            let text = format!("{:?} as VOLATILE", payload::decode(bytes));
            self.fail("V19", "24.6(b)", text);
        }
        place.map(u64::from)
    }

    /// A VOLATILE came to a client's application.
    pub(in crate::v3) fn delivered_volatile(&mut self, session: usize, bytes: &[u8]) {
        if let Some(place) = self.volatile_place(session, bytes) {
            let came = self.sessions[session].fates.came_volatile(place);
            self.expect("V19", "24.6(b)", came);
        }
    }

    /// A packet was sealed with this number. Its label says which one it is, and the ring must have room for it.
    pub(super) fn packet_sealed(
        &mut self,
        session: usize,
        watch: &Watch,
        is_up: bool,
        number: u64,
        bytes: &[u8],
    ) {
        let entry = &mut self.sessions[session];
        let ring = entry.ring;
        let (way, conn, lane) = match is_up {
            true => (Direction::Up, entry.life, &mut entry.up),
            false => (Direction::Down, entry.id as u32, &mut entry.down),
        };
        let known = number <= lane.numbered();
        let label = payload::decode(bytes);
        let expected = Label {
            direction: way,
            owner: entry.owner as u32,
            conn,
            seq: (number as u32).wrapping_sub(1),
        };
        let is_it = label == Ok(expected);
        if !known || !is_it {
            let text = format!("number {number} of {} is {label:?}", lane.numbered());
            return self.fail("V1", "24.1", text);
        }
        let acked = lane.acked.min(number);
        let (mut open, mut open_bytes) = (number - acked, lane.bytes_between(acked, number));
        if !is_up {
            // What was told as a gap or as superseded fills no ring (SPEC 24.6(f)).
            let received = watch.accepted.map_or(0, |own| own.received);
            for hole in entry.fates.holes(acked, number, received) {
                open -= 1;
                open_bytes -= entry.down.bytes_between(hole - 1, hole);
            }
        }
        if open > 1 && (open > ring.0 || open_bytes > ring.1) {
            let text = format!(
                "{open} packets of {open_bytes} bytes are sent and not acknowledged, the ring is {ring:?}"
            );
            self.fail("V7", "24.2(b)", text);
        } else if open >= ring.0 {
            self.reached("ring full");
        }
    }

    pub(super) fn resumed(
        &mut self,
        session: usize,
        watch: &Watch,
        until: u64,
        received_up: u64,
        cause: u64,
        marks: &[[u8; 8]],
    ) {
        let Some(accepted) = watch.accepted else {
            return self.fail("V5", "21.4(c)", "RESUMED after a join".into());
        };
        let entry = &mut self.sessions[session];
        entry.resumed_at.insert(accepted.place, received_up);
        let (least, most) = accepted.up;
        let before = &entry.history[..accepted.place as usize];
        let fewest = (before.len() - entry.confirmed.min(before.len() - 1)).min(64);
        let is_end = before.ends_with(marks) && marks.len() >= fewest;
        if until != accepted.until {
            let text = format!(
                "the replay ends at {until}, {} were numbered",
                accepted.until
            );
            return self.fail("V5", "24.5(b)", text);
        }
        if !(least..=most).contains(&received_up) {
            let text = format!("{received_up} packets up received, {least} to {most} can be");
            return self.fail("V5", "24.5(b)", text);
        }
        if !is_end {
            let text = format!(
                "{} marks, {fewest} at least are new to the client",
                marks.len()
            );
            return self.fail("V4", "23.6(d)", text);
        }
        if !matches!(cause, 0 | 201) {
            let text = format!("the edge let go of an honest client: {cause}");
            self.fail("V9", "24.5(b)", text);
        } else if cause == 201 {
            self.reached("parked");
        }
    }

    pub(super) fn closed(&mut self, session: usize, watch: &Watch, code: u64, detail: u64) {
        let entry = &self.sessions[session];
        let is_over = entry.ended.is_some();
        let is_right = match code {
            0 => entry.said_goodbye,
            101 | 104 => self
                .leavings
                .iter()
                .any(|leaving| leaving.code == code && leaving.at <= self.now),
            204 => !entry.has_begun || watch.accepted.is_none(),
            303 => true,
            306 => self.shed > 0,
            401 => entry.kicked,
            402 => watch.accepted.map_or(0, |own| own.counter) < detail && detail <= entry.highest,
            _ => false,
        };
        if !is_right {
            let text = format!("CLOSE {code} with {detail}: {is_over} {:?}", entry.ended);
            return self.fail("V9", "25.4", text);
        }
        self.reached(match code {
            0 => "goodbye answered",
            303 => "closed: ring full",
            401 => "closed: kicked",
            402 => "closed: taken over",
            _ => "closed",
        });
    }

    /// Checks the ledger of a CLOSE.
    pub(super) fn account(
        &mut self,
        session: usize,
        up: &Account,
        down: &Account,
        is_client: bool,
    ) {
        let entry = &self.sessions[session];
        let adds_up = |account: &Account| account[0] == account[1..6].iter().sum::<u64>();
        // A sender knows what it has numbered, a receiver what it has received. It acknowledges what was taken.
        let (own, lane, other, from, taken) = if is_client {
            let taken = entry.fates.passed(entry.down.taken);
            (up, &entry.up, down, &entry.down, taken)
        } else {
            let taken = entry.up.taken + self.queued_of(session).packets;
            (down, &entry.down, up, &entry.up, taken)
        };
        let knows = own[0] == lane.numbered() || (!is_client && own[0] <= lane.numbered());
        let (superseded, gapped) = match is_client {
            true => entry.fates.told(),
            // A record that its transport did not take whole was sealed, and nobody has seen it.
            false => entry.fates.most_told(),
        };
        let is_right = adds_up(up)
            && adds_up(down)
            && (down[2] <= superseded && down[3] <= gapped && up[2] + up[3] == 0)
            && knows
            && own[1] <= lane.acked
            && other[0] <= from.arrived
            && other[1] <= from.arrived.min(taken);
        if !is_right {
            let whose = if is_client { "client" } else { "edge" };
            let text = format!(
                "the {whose} of {:016x} says up {up:?}, down {down:?}; {:?} {:?}, {taken} taken, told {superseded} {gapped}",
                entry.id, entry.up, entry.down
            );
            self.fail("V10", "24.7", text);
        }
    }

    /// Items have come to the edge, on the connection that its session is attached to.
    pub(in crate::v3) fn came_up(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        let entry = &mut self.sessions[session];
        for (item, number) in items {
            match item {
                Item::Part(piece) => watch.pieces += piece.len(),
                Item::Packet(_) => {
                    entry.up.arrived = entry.up.arrived.max(*number);
                    watch.pieces = 0;
                }
                Item::Ack(more) => {
                    watch.acks_heard.0 += more;
                    entry.down.acked = entry.down.acked.max(watch.acks_heard.0);
                }
                Item::EarlyEnd => {
                    if let Some(accepted) = watch.accepted {
                        entry.confirmed = entry.confirmed.max(accepted.place as usize);
                    }
                }
                Item::Close { code: 0, .. } => entry.said_goodbye = true,
                _ => {}
            }
        }
    }

    /// Items have come to the client.
    pub(in crate::v3) fn came_down(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        let (now, leapt) = (self.now, self.leapt);
        let mut stays = None;
        let entry = &mut self.sessions[session];
        entry.heard_at = now;
        for (item, number) in items {
            match item {
                Item::Packet(_) | Item::Latest { .. } => {
                    entry.down.arrived = entry.down.arrived.max(*number);
                    entry.fates.came(*number, 1, Fate::Packet);
                }
                Item::Superseded(count) | Item::Gap { count, reason: 1 } => {
                    entry.down.arrived = entry.down.arrived.max(number + count - 1);
                    let fate = match item {
                        Item::Superseded(_) => Fate::Superseded,
                        _ => Fate::Gapped,
                    };
                    entry.fates.came(*number, *count, fate);
                }
                Item::Ack(more) => {
                    watch.acks_heard.1 += more;
                    entry.up.acked = entry.up.acked.max(watch.acks_heard.1);
                }
                Item::GoAway {
                    code,
                    earliest,
                    latest,
                    ..
                } => {
                    let (from, until) = (earliest * 1_000_000, latest * 1_000_000);
                    watch.asked = Some(Asked {
                        code: *code,
                        from: now + from,
                        until: now + until,
                        leapt,
                    });
                }
                Item::Close {
                    code: 402, detail, ..
                } => {
                    let is_foreign = entry.foreign_counters.contains(detail);
                    watch.is_taken_over = is_foreign && *detail > entry.used;
                }
                Item::Close {
                    code: 101 | 104, ..
                } if !watch.has_parted => {
                    stays = watch.asked.filter(|asked| asked.is_over(now, leapt))
                }
                _ => {}
            }
        }
        if let Some(asked) = stays {
            let text = format!("a client that was asked to leave stays: {asked:?}");
            self.fail("V15", "25.3(a)", text);
        }
    }
}
