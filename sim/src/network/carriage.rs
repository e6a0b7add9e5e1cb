//! What the clients' link is carried in.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use voltlane_doors::tls::{
    CertificateFiles, ClientSettings, ClientTls, Roots, ServerSettings, ServerTls,
};
use voltlane_doors::websocket::http::Rules;
use voltlane_doors::{Door, DoorConnector};
use voltlane_driver::Connector;

use crate::rng::Rng;

/// The name in the certificate of the edge.
const EDGE: &str = "edge.example.com";
/// After how much silence a client is asked for a sign of life, and how long it has for its answer.
const PING: Duration = Duration::from_secs(3);

/// What carries the stream of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// TCP alone.
    Plain,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket within TLS.
    Wss,
}

/// A file of the tests of the doors. Ed25519 makes every handshake equally long, so that runs of a seed are alike though TLS draws from the
/// system's randomness.
fn file(name: &str) -> PathBuf {
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/../doors/tests/certificates");
    Path::new(certificates).join(name)
}

impl Carriage {
    /// All of them.
    pub const ALL: [Carriage; 4] = [Carriage::Plain, Carriage::Tls, Carriage::Ws, Carriage::Wss];

    pub(crate) fn draw(rng: &mut Rng) -> Carriage {
        rng.pick(&Carriage::ALL)
    }

    fn has_tls(self) -> bool {
        matches!(self, Carriage::Tls | Carriage::Wss)
    }

    fn has_websocket(self) -> bool {
        matches!(self, Carriage::Ws | Carriage::Wss)
    }

    /// Returns the most bytes that both ends hold for one direction of a connection, beyond what a system does.
    pub(crate) fn held_bytes(self) -> usize {
        match self {
            Carriage::Plain => 0,
            Carriage::Tls | Carriage::Ws | Carriage::Wss => 64 * 1024,
        }
    }

    /// Returns the door of the edge.
    pub(crate) fn door(self) -> Door {
        let mut door = Door::default();
        if self.has_tls() {
            let mut settings = ServerSettings::default();
            settings.certificates = vec![CertificateFiles::new(file("edge.pem"), file("edge.key"))];
            settings.tickets = false;
            let loaded = ServerTls::load(&settings, SystemTime::now());
            door = door.with_tls(loaded.expect("the tests' certificates").0);
        }
        if self.has_websocket() {
            door = door
                .with_websocket(Rules::default(), 0)
                .with_pings(PING, PING);
        }
        door
    }

    /// Wraps the connector of a client.
    pub(crate) fn wrap<C: Connector>(self, inner: C) -> DoorConnector<C> {
        let mut connector = DoorConnector::new(inner);
        if self.has_tls() {
            let settings = ClientSettings::new(EDGE, Roots::File(file("authority.pem")));
            let tls = ClientTls::load(&settings).expect("the tests' authority");
            connector = connector.with_tls(tls);
        }
        if self.has_websocket() {
            let with = connector.with_websocket(EDGE, "/");
            connector = with.expect("a host and a path");
        }
        connector
    }
}
