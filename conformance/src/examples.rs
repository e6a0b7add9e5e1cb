//! The examples of the libraries, as parties of a scenario.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use voltlane_driver::Runtime;
use voltlane_driver::backend::{Backend, BackendHandle, Builder, SendError};

use crate::{PATIENCE, Smol, Tokio};

#[path = "../../runtime-tokio/examples/chat.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod chat;
#[path = "../../runtime-tokio/examples/fleet.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod fleet;
#[path = "../../runtime-tokio/examples/game.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod game;
#[path = "../../runtime-smol/examples/smol_game.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod smol_game;

/// Serves the chat on a thread of its own. It may ask its edge for version 3 of the link. Returns its address.
#[must_use]
pub fn chat(asks: bool) -> SocketAddr {
    run::<Tokio, _>(asks, |builder| builder, chat::chat).0
}

/// Serves the game, with teams.
#[must_use]
pub fn game(asks: bool) -> SocketAddr {
    run::<Tokio, _>(asks, |builder| builder.tick(game::TICK), game::game).0
}

/// Serves the game on smol, without teams.
#[must_use]
pub fn smol_game(asks: bool) -> SocketAddr {
    run::<Smol, _>(
        asks,
        |builder| builder.tick(smol_game::TICK),
        smol_game::game,
    )
    .0
}

/// The backend of a fleet of devices.
#[expect(
    missing_debug_implementations,
    reason = "a failure shows what was seen, not this"
)]
pub struct Fleet {
    fleet: Arc<fleet::Fleet>,
    backend: BackendHandle,
    address: SocketAddr,
}

impl Fleet {
    /// Serves it on a thread of its own.
    #[must_use]
    pub fn start(asks: bool) -> Fleet {
        let fleet = Arc::new(fleet::Fleet::default());
        let serves = Arc::clone(&fleet);
        let (address, backend) = run::<Tokio, _>(
            asks,
            |builder| builder,
            move |backend| fleet::serve(backend, serves),
        );
        Fleet {
            fleet,
            backend,
            address,
        }
    }

    /// Returns where its edge is to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a command to a device.
    pub fn order(&self, device: &str, command: &str) {
        self.fleet.order(&self.backend, device, command);
    }

    /// Returns how many commands are not done.
    #[must_use]
    pub fn open(&self) -> usize {
        self.fleet.open()
    }

    /// Runs a device on a thread of its own, until it was told to `stop`. Returns the commands that it does.
    #[must_use]
    pub fn device(edge: SocketAddr, name: &'static str) -> mpsc::Receiver<String> {
        let (sender, done) = mpsc::channel();
        thread::spawn(move || {
            let edge = edge.to_string();
            let device = async move {
                let act = |command: &str| {
                    let _ = sender.send(command.to_owned());
                    command != "stop"
                };
                fleet::device(&edge, name, act)
                    .await
                    .map_err(|error| error.to_string())
            };
            Tokio::block_on(device)
                .expect("a runtime")
                .expect("a device");
        });
        done
    }
}

/// Runs a backend on a thread of its own, for ever.
fn run<R: Runtime, F: Future<Output = Result<(), SendError>> + Send>(
    asks: bool,
    build: impl FnOnce(Builder) -> Builder + Send + 'static,
    serve: impl FnOnce(Backend) -> F + Send + 'static,
) -> (SocketAddr, BackendHandle) {
    let (sender, begun) = mpsc::channel();
    thread::spawn(move || {
        let serves = async move {
            let builder = build(Builder::on::<R>("127.0.0.1:0"));
            let builder = match asks {
                true => builder.ask_for_version_3(),
                false => builder,
            };
            let (backend, places) = builder.listen_at().await.expect("a free port");
            sender
                .send((places[0], backend.handle()))
                .expect("somebody waits");
            serve(backend).await.expect("what it sends can be sent");
        };
        R::block_on(serves).expect("a runtime");
    });
    begun.recv_timeout(PATIENCE).expect("it listens")
}
