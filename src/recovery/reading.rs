//! Planning for somebody who only looks.
//!
//! Beside a live owner only what is vouched for counts, and the owner may publish, recycle or remove
//! something under the reader: then the plan is made anew, and an error is believed when a second look
//! says exactly the same.
//!
//! Invariant: no lock is taken, not even for a moment; nothing is written.

use super::plan::{Plan, Reader, plan};
use crate::error::Result;
use crate::fs::FileSystem;
use crate::manifest::names;
use std::path::Path;

/// How often a plan is made anew because the owner changed something under it.
const TRIES: usize = 100;

/// Plans as a read-only open does.
pub fn plan_for_reading(fs: &dyn FileSystem, dir: &Path) -> Result<Plan> {
    let mut before: Option<String> = None;
    for _ in 1..TRIES {
        match plan(fs, dir, reader(fs, dir)) {
            Ok(plan) => return Ok(plan),
            Err(error) => {
                let text = Some(error.to_string());
                if text == before {
                    return Err(error);
                }
                before = text;
            }
        }
    }
    plan(fs, dir, reader(fs, dir))
}

/// Who reads: beside a live owner, or alone.
pub fn reader(fs: &dyn FileSystem, dir: &Path) -> Reader {
    // Where the lock cannot even be looked at, the plan says what is wrong with the path.
    let owned = fs.lock_holder(&dir.join(names::LOCK_NAME)).is_ok_and(|holder| holder.is_some());
    if owned { Reader::BesideOwner } else { Reader::Alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::fs::sim::{Fault, FaultKind, OperationKind};
    use crate::recovery::testlog::{TestLog, dir};

    #[test]
    fn an_error_is_believed_at_the_second_time() {
        let log = TestLog::with_segments(2);
        log.disk.write_file(dir().join(names::MANIFEST_NAME), &log.manifest.encode()).unwrap();
        let failing =
            || Fault::new(FaultKind::Io).on(OperationKind::Read).path_contains("MANIFEST");
        log.disk.inject(failing());
        assert!(matches!(plan_for_reading(&log.disk, dir()), Ok(Plan::Open(_))), "one bad look");
        assert_eq!(log.disk.faults_struck(), 1);
        log.disk.inject(failing().from_then_on());
        assert!(matches!(plan_for_reading(&log.disk, dir()), Err(Error::Io { .. })));
        assert_eq!(log.disk.faults_struck(), 3);
    }
}
