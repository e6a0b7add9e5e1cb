//! The cost of a process, read from /proc: CPU time of all its threads, resident memory now and at the peak.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::CpuSet;

/// CPU time that a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// User mode, with the resolution of the clock tick (10 ms).
    pub user: Duration,
    /// Kernel mode, with the resolution of the clock tick (10 ms).
    pub system: Duration,
    /// The total, in nanoseconds, from the scheduler.
    pub total: Duration,
}

impl CpuTime {
    /// Returns the time used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

/// Resident memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes now.
    pub resident: u64,
    /// Bytes at the peak.
    pub peak: u64,
}

/// Returns the CPU time of all threads of `pid` and of the processes that it started, such as workers.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    let mut time = own_cpu_time(pid)?;
    // A worker may end between the listing and the reading.
    for more in workers(pid)?.into_iter().flat_map(own_cpu_time) {
        time.user += more.user;
        time.system += more.system;
        time.total += more.total;
    }
    Ok(time)
}

fn own_cpu_time(pid: u32) -> io::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) = parse_stat(&stat).ok_or_else(|| malformed("stat"))?;
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let nanos = schedstat
            .split_whitespace()
            .next()
            .and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanos.ok_or_else(|| malformed("schedstat"))?);
    }
    Ok(CpuTime {
        user,
        system,
        total,
    })
}

/// Returns the processes that `pid` has started and that have not ended, without those that they have started.
fn workers(pid: u32) -> io::Result<Vec<u32>> {
    let mut workers = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A kernel may be built without this file.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        workers.extend(children.split_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(workers)
}

/// Returns the resident memory of `pid` and of the processes that it started. Pages that they share count for each of them.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let mut memory = own_memory(pid)?;
    // One that has ended has none.
    for more in workers(pid)?.into_iter().flat_map(own_memory) {
        memory.resident += more.resident;
        memory.peak += more.peak;
    }
    Ok(memory)
}

fn own_memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name| parse_kib(&status, name).ok_or_else(|| malformed("status"));
    Ok(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

/// Returns the bytes in the kernel's slab caches, which sockets are allocated from. They are those of the whole machine.
pub fn kernel_slab() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    parse_kib(&meminfo, "Slab:").ok_or_else(|| malformed("meminfo"))
}

/// Returns the number of open descriptors of `pid`.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Which CPUs the load tool and the program under test run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Both run on all of them, and nothing is pinned.
    Shared,
    /// The load tool runs on the first, and the program on the others. With one CPU this is the same as [`Shared`](Self::Shared).
    Apart,
}

/// The CPUs of this process when it started.
#[derive(Clone, Debug)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// Returns those that this process may run on now.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn available() -> io::Result<Self> {
        let set = rustix::thread::sched_getaffinity(None)?;
        Ok(Self(
            (0..CpuSet::MAX_CPU)
                .filter(|&cpu| set.is_set(cpu))
                .collect(),
        ))
    }

    /// Returns their number.
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// Moves this process to its CPUs. Returns those of the program; none for all.
    ///
    /// # Errors
    /// When the system refuses the CPUs.
    pub fn place(&self, placement: Placement) -> io::Result<Vec<usize>> {
        let (own, program) = match (placement, &self.0[..]) {
            (Placement::Apart, [first, others @ ..]) if !others.is_empty() => {
                (std::slice::from_ref(first), others)
            }
            (_, all) => (all, &[][..]),
        };
        pin(std::process::id(), own)?;
        Ok(program.to_vec())
    }
}

/// Pins every thread of `pid` to these CPUs. Threads that they start later inherit it.
pub fn pin(pid: u32, cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = task?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        let thread = thread.ok_or_else(|| malformed("task"))?;
        match rustix::thread::sched_setaffinity(Some(thread), &set) {
            // It has ended since.
            Err(rustix::io::Errno::SRCH) => {}
            pinned => pinned?,
        }
    }
    Ok(())
}

/// Raises the soft limit on open descriptors to the hard limit, and returns it. Children inherit it.
pub fn raise_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Lowers the limit on open descriptors of this process for good.
pub fn limit_descriptors(limit: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
}

fn parse_stat(stat: &str) -> Option<(Duration, Duration)> {
    // The program's name, in brackets, may contain anything. The fields after the last bracket are 3 and up.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let millis_per_tick = 1000 / rustix::param::clock_ticks_per_second();
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((
        Duration::from_millis(ticks()? * millis_per_tick),
        Duration::from_millis(ticks()? * millis_per_tick),
    ))
}

fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} in /proc is not as expected"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 10 0 0 0 150 25 0 0 20 0 1 0 5 6 7";
        assert_eq!(
            parse_stat(stat),
            Some((Duration::from_millis(1500), Duration::from_millis(250)))
        );
    }

    #[test]
    fn the_own_process_is_there() {
        let pid = std::process::id();
        assert!(cpu_time(pid).unwrap().total > Duration::ZERO);
        let memory = memory(pid).unwrap();
        assert!(0 < memory.resident && memory.resident <= memory.peak);
        assert!(descriptors(pid).unwrap() >= 3);
    }

    #[test]
    fn a_process_that_was_apart_has_all_its_cpus_again() {
        let cpus = Cpus::available().unwrap();
        let program = cpus.place(Placement::Apart).unwrap();
        let own = Cpus::available().unwrap();
        assert_eq!([own.0, program.clone()].concat().len(), cpus.0.len());
        assert!(cpus.place(Placement::Shared).unwrap().is_empty());
        assert_eq!(Cpus::available().unwrap().0, cpus.0);
    }

    #[test]
    fn workers_count_as_part_of_their_program() {
        let pid = std::process::id();
        let mut worker = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let found = workers(pid).unwrap();
        let (own, all) = (own_memory(pid).unwrap(), memory(pid).unwrap());
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert!(found.contains(&worker.id()), "{found:?}");
        assert!(own.peak < all.peak);
    }
}
