//! Bytes as the records that `highwater import` reads, in both forms. The readers are the command's own
//! files; only its exit codes are left out.
//!
//! Whatever is read is written and read again, in both forms, and must be the same. A reader must end, and
//! name lines that exist.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use records::{Format, Record};
use std::io::BufReader;

#[path = "../../crates/cli/src/csv_form.rs"]
mod csv_form;
#[path = "../../crates/cli/src/jsonl_form.rs"]
mod jsonl_form;
#[path = "../../crates/cli/src/mdb_form.rs"]
mod mdb_form;
#[path = "../../crates/cli/src/records.rs"]
mod records;
#[path = "../../crates/cli/src/text.rs"]
mod text;

mod exit {
    #[derive(Debug)]
    pub enum Exit {
        Failed,
    }
}

mod failure {
    use crate::exit::Exit;

    #[derive(Debug)]
    pub struct Failure {
        pub message: String,
    }

    impl Failure {
        pub fn new(_: Exit, message: impl Into<String>) -> Failure {
            Failure { message: message.into() }
        }

        pub fn usage(message: impl Into<String>) -> Failure {
            Failure { message: message.into() }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, input)) = data.split_first() else { return };
    let form = if first & 1 == 0 { Format::Jsonl } else { Format::Csv };
    // Small pieces, so that records lie across them.
    let piece = 1 + usize::from(first >> 1);
    let Some(records) = read(form, input, piece) else { return };
    for form in [Format::Jsonl, Format::Csv] {
        let mut written = Vec::new();
        let mut writer = form.writer(&mut written).expect("a vector takes everything");
        for (key, value) in &records {
            writer.write_record(key, value).expect("a vector takes everything");
        }
        writer.finish().expect("a vector takes everything");
        drop(writer);
        let again = read(form, &written, piece).expect("a header that we wrote");
        assert!(again == records, "{form:?} does not come back as it was");
    }
});

/// The good records; `None` if the header is bad.
fn read(form: Format, input: &[u8], piece: usize) -> Option<Vec<Record>> {
    let lines = 1 + input.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    let mut reader = match form.reader(BufReader::with_capacity(piece, input)) {
        Ok(reader) => reader,
        Err(failure) => {
            assert!(!failure.message.is_empty());
            return None;
        }
    };
    let (mut records, mut last) = (Vec::new(), 0);
    for _ in 0..=input.len() {
        match reader.next_record() {
            None => return Some(records),
            Some(Ok(record)) => {
                assert!(reader.line() >= last, "lines go back");
                last = reader.line();
                records.push(record);
            }
            Some(Err(bad)) => {
                assert!(!bad.what.is_empty() && bad.line >= 1);
                if bad.is_fatal {
                    assert!(reader.next_record().is_none(), "it goes on after the end");
                    return Some(records);
                }
            }
        }
        assert!(last <= lines + 1, "line {last} of {lines}");
    }
    panic!("more records than bytes");
}
