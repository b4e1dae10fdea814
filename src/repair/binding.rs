//! What binds a plan to the files that it was made of: its number.
//!
//! Invariant: other bytes in any file that the plan reads, or other steps, give another number.

use super::PlanId;
use super::diagnose::Diagnosis;
use super::files::{self, FileMark};
use crate::error::Result;
use crate::fs::FileSystem;
use crate::manifest::names;
use crate::recovery::plan::table_metas;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Binds the plan to every file that it was made of, and to its steps.
pub fn work_id(fs: &Arc<dyn FileSystem>, dir: &Path, found: &Diagnosis) -> Result<Option<PlanId>> {
    if found.plan.actions.is_empty() || !found.plan.refusals.is_empty() {
        return Ok(None);
    }
    let mut hasher = Xxh3::new();
    let mut add = |file: &FileMark| {
        hasher.update(file.name.as_bytes());
        hasher.update(&file.bytes.to_le_bytes());
        hasher.update(&file.sum.to_le_bytes());
    };
    found.originals.iter().for_each(&mut add);
    for (_, meta) in table_metas(dir, &found.manifest)? {
        // Those that are not replaced count, too: what is kept is what was checked.
        let name = names::table_name(meta.file_id);
        if found.originals.iter().all(|file| file.name != name)
            && let Some(file) = files::mark(&**fs, dir, &name)?
        {
            add(&file);
        }
    }
    hasher.update(format!("{:?}{:?}", found.plan.actions, found.plan.last_seqno).as_bytes());
    Ok(Some(PlanId(hasher.digest())))
}
