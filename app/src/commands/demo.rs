//! `demo`: an edge, an echo backend and a few clients that keep dropping, in one process, over real sockets.

#[cfg(all(unix, feature = "cluster"))]
pub(crate) mod edges;
mod figures;
mod player;
mod tasks;
#[cfg(feature = "websocket")]
mod web;

use std::future::{Future, poll_fn};
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_doors::client::Builder;
use voltlane_driver::backend::{Backend, Means, Options};
use voltlane_driver::client::{Client, ClientConfig, ConnectError};
use voltlane_driver::{EdgeDriver, Runtime, SocketOptions, Task, Timer};

use self::figures::{Figures, lock};
use self::player::{CUT_EVERY, LONGEST_PAUSE, PACE, Role, play};
use self::tasks::Tasks;
use super::echo::echo;
use super::signals::{self, Stop};
use super::{make_key, random};
use crate::cli::DemoArgs;
use crate::logging::{FLUSH_WITHIN, say_last};
use crate::outlet::Outlet;

const CLIENTS: u32 = 5;
/// The time between the cuts of two clients.
const CUT_APART: Duration = Duration::from_millis(400);
/// Packets that the edge keeps for a client that is away.
const MISSED_PACKETS: usize = 1_000;
/// How often a line of figures is printed, for a person and for a pipe.
const REFRESH_TERMINAL: Duration = Duration::from_millis(250);
const REFRESH_PIPE: Duration = Duration::from_secs(1);

/// Runs the demo until Ctrl-C, or for `args.secs` seconds. `program` is the name of the binary.
pub(super) fn run<R: Runtime>(program: &'static str, args: DemoArgs) -> ExitCode {
    let shown = R::block_on(async move {
        #[cfg(feature = "websocket")]
        if args.web {
            return web::show::<R>(args.secs).await;
        }
        #[cfg(all(unix, feature = "cluster"))]
        if let Some(edges) = args.edges {
            return edges::show::<R>(args, edges).await;
        }
        show::<R>(program, args.secs).await
    });
    match shown.and_then(|shown| shown) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of the output has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say_last(&format!("{program}: the demo cannot go on: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Returns true if everything went as it should.
async fn show<R: Runtime>(program: &str, secs: Option<u32>) -> io::Result<bool> {
    let stop = signals::stop()?;
    stop.serves();
    let figures = Arc::new(Mutex::new(Figures::default()));
    let (listener, backend_address) =
        R::bind("127.0.0.1:0".into(), SocketOptions::default()).await?;
    let backend = Backend::begin(Options::default(), Means::on::<R>(listener));
    let backend = backend.map_err(io::Error::other)?;
    let (listener, address) = R::bind("127.0.0.1:0".into(), SocketOptions::default()).await?;
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = MISSED_PACKETS;
    let edge = Edge::new(config, make_key(), *random());
    let connector = R::connector(backend_address.to_string(), SocketOptions::default());
    let driver = EdgeDriver::new(edge, listener, connector, R::Timer::default());

    // A terminal that shows nothing after Ctrl-S must not stop the edge, and the clients with it.
    let out = Outlet::start("stdout", io::stdout(), |_| String::new())?;
    say(
        &out,
        &format!(
            "An edge on {address}, its backend on {backend_address} echoes, {CLIENTS} clients talk and keep dropping.\n\
         Join them from another terminal:\n\n    \
         {command} connect {address}\n    \
         echo hello | {command} connect {address}\n\n",
            command = how_to_start(program)
        ),
    )?;

    let mut tasks = Tasks::from(vec![Box::pin(driver) as Task, Box::pin(serve(backend))]);
    for number in 0..CLIENTS {
        let role = Role {
            client: client::<R>(&address.to_string()),
            at: Arc::new(AtomicUsize::new(0)),
            begins_after: Duration::ZERO,
            pace: PACE,
            first_cut: Some(CUT_EVERY / 2 + CUT_APART * number),
        };
        tasks.push(Box::pin(play::<R>(role, Arc::clone(&figures))));
    }
    let told = tell(out, R::Timer::default(), stop, secs, Arc::clone(&figures));
    while_running(&mut tasks, told).await
}

fn client<R: Runtime>(address: &str) -> Result<Client, ConnectError> {
    let config = ClientConfig::default()
        .with_backoff(LONGEST_PAUSE, LONGEST_PAUSE)
        .expect("the first pause is no longer than the longest");
    let builder = Builder::on::<R>(address).config(config).start_over(true);
    builder.begin()
}

async fn serve(mut backend: Backend) {
    while let Some(event) = backend.recv().await {
        echo(&backend, event).await;
    }
}

/// Prints figures until the end, and then their sum.
async fn tell<T: Timer>(
    out: Outlet,
    mut timer: T,
    mut stop: Stop,
    secs: Option<u32>,
    figures: Arc<Mutex<Figures>>,
) -> io::Result<bool> {
    let start = timer.now();
    let is_terminal = io::stdout().is_terminal();
    let every = if is_terminal {
        REFRESH_TERMINAL
    } else {
        REFRESH_PIPE
    };
    let end = secs.map_or(Time::MAX, |secs| start + Duration::from_secs(secs.into()));
    let (mut next, mut last) = (start + every, (start, 0));
    loop {
        let stopped = poll_fn(|cx| match pin!(&mut stop).poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timer.poll_until(cx, next.min(end)).map(|()| false),
        });
        let stopped = stopped.await;
        let now = timer.now();
        let figures = lock(&figures);
        let rate = figures.packets.saturating_sub(last.1) as f64
            / now.since(last.0).as_secs_f64().max(0.001);
        last = (now, figures.packets);
        let is_end = stopped || now >= end;
        // A terminal that accepts nothing gets only the latest line later.
        if !is_terminal {
            say(&out, &format!("{}\n", figures.line(now.since(start), rate)))?;
        } else if is_end || out.is_idle() {
            say(&out, &figures.refreshed_line(now.since(start), rate))?;
        }
        if is_end {
            let lead = if is_terminal { "\n\n" } else { "\n" };
            let summary = figures.summary(CLIENTS, now.since(start));
            say(&out, &format!("{lead}{summary}\n"))?;
            out.flush(FLUSH_WITHIN);
            return out.failure().map_or(Ok(figures.is_good()), Err);
        }
        next = next + every;
    }
}

/// Runs tasks concurrently until `main` is done.
async fn while_running<T>(tasks: &mut Tasks, main: impl Future<Output = T>) -> T {
    let mut main = pin!(main);
    poll_fn(|cx| {
        tasks.poll(cx);
        main.as_mut().poll(cx)
    })
    .await
}

/// Leaves text for standard output. The error is that of an earlier one.
fn say(out: &Outlet, text: &str) -> io::Result<()> {
    if let Some(error) = out.failure() {
        return Err(error);
    }
    out.push(text.as_bytes());
    Ok(())
}

/// Returns the command that starts this program from any directory, even if it is not in the `PATH`.
fn how_to_start(program: &str) -> String {
    let path = std::env::current_exe().ok();
    path.map_or_else(
        || program.to_owned(),
        |path| for_a_shell(&path.display().to_string()),
    )
}

/// Quotes a word for a shell.
fn for_a_shell(word: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+,:@%".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(
            for_a_shell("/opt/voltlane-1.0/voltlane"),
            "/opt/voltlane-1.0/voltlane"
        );
        assert_eq!(
            for_a_shell("/home/me/my games/voltlane"),
            "'/home/me/my games/voltlane'"
        );
        assert_eq!(for_a_shell("/it's/$HOME"), r"'/it'\''s/$HOME'");
        assert_eq!(for_a_shell(""), "''");
    }
}
