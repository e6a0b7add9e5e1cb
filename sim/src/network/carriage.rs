//! What the clients' link is carried in.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use voltlane_core::link::v3::Carriage;
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

/// What carries the streams of clients here.
const ALL: [Carriage; 4] = [
    Carriage::Tcp,
    Carriage::Tls,
    Carriage::WebSocket,
    Carriage::WebSocketTls,
];

/// A file of the tests of the doors. Ed25519 makes every handshake equally long, so that runs of a seed are alike though TLS draws from the
/// system's randomness.
fn file(name: &str) -> PathBuf {
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/../doors/tests/certificates");
    Path::new(certificates).join(name)
}

/// What the network makes of a carriage.
pub(crate) trait Carried: Sized {
    /// Draws one.
    fn draw(rng: &mut Rng) -> Self;

    /// Returns the most bytes that both ends hold for one direction of a connection, beyond what a system does.
    fn held_bytes(self) -> usize;

    /// Returns the door of the edge.
    fn door(self) -> Door;

    /// Wraps the connector of a client.
    fn wrap<C: Connector>(self, inner: C) -> DoorConnector<C>;
}

impl Carried for Carriage {
    fn draw(rng: &mut Rng) -> Carriage {
        rng.pick(&ALL)
    }

    fn held_bytes(self) -> usize {
        match self {
            Carriage::Tcp => 0,
            _ => 64 * 1024,
        }
    }

    fn door(self) -> Door {
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

    fn wrap<C: Connector>(self, inner: C) -> DoorConnector<C> {
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
