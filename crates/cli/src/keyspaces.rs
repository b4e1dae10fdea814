//! Names of keyspaces by number, as far as manifest and log tell them.

use crate::open;
use highwater::check::{KeyspaceNames, LogOperation, list_tables};
use highwater::{KeyspaceId, Lsn, check};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Names of keyspaces.
#[derive(Debug, Default)]
pub struct Keyspaces {
    names: BTreeMap<KeyspaceId, String>,
}

impl From<KeyspaceNames> for Keyspaces {
    fn from(names: KeyspaceNames) -> Keyspaces {
        Keyspaces { names: names.into_iter().collect() }
    }
}

impl Keyspaces {
    /// Those that the manifest of `dir` names; none if it cannot be read.
    pub fn of(dir: &Path) -> Keyspaces {
        let listed = list_tables(&*open::file_system(), dir).map(|(_, names)| names);
        Keyspaces { names: listed.unwrap_or_default().into_iter().collect() }
    }

    /// Those, and the ones that the log makes.
    pub fn with_log(dir: &Path) -> Keyspaces {
        let mut keyspaces = Keyspaces::of(dir);
        let _ = check::read_log(&*open::file_system(), dir, Lsn::ZERO, &mut |item| {
            if let check::LogItem::Transaction(transaction) = item {
                transaction.operations().flatten().for_each(|one| keyspaces.learn(&one));
            }
            ControlFlow::Continue(())
        });
        keyspaces
    }

    /// Learns from an operation that makes one.
    pub fn learn(&mut self, operation: &LogOperation<'_>) {
        if let LogOperation::CreateKeyspace { id, name } = operation {
            self.names.insert(*id, (*name).to_owned());
        }
    }

    /// The name, if it is known.
    pub fn name(&self, id: KeyspaceId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The name, or the number: `users`, `#7`.
    pub fn show(&self, id: KeyspaceId) -> String {
        match self.name(id) {
            Some(name) => crate::text::escape(name.as_bytes()),
            None => format!("#{id}"),
        }
    }

    /// The name, or null.
    pub fn json(&self, id: KeyspaceId) -> Value {
        self.name(id).map_or(Value::Null, Value::from)
    }

    /// Numbers of all keyspaces of that name; `#7` is the number 7.
    pub fn find(&self, typed: &str) -> Vec<KeyspaceId> {
        if let Some(number) = typed.strip_prefix('#').and_then(|number| number.parse().ok()) {
            return vec![KeyspaceId(number)];
        }
        let named = self.names.iter().filter(|(_, name)| *name == typed);
        named.map(|(id, _)| *id).collect()
    }
}
