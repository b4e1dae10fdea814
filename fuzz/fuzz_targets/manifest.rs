//! Any bytes as a manifest.
#![no_main]

use highwater::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, bytes)) = data.split_first() else { return };
    fuzzing::manifest(bytes, how % 2 == 1);
});
