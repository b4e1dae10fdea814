//! Tests of [`parts`](super::parts): which tables of a merge stay.

use super::{Part, merged_bytes, parts};
use crate::fs::os::OsFileSystem;
use crate::fs::removal::Remover;
use crate::table::{ReadMode, Table, TableMeta};
use crate::types::{DatabaseId, FileId, KeyspaceId, Seqno};
use crate::view::{LiveTable, Run};
use std::collections::BTreeSet;
use std::sync::Arc;

const SMALL_BYTES: u64 = 100;
const SPACE: KeyspaceId = KeyspaceId(3);

/// A table that nobody reads. The file does not exist.
fn table(number: u64, bytes: u64, first: u8, last: Option<u8>) -> Arc<LiveTable> {
    let meta = TableMeta {
        file_id: FileId(number),
        file_bytes: bytes,
        footer_crc: 0,
        entries: 1,
        tombstones: 0,
        range_tombstones: 0,
        first: (SPACE, vec![first]),
        last: (SPACE, last.map(|last| vec![last])),
    };
    let fs = Arc::new(OsFileSystem::new());
    let cache = crate::options::Builder::default().table_cache();
    let path = format!("no such directory/{number}").into();
    let table = Table::new(fs.clone(), path, DatabaseId([0; 16]), meta, ReadMode::Pread, cache);
    Arc::new(LiveTable::new(table, Arc::new(Remover::new(fs, Arc::default()))))
}

fn run(tables: Vec<Arc<LiveTable>>) -> Arc<Run> {
    Run::new(tables, Seqno(1), Seqno(2), 0)
}

/// `=7` for a table that stays, `7+9/3` for tables of two runs that are merged.
fn shown(parts: &[Part]) -> String {
    let numbers = |run: &Arc<Run>| {
        let of_table = |table: &Arc<LiveTable>| table.meta().file_id.get().to_string();
        run.tables.iter().map(of_table).collect::<Vec<_>>().join("+")
    };
    let of_part = |part: &Part| match part {
        Part::Kept(table) => format!("={}", table.meta().file_id.get()),
        Part::Merged(runs) => runs.iter().map(numbers).collect::<Vec<_>>().join("/"),
    };
    parts.iter().map(of_part).collect::<Vec<_>>().join(" ")
}

fn cut(runs: &[Arc<Run>]) -> String {
    shown(&parts(runs, SMALL_BYTES, |_| true))
}

#[test]
fn what_nothing_overlaps_stays() {
    let base = run(vec![table(1, 500, 0, Some(9)), table(2, 500, 10, Some(19))]);
    assert_eq!(cut(&[run(vec![table(3, 500, 20, Some(29))]), base.clone()]), "=1 =2 =3");
    assert_eq!(cut(&[run(vec![table(3, 500, 19, Some(29))]), base.clone()]), "=1 3/2");
    assert_eq!(cut(&[run(vec![table(3, 500, 9, Some(10))]), base.clone()]), "3/1+2");
    let upper = run(vec![table(3, 10, 3, Some(4)), table(4, 500, 30, None)]);
    assert_eq!(cut(&[upper, base.clone()]), "3/1 =2 =4");
    assert_eq!(cut(&[]), "");
    assert_eq!(cut(&[base]), "=1 =2");
}

#[test]
fn what_reaches_to_the_end_overlaps_all_behind_it() {
    let base = run(vec![table(1, 500, 0, Some(9)), table(2, 500, 10, Some(19))]);
    assert_eq!(cut(&[run(vec![table(3, 500, 5, None)]), base.clone()]), "3/1+2");
    assert_eq!(cut(&[run(vec![table(3, 500, 15, None)]), base]), "=1 3/2");
}

#[test]
fn small_ones_are_merged_with_their_neighbours() {
    let base = run(vec![table(1, 500, 0, Some(9)), table(2, 99, 10, Some(19))]);
    assert_eq!(cut(&[run(vec![table(3, 99, 20, Some(29))]), base.clone()]), "=1 3/2");
    // A small one of the oldest run has nothing to gain, a newer one is not to become one of many.
    assert_eq!(cut(&[run(vec![table(3, 100, 20, Some(29))]), base.clone()]), "=1 =2 =3");
    let base = run(vec![table(1, 500, 0, Some(9)), table(2, 500, 10, Some(19))]);
    assert_eq!(cut(&[run(vec![table(3, 99, 20, Some(29))]), base]), "=1 =2 3");
}

#[test]
fn what_may_not_stay_is_written_anew() {
    let base = run(vec![table(1, 500, 0, Some(9)), table(2, 500, 10, Some(19))]);
    let upper = run(vec![table(3, 500, 20, Some(29))]);
    let cut = parts(&[upper, base], SMALL_BYTES, |table| table.meta().file_id.get() != 2);
    assert_eq!(shown(&cut), "=1 2 =3");
    assert_eq!(merged_bytes(&cut), 500);
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Every table is in one part, in its run's order; parts ascend and do not overlap.
#[test]
fn parts_of_any_runs_ascend_and_leave_nothing_out() {
    let mut kept = 0;
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut number = 0;
        let mut runs = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (mut tables, mut from) = (Vec::new(), random.below(150));
            for _ in 0..random.below(5) {
                let to = from + random.below(30);
                if to > 250 {
                    break;
                }
                number += 1;
                let bytes = 50 + random.below(100);
                tables.push(table(number, bytes, from as u8, Some(to as u8)));
                from = to + 1 + random.below(20);
            }
            runs.push(run(tables));
        }
        let parts = parts(&runs, SMALL_BYTES, |table| table.meta().file_id.get() % 5 != 0);
        let mut seen = BTreeSet::new();
        let mut end: Option<u8> = None;
        for part in &parts {
            let tables: Vec<&Arc<LiveTable>> = match part {
                Part::Kept(table) => vec![table],
                Part::Merged(runs) => runs.iter().flat_map(|run| &run.tables).collect(),
            };
            kept += u32::from(matches!(part, Part::Kept(_)));
            let first = tables.iter().map(|t| t.meta().first.1[0]).min();
            assert!(end < first, "seed {seed}");
            end = tables.iter().filter_map(|t| t.meta().last.1.as_ref().map(|k| k[0])).max();
            for table in tables {
                assert!(seen.insert(table.meta().file_id.get()), "seed {seed}");
            }
            let Part::Merged(merged) = part else { continue };
            let places = merged.iter().map(|part| {
                let number = part.tables[0].meta().file_id;
                let holds = |run: &Arc<Run>| run.tables.iter().any(|t| t.meta().file_id == number);
                runs.iter().position(holds).unwrap()
            });
            assert!(places.is_sorted(), "seed {seed}: newest first");
            for run in merged {
                let firsts = run.tables.iter().map(|t| t.meta().first.1[0]);
                assert!(firsts.is_sorted(), "seed {seed}");
            }
        }
        assert_eq!(seen.len() as u64, number, "seed {seed}");
    }
    assert!(kept > 500, "{kept}");
}
