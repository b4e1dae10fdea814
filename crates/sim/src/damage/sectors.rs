//! Damage by the sector: zeros, stale sectors, and sectors that were written to the wrong place, of the same
//! file, of another one, or of another database.

use super::{Damage, Sector, Subject};
use crate::random::Random;
use std::path::PathBuf;

/// Bytes of a sector.
pub const SECTOR: usize = highwater::fs::sim::SECTOR_BYTES;

/// Every written sector zeroed, put back from each older copy, taken from the other database, and written
/// with what belongs elsewhere in the same file or in another.
pub fn sectors(subject: &Subject) -> Vec<Damage> {
    let is_data = |path: &&PathBuf| !path.ends_with("LOCK") && !path.ends_with("RESERVE");
    let paths: Vec<&PathBuf> = subject.files.keys().filter(is_data).collect();
    let written = |path: &PathBuf| -> Vec<u64> {
        let sectors = subject.files[path].chunks(SECTOR).enumerate();
        let written = sectors.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        written.map(|(sector, _)| sector as u64).collect()
    };
    let all: Vec<(&PathBuf, u64)> =
        paths.iter().flat_map(|path| written(path).into_iter().map(|at| (*path, at))).collect();
    let mut random = Random::new(all.len() as u64);
    let mut cases = Vec::new();
    for path in &paths {
        let own = written(path);
        // Behind the last one, too: what is written there by mistake must not count.
        let behind = own.last().map_or(0, |last| last + 1);
        let within = subject.files[*path].len() as u64 / SECTOR as u64;
        for at in own.iter().copied().chain((behind..behind + 9).filter(|at| *at < within)) {
            let mut instead = vec![Sector::Zeros];
            let others = subject.others.iter().enumerate();
            instead.extend(others.filter(|(_, of)| of.1 == **path).map(|(i, _)| Sector::Of(i)));
            instead.push(Sector::From((*path).clone(), own[random.below(own.len())]));
            let (from, sector) = all[random.below(all.len())];
            instead.push(Sector::From(from.clone(), sector));
            let bytes = &subject.files[*path];
            let changes = |of: &Sector| match of {
                Sector::Zeros => sector_of(bytes, at).iter().any(|byte| *byte != 0),
                Sector::Of(i) => sector_of(&subject.others[*i].2, at) != sector_of(bytes, at),
                Sector::From(path, sector) => {
                    sector_of(&subject.files[path], *sector) != sector_of(bytes, at)
                }
            };
            let instead = instead.into_iter().filter(changes);
            cases.extend(instead.map(|of| Damage::Sector((*path).clone(), at, of)));
        }
    }
    cases
}

/// A sector of these bytes, with zeros past their end.
pub fn sector_of(bytes: &[u8], sector: u64) -> Vec<u8> {
    let mut held: Vec<u8> =
        bytes.iter().skip(sector as usize * SECTOR).take(SECTOR).copied().collect();
    held.resize(SECTOR, 0);
    held
}
