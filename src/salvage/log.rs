//! The log's part of a salvage: transactions become tables, in batches, above those of the source.

use super::chain::Chain;
use super::replay::{Pass, transactions};
use super::scan::Scan;
use super::survey::TableFile;
use super::write::Build;
use crate::error::Result;
use crate::manifest::{Manifest, names};
use crate::memtable::Memtable;
use crate::recovery::apply::{ApplyError, apply_operations};
use crate::table::TableMeta;
use crate::types::{FileId, Seqno};
use crate::wal::operation::{Operation, Operations};
use std::collections::BTreeMap;

/// Memory for the log's part before it becomes a table, in bytes.
const BATCH_BYTES: usize = 24 << 20;

impl Build<'_> {
    /// The log, above the tables.
    pub fn log(
        &mut self,
        scan: &Scan,
        chain: &Chain,
        files: &BTreeMap<FileId, TableFile>,
        manifest: Option<&Manifest>,
        pass: &Pass,
    ) -> Result<()> {
        // Without a manifest it is not known what the tables have of commits before a missing one.
        let from = if manifest.is_some() { Seqno::ZERO } else { pass.contiguous_from };
        let after = manifest.map(|manifest| manifest.checkpoint_seqno);
        let mut memtable = Memtable::new();
        let (mut first, mut last) = (Seqno::ZERO, Seqno::ZERO);
        let mut older = 0_u64;
        let fs = self.fs.clone();
        transactions(&*fs, scan, chain, after, &mut |transaction| {
            if transaction.seqno <= from {
                older += 1;
                return Ok(true);
            }
            self.receipt.transactions += 1;
            let mut installed = Vec::new();
            if self.target.is_some() {
                let applied = apply_operations(
                    &memtable,
                    transaction.seqno,
                    transaction.operations,
                    &mut |operation| {
                        if let Operation::InstallTable { meta } = operation {
                            let mut input = *meta;
                            installed.extend(TableMeta::decode(&mut input));
                        }
                        Ok(())
                    },
                );
                match applied {
                    Ok(()) => {}
                    Err(ApplyError::Failed(error)) => return Err(error),
                    Err(ApplyError::Fault(fault)) => self.receipt.doubts.push(format!(
                        "commit {} holds an operation that cannot be read ({fault}); it and those \
                         behind it are left out",
                        transaction.seqno
                    )),
                }
            } else {
                let of = |(seqno, _): &&(Seqno, TableMeta)| *seqno == transaction.seqno;
                installed.extend(self.named.installed.iter().filter(of).map(|(_, m)| m.clone()));
            }
            self.receipt.entries += Operations::new(transaction.operations)
                .map_while(Result::ok)
                .filter(|op| matches!(op, Operation::Put { .. } | Operation::Remove { .. }))
                .count() as u64;
            if first == Seqno::ZERO {
                first = transaction.seqno;
            }
            if !installed.is_empty() {
                // What came before lies below, what comes after above.
                self.seal(&mut memtable, first, last)?;
                first = Seqno::ZERO;
            }
            last = transaction.seqno;
            for meta in installed {
                let Some(file) = files.get(&meta.file_id) else {
                    if manifest.is_some() {
                        self.table(None, meta.file_id, Some(&meta), false, last)?;
                    } else {
                        self.receipt.doubts.push(format!(
                            "{}, which commit {last} installed, is missing; a merge may have \
                             replaced it",
                            names::table_name(meta.file_id)
                        ));
                    }
                    continue;
                };
                let table = self.table(Some(file), meta.file_id, Some(&meta), false, last)?;
                self.push_run(table.into_iter().collect(), last, last, 0);
            }
            if memtable.bytes() > BATCH_BYTES {
                self.seal(&mut memtable, first, last)?;
                first = Seqno::ZERO;
            }
            Ok(true)
        })?;
        if older > 0 {
            self.receipt.doubts.push(format!(
                "{older} commits up to {from} could be read but were left out: commits behind them \
                 are missing, and without a manifest nothing says what the tables have of them"
            ));
        }
        if scan.unreadable_bytes > 0 {
            self.receipt.doubts.push(format!(
                "the disk could not read {} bytes of the log",
                scan.unreadable_bytes
            ));
        }
        self.seal(&mut memtable, first, last)
    }

    /// Makes a table of what the log gave so far.
    fn seal(&mut self, memtable: &mut Memtable, first: Seqno, last: Seqno) -> Result<()> {
        let memtable = std::mem::take(memtable);
        if memtable.is_empty() {
            return Ok(());
        }
        self.used_keyspaces.extend(memtable.keyspaces());
        let id = FileId(self.next_file_id);
        self.next_file_id += 1;
        let Some(writer) = self.writer() else { return Ok(()) };
        let written = writer.write_memtable(&memtable, last, None, false, id)?;
        let first = if first == Seqno::ZERO { last } else { first };
        self.push_run(written.into_iter().collect(), first, last, 0);
        Ok(())
    }
}
