//! A fleet of devices, each of which does each of its commands exactly once, whatever breaks in between.
//!
//! ```text
//! cargo run -p voltlane-tokio --example fleet                       # the backend: reads lines such as "pump open the valve"
//! cargo run -- run
//! cargo run -p voltlane-tokio --example fleet -- pump               # the device "pump"
//! ```
//!
//! Each command is a row with a number. It stays until the device has answered "done", and is sent again to each new session of the
//! device, so it is done at least once. A device does no row twice, so it is done at most once. A real backend keeps its rows in a table,
//! and a real device writes the number of a row together with what the row has done. Over the loss of a connection nothing is sent again
//! at all: the session goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use voltlane_tokio::backend::{Backend, BackendHandle, Event, SendError};
use voltlane_tokio::{ClientId, client};

/// The rows that are not done, and who is here.
#[derive(Default)]
pub(crate) struct Fleet(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    rows: BTreeMap<(String, u64), String>,
    devices: BTreeMap<ClientId, String>,
}

impl Fleet {
    /// Gives a command to a device, which may be away.
    pub(crate) fn order(&self, backend: &BackendHandle, device: &str, command: &str) {
        let mut state = self.0.lock().expect("no panic");
        state.last += 1;
        let row = state.last;
        state
            .rows
            .insert((device.to_owned(), row), command.to_owned());
        for (&id, _) in state.devices.iter().filter(|(_, name)| *name == device) {
            // Without room it is sent when the device says hello again.
            let _ = backend.try_send(id, format!("{row} {command}"));
        }
    }

    /// Returns what a device has not done. It is `id` from now on.
    fn hello(&self, id: ClientId, device: &str) -> Vec<String> {
        let mut state = self.0.lock().expect("no panic");
        state.devices.retain(|_, name| name != device);
        state.devices.insert(id, device.to_owned());
        let rows = state.rows.iter().filter(|((of, _), _)| of == device);
        rows.map(|((_, row), command)| format!("{row} {command}"))
            .collect()
    }

    fn done(&self, id: ClientId, row: u64) {
        let mut state = self.0.lock().expect("no panic");
        if let Some(device) = state.devices.get(&id).cloned() {
            state.rows.remove(&(device, row));
        }
    }

    fn gone(&self, id: ClientId) {
        self.0.lock().expect("no panic").devices.remove(&id);
    }

    pub(crate) fn open(&self) -> usize {
        self.0.lock().expect("no panic").rows.len()
    }
}

/// Serves a fleet until the backend is closed. A real one takes the name of a device out of a token that it has checked.
pub(crate) async fn serve(mut backend: Backend, fleet: Arc<Fleet>) -> Result<(), SendError> {
    while let Some(event) = backend.recv().await {
        match event {
            Event::Packet { id, data, .. } => {
                let text = String::from_utf8_lossy(&data);
                match text.split_once(' ') {
                    Some(("hello", device)) => {
                        for row in fleet.hello(id, device) {
                            backend.send(id, row).await?;
                        }
                    }
                    Some(("done", row)) => fleet.done(id, row.parse().unwrap_or(0)),
                    _ => backend.kick(id, 600, "hello DEVICE, or done ROW").await?,
                }
            }
            Event::Ended { id, .. } => fleet.gone(id),
            _ => {}
        }
    }
    Ok(())
}

/// A device: does what it is told, until `act` says that it is enough.
pub(crate) async fn device(
    edge: &str,
    name: &str,
    mut act: impl FnMut(&str) -> bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let client = client(edge).start_over(true).give_up_after(None);
    let (mut client, mut last) = (client.connect().await?, 0);
    while let Some(event) = client.recv().await {
        match event {
            client::Event::Connected { .. } => drop(client.send(format!("hello {name}")).await?),
            client::Event::Packet { data, .. } => {
                let text = String::from_utf8_lossy(&data);
                let Some((row, command)) = text.split_once(' ') else {
                    continue;
                };
                let number = row.parse().unwrap_or(0);
                let goes_on = number <= last || act(command);
                last = last.max(number);
                client.send(format!("done {row}")).await?;
                if !goes_on {
                    break;
                }
            }
            _ => {}
        }
    }
    client.close().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(name) = std::env::args().nth(1) {
        return device("127.0.0.1:42000", &name, |command| {
            println!("{command}");
            true
        })
        .await;
    }
    let (fleet, backend) = (
        Arc::new(Fleet::default()),
        voltlane_tokio::listen("127.0.0.1:42001").await?,
    );
    let (orders, handle) = (Arc::clone(&fleet), backend.handle());
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if let Some((device, command)) = line.split_once(' ') {
                orders.order(&handle, device, command);
                println!("{} commands are not done", orders.open());
            }
        }
    });
    Ok(serve(backend, fleet).await?)
}
