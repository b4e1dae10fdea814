//! The commands, one file each. (The drill has a folder of its own.)

pub mod checkpoint;
pub mod compact;
pub mod export;
pub mod get;
pub mod import;
pub mod info;
pub mod put;
pub mod rm;
pub mod scan;
