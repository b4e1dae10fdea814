//! The crash campaign of Highwater: workloads run on a simulated disk, and then the power fails at every
//! operation, in many of the ways in which the disk may have kept unsynced writes; syncs fail, the disk
//! is full, bytes rot. A model of the database says what each open must show.
//!
//! - [`script`]: the workloads; [`model`]: their states; [`run`] and [`changes`]: both side by side.
//! - [`crash`]: every power cut, and power cuts during the recovery from them.
//! - [`check`]: what one image of a disk has to stand.
//! - [`kills`]: the process dies, and the power fails while the next one recovers.
//! - [`faults`], [`capacity`], [`damage`]: errors, full disks, rotten bytes.
//! - [`barriers`]: the campaign itself put to the test.
//! - [`report`]: all of it, counted.
//!
//! Every failed case is described by the command that repeats exactly it.

pub mod barriers;
pub mod capacity;
pub mod changes;
pub mod check;
pub mod crash;
pub mod damage;
pub mod faults;
pub mod kills;
pub mod model;
pub mod random;
pub mod report;
pub mod run;
pub mod script;
