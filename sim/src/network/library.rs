//! A client built on the shipped library.

use voltlane_driver::client::{
    Client, ClientConfig, Event, Means, Options, SavedSession, Versions,
};
use voltlane_tokio::Timer;

use super::party::{Heard, Party};
use super::stream::Sockets;
use super::{dialer_to_edge, seed_of};
use crate::rng::Rng;

pub(crate) struct Library {
    /// Whether it speaks version 3.
    is_v3: bool,
    client: Client,
    sockets: Sockets,
    rng: Rng,
}

impl Library {
    pub(crate) fn new(sockets: Sockets, rng: Rng, is_v3: bool) -> Library {
        Library::begin(None, sockets, rng, is_v3)
    }

    fn begin(saved: Option<SavedSession>, sockets: Sockets, mut rng: Rng, is_v3: bool) -> Library {
        let versions = match is_v3 {
            true => Versions::V3,
            false => Versions::V2,
        };
        let mut options = Options::default();
        options.config = ClientConfig::default().with_versions(versions);
        options.saved = saved;
        let mut seeds = Rng::new(rng.next());
        let dialer = dialer_to_edge(&sockets, rng.next());
        let means = Means::new(dialer, Timer::new(), move || seed_of(&mut seeds));
        Library {
            is_v3,
            client: Client::begin(options, means).expect("options that can be"),
            sockets,
            rng,
        }
    }
}

impl Party for Library {
    async fn hear(&mut self) -> Heard {
        loop {
            return match self.client.recv().await {
                Some(Event::Connected { id, .. }) => Heard::Joined(id.as_u64()),
                Some(Event::Resumed { .. }) => Heard::Resumed,
                Some(Event::Packet { data, .. }) => Heard::Packet(data),
                Some(Event::Dropped { cause, .. }) => Heard::Dropped(cause.to_string()),
                Some(Event::CaughtUp { .. }) => continue,
                Some(Event::Ended { .. }) => Heard::Refused,
                Some(other) => panic!("the simulator knows no {other:?}"),
                None => panic!("a session that ended is started over"),
            };
        }
    }

    fn say(&mut self, packet: &[u8]) -> bool {
        self.client.try_send(packet).is_ok()
    }

    fn hang_up(&mut self) {
        self.client.drop_connection();
    }

    fn start_over(&mut self) {
        if !self.client.start_over() {
            // The code told it to stop. Its user begins again.
            assert!(self.is_v3, "its end allows that");
            *self = self.reborn(false);
        }
    }

    fn is_v3(&self) -> bool {
        self.is_v3
    }

    fn reborn(&mut self, remembers: bool) -> Self {
        let rng = Rng::new(self.rng.next());
        let saved = self.client.saved_session().filter(|_| remembers);
        Library::begin(saved, self.sockets.clone(), rng, self.is_v3)
    }
}
