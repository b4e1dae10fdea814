//! The commands, one file each. (The drill has a folder of its own.)

pub mod backup;
pub mod bench;
pub mod checkpoint;
pub mod compact;
pub mod completions;
pub mod count;
pub mod diff;
pub mod explain;
pub mod export;
pub mod find;
pub mod get;
pub mod hash;
pub mod import;
pub mod info;
pub mod log;
pub mod man;
pub mod page;
pub mod put;
pub mod repair;
pub mod restore;
pub mod rm;
pub mod salvage;
pub mod scan;
pub mod shell;
pub mod table;
pub mod verify;
