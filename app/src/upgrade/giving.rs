//! The old process: who may take over, and what it is given.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::net::SocketAddrUnix;
use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;
use tracing::{info, warn};
use voltlane_core::edge::{Part, Snapshot};
use voltlane_core::keys::KeyPair;

use super::partner::{Message, Partner, Process, new_socket};
use super::{
    BATCHES_AT_ONCE, FORMAT, LOOKS_EVERY, MAGIC, OPENINGS_WITHIN, READY_WITHIN, SOCKETS_AT_ONCE,
    STOPS_WITHIN, UpgradeError, kind, system,
};
use crate::cli::ConfigArgs;
use crate::commands::InEffect;

/// What the thread that talks to others asks of the main loop.
pub(crate) enum Asked {
    /// The sockets of all listeners, with their numbers.
    Listeners(mpsc::Sender<Vec<(usize, OwnedFd)>>),
    /// How many connections are within their opening.
    HalfOpen(mpsc::Sender<usize>),
    /// To give away everything. The answer comes only if that failed.
    GiveAway(Successor),
}

/// A new process that is ready.
pub(crate) struct Successor {
    partner: Partner,
    process: Process,
    /// Its number.
    pid: i32,
    /// Who asked for it.
    caller: Option<Arc<Partner>>,
    /// Told when it failed.
    failed: mpsc::Sender<String>,
}

impl Successor {
    /// Ends it: nothing was given to it.
    pub(crate) fn dismiss(self, why: &str) {
        self.process.end();
        // Nobody may wait any more.
        let _ = self.failed.send(why.to_owned());
    }
}

#[derive(Default)]
struct Queue {
    asked: Option<Asked>,
    waker: Option<Waker>,
}

/// What the main loop has of this.
#[derive(Clone, Default)]
pub(crate) struct Giver(Arc<Mutex<Queue>>);

/// How a new process is started, and what is told to one.
pub(crate) struct Terms {
    pub(crate) keys: KeyPair,
    pub(crate) args: ConfigArgs,
    pub(crate) in_effect: Arc<Mutex<InEffect>>,
}

/// SIGUSR2, which asks for a new process. (SPEC 41.5(b))
pub(crate) struct Requests(Signals);

impl Requests {
    /// Takes the signal over for the whole process. One that comes before the process serves is answered once it does.
    pub(crate) fn take() -> Result<Requests, UpgradeError> {
        let signals = Signals::new([SIGUSR2]);
        let signals = signals.map_err(|error| UpgradeError::System {
            what: "SIGUSR2",
            error,
        })?;
        Ok(Requests(signals))
    }

    /// Answers each one, on a thread of its own.
    fn answer(mut self, with: impl Fn() + Send + 'static) -> Result<(), UpgradeError> {
        let answer = move || self.0.forever().for_each(|_| with());
        spawn("requests", answer)
    }
}

fn spawn(name: &str, does: impl FnOnce() + Send + 'static) -> Result<(), UpgradeError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(does);
    spawned.map(drop).map_err(|error| UpgradeError::System {
        what: "a thread",
        error,
    })
}

impl Giver {
    /// Begins to listen at `path`, if there is one, on a thread of its own. The process before may have `passed` its socket there, at which
    /// others wait already. A request by signal is answered in any case.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub(crate) fn start(
        path: Option<&Path>,
        passed: Option<OwnedFd>,
        terms: Terms,
        requests: Requests,
    ) -> Result<Giver, UpgradeError> {
        let giver = Giver::default();
        let listener = match (path, passed) {
            (None, _) => {
                requests.answer(|| {
                    warn!("SIGUSR2: no new process can take over: set general.upgrade_socket, and general.key_file, and restart");
                })?;
                return Ok(giver);
            }
            (Some(_), Some(socket)) => socket,
            (Some(path), None) => match listen(path) {
                Ok(socket) => socket,
                Err(error) => {
                    let why = error.to_string();
                    requests.answer(move || {
                        warn!(error = why, "SIGUSR2: no new process can take over");
                    })?;
                    return Err(error);
                }
            },
        };
        let desk = Arc::new(Desk {
            queue: giver.clone(),
            listener,
            terms,
            callers: Mutex::default(),
        });
        let own = Arc::clone(&desk);
        requests.answer(move || Desk::begin(&own, None, Vec::new()))?;
        let serve = move || {
            loop {
                match Partner::accept(&desk.listener) {
                    Ok(partner) => Desk::serve(&desk, partner),
                    Err(error) => {
                        warn!(%error, "nobody took over");
                        thread::sleep(LOOKS_EVERY);
                    }
                }
            }
        };
        spawn("upgrade", serve)?;
        Ok(giver)
    }

    /// Returns what is asked.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Option<Asked> {
        let mut queue = self.lock();
        let asked = queue.asked.take();
        if asked.is_none() {
            voltlane_driver::register(&mut queue.waker, cx.waker());
        }
        asked
    }

    fn ask(&self, asked: Asked) {
        let mut queue = self.lock();
        queue.asked = Some(asked);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Its fields are set one by one, and each is right alone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens at `path`. A socket that a process left behind is replaced.
fn listen(path: &Path) -> Result<OwnedFd, UpgradeError> {
    let cannot = system("general.upgrade_socket");
    let unusable = |error| UpgradeError::System {
        what: "general.upgrade_socket",
        error,
    };
    let address = SocketAddrUnix::new(path).map_err(&cannot)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(unusable(std::io::Error::other(
                "there is a file of this name that is no socket",
            )));
        }
        Ok(_) if Partner::connect(path).is_ok() => {
            return Err(unusable(std::io::Error::other(
                "another process listens there",
            )));
        }
        Ok(_) => fs::remove_file(path).map_err(unusable)?,
        Err(_) => {}
    }
    let socket = new_socket().map_err(&cannot)?;
    rustix::net::bind(&socket, &address).map_err(&cannot)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(unusable)?;
    rustix::net::listen(&socket, 4).map_err(&cannot)?;
    Ok(socket)
}

struct Desk {
    queue: Giver,
    /// Where it listens. The next process does so at the same socket.
    listener: OwnedFd,
    terms: Terms,
    /// The process that was asked for, by its number, and its caller: a signal, or somebody who waits. One at most.
    callers: Mutex<HashMap<i32, Option<Arc<Partner>>>>,
}

impl Desk {
    /// Serves one connection. One is served at a time, but that of a caller waits on a thread of its own.
    fn serve(desk: &Arc<Desk>, partner: Partner) {
        let first = match partner.receive(Instant::now() + STOPS_WITHIN) {
            Ok(first) => first,
            // It is somebody who looks whether this process listens.
            Err(UpgradeError::Gone) => return,
            Err(error) => {
                warn!(%error, "nobody took over");
                return;
            }
        };
        match first.kind {
            kind::HELLO => {
                if let Err(error) = desk.hand_over(partner, &first) {
                    warn!(%error, "the new process did not take over; this one serves on");
                }
            }
            kind::UPGRADE => Desk::begin(desk, Some(partner), first.body),
            _ => partner.refuse("this is no message that comes first"),
        }
    }

    /// Begins to start a new process, on a thread of its own.
    fn begin(desk: &Arc<Desk>, caller: Option<Partner>, program: Vec<u8>) {
        let own = Arc::clone(desk);
        if let Err(error) = spawn("successor", move || own.upgrade(caller, &program)) {
            warn!(%error, "no new process can be started");
        }
    }

    /// Starts a new process, which takes over, for a caller or a signal. Returns when that has failed: otherwise this process ends meanwhile.
    fn upgrade(&self, caller: Option<Partner>, program: &[u8]) {
        let caller = caller.map(Arc::new);
        let started = {
            // Held until the new process is in it, which may be quick.
            let mut callers = self.callers();
            let started = match callers.is_empty() {
                true => self.start(program),
                false => {
                    Err("a new process was started already, and has not taken over yet".to_owned())
                }
            };
            started.map(|child| {
                let pid = i32::try_from(child.id()).unwrap_or(0);
                callers.insert(pid, caller.clone());
                (child, pid)
            })
        };
        let problem = match started {
            Err(problem) => problem,
            Ok((mut child, pid)) => {
                let problem = watch(&mut child);
                self.callers().remove(&pid);
                problem
            }
        };
        warn!(%problem, "the new process did not take over; this one serves on");
        if let Some(caller) = caller {
            caller.refuse(&problem);
        }
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<i32, Option<Arc<Partner>>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, program: &[u8]) -> Result<Child, String> {
        if std::process::id() == 1 {
            return Err("this is process 1 of its container, which ends with it".to_owned());
        }
        let program = match program {
            [] => own_program()?,
            named => PathBuf::from(OsStr::from_bytes(named)),
        };
        let args = &self.terms.args;
        let mut command = Command::new(&program);
        command.arg("take-over");
        if let Some(config) = &args.config {
            command.arg("--config").arg(config);
        }
        for (option, value) in [("--listen", &args.listen), ("--master", &args.master)] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        // That of systemd names this process.
        command.env_remove("WATCHDOG_PID");
        let started = command.spawn();
        let cannot = |error| format!("{} cannot be started: {error}", program.display());
        let child = started.map_err(cannot)?;
        info!(program = %program.display(), pid = child.id(), "a new process was started to take over");
        Ok(child)
    }

    /// Talks to a new process up to the point where the main loop stops.
    fn hand_over(&self, partner: Partner, hello: &Message) -> Result<(), UpgradeError> {
        let (pid, process) = partner.process()?;
        let pid = pid.as_raw_nonzero().get();
        if let Err(why) = self.judge(&hello.body) {
            partner.refuse(&why);
            return Err(UpgradeError::Refused(why));
        }
        let (sender, sockets) = mpsc::channel();
        self.queue.ask(Asked::Listeners(sender));
        let sockets = sockets.recv_timeout(STOPS_WITHIN);
        let sockets = sockets.map_err(|_| UpgradeError::Wrong("the main loop does not answer"))?;
        self.send_listeners(&partner, &sockets)?;
        drop(sockets);
        let ready = partner.receive(Instant::now() + READY_WITHIN)?;
        ready.expect(kind::READY, "something before READY")?;
        self.wait_for_openings();
        let (failed, failure) = mpsc::channel();
        let caller = self.callers().get(&pid).cloned().flatten();
        self.queue.ask(Asked::GiveAway(Successor {
            partner,
            process,
            pid,
            caller,
            failed,
        }));
        // If it succeeds, the process ends.
        let failure = failure.recv();
        let says = failure.unwrap_or_else(|_| "the main loop has ended".to_owned());
        Err(UpgradeError::Refused(says))
    }

    /// Waits until no connection is within its opening, which would have to begin anew, but not for long: new ones come all the time.
    fn wait_for_openings(&self) {
        let until = Instant::now() + OPENINGS_WITHIN;
        let mut was_told = false;
        while Instant::now() < until {
            let (sender, count) = mpsc::channel();
            self.queue.ask(Asked::HalfOpen(sender));
            match count.recv_timeout(OPENINGS_WITHIN) {
                Ok(0) | Err(_) => return,
                Ok(connections) if !was_told => {
                    info!(
                        connections,
                        "a new process is ready, and openings are waited for"
                    );
                    was_told = true;
                }
                Ok(_) => {}
            }
            thread::sleep(LOOKS_EVERY);
        }
    }

    /// Returns why the process that said this cannot take over.
    fn judge(&self, hello: &[u8]) -> Result<(), String> {
        let Some((MAGIC, rest)) = hello
            .split_first_chunk()
            .map(|(magic, rest)| (*magic, rest))
        else {
            return Err("this is no edge".to_owned());
        };
        let Some((format, key)) = rest.split_first_chunk() else {
            return Err("this message is too short".to_owned());
        };
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(format!(
                "the hand-over has format {FORMAT} here, and {format} there: restart in place of it"
            ));
        }
        if key != self.terms.keys.public().as_bytes() {
            return Err(
                "the two processes have different keys: they need the same general.key_file"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn send_listeners(
        &self,
        partner: &Partner,
        sockets: &[(usize, OwnedFd)],
    ) -> Result<(), UpgradeError> {
        let until = Instant::now() + STOPS_WITHIN;
        let mut numbers: Vec<usize> = sockets.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let named = {
                let in_effect = self.terms.in_effect.lock();
                let in_effect = in_effect.unwrap_or_else(PoisonError::into_inner);
                let name = in_effect.names.get(number).cloned().unwrap_or_default();
                let mut listeners = in_effect.settings.listeners();
                listeners
                    .find(|listener| listener.name.to_string() == name)
                    .map(|listener| format!("{name}\n{}", listener.address))
            };
            let own = sockets.iter().filter(|(of, _)| *of == number);
            let own: Vec<BorrowedFd<'_>> = own.map(|(_, socket)| socket.as_fd()).collect();
            if let Some(named) = named {
                let message = [&[kind::LISTENER], named.as_bytes()].concat();
                for some in own.chunks(SOCKETS_AT_ONCE) {
                    partner.send(&message, some, until)?;
                }
            }
        }
        let own = Process::own()?;
        let last = [own.as_descriptor(), self.listener.as_fd()];
        partner.send(&[kind::LISTENERS_END], &last, until)
    }
}

/// Returns the path of this program, whose file may have been replaced since.
fn own_program() -> Result<PathBuf, String> {
    let path = std::env::current_exe();
    let path = path.map_err(|error| format!("this program cannot be found: {error}"))?;
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Waits until a new process has ended. Returns how.
fn watch(child: &mut Child) -> String {
    let until = Instant::now() + READY_WITHIN + STOPS_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return format!("the new process has ended: {status}; its log says why");
            }
            Ok(None) if Instant::now() < until => thread::sleep(LOOKS_EVERY),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return "the new process was not ready in time".to_owned();
            }
            Err(error) => return format!("the new process cannot be watched: {error}"),
        }
    }
}

/// Gives everything to `successor`, while nothing else is done since `stopped`. If that has taken over, this process ends next: the other one waits for
/// it. If not, it was ended, and nothing has changed (SPEC 41.3).
pub(crate) fn give_away(
    successor: Successor,
    (run, keys, name): ([u8; 8], &KeyPair, [u8; 32]),
    (parts, stopped): (&[Part], Instant),
    sockets: &[BorrowedFd<'_>],
) -> Option<Taken> {
    let outcome = give(&successor, (run, keys, name), (parts, stopped), sockets);
    let outcome = outcome.or_else(|error| {
        // This process may have been stopped for so long that it has not seen TOOK in time. The other one ends it then.
        let took = took_of(name, count_of(sockets));
        let has_taken = |message: &Message| message.kind == kind::TOOK && message.body == took;
        match successor.partner.received().iter().any(has_taken) {
            true => Ok(()),
            false => Err(error),
        }
    });
    let lives = outcome.and_then(
        |()| match successor.process.has_ended_within(Duration::ZERO) {
            true => Err(UpgradeError::Gone),
            false => Ok(()),
        },
    );
    match lives {
        Err(error) => {
            // As long as this process is there, the other one has written nothing.
            successor.process.end();
            let _ = successor.failed.send(error.to_string());
            None
        }
        Ok(()) => Some(Taken {
            partner: successor.partner,
            pid: successor.pid,
            paused: stopped.elapsed(),
            caller: successor.caller,
            failed: successor.failed,
        }),
    }
}

/// Gives everything, and waits for TOOK.
fn give(
    successor: &Successor,
    (run, keys, name): ([u8; 8], &KeyPair, [u8; 32]),
    (parts, stopped): (&[Part], Instant),
    sockets: &[BorrowedFd<'_>],
) -> Result<(), UpgradeError> {
    let until = Instant::now() + STOPS_WITHIN;
    let sealed = Snapshot::seal((run, parts), keys, 0, name)?;
    let file = in_memory(&sealed)?;
    let count = count_of(sockets);
    let mut state = vec![kind::STATE];
    state.extend_from_slice(&(sealed.len() as u64).to_le_bytes());
    state.extend_from_slice(&count.to_le_bytes());
    let stopped = u32::try_from(stopped.elapsed().as_micros()).unwrap_or(u32::MAX);
    state.extend_from_slice(&stopped.to_le_bytes());
    let partner = &successor.partner;
    partner.send(&state, &[file.as_fd()], until)?;
    for (number, batch) in (1_usize..).zip(sockets.chunks(SOCKETS_AT_ONCE)) {
        partner.send(&[kind::SOCKETS], batch, until)?;
        if number.is_multiple_of(BATCHES_AT_ONCE) {
            let got = partner.receive(until)?;
            got.expect(kind::GOT, "something between sockets")?;
        }
    }
    let took = partner.receive(until)?;
    let took = took.expect(kind::TOOK, "something in place of TOOK")?;
    match took.body == took_of(name, count) {
        true => Ok(()),
        false => Err(UpgradeError::Wrong("TOOK of something else")),
    }
}

fn count_of(sockets: &[BorrowedFd<'_>]) -> u32 {
    u32::try_from(sockets.len()).unwrap_or(u32::MAX)
}

/// Returns what TOOK says.
pub(super) fn took_of(name: [u8; 32], count: u32) -> Vec<u8> {
    [&name[..], &count.to_le_bytes()].concat()
}

/// Returns a file in memory with these bytes.
fn in_memory(bytes: &[u8]) -> Result<OwnedFd, UpgradeError> {
    let cannot = system("a file in memory");
    let file = rustix::fs::memfd_create("voltlane", MemfdFlags::CLOEXEC).map_err(&cannot)?;
    let mut file = File::from(file);
    let written = file.write_all(bytes);
    written.map_err(|error| UpgradeError::System {
        what: "a file in memory",
        error,
    })?;
    Ok(file.into())
}

/// A process that has taken over.
pub(crate) struct Taken {
    /// Closed by the end of this process, which the other one waits for.
    partner: Partner,
    pid: i32,
    paused: Duration,
    caller: Option<Arc<Partner>>,
    /// Kept, so that nobody is told that it failed.
    failed: mpsc::Sender<String>,
}

impl Taken {
    /// Ends this process, and tells those who wait for that.
    pub(crate) fn end(self, connections: usize) -> ! {
        let Taken {
            partner: _partner,
            pid,
            paused,
            caller,
            failed: _failed,
        } = self;
        crate::supervisor::hand_over(pid);
        info!(
            pid,
            connections,
            ?paused,
            "a new process has taken over; this one ends"
        );
        if let Some(caller) = caller {
            let text = format!("process {pid} has taken over, with {connections} connections");
            let message = [&[kind::DONE], text.as_bytes()].concat();
            let _ = caller.send(&message, &[], Instant::now() + Duration::from_secs(1));
        }
        crate::logging::flush();
        // Nothing is dropped: files of sockets, and the sockets themselves, are the other process's now.
        std::process::exit(0)
    }
}
