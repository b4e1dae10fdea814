//! Looking at a database without opening it: the forecast, the integrity check, the log, the tables, single
//! bytes. Nothing here writes a byte or takes a lock; all of it works beside a live owner.
//!
//! - [`explain`] is the recovery's own plan, put into words.
//! - [`verify`] finds all damage and says what it costs.
//! - [`read_log`] and [`Follower`] show what was written when.
//! - [`list_tables`], [`read_table`] and [`annotate`] show what the files hold.
//! - [`find`], [`open_at`], [`diff`] and [`ContentHash`] are about states.
//! - [`salvage_table`] gets the entries out of a table file that lost its index.

mod annotate;
mod annotate_manifest;
mod annotate_table;
mod explain;
mod follow;
mod history;
mod judged;
mod layout;
mod log;
mod scan;
mod state;
mod tables;
mod verify;
mod verify_files;
mod verify_pass;

pub use crate::content::{ContentHash, ContentHasher};
pub use crate::cursor::RangeTombstone;
pub use crate::table::{Salvage, SalvagedEntry, salvage as salvage_table};
pub use annotate::{Annotation, Content, Field, annotate};
pub use explain::{Explanation, Forecast, Replay, RunSummary, explain};
pub use follow::{Followed, Follower};
pub use history::{Found, History, find};
#[doc(hidden)]
pub use judged::{DecisionRow, decision_rows, explain_judged};
pub use log::{LogItem, LogOperation, LogSegment, LogTransaction, read_log};
pub use state::{Difference, diff, open_at, reachable};
pub use tables::{
    BlockInfo, KeyspaceNames, SectionSummary, TableDetail, TableEntry, TableSummary, list_tables,
    read_table, table_detail,
};
pub(crate) use verify::expect_sound;
pub use verify::{Finding, Level, Loss, Scope, Verdict, Verified, VerifyOptions, verify};
