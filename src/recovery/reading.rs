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
    let mut round = 0;
    loop {
        round += 1;
        match plan(fs, dir, reader(fs, dir)) {
            Ok(plan) => return Ok(plan),
            Err(error) => {
                let text = error.to_string();
                if round == TRIES || before.as_ref() == Some(&text) {
                    return Err(error);
                }
                before = Some(text);
            }
        }
    }
}

/// Who reads: beside a live owner, or alone.
pub fn reader(fs: &dyn FileSystem, dir: &Path) -> Reader {
    // Where the lock cannot even be looked at, the plan says what is wrong with the path.
    let owned = fs.lock_holder(&dir.join(names::LOCK_NAME)).is_ok_and(|holder| holder.is_some());
    if owned { Reader::BesideOwner } else { Reader::Alone }
}
