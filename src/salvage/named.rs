//! Keyspaces and installed tables, as the manifest and the readable log name them.

use super::replay::FoundTransaction;
use crate::table::TableMeta;
use crate::types::{KeyspaceId, Seqno};
use crate::wal::operation::{Operation, Operations};
use std::collections::{BTreeMap, BTreeSet};

/// What the log says of keyspaces and tables.
#[derive(Debug, Default)]
pub struct Named {
    pub names: BTreeMap<KeyspaceId, (String, Seqno)>,
    pub dropped: BTreeSet<KeyspaceId>,
    /// Keyspaces below this one that have no name are dropped.
    pub all_known_below: KeyspaceId,
    pub highest: KeyspaceId,
    /// Tables of large transactions, by the commit that installs them.
    pub installed: Vec<(Seqno, TableMeta)>,
}

impl Named {
    /// Whether its entries are to be left out.
    pub fn is_dropped(&self, id: KeyspaceId) -> bool {
        self.dropped.contains(&id) || (id < self.all_known_below && !self.names.contains_key(&id))
    }

    /// Takes in what a commit says.
    pub fn note(&mut self, transaction: &FoundTransaction<'_>) {
        for operation in Operations::new(transaction.operations).map_while(Result::ok) {
            match operation {
                Operation::CreateKeyspace { id, name } => {
                    self.names.insert(id, (name.to_owned(), transaction.seqno));
                    self.highest = self.highest.max(id);
                }
                Operation::DropKeyspace { id } => {
                    self.dropped.insert(id);
                    self.highest = self.highest.max(id);
                }
                Operation::InstallTable { meta } => {
                    let mut input = meta;
                    if let Some(meta) = TableMeta::decode(&mut input) {
                        self.installed.push((transaction.seqno, meta));
                    }
                }
                Operation::Put { keyspace, .. }
                | Operation::Remove { keyspace, .. }
                | Operation::RemoveRange { keyspace, .. } => {
                    self.highest = self.highest.max(keyspace);
                }
            }
        }
    }

    /// After the last note. A name is given to the newest keyspace that has it: the older one was dropped.
    pub fn settle(&mut self) {
        let mut newest: BTreeMap<String, KeyspaceId> = BTreeMap::new();
        for (id, (name, _)) in &self.names {
            if !self.dropped.contains(id)
                && let Some(older) = newest.insert(name.clone(), *id)
            {
                self.dropped.insert(older);
            }
        }
    }
}
