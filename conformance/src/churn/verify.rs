//! Compares what was sent with what was received. (SPEC 1.4)

use std::collections::BTreeMap;
use std::fmt;

use super::backend::Heard;
use super::client::Seen;
use super::{Connection, Drop, Report};
use crate::metrics::Metrics;

/// Packets that were sent and did not arrive, all on connections that did not end in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// From clients.
    pub up: u64,
    /// To clients.
    pub down: u64,
}

/// A violation of SPEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    client: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: {}", self.client, self.what)
    }
}

/// The lengths of the edge's handshake packets in bytes: its key, an id, a challenge, a Ping.
const KEY: u64 = 39;
const ID: u64 = 14;
const CHALLENGE: u64 = 78;
const PING: u64 = 5;

pub(super) fn verify(heard: &BTreeMap<u64, Heard>, clients: &[Seen], metrics: &Metrics) -> Report {
    let mut report = Report::default();
    if heard.len() != clients.len() {
        let what = format!("{} ids for {} clients", heard.len(), clients.len());
        report.violations.push(Violation { client: 0, what });
    }
    for (client, seen) in clients.iter().enumerate() {
        let mut check = Check {
            client,
            report: &mut report,
        };
        match heard.get(&seen.id) {
            Some(heard) => check.all(heard, seen),
            None => check.violated("the backend never heard of it".into()),
        }
    }
    report
        .violations
        .extend(handed_over(heard, clients, metrics));
    report
}

/// Checks that missing packets were in the kernel: the edge has written every byte of every packet down to some connection, and every
/// packet up that it has taken whole has appeared on the link.
fn handed_over(
    heard: &BTreeMap<u64, Heard>,
    clients: &[Seen],
    metrics: &Metrics,
) -> Option<Violation> {
    let connections: u64 = clients
        .iter()
        .map(|seen| seen.connections.len() as u64)
        .sum();
    let joins = clients.len() as u64;
    let abandoned: u64 = clients.iter().map(|seen| seen.abandoned).sum();
    let handshakes = connections * KEY
        + joins * ID
        + (connections - joins) * (CHALLENGE + PING)
        + abandoned * (KEY + CHALLENGE);
    let packets: u64 = heard.values().map(|heard| heard.sent_bytes).sum();
    let written = metrics.value("voltlane_client_bytes_total{direction=\"out\"}");
    let up: u64 = heard.values().map(|heard| heard.packets.len() as u64).sum();
    let forwarded = metrics.value("voltlane_packets_total{direction=\"up\"}");
    (written < handshakes + packets || forwarded != up).then(|| Violation {
        client: 0,
        what: format!(
            "all clients: {written} bytes were written, {handshakes} of handshakes and {packets} of packets were to be; \
             {forwarded} packets were forwarded, {up} came"
        ),
    })
}

struct Check<'a> {
    client: usize,
    report: &'a mut Report,
}

impl Check<'_> {
    fn violated(&mut self, what: String) {
        let client = self.client;
        self.report.violations.push(Violation { client, what });
    }

    fn all(&mut self, heard: &Heard, seen: &Seen) {
        for connection in &seen.connections {
            let kind = Drop::ALL.iter().position(|&kind| kind == connection.ended);
            self.report.drops[kind.expect("one of all")] += 1;
        }
        self.report.abandoned += seen.abandoned;
        if seen.foreign > 0 || heard.altered > 0 {
            let (down, up) = (seen.foreign, heard.altered);
            self.violated(format!(
                "{down} packets down and {up} up are not its own, or altered"
            ));
        }
        if let Some(reason) = &heard.ended {
            self.violated(format!("its session ended: {reason}"));
        }
        // Each resume is reported once. The first connection was not a resume. If a connection died right after its Ping arrived, the edge
        // took the client's Ping as well.
        let returns = seen.connections.len() as u64 - 1;
        if heard.resumed != returns {
            self.violated(format!(
                "{} returns were told, not {returns}",
                heard.resumed
            ));
        }
        self.up(heard, &seen.connections);
        self.down(heard, &seen.connections);
    }

    /// Checks that the backend received a prefix of each connection, and everything if it ended in order.
    fn up(&mut self, heard: &Heard, connections: &[Connection]) {
        let mut packets = heard.packets.iter().peekable();
        for (mark, connection) in (0..).zip(connections) {
            let (first, end) = connection.sent;
            let mut next = first;
            let is_last = mark + 1 == connections.len() as u32;
            while let Some(packet) = packets.next_if(|packet| {
                packet.number == next && next < end && (packet.mark == mark || is_last)
            }) {
                if packet.client as usize != self.client {
                    self.violated(format!("a packet of {} came under its id", packet.client));
                }
                next += 1;
            }
            self.report.up += end - first;
            self.report.lost.up += end - next;
            if next < end && connection.ended == Drop::Orderly {
                self.violated(format!(
                    "{next}..{end} up are missing, connection {mark} ended in order"
                ));
            }
        }
        if let Some(packet) = packets.next() {
            self.violated(format!("{packet:?} came out of order or twice"));
        }
    }

    /// Checks that numbers increase, with gaps only where a connection did not end in order.
    fn down(&mut self, heard: &Heard, connections: &[Connection]) {
        let (mut next, mut may_miss) = (0, false);
        for (mark, connection) in connections.iter().enumerate() {
            for &number in &connection.received {
                if number < next {
                    self.violated(format!(
                        "down {number} came after {next}, connection {mark}"
                    ));
                    continue;
                }
                if number > next && !may_miss {
                    self.violated(format!(
                        "{next}..{number} down are missing, connection {mark}"
                    ));
                }
                self.report.lost.down += number - next;
                next = number + 1;
                may_miss = false;
            }
            may_miss |= connection.ended != Drop::Orderly;
        }
        self.report.down += heard.sent;
        if next != heard.sent {
            self.violated(format!(
                "{} packets were sent down, it ends with {next}",
                heard.sent
            ));
        }
    }
}
