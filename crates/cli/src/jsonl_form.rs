//! Records as JSON Lines: one object a line.
//!
//! ```text
//! {"key": "ada", "value": "1815"}
//! {"key": "logo", "value_hex": "89504e470d0a"}
//! ```
//!
//! Each object has one of `key` (text) and `key_hex` (bytes as hex digits), and one of `value` and
//! `value_hex`, and nothing else. Text is exactly its UTF-8 bytes; backslashes mean what they mean in
//! JSON. Writing uses the text member where the bytes are UTF-8, the hex member where they are not.
//! Blank lines, and a byte order mark at the start, are skipped.

use crate::records::{BadLine, ReadRecords, Record, WriteRecords};
use crate::text::{from_hex, to_hex};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};

/// One line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value_hex: Option<Cow<'a, str>>,
}

/// Reads JSON Lines.
pub struct JsonlReader<R> {
    input: R,
    line_max: u64,
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> JsonlReader<R> {
    /// Reads from `input`; lines longer than `line_max` bytes are bad.
    pub fn new(input: R, line_max: u64) -> Self {
        JsonlReader { input, line_max, line: 0, buffer: Vec::new(), ended: false }
    }

    /// Fills the buffer with the next line. `Ok(false)` at the end.
    fn read_line(&mut self) -> Result<bool, BadLine> {
        self.buffer.clear();
        let limited = self.input.by_ref().take(self.line_max + 1);
        let read = { limited }.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| self.unreadable(&error))?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.last() != Some(&b'\n') && self.buffer.len() as u64 > self.line_max {
            self.skip_line()?;
            return Err(self.bad(format!(
                "the line is longer than {} bytes; split the value over several keys",
                self.line_max
            )));
        }
        if self.line == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
        }
        Ok(true)
    }

    fn skip_line(&mut self) -> Result<(), BadLine> {
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unreadable(&error)),
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let length = chunk.len();
            self.input.consume(end.map_or(length, |end| end + 1));
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }

    fn bad(&self, what: String) -> BadLine {
        BadLine { line: self.line, what, is_fatal: false }
    }

    fn unreadable(&self, error: &io::Error) -> BadLine {
        let what = format!("cannot read the input: {error}; check where it comes from");
        BadLine { line: self.line + 1, what, is_fatal: true }
    }

    fn parse(&self) -> Result<Record, BadLine> {
        let line: Line<'_> = serde_json::from_slice(&self.buffer).map_err(|error| {
            let message = error.to_string();
            let what = without_position(&message);
            self.bad(format!(
                "not a record: {what} (column {}); write it as {{\"key\": \"…\", \"value\": \"…\"}}",
                error.column()
            ))
        })?;
        let key = bytes_of("key", line.key, line.key_hex).map_err(|what| self.bad(what))?;
        let value = bytes_of("value", line.value, line.value_hex).map_err(|what| self.bad(what))?;
        Ok((key, value))
    }
}

impl<R: BufRead> ReadRecords for JsonlReader<R> {
    fn next_record(&mut self) -> Option<Result<Record, BadLine>> {
        while !self.ended {
            match self.read_line() {
                Ok(false) => self.ended = true,
                Ok(true) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(true) => return Some(self.parse()),
                Err(bad) => {
                    self.ended = bad.is_fatal;
                    return Some(Err(bad));
                }
            }
        }
        None
    }

    fn line(&self) -> u64 {
        self.line
    }
}

/// Writes JSON Lines.
pub struct JsonlWriter<W> {
    output: W,
}

impl<W: Write> JsonlWriter<W> {
    /// Writes to `output`, which is buffered.
    pub fn new(output: W) -> Self {
        JsonlWriter { output }
    }
}

impl<W: Write> WriteRecords for JsonlWriter<W> {
    fn write_record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut line = Line::default();
        match std::str::from_utf8(key) {
            Ok(text) => line.key = Some(text.into()),
            Err(_) => line.key_hex = Some(to_hex(key).into()),
        }
        match std::str::from_utf8(value) {
            Ok(text) => line.value = Some(text.into()),
            Err(_) => line.value_hex = Some(to_hex(value).into()),
        }
        serde_json::to_writer(&mut self.output, &line).map_err(io::Error::from)?;
        self.output.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn bytes_of(
    name: &str,
    text: Option<Cow<'_, str>>,
    hex: Option<Cow<'_, str>>,
) -> Result<Vec<u8>, String> {
    match (text, hex) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(hex)) => from_hex(&hex).map_err(|fault| format!("\"{name}_hex\" has {fault}")),
        (None, None) => Err(format!("no \"{name}\"; add it, or \"{name}_hex\" for other bytes")),
        (Some(_), Some(_)) => {
            Err(format!("both \"{name}\" and \"{name}_hex\"; remove one of them"))
        }
    }
}

/// The parser counts lines within the line that it was given; that would mislead.
fn without_position(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], line_max: u64) -> Vec<Result<Record, (u64, bool)>> {
        let mut reader = JsonlReader::new(input, line_max);
        let next = || reader.next_record();
        std::iter::from_fn(next).map(|r| r.map_err(|bad| (bad.line, bad.is_fatal))).collect()
    }

    #[test]
    fn lines_are_read_or_named() {
        let record = |key: &[u8], value: &[u8]| Ok((key.to_vec(), value.to_vec()));
        let input = b"\xef\xbb\xbf{\"key\": \"a\", \"value\": \"\\u0000\\n\"}\r\n\n  \n\
            {\"key_hex\": \"00fF\", \"value_hex\": \"\"}\n{\"key\": \"a\"}\nnonsense\n\
            {\"key\": \"a\", \"value\": 1}\n{\"key\": \"\xff\", \"value\": \"\"}\n\
            {\"key\": \"a\", \"key\": \"b\", \"value\": \"\"}\n{\"key\":\"a\",\"value\":\"\",\"x\":1}\n\
            {\"key_hex\": \"0\", \"value\": \"\"}\n{\"key\": \"a\", \"value\": \"\"} {}\n\
            {\"key\": \"a\", \"key_hex\": \"61\", \"value\": \"\"}\n{\"key\": \"\", \"value\": \"v\"}";
        let bad = |line| Err((line, false));
        let expected = [
            record(b"a", b"\0\n"),
            record(b"\0\xff", b""),
            bad(5),
            bad(6),
            bad(7),
            bad(8),
            bad(9),
            bad(10),
            bad(11),
            bad(12),
            bad(13),
            record(b"", b"v"),
        ];
        assert_eq!(read(input, 1000), expected);
        assert_eq!(read(b"", 10), []);
    }

    #[test]
    fn a_long_line_is_skipped_whole() {
        let long = format!("{{\"key\": \"{}\", \"value\": \"\"}}\n", "k".repeat(100_000));
        let input = format!("{long}{{\"key\":\"k\",\"value\":\"v\"}}\n{long}");
        let expected = [Err((1, false)), Ok((b"k".to_vec(), b"v".to_vec())), Err((3, false))];
        assert_eq!(read(input.as_bytes(), 1000), expected);
    }
}
