//! Any bytes as a group of the log, with its records and operations, or as the head of a segment.
#![no_main]

use highwater::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, bytes)) = data.split_first() else { return };
    match how % 5 {
        0 => fuzzing::group(bytes, false),
        1 => fuzzing::group(bytes, true),
        2 => fuzzing::segment(bytes, false),
        3 => fuzzing::segment(bytes, true),
        _ => fuzzing::operations(bytes),
    }
});
