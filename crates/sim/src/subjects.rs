//! The databases that are damaged: how they come about, their earlier contents, and another database like
//! each.

use super::damage::Subject;
use crate::model::State;
use crate::run::{PATH, Run};
use crate::script::{Change, Step, Workload};
use crate::verdict::Promised;
use highwater::Durability;
use highwater::fs::sim::SimDisk;
use highwater::fs::{Barrier, FileSystem};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an earlier content of a file is called.
pub const OLDER: &str = "an older copy";
/// What a file of another database is called.
pub const FOREIGN: &str = "one of another database";

/// Makes a database and collects earlier contents of its files on the way.
pub fn subject(name: &'static str, seed: u64) -> Result<Subject, String> {
    subject_with(name, seed, 1 << 20)
}

/// The same as small as it gets, log segments of 32 KiB included.
pub fn small_subject(name: &'static str, seed: u64) -> Result<Subject, String> {
    subject_with(name, seed, 48 << 10)
}

fn subject_with(name: &'static str, seed: u64, memory_budget: usize) -> Result<Subject, String> {
    let steps = steps(name);
    let workload = Arc::new(Workload { name, seed, memory_budget, steps, kept: None });
    let (files, earlier, states) = make(&workload, seed)?;
    let mut others = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, bytes) in earlier {
        if files.contains_key(&path)
            && files[&path] != bytes
            && seen.insert((path.clone(), bytes.clone()))
        {
            others.push((OLDER, path, bytes));
        }
    }
    let (foreign, _, _) = make(&workload, seed + 1)?;
    for (path, bytes) in foreign {
        if files.contains_key(&path) && !path.ends_with("LOCK") && !path.ends_with("RESERVE") {
            others.push((FOREIGN, path, bytes));
        }
    }
    let vouched = match name {
        // Everything but the last two commits has a successor that vouches for it.
        "unwitnessed" => states.len() - 2,
        _ => states.len() - 1,
    };
    // See `steps`: three commits come after the checkpoint.
    let checkpointed = states.len() - 4;
    let closed = is_closed(name);
    let disk = lay_out(&files).map_err(|e| e.to_string())?;
    let promised = Promised::of(&disk, &files)?;
    Ok(Subject {
        name,
        workload,
        files,
        disk,
        others,
        states,
        vouched,
        checkpointed,
        closed,
        promised,
    })
}

fn is_closed(name: &str) -> bool {
    !matches!(name, "witnessed" | "unwitnessed")
}

fn lay_out(files: &Files) -> std::io::Result<SimDisk> {
    let disk = SimDisk::new();
    disk.create_dir(Path::new(PATH))?;
    disk.sync_dir(Path::new("/"), Barrier::CreateParent)?;
    files.iter().try_for_each(|(path, bytes)| disk.write_file(path, bytes))?;
    disk.restart_recording();
    Ok(disk)
}

type Files = BTreeMap<PathBuf, Vec<u8>>;
/// Files, their earlier contents, and the states.
type Made = (Files, Vec<(PathBuf, Vec<u8>)>, Vec<State>);

fn make(workload: &Arc<Workload>, seed: u64) -> Result<Made, String> {
    let disk = SimDisk::with_seed(seed);
    let mut run = Run::new(workload.clone(), disk.clone(), false);
    run.open()?;
    let mut earlier = Vec::new();
    for (number, step) in workload.steps.iter().enumerate() {
        run.step(number, step)?;
        for (path, _) in disk.files() {
            earlier.extend(disk.read_file(&path).ok().map(|bytes| (path, bytes)));
        }
    }
    if is_closed(workload.name) {
        let db = run.database().cloned().ok_or("not open")?;
        db.close().map_err(|e| e.to_string())?;
    }
    let (disk, states) = run.abandon();
    let read = |path: PathBuf| disk.read_file(&path).ok().map(|bytes| (path, bytes));
    let files = disk.files().into_iter().filter_map(|(path, _)| read(path)).collect();
    Ok((files, earlier, states))
}

fn steps(name: &str) -> Vec<Step> {
    let put = |keyspace, key: &str, bytes| Change::Put(keyspace, key.to_owned(), bytes);
    let batch = |changes| Step::Batch(changes, Durability::Sync);
    let mut steps = vec![Step::Create("a"), Step::Create("b")];
    let many =
        |from: usize| (from..from + 30).map(|i| put("a", &format!("k{i:03}"), 40 + i)).collect();
    steps.push(batch(many(0)));
    steps.push(Step::Compact);
    steps.push(batch(vec![
        put("b", "one", 5000),
        Change::RemoveRange("a", "k003".to_owned(), "k006".to_owned()),
    ]));
    steps.push(Step::Checkpoint);
    steps.push(batch(vec![put("a", "two", 20), Change::Remove("a", "k010".to_owned())]));
    steps.push(batch(many(20)));
    steps.push(batch(vec![put("b", "three", 900)]));
    match name {
        "witnessed" => steps.push(Step::Maintain),
        "emptied" => steps.push(Step::Checkpoint),
        "reopened" => {
            steps.push(Step::Reopen);
            steps.push(batch(vec![put("a", "four", 30)]));
        }
        _ => {}
    }
    steps
}
