//! The standard output, buffered: text, or JSON with a version; a closed pipe ends the command quietly.
//!
//! ```text
//! text    lines
//! json    one document: {"version": 1, "command": …, …}
//!         or, of a list: {"version": 1, "command": …, "items": […], "summary": {…}}
//! jsonl   the document on one line; of a list, {"version": 1, "type": …, …} for each item, and a last
//!         line of type "summary"
//! ```
//!
//! Invariants: a list is written as it comes, never held; every JSON object of its own has the version.

use crate::console::{Console, Format};
use crate::failure::Failure;
use serde_json::{Map, Value};
use std::io::{self, BufWriter, Stdout, Write};

/// Version of the keys of the JSON output.
pub const JSON_VERSION: u64 = 1;

/// The standard output.
#[derive(Debug)]
pub struct Output {
    inner: BufWriter<Stdout>,
    format: Format,
    command: &'static str,
    items: u64,
}

impl Output {
    /// The standard output of this process, for text.
    pub fn stdout() -> Output {
        Output::with(Format::Text, "")
    }

    /// The standard output of a command, in the form that was asked for.
    pub fn of(console: &Console, command: &'static str) -> Output {
        Output::with(console.format, command)
    }

    fn with(format: Format, command: &'static str) -> Output {
        let inner = BufWriter::with_capacity(64 << 10, io::stdout());
        Output { inner, format, command, items: 0 }
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

    /// Writes a name and its value, aligned.
    pub fn row(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.line(format!("{name:<13}{value}").trim_end())
    }

    /// Writes the whole result as JSON; `document` is an object.
    pub fn document(&mut self, document: Value) -> Result<(), Failure> {
        let whole = Value::Object(self.head(None, document));
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(&whole),
            Format::Text | Format::Jsonl => serde_json::to_string(&whole),
        };
        self.line(&text.unwrap_or_default())
    }

    /// Writes one item of a list as JSON; `kind` says what it is.
    pub fn item(&mut self, kind: &'static str, item: Value) -> Result<(), Failure> {
        let first = self.items == 0;
        self.items += 1;
        if self.format == Format::Json {
            self.open(first)?;
            self.bytes(if first { b"\n    " } else { b",\n    " })?;
            let mut object = Map::new();
            object.insert("type".to_owned(), kind.into());
            extend(&mut object, item);
            return self.bytes(Value::Object(object).to_string().as_bytes());
        }
        let object = self.head(Some(kind), item);
        self.line(&Value::Object(object).to_string())
    }

    /// Ends a list of JSON items.
    pub fn summary(&mut self, summary: Value) -> Result<(), Failure> {
        if self.format == Format::Json {
            self.open(self.items == 0)?;
            let end = if self.items == 0 { "" } else { "\n  " };
            return self.line(&format!("{end}],\n  \"summary\": {summary}\n}}"));
        }
        let object = self.head(Some("summary"), summary);
        self.line(&Value::Object(object).to_string())
    }

    /// Hands everything to the reader now.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.inner.flush().map_err(|error| Failure::stdout(&error))
    }

    fn open(&mut self, first: bool) -> Result<(), Failure> {
        if !first {
            return Ok(());
        }
        let head = format!(
            "{{\n  \"version\": {JSON_VERSION},\n  \"command\": \"{}\",\n  \"items\": [",
            self.command
        );
        self.bytes(head.as_bytes())
    }

    fn head(&self, kind: Option<&str>, rest: Value) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("version".to_owned(), JSON_VERSION.into());
        match kind {
            Some(kind) => object.insert("type".to_owned(), kind.into()),
            None => object.insert("command".to_owned(), self.command.into()),
        };
        extend(&mut object, rest);
        object
    }
}

fn extend(object: &mut Map<String, Value>, rest: Value) {
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
}
