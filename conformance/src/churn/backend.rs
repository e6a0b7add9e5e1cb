//! The backend of the churn.

use std::collections::BTreeMap;

use voltlane_core::ClientId;
use voltlane_core::link::tagged::Flag;

use super::packet::{LAST, Packet, UNASKED};
use crate::{Link, Random};

/// The packets and notices that the backend received of one client.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Its packets in order of arrival.
    pub(super) packets: Vec<Packet>,
    /// Packets whose content was altered.
    pub(super) altered: u64,
    /// The number of packets sent to it.
    pub(super) sent: u64,
    /// Their size on its connections, in bytes.
    pub(super) sent_bytes: u64,
    /// The number of resumes that were reported.
    pub(super) resumed: u64,
    /// Why it ended, if it did. It must not.
    pub(super) ended: Option<String>,
}

/// Answers every packet, and now and then sends to another client, which may be away, until each client has sent its last packet. Returns
/// the results by id.
pub(super) fn serve(mut link: Link, clients: u32, seed: u64) -> BTreeMap<u64, Heard> {
    let mut random = Random::new(!seed);
    let mut heard: BTreeMap<u64, Heard> = BTreeMap::new();
    // Ids and numbers of clients that have not sent their last packet.
    let mut present: Vec<(ClientId, u32)> = Vec::new();
    let mut left = clients;
    while left > 0 {
        let packet = link.recv();
        let of_client = heard.entry(packet.id.as_u64()).or_default();
        match packet.flag {
            Flag::Resumed => of_client.resumed += 1,
            Flag::Failure => {
                let reason = String::from_utf8_lossy(&packet.data);
                of_client.ended = Some(reason.into_owned());
            }
            Flag::Kick => of_client.altered += 1,
            Flag::Data => match Packet::decode(&packet.data) {
                None => of_client.altered += 1,
                Some(said) => {
                    of_client.packets.push(said);
                    if said.mark == LAST {
                        present.retain(|&(id, _)| id != packet.id);
                        left -= 1;
                        send(&mut link, of_client, packet.id, said.client, LAST, 0);
                        continue;
                    }
                    if of_client.packets.len() == 1 {
                        present.push((packet.id, said.client));
                    }
                    let more = random.size();
                    let answers = u32::try_from(said.number).expect("fewer packets");
                    send(&mut link, of_client, packet.id, said.client, answers, more);
                    let (id, client) = present[random.below(present.len() as u64) as usize];
                    let other = heard.entry(id.as_u64()).or_default();
                    send(&mut link, other, id, client, UNASKED, 20);
                }
            },
        }
    }
    heard
}

fn send(link: &mut Link, to: &mut Heard, id: ClientId, client: u32, mark: u32, more: usize) {
    let packet = Packet {
        client,
        mark,
        number: to.sent,
    };
    let bytes = packet.encode(more);
    link.send(id, &bytes);
    to.sent += 1;
    to.sent_bytes += 4 + bytes.len() as u64;
}
