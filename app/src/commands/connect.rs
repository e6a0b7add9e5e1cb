//! `connect`: a client for people and pipes. Each line is a packet, each packet a line.

use std::fmt::Write as _;
use std::future::{Future as _, poll_fn};
use std::io::{self, BufReader, IsTerminal};
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_doors::client::Builder;
use voltlane_driver::client::{Client, ClientConfig, DropCause, Event, SendError, Version, Why};
use voltlane_driver::{Runtime, Timer as _};

use super::lines::Lines;
use crate::cli::ConnectArgs;
use crate::logging::{FLUSH_WITHIN, say_last};
use crate::outlet::Outlet;
use crate::text::{Printable, excerpt};

/// After the end of the input, the client ends when nothing has arrived for this long, ..
const QUIET: Duration = Duration::from_millis(500);
/// .. and in any case after this long.
const LINGER: Duration = Duration::from_secs(5);
/// The number of first attempts to reach an edge. A mistyped address never has one; an edge that was reached before comes back.
const FIRST_ATTEMPTS: u32 = 7;
const HELP: &str = "Each line is a packet. /drop cuts the connection, and the client comes back; /quit ends; /help prints this; //x sends /x";
/// The number of characters shown of an unknown command.
const SHOWN: usize = 40;
/// At the end, how long a pipe may take none of the output that is left.
const STUCK_WITHIN: Duration = Duration::from_secs(30);
/// How long the last packets may take to be sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Runs a client until the end of standard input.
pub(super) fn run<R: Runtime>(args: &ConnectArgs) -> ExitCode {
    let address = args.address.to_string();
    let outcome = R::block_on(async move {
        let lines = Lines::of(BufReader::new(io::stdin()))?;
        let config = ClientConfig::default()
            .with_goodbye_timeout(CLOSE_WITHIN)
            .expect("it is some time");
        #[cfg(debug_assertions)]
        let config = with_key_log(config)?;
        let builder = Builder::on::<R>(&address).config(config);
        let client = builder.begin().map_err(io::Error::other)?;
        let screen = Screen::begin()?;
        let mut talk = Talk::<R>::new(client, lines, address, screen);
        let outcome = talk.run().await;
        talk.screen.end_prompts();
        outcome?;
        talk.end().await
    });
    match outcome.and_then(|outcome| outcome) {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say_last(&format!("Ended: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes the keys of the connection's records to the file that `VOLTLANE_KEY_LOG` names, for `ops/wireshark`. A release build has no such
/// thing: it cannot be made to give its keys away.
#[cfg(debug_assertions)]
fn with_key_log(config: ClientConfig) -> io::Result<ClientConfig> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let Some(path) = std::env::var_os("VOLTLANE_KEY_LOG").filter(|path| !path.is_empty()) else {
        return Ok(config);
    };
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|error| {
        let path = path.display();
        io::Error::new(error.kind(), format!("VOLTLANE_KEY_LOG: {path}: {error}"))
    })?;
    let log = move |line: &str| {
        // A viewer that lacks a key says so.
        let _ = (&file).write_all(format!("{line}\n").as_bytes());
    };
    Ok(config.with_key_log(voltlane_driver::client::KeyLog::new(log)))
}

/// A client, its input, and its progress.
struct Talk<R: Runtime> {
    client: Client,
    lines: Lines,
    timer: R::Timer,
    /// A line that waits for room in the client's queue.
    pending: Option<Vec<u8>>,
    /// Whether the connection is cut once everything before is sent.
    cuts: bool,
    /// When the input ended.
    ended_at: Option<Time>,
    /// When something last happened.
    active_at: Time,
    /// The address of the edge.
    address: String,
    /// The number of attempts without an edge; `None` once there was one.
    attempts: Option<u32>,
    /// Whether something failed, which was reported.
    failed: bool,
    screen: Screen,
}

/// The next thing to do.
enum Step {
    Event(Option<Event>),
    Line(Vec<u8>),
    NotSent(SendError),
    /// The output cannot be written any more.
    Unread(io::Error),
    Done,
}

impl<R: Runtime> Talk<R> {
    fn new(client: Client, lines: Lines, address: String, screen: Screen) -> Self {
        let timer = R::Timer::default();
        let active_at = timer.now();
        Talk {
            client,
            lines,
            timer,
            pending: None,
            cuts: false,
            ended_at: None,
            active_at,
            address,
            attempts: Some(0),
            failed: false,
            screen,
        }
    }

    /// Runs until there is nothing more to do.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Event(Some(Event::Packet { data, .. })) => self.screen.print(&data)?,
                Step::Event(Some(event)) => {
                    let gives_up = self.gives_up(&event);
                    if let Some(text) = self.describe(&event, gives_up) {
                        self.screen.say(&text);
                    }
                    if gives_up {
                        let address = &self.address;
                        self.screen.say(&format!(
                            "Gave up after {FIRST_ATTEMPTS} attempts: no edge answers at {address}"
                        ));
                        self.failed = true;
                        return Ok(());
                    }
                }
                // The session is over, which was reported.
                Step::Event(None) => {
                    self.failed = true;
                    return Ok(());
                }
                Step::Line(line) => self.take(line),
                Step::NotSent(error) => {
                    self.failed = true;
                    self.screen.say(&format!("Not sent: {error}"));
                }
                Step::Unread(error) => return Err(error),
                Step::Done => {
                    if self.attempts.is_some() {
                        let address = &self.address;
                        self.screen
                            .say(&format!("Gave up: no edge answers at {address}"));
                        self.failed = true;
                    }
                    return Ok(());
                }
            }
            self.active_at = self.timer.now();
        }
    }

    /// Handles a line of input: a packet or a command.
    fn take(&mut self, line: Vec<u8>) {
        match line.as_slice() {
            b"/drop" => self.cuts = true,
            b"/quit" => self.ended_at = Some(self.timer.now()),
            b"/help" => self.screen.say(HELP),
            [b'/', text @ ..] if text.first() == Some(&b'/') => self.pending = Some(text.to_vec()),
            [b'/', ..] => {
                // It was not sent, and may have been meant as a packet.
                self.failed = true;
                let unknown = excerpt(&String::from_utf8_lossy(&line), SHOWN);
                self.screen.say(&format!(
                    "Not sent: {unknown} is not a command. The commands are /drop, /quit and /help; to send the line, write one more / before it"
                ));
            }
            _ => self.pending = Some(line),
        }
        self.screen.prompt();
    }

    /// Returns whether no edge was reached in [`FIRST_ATTEMPTS`] attempts.
    fn gives_up(&mut self, event: &Event) -> bool {
        match (event, &mut self.attempts) {
            (Event::Dropped { .. }, Some(attempts)) => *attempts += 1,
            (Event::Connected { .. }, attempts) => *attempts = None,
            _ => {}
        }
        self.attempts
            .is_some_and(|attempts| attempts >= FIRST_ATTEMPTS)
    }

    /// Returns what a person is told of an event, if anything.
    fn describe(&self, event: &Event, gives_up: bool) -> Option<String> {
        let text = match event {
            Event::Connected { id, .. } => {
                let key = self.client.edge_key();
                match key.filter(|_| self.client.version() == Version::V3) {
                    Some(key) => format!("Connected as {id}, encrypted; the edge's key is {key}"),
                    None => format!("Connected as {id}"),
                }
            }
            Event::Resumed { missed: 0, .. } => format!("Resumed as {}", self.client.id()),
            Event::Resumed { missed, .. } => {
                format!("Resumed as {}; packets missed: {missed}", self.client.id())
            }
            Event::Dropped {
                cause, retry_in, ..
            } => {
                let what = describe_drop(cause);
                let next = match gives_up {
                    true => String::new(),
                    false => format!("; trying again in {} ms", retry_in.as_millis()),
                };
                format!("{what}{next}")
            }
            Event::Gap { gap, .. } => format!("Packets that will not come: {}", gap.count),
            Event::Ended { end, .. } => format!("The session is over: {end}"),
            // CaughtUp, and the events of a newer library.
            _ => return None,
        };
        Some(text)
    }

    /// Sends the pending line if there is room. `Ready` if it will never be sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<SendError> {
        let send = |line: &Vec<u8>| pin!(self.client.send(line)).poll(cx);
        let Some(Poll::Ready(sent)) = self.pending.as_ref().map(send) else {
            return Poll::Pending;
        };
        self.pending = None;
        match sent {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // Sending comes first, one packet at a time, with a turn for receiving after each.
        if let Poll::Ready(error) = self.poll_send(cx) {
            return Poll::Ready(Step::NotSent(error));
        }
        let has_room = self.screen.poll_room(cx).is_ready();
        if let Some(error) = self.screen.out.failure() {
            return Poll::Ready(Step::Unread(error));
        }
        if !has_room {
            // The reader of the output is slow, the edge is not quiet.
            self.active_at = self.timer.now();
        } else if let Poll::Ready(event) = self.poll_events(cx) {
            return Poll::Ready(Step::Event(event));
        }
        // An acknowledgement may have made room.
        if let Poll::Ready(error) = self.poll_send(cx) {
            return Poll::Ready(Step::NotSent(error));
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

    /// Polls the connection, and cuts it when that is due.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Poll::Ready(event) = self.client.poll_recv(cx) {
            return Poll::Ready(event);
        }
        if self.cuts && self.has_sent_all() {
            self.cuts = false;
            self.client.drop_connection();
            return self.client.poll_recv(cx);
        }
        Poll::Pending
    }

    fn has_sent_all(&self) -> bool {
        self.client.is_connected() && self.client.unacknowledged() == 0
    }

    async fn end(self) -> io::Result<ExitCode> {
        // Nothing is polled while the output is awaited, so the connection ends first.
        let up = self.client.close().await.ledgers.up;
        let unsent = match self.client.version() {
            // Bytes that the transport has taken may have arrived.
            Version::V2 => up.open_unsent,
            _ => up.open_unsent + up.open_sent,
        };
        let unsent = unsent + u64::from(self.pending.is_some());
        let is_shown = self.screen.flush();
        if unsent > 0 {
            let packets = if unsent == 1 { "packet" } else { "packets" };
            self.screen
                .say(&format!("Ended with {unsent} {packets} not sent"));
        }
        if !is_shown {
            let secs = STUCK_WITHIN.as_secs();
            self.screen.say(&format!(
                "Ended with output that nobody took for {secs} seconds: it is lost"
            ));
        }
        if let Some(error) = self.screen.out.failure() {
            return Err(error);
        }
        Ok(if unsent > 0 || !is_shown || self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn describe_drop(cause: &DropCause) -> String {
    match (cause.why(), cause.io_error()) {
        (Why::ConnectFailed, Some(error)) => format!("Could not connect: {error}"),
        (Why::ConnectFailed, None) => "Could not connect".into(),
        (Why::Local, _) => "Connection cut".into(),
        _ => format!("Dropped: {cause}"),
    }
}

/// The output. A person at a terminal gets a prompt, and marks that distinguish received from typed lines.
///
/// A stream that nobody reads blocks only a thread of its own. A terminal that shows nothing after Ctrl-S loses lines beyond the bound
/// of its queue and then prints how many, and the client continues. A pipe loses nothing: while it is full, nothing is received.
struct Screen {
    out: Outlet,
    errors: Outlet,
    is_terminal: bool,
    has_prompt: bool,
    /// Reports go to the same terminal as packets, in order.
    has_errors_in_order: bool,
}

impl Screen {
    fn begin() -> io::Result<Screen> {
        let is_terminal = io::stdout().is_terminal();
        let has_prompt = io::stdin().is_terminal() && is_terminal;
        let mut screen = Screen {
            out: Outlet::start("stdout", io::stdout(), tell_lost)?,
            errors: Outlet::start("stderr", io::stderr(), |_| String::new())?,
            is_terminal,
            has_prompt: false,
            has_errors_in_order: has_prompt && io::stderr().is_terminal(),
        };
        if has_prompt {
            screen.say(HELP);
        }
        screen.has_prompt = has_prompt;
        screen.prompt();
        Ok(screen)
    }

    fn prompt(&self) {
        if self.has_prompt {
            self.out.push(b"\r\x1b[K> ");
        }
    }

    /// Removes the prompt, for output in its line.
    fn clear(&self) {
        if self.has_prompt {
            self.out.push(CLEAR.as_bytes());
        }
    }

    /// Ready while packets can be printed. Also wakes the task when the stream fails.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let room = self.out.poll_room(cx);
        if self.is_terminal {
            return Poll::Ready(());
        }
        room
    }

    /// Shows no more prompts.
    fn end_prompts(&mut self) {
        self.clear();
        self.has_prompt = false;
    }

    /// Waits until everything is printed: on a terminal for a short time only, on a pipe for as long as somebody reads it. Returns whether
    /// nothing is lost.
    fn flush(&self) -> bool {
        if self.is_terminal {
            // A terminal loses lines, and says so.
            self.out.flush(FLUSH_WITHIN);
            return true;
        }
        self.out.flush_while_read(STUCK_WITHIN)
    }

    /// Reports something about the connection, separate from its packets.
    fn say(&self, text: &str) {
        if self.has_errors_in_order {
            let clear = if self.has_prompt { CLEAR } else { "" };
            self.out.push(format!("{clear}{text}\n").as_bytes());
        } else {
            self.clear();
            // Both may go to one place. The order is kept unless that is full.
            self.out.flush(FLUSH_WITHIN);
            self.errors.push(format!("{text}\n").as_bytes());
            self.errors.flush(FLUSH_WITHIN);
        }
        self.prompt();
    }

    /// Prints a packet: unchanged to a pipe, escaped on a terminal. The error is that of an earlier packet.
    fn print(&self, data: &[u8]) -> io::Result<()> {
        if let Some(error) = self.out.failure() {
            return Err(error);
        }
        if self.is_terminal {
            let mut text = String::new();
            // Writing to a String never fails.
            let _ = Printable(&mut text).write_str(&String::from_utf8_lossy(data));
            let mark = if self.has_prompt { "< " } else { "" };
            self.clear();
            self.out.push(format!("{mark}{text}\n").as_bytes());
            self.prompt();
        } else {
            self.out.push_whole(&[data, b"\n"].concat());
        }
        Ok(())
    }
}

/// Returns to the beginning of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

fn tell_lost(lines: u64) -> String {
    format!("{CLEAR}{lines} lines were not shown: the terminal did not accept them in time\n")
}
