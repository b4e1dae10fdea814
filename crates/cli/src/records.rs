//! Streams of records: what `import` reads and `export` writes, whatever the form.
//!
//! Invariant: memory is bounded by [`LINE_MAX_BYTES`] for one record, not by the length of the stream.

use crate::csv_form::{CsvReader, CsvWriter};
use crate::failure::Failure;
use crate::jsonl_form::{JsonlReader, JsonlWriter};
use crate::mdb_form::{MdbReader, MdbWriter};
use std::io::{self, BufRead, Write};
use std::path::Path;

/// The longest line (or CSV row) that is read, in bytes.
pub const LINE_MAX_BYTES: u64 = 64 << 20;

/// A form of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON Lines: one object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// What LMDB's mdb_dump writes and mdb_load reads
    #[value(name = "mdb_dump")]
    MdbDump,
}

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// Something that cannot be read as a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong, and what to write instead.
    pub what: String,
    /// Nothing after it can be read either.
    pub is_fatal: bool,
}

/// Yields records.
pub trait ReadRecords {
    /// The next record; `None` at the end.
    fn next_record(&mut self) -> Option<Result<Record, BadLine>>;
    /// The line of the record that was yielded last, from 1.
    fn line(&self) -> u64;
}

/// Takes records.
pub trait WriteRecords {
    /// Writes one record.
    fn write_record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()>;
    /// Hands everything on.
    fn finish(&mut self) -> io::Result<()>;
}

impl Format {
    /// The form that was asked for by `option`, or else the one that the ending of the file says.
    pub fn of(option: &str, asked: Option<Format>, file: &Path) -> Result<Format, Failure> {
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let said = match ending.as_deref() {
            Some("jsonl" | "ndjson") => Some(Format::Jsonl),
            Some("csv") => Some(Format::Csv),
            Some("mdb" | "dump") => Some(Format::MdbDump),
            _ => None,
        };
        asked.or(said).ok_or_else(|| {
            let file = if file.as_os_str() == "-" {
                "a pipe does not say the form of its records".to_owned()
            } else {
                format!("the name {} does not say the form of its records", file.display())
            };
            Failure::usage(format!("{file}: add {option} jsonl, {option} csv or {option} mdb_dump"))
        })
    }

    /// A reader of this form.
    pub fn reader<'a>(
        self,
        input: impl BufRead + 'a,
    ) -> Result<Box<dyn ReadRecords + 'a>, Failure> {
        Ok(match self {
            Format::Jsonl => Box::new(JsonlReader::new(input, LINE_MAX_BYTES)),
            Format::Csv => Box::new(CsvReader::new(input, LINE_MAX_BYTES)?),
            Format::MdbDump => Box::new(MdbReader::new(input, LINE_MAX_BYTES)?),
        })
    }

    /// A writer of this form.
    pub fn writer<'a>(self, output: impl Write + 'a) -> io::Result<Box<dyn WriteRecords + 'a>> {
        Ok(match self {
            Format::Jsonl => Box::new(JsonlWriter::new(output)),
            Format::Csv => Box::new(CsvWriter::new(output)?),
            Format::MdbDump => Box::new(MdbWriter::new(output)?),
        })
    }
}
