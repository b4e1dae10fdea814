//! The end of a salvage: the losses get their names, and the new database its manifest.

use super::receipt::{LOST_KEYS_LISTED, LostKeys};
use super::scan::Scan;
use super::write::Build;
use crate::check::expect_sound;
use crate::error::Result;
use crate::fresh;
use crate::manifest::{KeyspaceEntry, Manifest};
use crate::options::Sizes;
use crate::types::{Epoch, FileId, Generation, KeyspaceId, Lsn, Seqno};
use crate::wal::buffer::align_up;

impl Build<'_> {
    /// Names what was lost, and writes the manifest.
    pub fn finish(&mut self, manifest: Option<&Manifest>, scan: &Scan) -> Result<()> {
        let mut keyspaces: Vec<KeyspaceEntry> = Vec::new();
        for (id, (name, created)) in &self.named.names {
            if !self.named.is_dropped(*id) {
                keyspaces.push(KeyspaceEntry { id: *id, name: name.clone(), created: *created });
            }
        }
        for id in std::mem::take(&mut self.used_keyspaces) {
            if self.named.is_dropped(id) || self.named.names.contains_key(&id) {
                continue;
            }
            let mut name = format!("salvaged-{id}");
            while keyspaces.iter().any(|keyspace| keyspace.name == name) {
                name.push('-');
            }
            self.receipt.unnamed_keyspaces.push(name.clone());
            keyspaces.push(KeyspaceEntry { id, name, created: Seqno::ZERO });
        }
        self.receipt.keyspaces = keyspaces.iter().map(|k| k.name.clone()).collect();
        self.receipt.keyspaces.sort();
        self.name_losses(&keyspaces);

        let last_seqno = self.runs.iter().map(|run| run.max_seqno).max().unwrap_or_default();
        let last_seqno = last_seqno
            .max(self.receipt.last_seqno)
            .max(manifest.map_or(Seqno::ZERO, |manifest| manifest.checkpoint_seqno));
        self.receipt.last_seqno = last_seqno;
        let Some(target) = self.target else { return Ok(()) };
        let ends = scan.groups.values().map(|group| group.end());
        let known = manifest
            .iter()
            .flat_map(|m| m.epochs.iter().filter_map(|range| range.end).chain([m.checkpoint_lsn]));
        let lsn = align_up(ends.chain(known).max().unwrap_or(Lsn::ZERO));
        let highest = keyspaces.iter().map(|k| k.id.get()).max().unwrap_or(0);
        let highest = highest.max(self.named.highest.get());
        let epochs = scan.groups.keys().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        let now = self.fs.now_micros();
        let mut runs = std::mem::take(&mut self.runs);
        runs.reverse();
        let manifest = Manifest {
            generation: Generation(1),
            database: self.new_database,
            created_micros: now,
            written_micros: now,
            next_file_id: FileId(self.next_file_id),
            next_keyspace_id: manifest
                .map_or(KeyspaceId(1), |manifest| manifest.next_keyspace_id)
                .max(KeyspaceId(highest.saturating_add(1))),
            checkpoint_seqno: last_seqno,
            checkpoint_lsn: lsn,
            segment_base: lsn,
            next_segment_bytes: Sizes::DEFAULT.segment_min_bytes,
            last_epoch: Epoch(epochs).max(manifest.map_or(Epoch(0), |m| m.last_epoch)),
            clean: true,
            salvaged: true,
            keyspaces,
            runs,
            ..Manifest::default()
        };
        fresh::publish_new(&**self.fs, target, &manifest)?;
        // What was just written must read back whole; damage in it is a failure of this salvage.
        expect_sound(self.fs, target)
    }

    fn name_losses(&mut self, keyspaces: &[KeyspaceEntry]) {
        let name_of = |id: KeyspaceId| {
            let found = keyspaces.iter().find(|keyspace| keyspace.id == id);
            found.map(|keyspace| keyspace.name.clone())
        };
        for (mut table, ranges) in std::mem::take(&mut self.lost) {
            for range in ranges {
                let ((first, from), (last, to)) = (range.from, range.to);
                // A range may reach over several keyspaces; dropped ones have nothing to lose.
                for keyspace in keyspaces.iter().filter(|k| first <= k.id && k.id <= last) {
                    table.ranges.push(LostKeys {
                        keyspace: Some(keyspace.name.clone()),
                        from: if keyspace.id == first { from.clone() } else { Vec::new() },
                        after: range.after && keyspace.id == first,
                        to: if keyspace.id == last { to.clone() } else { None },
                        before: range.before && keyspace.id == last,
                    });
                }
            }
            self.receipt.lost_tables.push(table);
        }
        for (id, key) in std::mem::take(&mut self.lost_keys) {
            let name = name_of(id).unwrap_or_else(|| format!("dropped-{id}"));
            if self.receipt.lost_keys.len() < LOST_KEYS_LISTED {
                self.receipt.lost_keys.push((name, key));
            }
        }
    }
}
