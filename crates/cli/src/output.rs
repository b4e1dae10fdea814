//! The standard output, buffered; a closed pipe ends the command quietly.

use crate::failure::Failure;
use std::io::{self, BufWriter, Stdout, Write};

/// The standard output.
#[derive(Debug)]
pub struct Output {
    inner: BufWriter<Stdout>,
}

impl Output {
    /// The standard output of this process.
    pub fn stdout() -> Output {
        Output { inner: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.inner.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// Writes text and ends the line.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Hands everything to the reader now.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.inner.flush().map_err(|error| Failure::stdout(&error))
    }
}
