//! What the binaries do, on any runtime.

mod run;
mod signals;

use std::process::ExitCode;

use crate::{Runtime, Task, main_with};

/// A whole binary. `program` is its name.
pub fn main<R: Runtime>(program: &'static str) -> ExitCode {
    main_with(program, |task| match task {
        Task::Run(settings) => run::run::<R>(*settings),
        _ => ExitCode::FAILURE,
    })
}
