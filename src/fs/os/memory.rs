//! How much memory there is for this process and the page cache of its files: what the machine has, or less if a
//! control group limits it. Linux says both in files; elsewhere nothing is known.
//!
//! The limits of both versions of control groups are known, and those of the groups above hold too. In a container
//! the path that the process is told may be one of the machine, which is not to be seen there; the group that is
//! mounted is then its own, and stands at the top of the path.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory; `None` if the system does not say.
pub(super) fn bytes() -> Option<u64> {
    bytes_as_told(|path| fs::read_to_string(path).ok())
}

/// Whether so much memory holds files beside a heap.
pub(super) fn holds(memory_bytes: u64, file_bytes: u64, heap_bytes: u64) -> bool {
    file_bytes <= memory_bytes.saturating_sub(heap_bytes) / 2
}

fn bytes_as_told(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let of_machine = of_machine(&read(Path::new("/proc/meminfo"))?)?;
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = files_of_limits(&groups);
    // A group without a limit has a word or a huge number.
    let limits = limits.iter().filter_map(|file| read(file)?.trim().parse::<u64>().ok());
    Some(limits.fold(of_machine, u64::min))
}

/// From `/proc/meminfo`.
fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may hold a limit, from `/proc/self/cgroup`: of the process's group and all groups above.
fn files_of_limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, names): (_, &[&str]) = match controllers {
            "" => ("/sys/fs/cgroup", &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            files.extend(names.iter().map(|name| Path::new(mount).join(group).join(name)));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_machine_is_read() {
        let text = "MemTotal:       24689812 kB\nMemFree:        18342200 kB\n";
        assert_eq!(of_machine(text), Some(24_689_812 * 1024));
        for bad in ["", "MemTotal:", "MemTotal: x kB", "MemTotal: 12", "MemFree: 1 kB"] {
            assert_eq!(of_machine(bad), None, "{bad}");
        }
        assert!(bytes().is_some_and(|bytes| bytes > 1 << 20), "this machine says");
    }

    #[test]
    fn the_least_limit_of_the_group_and_those_above_counts() {
        let told = |files: &[(&str, &str)]| {
            bytes_as_told(|path| {
                let file = files.iter().find(|(name, _)| Path::new(name) == path);
                file.map(|(_, text)| (*text).to_owned())
            })
        };
        let machine = ("/proc/meminfo", "MemTotal:        1000 kB");
        let (v2, v1) = ("0::/a/b\n", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/y:z\n1:name=systemd:/\n");
        let group = |text| ("/proc/self/cgroup", text);
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[machine]), Some(1_024_000));
        assert_eq!(told(&[machine, group("nonsense\n4:memory")]), Some(1_024_000));
        for (limits, wanted) in [
            ([("a/b/memory.max", "max\n"), ("a/memory.max", "700000\n")], 700_000),
            ([("a/b/memory.max", "600000\n"), ("a/memory.max", "700000\n")], 600_000),
            ([("a/b/memory.high", "500000\n"), ("a/b/memory.max", "700000\n")], 500_000),
            ([("a/b/memory.max", "9000000\n"), ("memory.max", "2000\n")], 2000),
            ([("a/memory.max", "-1\n"), ("a/c/memory.max", "2000\n")], 1_024_000),
        ] {
            let [one, other] = limits.map(|(name, text)| (format!("/sys/fs/cgroup/{name}"), text));
            let files = [machine, group(v2), (&one.0, one.1), (&other.0, other.1)];
            assert_eq!(told(&files), Some(wanted), "{files:?}");
        }
        for (name, limit, wanted) in [
            ("y:z/memory.limit_in_bytes", "300000\n", 300_000),
            ("y:z/memory.limit_in_bytes", "9223372036854771712\n", 1_024_000),
            // In a container the path is one of the machine, and the mount is the group.
            ("memory.limit_in_bytes", "300000\n", 300_000),
            ("y:z/memory.max", "300000\n", 1_024_000),
        ] {
            let name = format!("/sys/fs/cgroup/memory/{name}");
            assert_eq!(told(&[machine, group(v1), (&name, limit)]), Some(wanted), "{name} {limit}");
        }
    }

    #[test]
    fn half_of_what_the_heap_leaves_is_for_tables() {
        assert!(holds(1000, 400, 200) && !holds(1000, 401, 200));
        assert!(holds(100, 0, 200) && !holds(100, 1, 200), "a heap larger than memory");
    }
}
