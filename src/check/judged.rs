//! The forecast, with the rows of recovery's decision table that it asked: for simulations that count them.

use super::explain::{Forecast, explanation};
use crate::error::Result;
use crate::fs::FileSystem;
use crate::lock;
use crate::recovery::decide::{Judged, Row, TABLE};
use crate::recovery::plan::{Plan, Reader, plan_judged};
use std::path::Path;

/// A row of recovery's decision table in words: place, vouched, closed, verdict.
#[doc(hidden)]
pub type DecisionRow = (String, bool, bool, String);

/// [`explain`](super::explain), and which rows of recovery's decision table it asked: place, vouched,
/// closed and verdict in words. For simulations that count them; not part of the interface.
#[doc(hidden)]
pub fn explain_judged(fs: &dyn FileSystem, dir: &Path) -> (Result<Forecast>, Vec<DecisionRow>) {
    let judged = Judged::default();
    let forecast = plan_judged(fs, dir, Reader::Alone, &judged).and_then(|found| {
        lock::check(fs, dir)?;
        Ok(match found {
            Plan::Create => Forecast::Create,
            Plan::Open(found) => Forecast::Open(Box::new(explanation(dir, &found)?)),
        })
    });
    (forecast, judged.into_inner().iter().map(in_words).collect())
}

/// All rows of recovery's decision table, in the words of [`explain_judged`].
#[doc(hidden)]
pub fn decision_rows() -> Vec<DecisionRow> {
    TABLE.iter().map(in_words).collect()
}

fn in_words((place, vouched, closed, verdict): &Row) -> DecisionRow {
    (format!("{place:?}"), *vouched, *closed, format!("{verdict:?}"))
}
