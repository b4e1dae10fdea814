//! Records as LMDB's `mdb_dump` writes them and `mdb_load` reads them (Berkeley DB's dump format).
//!
//! ```text
//! VERSION=3
//! format=bytevalue        or print
//! type=btree
//! (other NAME=VALUE lines)
//! HEADER=END
//!  616461                 a blank, then the key: two hex digits a byte
//!  31383135               a blank, then the value
//! DATA=END
//! ```
//!
//! In the form `print`, characters stand for themselves, `\\` is a backslash, and `\NN` a byte in hex. A key
//! with several values (`duplicates=1`) has no place here and is refused; so is a file that holds several
//! databases: `mdb_dump -s NAME` writes one. Writing uses `bytevalue`.
//!
//! Invariant: a dump without its last line is cut short, and is told so.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::records::{BadLine, ReadRecords, Record, WriteRecords};
use std::io::{self, BufRead, Read, Write};

/// What `mdb_load` gives the new environment, in bytes: address space, not disk.
const MAP_BYTES: u64 = 64 << 30;

/// Reads a dump.
pub struct MdbReader<R> {
    input: R,
    line_max: u64,
    line: u64,
    buffer: Vec<u8>,
    is_print: bool,
    /// Between the header and the last line.
    inside: bool,
    ended: bool,
}

impl<R: BufRead> MdbReader<R> {
    /// Reads from `input`, the header at once; lines longer than `line_max` bytes end the reading.
    pub fn new(input: R, line_max: u64) -> Result<Self, Failure> {
        let mut reader = MdbReader {
            input,
            line_max,
            line: 0,
            buffer: Vec::new(),
            is_print: false,
            inside: false,
            ended: false,
        };
        let fail = |bad: BadLine| {
            let text = format!("line {}: {}; nothing was imported", bad.line, bad.what);
            Failure::new(Exit::Failed, text)
        };
        reader.header().map_err(fail)?;
        Ok(reader)
    }

    fn header(&mut self) -> Result<(), BadLine> {
        loop {
            if !self.read_line()? {
                if self.line == 0 {
                    self.ended = true;
                    return Ok(());
                }
                return Err(self.bad("the header does not end; the dump is cut short"));
            }
            let line = String::from_utf8_lossy(&self.buffer).into_owned();
            if line == "HEADER=END" {
                self.inside = true;
                return Ok(());
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(self.bad("no header of mdb_dump: it has lines like format=bytevalue"));
            };
            match (name, value) {
                ("VERSION", "3" | "2") | ("type", "btree") => {}
                ("VERSION", _) => return Err(self.bad("a VERSION that is not known; 3 is")),
                ("type", _) => return Err(self.bad("a type that is not known; btree is")),
                ("format", "bytevalue") => self.is_print = false,
                ("format", "print") => self.is_print = true,
                ("format", _) => {
                    return Err(self.bad("a format that is not known; bytevalue and print are"));
                }
                ("duplicates" | "dupsort", "1") => {
                    let what = "keys of this database have several values each, and here a key has \
                                one; put the value's part that differs into the key";
                    return Err(self.bad(what));
                }
                _ => {}
            }
        }
    }

    /// Fills the buffer with the next line, without its end. `Ok(false)` at the end of the input.
    fn read_line(&mut self) -> Result<bool, BadLine> {
        self.buffer.clear();
        let limited = self.input.by_ref().take(self.line_max + 1);
        let read = { limited }.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| {
            self.bad(&format!("cannot read the input: {error}; check where it comes from"))
        })?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.pop_if(|last| *last == b'\n').is_none() {
            let what = match self.buffer.len() as u64 > self.line_max {
                true => "the line is too long",
                false => "the dump is cut short: the line does not end",
            };
            return Err(self.bad(what));
        }
        self.buffer.pop_if(|last| *last == b'\r');
        Ok(true)
    }

    /// One key or value; `None` at the end of the data.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>, BadLine> {
        if !self.read_line()? {
            return Err(self.bad("the dump is cut short: DATA=END is missing"));
        }
        if self.buffer == b"DATA=END" {
            return Ok(None);
        }
        let Some((b' ', rest)) = self.buffer.split_first() else {
            return Err(self.bad("a line of data begins with a blank"));
        };
        let bytes = if self.is_print { from_print(rest) } else { from_hex(rest) };
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None if self.is_print => Err(self.bad("a backslash without \\ or two hex digits")),
            None => Err(self.bad("not an even number of hex digits")),
        }
    }

    fn record(&mut self) -> Result<Option<Record>, BadLine> {
        let Some(key) = self.bytes()? else {
            self.inside = false;
            // What follows is another database, or nothing.
            return match self.read_line()? {
                false => Ok(None),
                true => Err(self
                    .bad("another database begins here; write one of them with mdb_dump -s NAME")),
            };
        };
        match self.bytes()? {
            Some(value) => Ok(Some((key, value))),
            None => Err(self.bad("the last key has no value")),
        }
    }

    /// Every fault is fatal: nothing says where the next key begins.
    fn bad(&self, what: &str) -> BadLine {
        BadLine { line: self.line, what: what.to_owned(), is_fatal: true }
    }
}

impl<R: BufRead> ReadRecords for MdbReader<R> {
    fn next_record(&mut self) -> Option<Result<Record, BadLine>> {
        if self.ended || !self.inside {
            return None;
        }
        match self.record() {
            Ok(Some(record)) => Some(Ok(record)),
            Ok(None) => None,
            Err(bad) => {
                self.ended = true;
                Some(Err(bad))
            }
        }
    }

    fn line(&self) -> u64 {
        self.line
    }
}

/// Writes a dump.
pub struct MdbWriter<W> {
    output: W,
    line: Vec<u8>,
}

impl<W: Write> MdbWriter<W> {
    /// Writes the header; `output` is buffered.
    pub fn new(mut output: W) -> io::Result<Self> {
        write!(
            output,
            "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize={MAP_BYTES}\nHEADER=END\n"
        )?;
        Ok(MdbWriter { output, line: Vec::new() })
    }

    fn bytes(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.line.push(b' ');
        for byte in bytes {
            self.line.push(DIGITS[usize::from(byte >> 4)]);
            self.line.push(DIGITS[usize::from(byte & 15)]);
        }
        self.line.push(b'\n');
    }
}

impl<W: Write> WriteRecords for MdbWriter<W> {
    fn write_record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.line.clear();
        self.bytes(key);
        self.bytes(value);
        self.output.write_all(&self.line)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.write_all(b"DATA=END\n")?;
        self.output.flush()
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(hex_byte).collect()
}

fn from_print(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
        } else if let Some((b'\\', after)) = rest.split_first() {
            out.push(b'\\');
            rest = after;
        } else {
            out.push(hex_byte(rest.get(..2)?)?);
            rest = &rest[2..];
        }
    }
    Some(out)
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = include_bytes!("../tests/fixtures/lmdb-bytevalue.dump");
    const PRINT: &[u8] = include_bytes!("../tests/fixtures/lmdb-print.dump");
    const ALL: &[u8] = include_bytes!("../tests/fixtures/lmdb-all.dump");

    fn read(input: &[u8]) -> Result<Vec<Record>, String> {
        let mut reader = MdbReader::new(input, 1000).map_err(|failure| failure.message)?;
        let next = || reader.next_record();
        std::iter::from_fn(next).map(|r| r.map_err(|bad| bad.what)).collect()
    }

    /// Written by `mdb_dump` and `mdb_dump -p` of LMDB 0.9.70.
    #[test]
    fn dumps_of_the_real_tool_are_read() {
        let records = read(BYTES).unwrap();
        assert_eq!(read(PRINT), Ok(records.clone()));
        let expected: [(&[u8], &[u8]); 6] = [
            (b"ada", b"1815"),
            (b"back\\slash", b"a\\b\n\0c"),
            (b"empty", b""),
            (b"k\xff\xfe", b"\0\x01\x02\x7f\x80 and text"),
            (b"spaces  in it ", b" lead and trail "),
            ("été".as_bytes(), b"summer"),
        ];
        let expected = expected.map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(records, expected);
        // Written again, they are the same but for the header.
        let mut out = Vec::new();
        let mut writer = MdbWriter::new(&mut out).unwrap();
        for (key, value) in &records {
            writer.write_record(key, value).unwrap();
        }
        writer.finish().unwrap();
        let data = |dump: &[u8]| {
            let text = String::from_utf8(dump.to_vec()).unwrap();
            text.split_once("HEADER=END\n").unwrap().1.to_owned()
        };
        assert_eq!(data(&out), data(BYTES));
    }

    #[test]
    fn what_is_no_dump_of_one_database_is_refused() {
        assert!(read(ALL).unwrap_err().contains("several values"));
        let two = [PRINT, PRINT].concat();
        assert!(read(&two).unwrap_err().contains("mdb_dump -s NAME"));
        assert_eq!(read(b""), Ok(vec![]));
        // Cut anywhere, it is no whole dump.
        for dump in [BYTES, PRINT] {
            for length in 1..dump.len() {
                assert!(read(&dump[..length]).is_err(), "cut to {length}");
            }
        }
        let with = |data: &str| format!("VERSION=3\nformat=print\nHEADER=END\n{data}DATA=END\n");
        for bad in
            ["x\n", " \\q\n v\n", " k\n", " \\0\n v\n", &format!(" k\n {}\n", "v".repeat(2000))]
        {
            assert!(read(with(bad).as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(
            read(with(" \\41\n \\\\\n").as_bytes()),
            Ok(vec![(b"A".to_vec(), b"\\".to_vec())])
        );
        for header in
            ["VERSION=4\nHEADER=END\n", "type=hash\nHEADER=END\n", "hello\n", "format=x\n"]
        {
            assert!(read(header.as_bytes()).is_err(), "{header:?}");
        }
    }
}
