//! The bans that this edge shares with the others of its cluster. (SPEC 43.9)

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use voltlane_cluster::{BanEvent, Change, SharedBan, Teller};

use crate::admin::{Ban, Desk};

/// What the metrics look at.
static SHOWN: OnceLock<Teller> = OnceLock::new();

/// Returns how many bans are shared, and how many were refused. `None`: this edge shares none.
pub(crate) fn counts() -> Option<(usize, u64)> {
    SHOWN.get().and_then(Teller::counts)
}

/// Shares the bans of the edge with this home.
#[derive(Clone)]
pub(crate) struct Sharing {
    teller: Teller,
    home: u16,
}

impl Sharing {
    pub(crate) fn new(teller: Teller, home: u16) -> Sharing {
        let _ = SHOWN.set(teller.clone());
        Sharing { teller, home }
    }

    /// Begins, with the bans that the edge has in effect. Those that have a home were shared already.
    pub(crate) fn begin(&self, desk: Desk, bans: Vec<Ban>) {
        let (known, own): (Vec<_>, Vec<_>) = bans.into_iter().partition(|ban| ban.home.is_some());
        let known = known.iter().map(|ban| self.shared(ban)).collect();
        let home = self.home;
        self.teller.begin(
            known,
            Box::new(move |changes| adopt(&desk, home, changes)),
            Box::new(tell),
        );
        for ban in own {
            let _ = self.ban(&ban);
        }
    }

    /// Tells the others of a ban of this edge. Returns whether it is shared.
    pub(crate) fn ban(&self, ban: &Ban) -> bool {
        self.teller.tell(Change::Ban(self.shared(ban)))
    }

    /// Tells the others that a ban is lifted. Returns whether it was shared.
    pub(crate) fn lift(&self, network: IpNet) -> bool {
        self.homes().contains_key(&network.trunc()) && self.teller.tell(Change::Lift(network))
    }

    /// Returns the networks whose bans are shared, with the homes of the edges at which they were made.
    pub(crate) fn homes(&self) -> BTreeMap<IpNet, u16> {
        let known = self.teller.known().into_values();
        known.map(|ban| (ban.network, ban.home)).collect()
    }

    fn shared(&self, ban: &Ban) -> SharedBan {
        let secs = ban.within.map(|within| within.as_secs().max(1));
        let home = ban.home.unwrap_or(self.home);
        SharedBan::new(ban.network, unix(), secs, home, &ban.note)
    }
}

fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Returns whether two networks have an address in common.
fn meet(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Does what other edges have changed. Returns whether the edge did.
fn adopt(desk: &Desk, own: u16, changes: &[Change]) -> bool {
    let exempt = desk.settings().limits.exempt;
    let is_exempt = |ban: &SharedBan| exempt.0.iter().any(|exempt| meet(exempt, &ban.network));
    let now = unix();
    let asked: Vec<_> = changes
        .iter()
        .filter(|change| !matches!(change, Change::Ban(ban) if is_exempt(ban)))
        .cloned()
        .collect();
    let done = desk.ask(0, move |edge, time| {
        let mut done = Ok(());
        for change in &asked {
            match change {
                Change::Ban(ban) => {
                    let within = Duration::from_secs(ban.until.saturating_sub(now));
                    let banned = edge.handle_ban(time, ban.network, Some(within), &ban.note);
                    done = done.and(banned);
                }
                Change::Lift(network) => {
                    edge.handle_unban(time, *network);
                }
            }
        }
        done
    });
    let Ok(done) = done else {
        return false;
    };
    if let Err(error) = done {
        tracing::warn!(%error, "a ban of another edge is not in effect at this one");
    }
    for change in changes {
        match change {
            Change::Ban(ban) if is_exempt(ban) => tracing::info!(
                network = %ban.network,
                home = ban.home,
                "a ban of another edge is not in effect at this one: the network is in limits.exempt, or around one of it"
            ),
            Change::Ban(ban) => tracing::info!(
                target: "voltlane::audit",
                who = %format_args!("the edge with the home {}", ban.home),
                network = %ban.network,
                secs = ban.until.saturating_sub(now),
                home = own,
                "a ban by the engine of the cluster"
            ),
            Change::Lift(network) => tracing::info!(
                target: "voltlane::audit",
                who = "an edge of the cluster",
                %network,
                home = own,
                "a ban is lifted by the engine of the cluster"
            ),
        }
    }
    // The log says it if they cannot be kept.
    let _ = desk.keep_bans();
    true
}

fn tell(event: &BanEvent) {
    match event {
        BanEvent::PageRefused { page, error } => tracing::warn!(
            page,
            "shared bans: {error}. The page is left alone, and what was known of it stays"
        ),
        BanEvent::EntriesRefused { page, count, why } => {
            tracing::warn!(page, count, "shared bans are left out: {why}");
        }
        BanEvent::Troubled(error) => tracing::warn!(
            "bans are not shared for now: {error}. Those in effect stay; still trying"
        ),
        BanEvent::NoRoom(network) => tracing::warn!(
            %network,
            "a ban is in effect at this edge alone: as many are shared as can be"
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_meet_where_one_is_within_the_other() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        for (one, other, do_meet) in [
            ("10.0.0.0/8", "10.1.2.3/32", true),
            ("10.1.2.3/32", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "11.0.0.0/8", false),
            ("10.0.0.0/8", "::/0", false),
        ] {
            assert_eq!(meet(&net(one), &net(other)), do_meet, "{one}, {other}");
        }
    }
}
