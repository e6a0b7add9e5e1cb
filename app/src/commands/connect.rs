//! `connect`: a client for people and pipes. Each line is a packet, each packet a line.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, BufReader, IsTerminal, Write};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_driver::client::{Client, Event, SendError, State};
use voltlane_driver::{Connector, Runtime, Timer};

use super::lines::Lines;
use crate::cli::ConnectArgs;
use crate::text::Printable;

/// After the end of the input it ends when nothing has come for so long, ..
const QUIET: Duration = Duration::from_millis(500);
/// .. and after so long in any case.
const LINGER: Duration = Duration::from_secs(5);
/// How long the last packets may take to leave.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Is a client until the end of standard input.
pub(super) fn run<R: Runtime>(args: &ConnectArgs) -> ExitCode {
    let address = args.address.to_string();
    let outcome = R::block_on(async move {
        let lines = Lines::of(BufReader::new(io::stdin()))?;
        let client: Client<R::Connector, R::Timer> = Client::connect(address);
        Talk::new(client, lines, R::Timer::default()).run().await
    });
    match outcome.and_then(|outcome| outcome) {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("Ended: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A client, its input, and how far it is.
struct Talk<C: Connector, T: Timer> {
    client: Client<C, T>,
    lines: Lines,
    timer: T,
    /// A line that waits for room in the client's queue.
    pending: Option<Vec<u8>>,
    /// The connection is to be cut once everything before is sent.
    cuts: bool,
    /// When the input ended.
    ended_at: Option<Time>,
    /// When something last happened.
    active_at: Time,
}

/// What there is to do.
enum Step {
    Event(Option<Event>),
    Line(Vec<u8>),
    NotSent(SendError),
    Done,
}

impl<C: Connector, T: Timer> Talk<C, T> {
    fn new(client: Client<C, T>, lines: Lines, timer: T) -> Self {
        let active_at = timer.now();
        Talk {
            client,
            lines,
            timer,
            pending: None,
            cuts: false,
            ended_at: None,
            active_at,
        }
    }

    async fn run(mut self) -> io::Result<ExitCode> {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Event(Some(Event::Packet(data))) => print(&data)?,
                Step::Event(Some(event)) => say(&describe(&event)),
                // The session was refused, and that was said.
                Step::Event(None) => return Ok(ExitCode::FAILURE),
                Step::Line(line) if line == b"/drop" => self.cuts = true,
                Step::Line(line) => self.pending = Some(line),
                Step::NotSent(error) => say(&format!("Not sent: {error}")),
                Step::Done => return Ok(self.end().await),
            }
            self.active_at = self.timer.now();
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // Sending goes first, one packet at a time, and receiving has its turn after each.
        if let Some(line) = &self.pending
            && let Poll::Ready(sent) = self.client.poll_send(cx, line)
        {
            self.pending = None;
            if let Err(error) = sent {
                return Poll::Ready(Step::NotSent(error));
            }
        }
        if let Poll::Ready(event) = self.client.poll_recv(cx) {
            return Poll::Ready(Step::Event(event));
        }
        if self.cuts && self.has_sent_all() {
            self.cuts = false;
            self.client.drop_connection();
            if let Poll::Ready(event) = self.client.poll_recv(cx) {
                return Poll::Ready(Step::Event(event));
            }
        }
        if self.pending.is_none() && !self.cuts && self.ended_at.is_none() {
            match self.lines.poll_next(cx) {
                Poll::Ready(Some(line)) => return Poll::Ready(Step::Line(line)),
                Poll::Ready(None) => {
                    let now = self.timer.now();
                    (self.ended_at, self.active_at) = (Some(now), now);
                }
                Poll::Pending => {}
            }
        }
        let Some(ended_at) = self.ended_at else {
            return Poll::Pending;
        };
        let mut until = ended_at + LINGER;
        if self.pending.is_none() && self.has_sent_all() {
            until = until.min(self.active_at + QUIET);
        }
        self.timer.poll_until(cx, until).map(|()| Step::Done)
    }

    fn has_sent_all(&self) -> bool {
        self.client.state() == State::Established && self.client.queued_packets() == 0
    }

    async fn end(self) -> ExitCode {
        let unsent = self.client.queued_packets() + usize::from(self.pending.is_some());
        self.client.close(CLOSE_WITHIN).await;
        if unsent == 0 {
            return ExitCode::SUCCESS;
        }
        let packets = if unsent == 1 { "packet" } else { "packets" };
        say(&format!("Ended with {unsent} {packets} not sent"));
        ExitCode::FAILURE
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Connected { id } => format!("Connected as {id}"),
        Event::Resumed { id } => format!("Resumed as {id}"),
        Event::Dropped { cause, retry_in } => format!(
            "Dropped: {cause}; trying again in {} ms",
            retry_in.as_millis()
        ),
        Event::Refused(refusal) => format!("Refused: {refusal}"),
        Event::Packet(data) => format!("{} bytes", data.len()),
    }
}

/// Says something about the connection, apart from what came over it.
fn say(text: &str) {
    // Nobody may be listening any more.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a packet: as it is into a pipe, harmlessly on a terminal.
fn print(data: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let mut text = String::new();
        // Writing to a String never fails.
        let _ = Printable(&mut text).write_str(&String::from_utf8_lossy(data));
        writeln!(out, "{text}")?;
    } else {
        out.write_all(data)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
