//! The commands of the programs, on any runtime.

#[cfg(feature = "engine")]
pub(crate) mod cluster;
#[cfg(feature = "tools")]
mod connect;
#[cfg(feature = "admin")]
pub(crate) mod ctl;
#[cfg(feature = "tools")]
mod demo;
#[cfg(feature = "tools")]
mod echo;
pub(crate) mod health;
#[cfg(feature = "tools")]
mod lines;
mod reload;
mod run;
mod signals;
mod terminal;

#[cfg(any(feature = "admin", feature = "upgrade"))]
pub(crate) use run::InEffect;

use std::process::ExitCode;

use voltlane_core::keys::KeyPair;
use zeroize::Zeroizing;

use voltlane_driver::Runtime;

use crate::{Task, main_with};

/// The main function of a program with the name `program`.
pub fn main<R: Runtime>(program: &'static str) -> ExitCode {
    main_with(program, |task| match task {
        Task::Run(settings, again) => {
            #[cfg(all(unix, feature = "tools", feature = "cluster"))]
            demo::edges::ends_with_its_demo();
            run::run::<R>(*settings, again, false)
        }
        #[cfg(all(feature = "upgrade", target_os = "linux"))]
        Task::TakeOver(settings, again) => run::run::<R>(*settings, again, true),
        #[cfg(feature = "tools")]
        Task::Connect(args) => connect::run::<R>(&args),
        #[cfg(feature = "tools")]
        Task::Echo(args) => echo::run::<R>(&args),
        #[cfg(feature = "tools")]
        Task::Demo(args) => demo::run::<R>(program, args),
        #[cfg(not(feature = "tools"))]
        Task::Connect(_) | Task::Echo(_) | Task::Demo(_) => {
            unreachable!("the command line has no such command")
        }
    })
}

/// Creates a random key pair.
fn make_key() -> KeyPair {
    loop {
        // Outside of the range of keys with a probability of 2^-128.
        if let Ok(keys) = KeyPair::from_bytes(&random()) {
            return keys;
        }
    }
}

/// Returns 32 bytes of system randomness, without which nothing can be kept secret.
pub(crate) fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).expect("the system has randomness");
    bytes
}
