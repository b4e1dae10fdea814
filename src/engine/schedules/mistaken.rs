//! The scenarios with planted mistakes, each of which must be found: mistakes of threads, and some of the crash
//! campaign's that threads bring to light as well.

use super::{explore, must_fail, scenarios};
use crate::mistakes::{Mistake, plant};

/// `mistake` in `scenario` is found by one of `messages`.
macro_rules! found {
    ($($name:ident: $mistake:ident in $scenario:ident, $messages:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            #[ignore = "fails on purpose, in a process of its own"]
            fn planted() {
                // All threads of an execution are one of the system's.
                plant(Some(Mistake::$mistake));
                explore(scenarios::$scenario);
            }

            #[test]
            fn is_found() {
                must_fail(concat!(stringify!($name), "::planted"), &$messages);
            }
        }
    )*};
}

const WRONG_STATE: [&str; 7] = [
    "was seen at commit",
    "was durable, then",
    "was acknowledged, then",
    "was seen, then",
    "reads half of another",
    "is not as transaction",
    "the number of keys is wrong",
];
const LOST: [&str; 3] =
    ["is there after a power cut", "transactions were lost", "what is left does not open"];
/// Or somebody waits for ever for a ticket that nobody flushed, or the manifest vouches for what was not written.
const LEFT_BEHIND: [&str; 3] =
    ["is there after a close", "deadlock!", "what is left does not open"];
/// What follows a group that could not be written is acknowledged, or betrays the gap when the log is read.
const GONE_ON: [&str; 2] = ["was acknowledged after a failure", "what is left does not open"];

found! {
    a_view_not_looked_at_again: ViewNotLookedAtAgain in installing, WRONG_STATE;
    a_commit_marked_before_it_is_applied: MarkedBeforeApplied in together, WRONG_STATE;
    tables_due_before_their_commit_is_applied: DueBeforeApplied in installing, WRONG_STATE;
    a_memtable_due_before_it_is_replaced: DueBeforeReplaced in emptied, ["a reader was refused"];
    conflicts_not_looked_for: ConflictsNotLookedFor in optimistic, WRONG_STATE;
    an_acknowledgement_before_the_sync: AcknowledgedBeforeSync in together, LOST;
    a_close_before_the_sync: ClosedBeforeSync in closing, LEFT_BEHIND;
    a_table_before_its_log: TableBeforeLog in together, WRONG_STATE;
    a_log_recycled_under_committers: LogResetUnderCommitter in together, LOST;
    a_sync_result_ignored: SyncResultIgnored in failing, LOST;
    a_log_that_goes_on: LogGoesOnAfterFailure in failing, GONE_ON;
}
