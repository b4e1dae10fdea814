//! Records as comma-separated values (RFC 4180) with a header.
//!
//! ```text
//! key,value,key_encoding,value_encoding
//! ada,1815,text,text
//! logo,89504e470d0a,text,hex
//! ```
//!
//! The columns `key` and `value` are required; `key_encoding` and `value_encoding` may be missing. An
//! encoding is `text` (or empty): the field's bytes as they are, or `hex`: two hex digits for each byte.
//! Backslashes have no meaning. Other columns are refused rather than dropped. Writing uses `text` where
//! the bytes are UTF-8, `hex` where they are not. No input at all is an empty list of records.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::records::{BadLine, ReadRecords, Record, WriteRecords};
use crate::text::{from_hex, to_hex};
use csv::{ByteRecord, ErrorKind};
use std::cell::Cell;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;

const COLUMNS: [&str; 4] = ["key", "value", "key_encoding", "value_encoding"];

/// Reads CSV.
pub struct CsvReader<R> {
    reader: csv::Reader<Limited<R>>,
    /// Bytes that the current row may still take from the input.
    left: Rc<Cell<u64>>,
    row_max: u64,
    row: ByteRecord,
    /// Where each of [`COLUMNS`] is.
    columns: [Option<usize>; 4],
    line: u64,
    ended: bool,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads from `input`, the header at once; rows longer than about `row_max` bytes are bad.
    pub fn new(input: R, row_max: u64) -> Result<Self, Failure> {
        let left = Rc::new(Cell::new(row_max));
        let limited = Limited { input, left: left.clone() };
        let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(limited);
        let header = reader.byte_headers().cloned();
        let header = header.map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("line 1: {}; nothing was imported", fault_text(&error)),
            )
        })?;
        let columns = find_columns(&header).map_err(|what| Failure::new(Exit::Failed, what))?;
        let ended = header.is_empty();
        Ok(CsvReader { reader, left, row_max, row: ByteRecord::new(), columns, line: 1, ended })
    }

    fn bytes(&self, column: usize) -> Result<Vec<u8>, BadLine> {
        let bad = |what: String| BadLine { line: self.line, what, is_fatal: false };
        let field = |index: usize| {
            self.columns[index].and_then(|place| self.row.get(place)).unwrap_or_default()
        };
        let name = COLUMNS[column];
        match field(column + 2) {
            b"" | b"text" => Ok(field(column).to_vec()),
            b"hex" => std::str::from_utf8(field(column))
                .map_err(|_| "not a hex digit".to_owned())
                .and_then(from_hex)
                .map_err(|fault| bad(format!("the {name} has {fault}"))),
            other => Err(bad(format!(
                "{:?} is no encoding of the {name}; write text or hex",
                String::from_utf8_lossy(other)
            ))),
        }
    }
}

impl<R: BufRead> ReadRecords for CsvReader<R> {
    fn next_record(&mut self) -> Option<Result<Record, BadLine>> {
        if self.ended {
            return None;
        }
        self.left.set(self.row_max);
        let next_line = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.row) {
            Ok(false) => {
                self.ended = true;
                None
            }
            Ok(true) => {
                self.line = self.row.position().map_or(next_line, csv::Position::line);
                Some(self.bytes(0).and_then(|key| Ok((key, self.bytes(1)?))))
            }
            Err(error) => {
                let position = error.position().map(csv::Position::line);
                self.line = position.unwrap_or(next_line);
                self.ended = error.is_io_error();
                let what = fault_text(&error);
                Some(Err(BadLine { line: self.line, what, is_fatal: self.ended }))
            }
        }
    }

    fn line(&self) -> u64 {
        self.line
    }
}

/// Writes CSV.
pub struct CsvWriter<W: Write> {
    writer: csv::Writer<W>,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header.
    pub fn new(output: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(COLUMNS).map_err(into_io)?;
        Ok(CsvWriter { writer })
    }
}

impl<W: Write> WriteRecords for CsvWriter<W> {
    fn write_record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (key_hex, value_hex) = (hex_if_needed(key), hex_if_needed(value));
        let fields = [
            key_hex.as_deref().map_or(key, str::as_bytes),
            value_hex.as_deref().map_or(value, str::as_bytes),
            encoding(&key_hex),
            encoding(&value_hex),
        ];
        self.writer.write_record(fields).map_err(into_io)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Ends with an error where one row takes too much of the input.
struct Limited<R> {
    input: R,
    left: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(
                "the row is too long; look for a quote that is not closed, or split the value",
            ));
        }
        let count = self.input.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(count as u64));
        Ok(count)
    }
}

fn find_columns(header: &ByteRecord) -> Result<[Option<usize>; 4], String> {
    let mut columns = [None; 4];
    if header.is_empty() {
        return Ok(columns);
    }
    for (place, name) in header.iter().enumerate() {
        let known = COLUMNS.iter().position(|column| column.as_bytes() == name.trim_ascii());
        let shown = String::from_utf8_lossy(name);
        match known {
            Some(index) if columns[index].is_none() => columns[index] = Some(place),
            Some(_) => {
                return Err(format!("line 1: the column {shown:?} is there twice; remove one"));
            }
            None => {
                return Err(format!(
                    "line 1: unknown column {shown:?}; the header is key,value and may have \
                     key_encoding and value_encoding; nothing was imported"
                ));
            }
        }
    }
    if columns[0].is_none() || columns[1].is_none() {
        return Err("line 1: the header has no columns key and value; add it as the first line; \
                    nothing was imported"
            .to_owned());
    }
    Ok(columns)
}

fn fault_text(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "{len} fields, but the header has {expected_len}; quote fields that hold commas"
        ),
        ErrorKind::Io(cause) => cause.to_string(),
        _ => error.to_string(),
    }
}

fn hex_if_needed(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| to_hex(bytes))
}

fn encoding(hex: &Option<String>) -> &'static [u8] {
    if hex.is_some() { b"hex" } else { b"text" }
}

fn into_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(cause) => cause,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<Result<Record, (u64, bool)>>;

    fn read(input: &[u8], row_max: u64) -> Result<Read, String> {
        let mut reader = CsvReader::new(input, row_max).map_err(|failure| failure.message)?;
        let next = || reader.next_record();
        let rows = std::iter::from_fn(next);
        Ok(rows.map(|r| r.map_err(|bad| (bad.line, bad.is_fatal))).collect())
    }

    #[test]
    fn rows_are_read_or_named() {
        let record = |key: &[u8], value: &[u8]| Ok((key.to_vec(), value.to_vec()));
        let input = b"\xef\xbb\xbfvalue,key,value_encoding\nv,k,\n\"1\n2,\"\"3\",k\\n,text\r\n\
            00ff,k,hex\n0,k,hex\nx,k,utf8\nonly\n\xff,k,text\n";
        let expected = vec![
            record(b"k", b"v"),
            record(b"k\\n", b"1\n2,\"3"),
            record(b"k", b"\0\xff"),
            Err((6, false)),
            Err((7, false)),
            Err((8, false)),
            record(b"k", b"\xff"),
        ];
        assert_eq!(read(input, 1000), Ok(expected));
        assert_eq!(read(b"", 1000), Ok(vec![]));
        assert_eq!(read(b"key,value\n", 1000), Ok(vec![]));
        for bad in ["a,b\n", "key\n", "key,value,key\n", "key,value,other\n"] {
            let message = read(bad.as_bytes(), 1000).unwrap_err();
            assert!(message.starts_with("line 1: "), "{message}");
        }
    }

    #[test]
    fn an_endless_row_ends() {
        let input = format!("key,value\na,b\nk,\"{}", "x".repeat(1 << 20));
        let rows = read(input.as_bytes(), 100_000).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1], Err((3, true)));
    }
}
