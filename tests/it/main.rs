//! The integration tests: one binary, one module per subject.

mod archive;
mod archive_cuts;
mod backup;
mod bad_input;
mod basics;
mod concurrent;
mod edges;
mod hostile;
mod inspect;
mod interleave;
mod jitter;
mod large;
mod lifetime;
mod model;
mod poison;
mod pops;
mod rest;
mod room;
mod support;
