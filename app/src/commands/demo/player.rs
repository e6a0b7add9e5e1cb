//! One client of the demo.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_driver::client::{Client, ConnectError, Event, Version};
use voltlane_driver::{Runtime, Timer as _};

use super::figures::{Figures, lock};

/// The time from an echo to the next packet, where there are few clients.
pub(super) const PACE: Duration = Duration::from_millis(5);
/// The time on a connection after which a packet without an echo counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The time between two cuts of one client.
pub(super) const CUT_EVERY: Duration = Duration::from_secs(2);
/// The longest pause before a client comes back. The usual ones grow with each cut until a connection lasts for 10 s, which none does here.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A client, and what is particular about it.
pub(super) struct Role {
    pub(super) client: Result<Client, ConnectError>,
    /// The edge that it is at, or tries.
    pub(super) at: Arc<AtomicUsize>,
    /// How long it waits until it connects.
    pub(super) begins_after: Duration,
    /// The time from an echo to the next packet.
    pub(super) pace: Duration,
    /// When it cuts its connection for the first time. `None`: it never does.
    pub(super) first_cut: Option<Duration>,
}

/// A packet that was sent and has not come back.
struct Outstanding {
    packet: [u8; 8],
    sent_at: Time,
}

/// Plays for ever: sends numbered packets, one at a time, waits for the echo of each, and cuts its connection now and then while a packet
/// is in flight.
pub(super) async fn play<R: Runtime>(role: Role, figures: Arc<Mutex<Figures>>) {
    let Ok(mut client) = role.client else {
        lock(&figures).faults += 1;
        return;
    };
    let mut timer = R::Timer::default();
    let begins_at = timer.now() + role.begins_after;
    poll_fn(|cx| timer.poll_until(cx, begins_at)).await;
    let first_cut = role.first_cut.map(|after| timer.now() + after);
    let mut cut_at = first_cut.unwrap_or(Time::MAX);
    let (mut dropped_at, mut was_at) = (Time::ZERO, usize::MAX);
    let (mut has_joined, mut is_away, mut sequence) = (false, false, 0_u64);
    let mut attempt_at = Time::ZERO;
    let mut outstanding: Option<Outstanding> = None;
    let mut cuts = false;
    let mut due = Time::MAX;
    loop {
        let event = poll_fn(|cx| match client.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(Some(event))),
            // Its session is over for good, which was counted.
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => timer.poll_until(cx, due).map(|()| Some(None)),
        });
        let Some(event) = event.await else {
            return;
        };
        let now = timer.now();
        let mut figures = lock(&figures);
        match event {
            Some(Event::Connected { .. }) => {
                figures.connected += 1;
                figures.faults += u64::from(has_joined);
                figures.is_encrypted &= client.version() == Version::V3;
                (has_joined, is_away) = (true, false);
                was_at = role.at.load(Ordering::Relaxed);
                (outstanding, due) = (None, now + role.pace);
            }
            Some(Event::Resumed { .. }) => {
                figures.connected += 1;
                figures.resumes.push(now.since(attempt_at));
                is_away = false;
                let is_at = role.at.load(Ordering::Relaxed);
                if is_at != was_at {
                    figures.moves.push(now.since(dropped_at));
                    was_at = is_at;
                }
                due = match outstanding {
                    Some(_) => now + LOST_AFTER,
                    None => now + role.pace,
                };
            }
            Some(Event::Packet { data, .. }) => {
                match outstanding.take_if(|sent| sent.packet[..] == data) {
                    Some(sent) => {
                        figures.packets += 1;
                        figures.round_trips += now.since(sent.sent_at);
                        due = now + role.pace;
                    }
                    None => figures.twice += 1,
                }
            }
            Some(Event::Dropped { retry_in, .. }) => {
                if has_joined && !std::mem::replace(&mut is_away, true) {
                    figures.connected -= 1;
                    figures.drops += 1;
                    dropped_at = now;
                }
                attempt_at = now + retry_in;
                due = Time::MAX;
            }
            Some(Event::Ended { end, .. }) => {
                figures.faults += 1;
                figures.last_end = Some(end.to_string());
                figures.connected -=
                    u32::from(has_joined && !std::mem::replace(&mut is_away, true));
                due = Time::MAX;
            }
            // CaughtUp, and the events of a newer library.
            Some(_) => {}
            None if std::mem::take(&mut cuts) => {
                // The packet was sent, so the cut is worth something.
                client.drop_connection();
                due = Time::MAX;
            }
            None => {
                figures.lost += u64::from(outstanding.is_some());
                sequence += 1;
                let packet = sequence.to_le_bytes();
                // There is room: one packet is in flight at a time.
                figures.faults += u64::from(client.try_send(packet).is_err());
                outstanding = Some(Outstanding {
                    packet,
                    sent_at: now,
                });
                due = now + LOST_AFTER;
                if now >= cut_at {
                    (cuts, cut_at, due) = (true, now + CUT_EVERY, now);
                }
            }
        }
    }
}
