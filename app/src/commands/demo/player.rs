//! One client of the demo.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_doors::client::Builder;
use voltlane_driver::client::{ClientConfig, Event, Version};
use voltlane_driver::{Runtime, Timer as _};

use super::figures::{Figures, lock};

/// The time from an echo to the next packet.
const PACE: Duration = Duration::from_millis(5);
/// The time on a connection after which a packet without an echo counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// The time between two cuts of one client, and between the cuts of two clients.
const CUT_EVERY: Duration = Duration::from_secs(2);
const CUT_APART: Duration = Duration::from_millis(400);
/// The longest pause before a client comes back. The usual ones grow with each cut until a connection lasts for 10 s, which none does here.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A packet that was sent and has not come back.
struct Outstanding {
    packet: [u8; 8],
    sent_at: Time,
}

/// Plays for ever: sends numbered packets, one at a time, waits for the echo of each, and cuts its connection now and then while a packet
/// is in flight.
pub(super) async fn play<R: Runtime>(address: String, number: u32, figures: Arc<Mutex<Figures>>) {
    let config = ClientConfig::default()
        .with_backoff(LONGEST_PAUSE, LONGEST_PAUSE)
        .expect("the first pause is no longer than the longest");
    let builder = Builder::on::<R>(&address).config(config).start_over(true);
    let Ok(mut client) = builder.begin() else {
        lock(&figures).faults += 1;
        return;
    };
    let mut timer = R::Timer::default();
    let mut cut_at = timer.now() + CUT_EVERY / 2 + CUT_APART * number;
    let (mut has_joined, mut is_away, mut sequence) = (false, false, 0_u64);
    let mut attempt_at = Time::ZERO;
    let mut outstanding: Option<Outstanding> = None;
    let mut cuts = false;
    let mut due = Time::MAX;
    loop {
        let event = poll_fn(|cx| match client.poll_recv(cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => timer.poll_until(cx, due).map(|()| None),
        });
        let event = event.await;
        let now = timer.now();
        let mut figures = lock(&figures);
        match event {
            Some(Event::Connected { .. }) => {
                figures.connected += 1;
                figures.faults += u64::from(has_joined);
                figures.is_encrypted &= client.version() == Version::V3;
                (has_joined, is_away) = (true, false);
                (outstanding, due) = (None, now + PACE);
            }
            Some(Event::Resumed { .. }) => {
                figures.connected += 1;
                figures.resumed(now.since(attempt_at));
                is_away = false;
                due = match outstanding {
                    Some(_) => now + LOST_AFTER,
                    None => now + PACE,
                };
            }
            Some(Event::Packet { data, .. }) => {
                match outstanding.take_if(|sent| sent.packet[..] == data) {
                    Some(sent) => {
                        figures.packets += 1;
                        figures.round_trips += now.since(sent.sent_at);
                        due = now + PACE;
                    }
                    None => figures.twice += 1,
                }
            }
            Some(Event::Dropped { retry_in, .. }) => {
                if has_joined && !std::mem::replace(&mut is_away, true) {
                    figures.connected -= 1;
                    figures.drops += 1;
                }
                attempt_at = now + retry_in;
                due = Time::MAX;
            }
            Some(Event::Ended { .. }) => {
                figures.faults += 1;
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
