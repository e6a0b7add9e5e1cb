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

/// Returns the CPU time of all threads of `pid`.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
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

/// Returns the resident memory of `pid`.
///
/// # Errors
/// When the process is gone.
pub fn memory(pid: u32) -> io::Result<Memory> {
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
        rustix::thread::sched_setaffinity(Some(thread.ok_or_else(|| malformed("task"))?), &set)?;
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
}
