//! Removal of table files that nothing refers to any more, by a thread that nobody waits for.
//!
//! The last who referred to a table may be a thread that commits or reads: it held the view that a merge replaced.
//! Freeing a large file takes tens of milliseconds, so the file is handed to the thread that merges. Without
//! that thread it is removed at once.
//!
//! Invariant: a file is removed only while the directory is ours ([`Tenure`]). What is not removed by the end is an
//! orphan, and the next open removes it.

use super::FileSystem;
use super::tenure::Tenure;
use crate::sync::engine::{AtomicBool, Mutex, Ordering};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub struct Remover {
    fs: Arc<dyn FileSystem>,
    tenure: Arc<Tenure>,
    queue: Mutex<Queue>,
    /// There may be something in the queue.
    filled: AtomicBool,
    /// Held by who empties the queue, so that nobody else takes it for done before it is.
    emptying: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    paths: Vec<PathBuf>,
    /// Wakes the thread that removes.
    wake: Option<Box<dyn Fn() + Send>>,
}

impl std::fmt::Debug for Remover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remover").field("waiting", &self.queue.lock().paths).finish()
    }
}

impl Remover {
    /// Removes files at once, until [`Remover::attach`].
    pub fn new(fs: Arc<dyn FileSystem>, tenure: Arc<Tenure>) -> Remover {
        Remover {
            fs,
            tenure,
            queue: Mutex::default(),
            filled: AtomicBool::new(false),
            emptying: Mutex::default(),
        }
    }

    /// While it lasts, files are removed.
    pub fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    /// From now on `wake` is called for each file, and calls [`Remover::run`] from another thread.
    pub fn attach(&self, wake: impl Fn() + Send + 'static) {
        self.queue.lock().wake = Some(Box::new(wake));
    }

    /// From now on files are removed at once, those that wait too.
    pub fn detach(&self) {
        self.queue.lock().wake = None;
        self.run();
    }

    /// Removes a file, now or soon. No durable manifest lists it. It is freed in steps if nobody has it open any more.
    pub fn remove(&self, path: &Path) {
        let mut queue = self.queue.lock();
        if queue.wake.is_none() {
            drop(queue);
            return self.remove_now(path);
        }
        queue.paths.push(path.to_path_buf());
        self.filled.store(true, Ordering::Release);
        if let Some(wake) = &queue.wake {
            wake();
        }
    }

    /// Removes what waits; when it returns, it is gone. Says whether there was anything.
    pub fn run(&self) -> bool {
        if !self.filled.load(Ordering::Acquire) && self.emptying.try_lock().is_some() {
            return false;
        }
        let _emptying = self.emptying.lock();
        while self.filled.load(Ordering::Acquire) {
            let path = {
                let mut queue = self.queue.lock();
                let path = queue.paths.pop();
                self.filled.store(!queue.paths.is_empty(), Ordering::Release);
                path
            };
            path.iter().for_each(|path| self.remove_now(path));
        }
        true
    }

    fn remove_now(&self, path: &Path) {
        if let Ok(_held) = self.tenure.hold() {
            let _ = self.fs.remove_large(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::os::OsFileSystem;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn files_go_at_once_or_with_the_thread_and_none_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: u32| dir.path().join(format!("file-{n}"));
        let make = |n| std::fs::write(path(n), vec![1; 5 << 20]).unwrap();
        let there = |n| path(n).exists();
        let tenure = Arc::new(Tenure::default());
        let remover = Remover::new(Arc::new(OsFileSystem::new()), tenure.clone());
        (0..6).for_each(make);

        remover.remove(&path(0));
        assert!(!there(0));
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = woken.clone();
        remover.attach(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        remover.remove(&path(1));
        remover.remove(&path(2));
        assert!(there(1) && there(2));
        assert_eq!(woken.load(std::sync::atomic::Ordering::SeqCst), 2);
        remover.run();
        assert!(!there(1) && !there(2));
        remover.remove(&path(3));
        remover.detach();
        assert!(!there(3));
        remover.remove(&path(4));
        assert!(!there(4));
        tenure.end();
        remover.remove(&path(5));
        assert!(there(5));
    }
}
