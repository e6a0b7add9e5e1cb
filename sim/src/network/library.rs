//! A client built on the shipped library.

use voltlane_core::client as machine;
use voltlane_doors::DoorConnector;
use voltlane_driver::Client;
use voltlane_driver::client::{ClientConfig, Event};
use voltlane_tokio::Timer;

use super::party::{Heard, Party};
use super::stream::{Dialer, Sockets};
use super::{dialer_to_edge, seed_of};
use crate::rng::Rng;

pub(crate) struct Library {
    client: Client<DoorConnector<Dialer>, Timer>,
    sockets: Sockets,
    rng: Rng,
}

impl Library {
    pub(crate) fn new(sockets: Sockets, mut rng: Rng) -> Library {
        let machine = machine::Client::new(ClientConfig::default(), seed_of(&mut rng));
        Library::drive(machine, sockets, rng)
    }

    fn drive(machine: machine::Client, sockets: Sockets, mut rng: Rng) -> Library {
        let dialer = dialer_to_edge(&sockets, rng.next());
        Library {
            client: Client::drive(machine, dialer, Timer::new()),
            sockets,
            rng,
        }
    }
}

impl Party for Library {
    async fn hear(&mut self) -> Heard {
        match self.client.recv().await {
            Some(Event::Connected { id }) => Heard::Joined(id.as_u64()),
            Some(Event::Resumed { .. }) => Heard::Resumed,
            Some(Event::Packet(data)) => Heard::Packet(data),
            Some(Event::Dropped { cause, .. }) => Heard::Dropped(cause.to_string()),
            Some(Event::Refused(_)) | None => Heard::Refused,
            Some(other) => panic!("the simulator knows no {other:?}"),
        }
    }

    fn say(&mut self, packet: &[u8]) -> bool {
        self.client.try_send(packet).is_ok()
    }

    fn hang_up(&mut self) {
        self.client.drop_connection();
    }

    fn start_over(&mut self) {
        self.client.start_over();
    }

    fn reborn(&mut self, remembers: bool) -> Self {
        let (config, mut rng) = (ClientConfig::default(), Rng::new(self.rng.next()));
        let seed = seed_of(&mut rng);
        let saved = self.client.saved_session().filter(|_| remembers);
        let machine = match &saved {
            Some(saved) => machine::Client::restore(config, seed, saved),
            None => machine::Client::new(config, seed),
        };
        Library::drive(machine, self.sockets.clone(), rng)
    }
}
