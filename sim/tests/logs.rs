//! The same plan gives the same run with all logs on.
//!
//! It has a process of its own: whether a log statement is enabled is cached once for each place in the code, by the first thread that
//! comes there, and the threads of other tests have no subscriber.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sim::plan::generate;
use sim::{block, engine};

/// Seeds when neither `VL_FULL` nor `VL_SEEDS` says otherwise, and those of the full block.
const FEW: u64 = 40;
const FULL: u64 = 120;

#[test]
fn logs_change_nothing() {
    let logs = Logs::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let logs = logs.clone();
            move || logs.clone()
        })
        .finish();
    let seeds = block::seeds(FEW, FULL);
    let hash = |seed| engine::run(&generate(seed)).hash;
    let logged: Vec<_> =
        tracing::subscriber::with_default(subscriber, || (0..seeds).map(hash).collect());
    assert_eq!(logged, (0..seeds).map(hash).collect::<Vec<_>>());
    let logs = logs.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(logs.len() > 100_000, "{} bytes of logs", logs.len());
}

/// Log lines, kept.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
