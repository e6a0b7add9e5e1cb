//! The resources that the system grants this process.

use std::fs;
use std::path::Path;

/// The limits of the process; `None` if there is no limit or it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

impl Resources {
    /// Returns the resources that are left when `count` descriptors are in use.
    #[must_use]
    pub fn without_descriptors(self, count: usize) -> Resources {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Resources {
            descriptors: self.descriptors.map(|all| all.saturating_sub(count)),
            ..self
        }
    }

    /// Raises the limit on descriptors as far as possible without privileges, and returns the resources.
    ///
    /// Systems begin with a low limit for the sake of old programs that use `select`. Nothing here does.
    #[must_use]
    pub fn raise_and_measure() -> Resources {
        Resources {
            descriptors: raise_descriptors(),
            memory_bytes: memory_bytes(Path::new("/")),
        }
    }
}

#[cfg(unix)]
fn raise_descriptors() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    // On failure the old limit applies, which is read next.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            ..before
        },
    );
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn raise_descriptors() -> Option<u64> {
    None
}

/// Returns the memory of the machine, or of the control group of the process if that is less. `root` is `/`.
fn memory_bytes(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let machine = read("proc/meminfo").as_deref().and_then(total_memory);
    let memberships = read("proc/self/cgroup").unwrap_or_default();
    // A group has no more than any of its ancestors. In a container its own group is the root, or invisible.
    let version_2 = group_of(&memberships, "").unwrap_or_default();
    let version_2 = limits(version_2, "sys/fs/cgroup", "memory.max");
    let version_1 = group_of(&memberships, "memory").unwrap_or_default();
    let version_1 = limits(version_1, "sys/fs/cgroup/memory", "memory.limit_in_bytes");
    let of_groups = version_2.chain(version_1).filter_map(|path| read(&path));
    // Without a limit the text is "max", which is not a number.
    let of_groups = of_groups.filter_map(|text| text.trim().parse().ok());
    of_groups.chain(machine).min()
}

/// Returns `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Returns the path of the process's control group that has this controller, relative to the mount of such groups. The single group of
/// version 2 has no name.
fn group_of<'a>(memberships: &'a str, controller: &str) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let has_it = controllers.split(',').any(|name| name == controller);
        path.strip_prefix('/').filter(|_| has_it)
    })
}

/// Returns the files with the limits of a group and of its ancestors.
fn limits<'a>(group: &'a str, mount: &'a str, file: &'a str) -> impl Iterator<Item = String> + 'a {
    let groups = Path::new(group).ancestors();
    groups.filter_map(move |group| {
        let path = Path::new(mount).join(group).join(file);
        Some(path.to_str()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files; the memory that they say; no trace.
    fn memory_with(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root =
            std::env::temp_dir().join(format!("voltlane-resources-{name}-{}", std::process::id()));
        // One that was killed may have left it, with the same process id.
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a file is in a directory"))
                .expect("it can be made");
            fs::write(path, text).expect("a file can be written");
        }
        let memory = memory_bytes(&root);
        let _ = fs::remove_dir_all(&root);
        memory
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:        8000 kB\nMemFree:         1 kB\n",
    );

    #[test]
    fn the_memory_is_that_of_the_machine_or_of_the_tightest_group() {
        assert_eq!(memory_with("none", &[]), None);
        assert_eq!(
            memory_with("odd", &[("proc/meminfo", "MemTotal: lots\n")]),
            None
        );
        assert_eq!(memory_with("machine", &[MEMINFO]), Some(8_192_000));
        let own = ("proc/self/cgroup", "0::/system.slice/edge.service\n");
        let max = |group: &'static str, text: &'static str| (group, text);
        let service = "sys/fs/cgroup/system.slice/edge.service/memory.max";
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(
            memory_with("service", &[MEMINFO, own, max(service, "4096\n")]),
            Some(4_096)
        );
        let files = [MEMINFO, own, max(service, "max\n"), max(slice, "5000\n")];
        assert_eq!(memory_with("slice", &files), Some(5_000));
        assert_eq!(
            memory_with("unlimited", &[MEMINFO, own, max(service, "max\n")]),
            Some(8_192_000)
        );
        let container = [
            MEMINFO,
            ("proc/self/cgroup", "0::/\n"),
            max("sys/fs/cgroup/memory.max", "6000\n"),
        ];
        assert_eq!(memory_with("container", &container), Some(6_000));
        let own = "12:cpu,cpuacct:/\n4:pids,memory:/docker/0123\n0::/system.slice/docker.service\n";
        let own = ("proc/self/cgroup", own);
        let limit = "sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes";
        let around = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let none = max(around, "9223372036854771712\n");
        let files = [MEMINFO, own, max(limit, "4096\n"), none];
        assert_eq!(memory_with("version-1-own", &files), Some(4_096));
        let mounted = [MEMINFO, own, max(around, "7000\n")];
        assert_eq!(memory_with("version-1-root", &mounted), Some(7_000));
        let version_1 = [MEMINFO, none];
        assert_eq!(memory_with("version-1", &version_1), Some(8_192_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_all_the_descriptors_it_may_have() {
        use rustix::process::{Resource, getrlimit};
        let resources = Resources::raise_and_measure();
        assert!(
            resources.memory_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{resources:?}"
        );
        assert_eq!(resources.descriptors, getrlimit(Resource::Nofile).maximum);
        assert_eq!(resources, Resources::raise_and_measure());
    }
}
