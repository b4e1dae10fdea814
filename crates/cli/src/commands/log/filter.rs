//! Which transactions and operations are shown.

use crate::console::Console;
use crate::failure::Failure;
use crate::keyspaces::Keyspaces;
use crate::time;
use highwater::check::LogOperation;
use highwater::{KeyspaceId, Lsn};
use std::path::PathBuf;

/// The options that choose.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The database directory
    pub dir: PathBuf,
    /// Only what was committed at or after this LSN
    #[arg(long, value_name = "LSN", default_value_t = 0, hide_default_value = true)]
    pub from: u64,
    /// Only what was committed before this LSN
    #[arg(long, value_name = "LSN", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// At most so many lines
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub limit: u64,
    /// The newest first
    #[arg(long)]
    pub reverse: bool,
    #[command(flatten)]
    pub what: Wanted,
}

/// The options that choose what `follow` shows, too.
#[derive(clap::Args, Debug)]
pub struct Wanted {
    /// Only since this time: 2026-11-21T09:30:00Z, 2026-11-21, 10m
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    pub since: Option<u64>,
    /// Only until this time
    #[arg(long, value_name = "TIME", value_parser = time::read)]
    pub until: Option<u64>,
    /// Only this keyspace, by its name, or by its number as #7
    #[arg(long, value_name = "NAME")]
    pub keyspace: Option<String>,
    /// Only this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only keys that start with this
    #[arg(long, value_name = "P")]
    pub prefix: Option<String>,
    /// Only such operations; may be repeated
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Vec<Kind>,
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Put,
    Remove,
    RemoveRange,
    CreateKeyspace,
    DropKeyspace,
    InstallTable,
    Witness,
}

impl Kind {
    /// The kind of an operation.
    pub fn of(operation: &LogOperation<'_>) -> Kind {
        match operation {
            LogOperation::Put { .. } => Kind::Put,
            LogOperation::Remove { .. } => Kind::Remove,
            LogOperation::RemoveRange { .. } => Kind::RemoveRange,
            LogOperation::CreateKeyspace { .. } => Kind::CreateKeyspace,
            LogOperation::DropKeyspace { .. } => Kind::DropKeyspace,
            _ => Kind::InstallTable,
        }
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Remove => "remove",
            Kind::RemoveRange => "remove-range",
            Kind::CreateKeyspace => "create-keyspace",
            Kind::DropKeyspace => "drop-keyspace",
            Kind::InstallTable => "install-table",
            Kind::Witness => "witness",
        }
    }
}

/// What is shown.
#[derive(Debug)]
pub struct Filter {
    /// Groups that end before this do not matter.
    pub from: Lsn,
    to: Lsn,
    since: u64,
    until: u64,
    keyspace: Option<(String, Vec<KeyspaceId>)>,
    key: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    kinds: Vec<Kind>,
}

impl Filter {
    /// What the options ask for.
    pub fn new(
        options: &Options,
        console: &Console,
        keyspaces: &Keyspaces,
    ) -> Result<Filter, Failure> {
        let wanted = Filter::wanted(&options.what, console, keyspaces)?;
        // Items that end at `from - 1` or before are left out.
        let from = Lsn(options.from.saturating_sub(1));
        Ok(Filter { from, to: Lsn(options.to), ..wanted })
    }

    /// What the options ask for, but for the LSNs.
    pub fn wanted(
        wanted: &Wanted,
        console: &Console,
        keyspaces: &Keyspaces,
    ) -> Result<Filter, Failure> {
        let read = |what, typed: &Option<String>| {
            typed.as_ref().map(|typed| console.form.read(what, typed)).transpose()
        };
        let keyspace = wanted.keyspace.as_ref().map(|name| (name.clone(), keyspaces.find(name)));
        Ok(Filter {
            from: Lsn::ZERO,
            to: Lsn::MAX,
            since: wanted.since.unwrap_or(0),
            until: wanted.until.unwrap_or(u64::MAX),
            keyspace,
            key: read("--key", &wanted.key)?,
            prefix: read("--prefix", &wanted.prefix)?,
            kinds: wanted.kind.clone(),
        })
    }

    /// Learns the number of a keyspace that is made while the log is read.
    pub fn learn(&mut self, operation: &LogOperation<'_>) {
        if let (LogOperation::CreateKeyspace { id, name }, Some((wanted, ids))) =
            (operation, &mut self.keyspace)
            && name == wanted
            && !ids.contains(id)
        {
            ids.push(*id);
        }
    }

    /// Nothing from here on is shown.
    pub fn is_past(&self, lsn: Lsn) -> bool {
        lsn >= self.to
    }

    /// Whether witnesses are shown.
    pub fn wants_witness(&self) -> bool {
        self.kinds.contains(&Kind::Witness)
    }

    /// Whether a transaction of that time and LSN may be shown.
    pub fn takes(&self, time_micros: u64, lsn: Lsn) -> bool {
        (self.since..self.until).contains(&time_micros) && lsn < self.to && lsn > self.from
    }

    /// Whether all operations of a transaction are shown.
    pub fn takes_all(&self) -> bool {
        self.keyspace.is_none()
            && self.key.is_none()
            && self.prefix.is_none()
            && self.kinds.is_empty()
    }

    /// Whether an operation is shown.
    pub fn takes_operation(&self, operation: &LogOperation<'_>) -> bool {
        if !self.kinds.is_empty() && !self.kinds.contains(&Kind::of(operation)) {
            return false;
        }
        let (id, span) = match *operation {
            LogOperation::Put { keyspace, key, .. } | LogOperation::Remove { keyspace, key } => {
                (Some(keyspace), Some((key, None)))
            }
            LogOperation::RemoveRange { keyspace, start, end } => {
                (Some(keyspace), Some((start, Some(end))))
            }
            LogOperation::CreateKeyspace { id, .. } | LogOperation::DropKeyspace { id } => {
                (Some(id), None)
            }
            _ => (None, None),
        };
        if let Some((_, ids)) = &self.keyspace
            && !id.is_some_and(|id| ids.contains(&id))
        {
            return false;
        }
        if self.key.is_none() && self.prefix.is_none() {
            return true;
        }
        let Some((start, end)) = span else { return false };
        let meets = |low: &[u8], high: Option<Vec<u8>>| match end {
            // One key.
            None => low <= start && high.as_deref().is_none_or(|high| start < high),
            Some(end) => {
                end.is_none_or(|end| low < end) && high.as_deref().is_none_or(|high| start < high)
            }
        };
        let by_key = self.key.as_ref().is_none_or(|key| {
            let next = [key.as_slice(), &[0]].concat();
            meets(key, Some(next))
        });
        let by_prefix = self
            .prefix
            .as_ref()
            .is_none_or(|prefix| meets(prefix, crate::ranges::after_prefix(prefix)));
        by_key && by_prefix
    }
}
