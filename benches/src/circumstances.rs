//! When and where figures were taken, and how quiet the machine was.

use std::fmt;
use std::fs;
use std::io;
use std::process::Command;
use std::time::SystemTime;

use crate::load::process::Cpus;

/// The machine, the programs and the command of a run, which are printed beside its figures.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The command line, without the path of this binary.
    command: String,
    began: SystemTime,
    processors: usize,
    /// The model of the processor and the system, as far as it tells them.
    machine: String,
    /// The versions of programs that are not ours.
    versions: Vec<String>,
    at_begin: Ticks,
    /// None until the end.
    at_end: Option<Ticks>,
}

/// Processor time so far, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// All of it, idle or not, on all processors.
    all: u64,
    /// What processes used.
    used: u64,
    /// What the host of a virtual machine took.
    stolen: u64,
    /// What this process used, and those that it started and that have ended.
    own: u64,
}

impl Circumstances {
    /// Notes the beginning of a run on these processors.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn begin(cpus: &Cpus) -> io::Result<Self> {
        let model = fs::read_to_string("/proc/cpuinfo")?;
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let system = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Ok(Circumstances {
            command: format!("benches {}", arguments.join(" ")),
            began: SystemTime::now(),
            processors: cpus.count(),
            machine: format!(
                "{}Linux {}",
                model.map_or(String::new(), |(_, model)| format!("{}, ", model.trim())),
                system.trim()
            ),
            versions: Vec::new(),
            at_begin: Ticks::now()?,
            at_end: None,
        })
    }

    /// Notes the versions of HAProxy and nginx, if they are installed.
    pub fn with_proxies(mut self) -> Self {
        for (name, program) in [("HAProxy", "haproxy"), ("nginx", "nginx")] {
            let Ok(output) = Command::new(program).arg("-v").output() else {
                continue;
            };
            let text = [output.stdout, output.stderr].concat();
            if let Some(version) = version(&String::from_utf8_lossy(&text)) {
                self.versions.push(format!("{name} {version}"));
            }
        }
        self
    }

    /// Notes the end of the run.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn end(&mut self) -> io::Result<()> {
        self.at_end = Some(Ticks::now()?);
        Ok(())
    }

    /// Returns date, machine and command on one line, for a picture.
    pub fn brief(&self) -> String {
        let began = httpdate::fmt_http_date(self.began);
        let (processors, machine) = (self.processors, &self.machine);
        format!(
            "{began}, {processors} processors, {machine}: {}",
            self.command
        )
    }
}

impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Taken by `{}` on {}, on {} processors ({})",
            self.command,
            httpdate::fmt_http_date(self.began),
            self.processors,
            self.machine
        )?;
        if !self.versions.is_empty() {
            write!(f, ", with {}", self.versions.join(" and "))?;
        }
        write!(f, ".")?;
        if let Some(end) = self.at_end {
            let (others, stolen) = end.since(self.at_begin);
            write!(
                f,
                " Other processes used {others:.1} % of the processors' time meanwhile, and the host of the machine took {stolen:.1} %."
            )?;
        }
        Ok(())
    }
}

impl Ticks {
    fn now() -> io::Result<Self> {
        let of_all = fs::read_to_string("/proc/stat")?;
        let of_own = fs::read_to_string("/proc/self/stat")?;
        let ticks = Self::parse(&of_all, &of_own);
        ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc is not as expected"))
    }

    /// Parses `/proc/stat` and the `stat` of a process.
    fn parse(of_all: &str, of_own: &str) -> Option<Self> {
        let all: Vec<u64> = of_all
            .strip_prefix("cpu ")?
            .lines()
            .next()?
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        // user, nice, system, idle, iowait, irq, softirq, steal. What follows is part of user and nice.
        let &[user, nice, system, _, _, _, _, stolen, ..] = &all[..] else {
            return None;
        };
        // The fields behind the name begin with the third. From the 14th: user and system, and those of children that have ended.
        let own = of_own[of_own.rfind(')')? + 1..].split_whitespace();
        let own: Result<Vec<u64>, _> = own.skip(11).take(4).map(str::parse).collect();
        Some(Ticks {
            all: all[..8].iter().sum(),
            used: user + nice + system,
            stolen,
            own: own.ok()?.iter().sum(),
        })
    }

    /// Returns what other processes used since then, and what was stolen, in percent of all time.
    fn since(self, begin: Ticks) -> (f64, f64) {
        let all = self.all.saturating_sub(begin.all).max(1) as f64;
        let own = self.own.saturating_sub(begin.own);
        let others = self.used.saturating_sub(begin.used).saturating_sub(own);
        let stolen = self.stolen.saturating_sub(begin.stolen);
        (100.0 * others as f64 / all, 100.0 * stolen as f64 / all)
    }
}

/// Returns the first word that looks like a version, without what a distribution appended.
fn version(text: &str) -> Option<&str> {
    text.split(|c: char| c.is_whitespace() || c == '/' || c == '-')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_proxies_print() {
        let haproxy = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n";
        assert_eq!(version(haproxy), Some("2.6.12"));
        assert_eq!(version("nginx version: nginx/1.22.1\n"), Some("1.22.1"));
        assert_eq!(version("no version 3 here"), None);
    }

    #[test]
    fn what_others_used_is_what_is_left_of_all() {
        let parse = |all, own| Ticks::parse(all, own).unwrap();
        let begin = parse(
            "cpu  100 10 100 1000 0 5 5 0 0 0\ncpu0 1 1 1 1\n",
            "7 (a b) S 1 7 7 0 -1 4194304 10 0 0 0 20 5 30 5 20 0 1",
        );
        let end = parse(
            "cpu  150 10 150 1085 0 5 5 15 0 0\ncpu0 1 1 1 1\n",
            "7 (a b) S 1 7 7 0 -1 4194304 10 0 0 0 40 15 60 25 20 0 1",
        );
        // 200 ticks in all: 100 used, 80 of them our own, and 15 stolen.
        assert_eq!(end.since(begin), (10.0, 7.5));
        assert_eq!(begin.since(begin), (0.0, 0.0));
        assert_eq!(Ticks::parse("cpu0 1", ""), None);
    }

    #[test]
    fn this_machine_tells_what_it_is() {
        let mut now = Circumstances::begin(&Cpus::available().unwrap()).unwrap();
        now.end().unwrap();
        let text = now.to_string();
        assert!(
            text.contains(" GMT, on ") && text.contains("Linux "),
            "{text}"
        );
    }
}
