//! What of a merge is written anew, and which tables stay as they are.
//!
//! Tables that overlap no other table of the merge hold what the merge would write: they become tables of the new run
//! by their names alone. So keys that come in order are written once, and whoever changes one part of the keys pays
//! for that part. The rest is cut into groups of neighbours, each of which is merged for itself.
//!
//! A table stays if nothing else lies between its bounds (which include what its range tombstones hide), and if it
//! holds nothing that the merge would leave out: the caller says which. Small ones go into a group with their
//! neighbours, so that they do not become many; of those without such neighbours only the oldest run's stay.

use crate::table::TableMeta;
use crate::types::KeyspaceId;
use crate::view::{LiveTable, Run};
use std::cmp::Ordering;
use std::sync::Arc;

/// One part of the new run; parts ascend.
#[derive(Debug)]
pub enum Part {
    /// A table that stays.
    Kept(Arc<LiveTable>),
    /// What is merged, newest first: of each run the tables that belong to this part.
    Merged(Vec<Arc<Run>>),
}

/// Tables that overlap, or hang together by others that do, with the place of their run.
struct Cluster {
    tables: Vec<(usize, Arc<LiveTable>)>,
    /// The only table, and it may stay.
    may_stay: bool,
}

/// Cuts a merge of runs (newest first) into parts. Tables of less than `small_bytes` are merged with their neighbours.
pub fn parts(
    runs: &[Arc<Run>],
    small_bytes: u64,
    may_stay: impl Fn(&LiveTable) -> bool,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut group: Vec<Cluster> = Vec::new();
    for cluster in clusters(runs, may_stay) {
        match cluster.tables.as_slice() {
            [(_, table)] if cluster.may_stay && table.meta().file_bytes >= small_bytes => {
                parts.extend(part_of(runs, std::mem::take(&mut group)));
                parts.push(Part::Kept(table.clone()));
            }
            _ => group.push(cluster),
        }
    }
    parts.extend(part_of(runs, group));
    parts
}

/// Bytes of what is merged.
pub fn merged_bytes(parts: &[Part]) -> u64 {
    let of_part = |part: &Part| match part {
        Part::Kept(_) => 0,
        Part::Merged(runs) => runs.iter().map(|run| run.bytes()).sum(),
    };
    parts.iter().map(of_part).sum()
}

fn clusters(runs: &[Arc<Run>], may_stay: impl Fn(&LiveTable) -> bool) -> Vec<Cluster> {
    let places = runs.iter().enumerate();
    let mut tables: Vec<(usize, &Arc<LiveTable>)> = places
        .flat_map(|(place, run)| run.tables.iter().map(move |table| (place, table)))
        .collect();
    tables.sort_by(|(_, a), (_, b)| a.meta().first.cmp(&b.meta().first));
    let mut clusters: Vec<Cluster> = Vec::new();
    // Of all tables so far.
    let mut last: Option<&TableMeta> = None;
    for (place, table) in tables {
        let meta = table.meta();
        let alone = last.is_none_or(|last| last.ends_before(meta.first.0, &meta.first.1));
        if last.is_none_or(|last| by_end(last, meta) == Ordering::Less) {
            last = Some(meta);
        }
        match clusters.last_mut() {
            Some(cluster) if !alone => {
                cluster.tables.push((place, table.clone()));
                cluster.may_stay = false;
            }
            _ => clusters
                .push(Cluster { tables: vec![(place, table.clone())], may_stay: may_stay(table) }),
        }
    }
    clusters
}

/// Which of two tables ends first.
fn by_end(a: &TableMeta, b: &TableMeta) -> Ordering {
    fn end(meta: &TableMeta) -> (KeyspaceId, bool, Option<&[u8]>) {
        (meta.last.0, meta.last.1.is_none(), meta.last.1.as_deref())
    }
    end(a).cmp(&end(b))
}

/// A group of neighbours as a part.
fn part_of(runs: &[Arc<Run>], group: Vec<Cluster>) -> Option<Part> {
    // Rewriting it again and again would not make it larger.
    if let [Cluster { tables, may_stay: true }] = group.as_slice()
        && let [(place, table)] = tables.as_slice()
        && place + 1 == runs.len()
    {
        return Some(Part::Kept(table.clone()));
    }
    let mut of_runs: Vec<Vec<Arc<LiveTable>>> = vec![Vec::new(); runs.len()];
    for (place, table) in group.into_iter().flat_map(|cluster| cluster.tables) {
        of_runs[place].push(table);
    }
    let merged: Vec<Arc<Run>> = runs
        .iter()
        .zip(of_runs)
        .filter(|(_, tables)| !tables.is_empty())
        .map(|(run, tables)| Run::new(tables, run.min_seqno, run.max_seqno, run.level))
        .collect();
    (!merged.is_empty()).then_some(Part::Merged(merged))
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
