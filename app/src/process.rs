//! Memory, time of processors, and descriptors of the process.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// A tick of the times in `/proc/self/stat`, which is a hundredth of a second for programs on Linux.
const TICK_MILLIS: u64 = 10;

/// Figures of the process. One that the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// The time of processors since the start, of all threads.
    pub cpu_millis: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many there may be, or 0 if that has no bound.
    pub max_descriptors: u64,
}

impl Process {
    /// Asks the system. It costs some ten microseconds.
    #[must_use]
    pub fn measure() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Process {
            resident_bytes: resident(&status).unwrap_or(0),
            cpu_millis: cpu(&stat).unwrap_or(0),
            descriptors: descriptors(),
            max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(0),
        }
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn cpu(stat: &str) -> Option<u64> {
    // The name of the program may have spaces and brackets of its own.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_MILLIS)
}

fn descriptors() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the folder is their number. To count them takes long if there are many.
    match fs::metadata(FOLDER).map(|folder| folder.len()) {
        Ok(0) | Err(_) => fs::read_dir(FOLDER).map_or(0, |found| found.count() as u64),
        Ok(count) => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1024 kB\n"), Some(1 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(cpu(stat), Some(230));
        assert_eq!(cpu("7 (x) S 1"), None);
        let process = Process::measure();
        assert!(process.resident_bytes > 0, "{process:?}");
        assert!(process.descriptors > 2, "{process:?}");
        assert!(
            process.descriptors <= process.max_descriptors,
            "{process:?}"
        );
    }
}
