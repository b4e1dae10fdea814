//! All damages of a database: every bit of the manifest, a bit of every written byte of all other files, lengths,
//! lost, swapped and foreign files, older copies, and what [`sectors`] adds.

use super::sectors::sectors;
use super::{Damage, Subject, is_manifest};
use crate::random::Random;
use std::path::PathBuf;

/// All cases of a database.
pub fn cases(subject: &Subject) -> Vec<Damage> {
    let mut cases = Vec::new();
    let paths: Vec<&PathBuf> = subject.files.keys().collect();
    for (path, bytes) in &subject.files {
        let length = bytes.len() as u64;
        if path.ends_with("LOCK") || path.ends_with("RESERVE") {
            cases.push(Damage::Lose(path.clone()));
            continue;
        }
        if is_manifest(path) {
            let bits = (0..length).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            cases.extend(bits.map(|(at, bit)| Damage::Flip(path.clone(), at, bit)));
        } else {
            // Every byte that was written, and a few blocks past it.
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
            let mut random = Random::new(length);
            let end = (written + 9000).min(length);
            let flips = (0..end).map(|at| (at, random.below(8) as u8));
            cases.extend(flips.map(|(at, bit)| Damage::Flip(path.clone(), at, bit)));
            for length in [written, written.saturating_sub(1), written.next_multiple_of(4096)] {
                cases.push(Damage::Length(path.clone(), length));
            }
        }
        for length in [0, 1, 100, 511, 512, 4095, 4096, 4097, 8192, length / 2] {
            cases.push(Damage::Length(path.clone(), length));
        }
        for length in
            [length.saturating_sub(1), length.saturating_sub(512), length + 1, length + 4096]
        {
            cases.push(Damage::Length(path.clone(), length));
        }
        cases.push(Damage::Lose(path.clone()));
    }
    let others = subject.others.iter().enumerate();
    cases.extend(others.map(|(index, (_, path, _))| Damage::Replace(path.clone(), index)));
    let names =
        ["notes.txt", "log-zzzz.hwl", "table-1.hwt", "MANIFEST.old", "spare-9.hwl", "MANIFEST.new"];
    cases.extend(names.map(Damage::Foreign));
    for (at, one) in paths.iter().enumerate() {
        for two in &paths[at + 1..] {
            cases.push(Damage::Swap((*one).clone(), (*two).clone()));
        }
    }
    cases.extend(sectors(subject));
    cases
}
