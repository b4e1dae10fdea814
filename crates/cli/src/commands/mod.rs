//! The commands, one file each. (The drill has a folder of its own.)

pub mod backup;
pub mod checkpoint;
pub mod compact;
pub mod explain;
pub mod export;
pub mod get;
pub mod import;
pub mod info;
pub mod log;
pub mod put;
pub mod restore;
pub mod rm;
pub mod salvage;
pub mod scan;
pub mod verify;
