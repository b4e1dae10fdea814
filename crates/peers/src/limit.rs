//! A limit on the memory of a process, the page cache of its files included: a control group of its own.
//!
//! The group is made below the one that this process is in, so a limit that is already there goes on to hold. Both
//! versions of the interface are known. It takes the right to make control groups (root, or a delegated group);
//! without it there is no such limit, and what needs it is left out, with the system's word why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A control group, removed when it is dropped (its processes must have ended).
#[derive(Debug)]
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// A group whose processes may use this many bytes together.
    ///
    /// # Errors
    /// If the system does not let this process make one.
    pub fn new(bytes: u64) -> io::Result<MemoryLimit> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let (parent, limit) = parent(&groups).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "no control group for memory is mounted")
        })?;
        let path = parent.join(format!("highwater-peers-{}", std::process::id()));
        fs::create_dir(&path)?;
        let made = MemoryLimit(path);
        fs::write(made.0.join(limit), bytes.to_string())?;
        // Swap would make it a limit of something else. Absent where the kernel has no such account.
        for swap in ["memory.swap.max", "memory.swappiness"] {
            let file = made.0.join(swap);
            if file.exists() {
                fs::write(file, "0")?;
            }
        }
        Ok(made)
    }

    /// Puts a process in. What it has allocated before stays out of the account.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn hold(&self, process: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The last process may be on its way out still.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The directory of this process's group, and the file of its limit, from `/proc/self/cgroup`.
fn parent(groups: &str) -> Option<(PathBuf, &'static str)> {
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let named = controllers.split(',').any(|name| name == controller);
            named.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let first = of("memory")
        .map(|path| (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"));
    let second = of("").map(|path| (Path::new("/sys/fs/cgroup").join(path), "memory.max"));
    first.into_iter().chain(second).find(|(path, _)| path.join("cgroup.procs").exists())
}

/// Lets the page cache forget all files below a directory, after it has written them.
///
/// # Errors
/// Of the file system.
pub fn forget(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_can_be_made_or_the_system_says_why_not() {
        match MemoryLimit::new(64 << 20) {
            Ok(limit) => {
                let path = limit.0.clone();
                let mut child =
                    std::process::Command::new("sleep").arg("30").spawn().expect("sleep");
                limit.hold(child.id()).expect("held");
                let held = fs::read_to_string(path.join("cgroup.procs")).expect("a list");
                assert_eq!(held.trim(), child.id().to_string());
                child.kill().expect("killed");
                child.wait().expect("ended");
                drop(limit);
                assert!(!path.exists());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn forgotten_files_keep_their_content() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("below")).expect("a directory");
        fs::write(dir.path().join("below/file"), [3; 10_000]).expect("a file");
        forget(dir.path()).expect("forgotten");
        assert_eq!(fs::read(dir.path().join("below/file")).expect("a file"), [3; 10_000]);
    }
}
