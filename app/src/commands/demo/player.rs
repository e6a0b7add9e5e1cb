//! One client of the demo.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use voltlane_core::{ClientId, Time};
use voltlane_driver::client::{Client, ClientConfig, Event};
use voltlane_driver::{Connector, Timer};

use super::super::random;
use super::figures::{Figures, lock};

/// The time from an echo to the next packet.
const PACE: Duration = Duration::from_millis(5);
/// The time after which a packet without an echo counts as lost with a connection.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// The time between two cuts of one client, and between the cuts of two clients.
const CUT_EVERY: Duration = Duration::from_secs(2);
const CUT_APART: Duration = Duration::from_millis(400);

/// A client that sends numbered packets, one at a time, waits for the echo of each, and cuts its connection now and then while a packet is
/// in flight.
pub(super) struct Player<C> {
    connector: C,
    number: u32,
    figures: Arc<Mutex<Figures>>,
}

/// A packet that was sent and has not come back.
struct Outstanding {
    packet: [u8; 8],
    sent_at: Time,
}

impl<C: Connector> Player<C> {
    pub(super) fn new(connector: C, number: u32, figures: Arc<Mutex<Figures>>) -> Self {
        Player {
            connector,
            number,
            figures,
        }
    }

    /// Plays for ever.
    pub(super) async fn play<T: Timer + Default>(self) {
        let Player {
            connector,
            number,
            figures,
        } = self;
        let mut client = Client::new(ClientConfig::default(), *random(), connector, T::default());
        let mut timer = T::default();
        let mut cut_at = timer.now() + CUT_EVERY / 2 + CUT_APART * number;
        let (mut id, mut connected, mut sequence): (Option<ClientId>, bool, u64) = (None, false, 0);
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
                Some(Event::Connected { id: new } | Event::Resumed { id: new }) => {
                    figures.connected += 1;
                    figures.resumes += u64::from(id.is_some());
                    figures.faults += u64::from(id.is_some_and(|id| id != new));
                    (id, connected) = (Some(new), true);
                    due = now
                        + if outstanding.is_some() {
                            LOST_AFTER
                        } else {
                            PACE
                        };
                }
                Some(Event::Packet(data)) => {
                    match outstanding.take_if(|sent| sent.packet[..] == data) {
                        Some(sent) => {
                            figures.packets += 1;
                            figures.round_trips += now.since(sent.sent_at);
                            due = now + PACE;
                        }
                        None => figures.faults += 1,
                    }
                }
                Some(Event::Dropped { .. }) => {
                    if std::mem::take(&mut connected) {
                        figures.connected -= 1;
                        figures.drops += 1;
                    }
                    due = Time::MAX;
                }
                Some(Event::Refused(_)) => {
                    figures.faults += 1;
                    id = None;
                    client.start_over();
                }
                // Event kinds of a newer library.
                Some(_) => {}
                None if std::mem::take(&mut cuts) => {
                    // The packet was sent, so the cut is worth something.
                    client.drop_connection();
                    due = Time::MAX;
                }
                None => {
                    if outstanding.is_none() {
                        sequence += 1;
                    } else {
                        figures.sent_again += 1;
                    }
                    let packet = sequence.to_le_bytes();
                    // There is room: one packet is in flight at a time.
                    figures.faults += u64::from(client.try_send(&packet).is_err());
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
}
