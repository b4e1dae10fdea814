//! The crash campaign of Highwater: workloads run on a simulated disk, and then the power fails at every
//! operation, in many of the ways in which the disk may have kept unsynced writes; syncs fail, the disk
//! is full, bytes rot. A model of the database says what each open must show.
//!
//! - [`script`] and [`small`]: the workloads; [`model`]: their states; [`run`] and [`changes`]: both side
//!   by side; [`shrink`]: less of a workload that fails.
//! - [`crash`]: every power cut, and power cuts during the recovery from them; [`choices`]: in which ways;
//!   [`effort`]: how many; [`long`]: with ever new seeds.
//! - [`check`]: what one image of a disk has to stand.
//! - [`rows`]: every row of recovery's decision table, the damaged ones included.
//! - [`kills`]: the process dies, and the power fails while the next one recovers.
//! - [`faults`], [`refaults`], [`capacity`]: errors, also in recoveries, and full disks.
//! - [`damage`]: rotten bytes and sectors, of the databases in [`subjects`];
//!   [`verdict`]: what `verify` says of them.
//! - [`bits`]: every bit of every file of small databases.
//! - [`barriers`], [`mistakes`]: the campaign itself put to the test, by [`hunt`] and [`scenarios`].
//! - [`report`]: all of it, counted.
//!
//! Every failed case is described by the command that repeats exactly it.

pub mod barriers;
pub mod bits;
pub mod capacity;
pub mod changes;
pub mod check;
pub mod choices;
pub mod crash;
pub mod damage;
pub mod effort;
pub mod faults;
pub mod hunt;
pub mod kills;
pub mod long;
pub mod mistakes;
pub mod model;
pub mod random;
pub mod refaults;
pub mod report;
pub mod rows;
pub mod run;
pub mod scenarios;
pub mod script;
pub mod shrink;
pub mod small;
pub mod subjects;
pub mod verdict;
