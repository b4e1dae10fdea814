//! How much is tried, for the test, for the report, and for nested cuts.

use crate::choices::Limits;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Its name, for replays.
    pub name: &'static str,
    /// Choices for each cut.
    pub limits: Limits,
    /// Choices for each cut of a recovery.
    pub nested_limits: Limits,
    /// One image in so many is checked in full, the others by a forecast and one open.
    pub full_stride: usize,
    /// One image in so many has its recovery cut.
    pub nested_stride: usize,
    /// One image of a recovery in so many has its own recovery cut, too.
    pub deep_stride: usize,
    /// Every so manieth case of faults and damage is tried.
    pub stride: usize,
}

/// Choices for cuts of recoveries.
const NESTED: Limits =
    Limits { exhaustive_units: 2, per_family: 1, samples: 2, torn: 1, torn_samples: 0 };

/// For tests: fewer units exhaustively, fewer samples.
pub const QUICK: Effort = Effort {
    name: "quick",
    limits: Limits { exhaustive_units: 6, per_family: 6, samples: 12, torn: 6, torn_samples: 4 },
    nested_limits: NESTED,
    full_stride: 8,
    nested_stride: 400,
    deep_stride: 400,
    stride: 7,
};

/// For tests of large workloads, whose every image costs milliseconds.
pub const SPARSE: Effort = Effort {
    name: "sparse",
    limits: Limits { exhaustive_units: 4, per_family: 3, samples: 6, torn: 3, torn_samples: 1 },
    full_stride: 4,
    ..QUICK
};

/// For the report: what the campaign promises. Up to twelve units are exhausted; above that, no family
/// is cut short below 64, and there are a thousand samples.
pub const FULL: Effort = Effort {
    name: "full",
    limits: Limits {
        exhaustive_units: 12,
        per_family: 64,
        samples: 1000,
        torn: 64,
        torn_samples: 64,
    },
    nested_limits: Limits {
        exhaustive_units: 4,
        per_family: 3,
        samples: 6,
        torn: 3,
        torn_samples: 2,
    },
    full_stride: 16,
    nested_stride: 4000,
    deep_stride: 400,
    stride: 1,
};

/// For small workloads: the recovery of every image is cut at every operation.
pub const DEEP: Effort = Effort {
    name: "deep",
    limits: Limits { exhaustive_units: 5, per_family: 8, samples: 8, torn: 4, torn_samples: 2 },
    nested_limits: Limits {
        exhaustive_units: 4,
        per_family: 4,
        samples: 4,
        torn: 2,
        torn_samples: 1,
    },
    full_stride: 16,
    nested_stride: 1,
    deep_stride: 500,
    stride: 1,
};

/// All of them.
pub const ALL: [Effort; 4] = [QUICK, SPARSE, FULL, DEEP];
