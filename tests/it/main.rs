//! The integration tests: one binary, one module per subject.

mod backup;
mod bad_input;
mod basics;
mod concurrent;
mod hostile;
mod lifetime;
mod model;
mod room;
mod support;
