//! `page`: the bytes of one structure of a file, and what they mean.
//!
//! Invariant: without `--show-values` no byte of a value is printed, in text, hex or JSON.

use crate::console::{Console, Style, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::open;
use crate::output::Output;
use crate::time;
use highwater::Error;
use highwater::check::{self, Annotation, Content, Field};
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Bytes of a field on its line.
const HEAD_BYTES: usize = 8;
/// Columns that are left for what it says.
const SAYS_COLUMNS: usize = 23;

/// Show what a byte of a file belongs to, field by field
///
/// The file is a log-*.hwl, a table-*.hwt or the MANIFEST; the structure a
/// segment header, a group, a block, a footer, a manifest. OFFSET is a byte in
/// it, 4096 or 0x1000. --annotate lists every field with its bytes and what it
/// says; `docs/format.md` and `docs/format-table.md` name the fields. Ends with
/// 5 if a checksum or a mark is wrong. Writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater page ./db/MANIFEST 0 --annotate
  highwater page ./db/log-0000000000000000.hwl 4096 --annotate
  highwater page ./db/table-0000000000000001.hwt 0x2000")]
pub struct Args {
    /// The file
    file: PathBuf,
    /// A byte in it
    #[arg(value_parser = number)]
    offset: u64,
    /// List every field
    #[arg(long)]
    annotate: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let found = check::annotate(&*open::file_system(), &args.file, args.offset);
    let found = found.map_err(|error| failed(args, &error))?;
    let mut output = Output::of(console, "page");
    if console.is_text() {
        text(&mut output, console, args, &found)?;
    } else {
        output.document(document(console, args, &found))?;
    }
    output.flush()?;
    if found.is_damaged() { Err(Failure::ended(Exit::Loss)) } else { Ok(()) }
}

fn failed(args: &Args, error: &Error) -> Failure {
    let dir = args.file.parent().unwrap_or(&args.file);
    match error {
        Error::InvalidArgument(what) => Failure::usage(what.clone()),
        Error::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => {
            let message = format!("there is no file {}", args.file.display());
            Failure::new(Exit::NotFound, message).next(format!("ls -la {}", typed(dir)))
        }
        error => Failure::engine(dir, error),
    }
}

fn text(
    output: &mut Output,
    console: &Console,
    args: &Args,
    found: &Annotation,
) -> Result<(), Failure> {
    let end = found.offset + found.bytes;
    output.row("File", &format!("{} ({})", args.file.display(), found.file_kind))?;
    output.row("Structure", &found.structure)?;
    output.row(
        "Bytes",
        &format!("{} to {end}, {}", found.offset, human::plural(found.bytes, "byte")),
    )?;
    let state = match found.is_damaged() {
        false => console.paint(Style::Good, "sound, as far as its checksums and marks go"),
        true => console.paint(Style::Bad, "damaged"),
    };
    output.row("State", &state)?;
    let shown: Vec<&Field> = match args.annotate {
        true => found.fields.iter().collect(),
        false => found.fields.iter().filter(|field| field.sound.is_some()).collect(),
    };
    if !shown.is_empty() {
        output.line("")?;
        let heading =
            format!("{:>8} {:>6}  {:<16}  {:<21} says", "offset", "bytes", "hex", "field");
        output.line(&console.paint(Style::Heading, &heading))?;
    }
    for field in shown {
        line(output, console, field)?;
    }
    if !args.annotate {
        let fields = human::plural(found.fields.len() as u64, "field");
        output.line("")?;
        output.line(&format!("{fields} in all; --annotate lists them"))?;
    }
    if found.is_damaged() {
        let dir = args.file.parent().unwrap_or(&args.file);
        output.line(&format!("  next: highwater verify {}", typed(dir)))?;
    }
    Ok(())
}

fn line(output: &mut Output, console: &Console, field: &Field) -> Result<(), Failure> {
    let hex = match hides(console, field) {
        true => "..".to_owned(),
        false => {
            let head = &field.head[..field.head.len().min(HEAD_BYTES)];
            let more = field.bytes > HEAD_BYTES as u64;
            let mut hex = crate::text::to_hex(head);
            if more {
                hex.truncate(15);
                hex.push('…');
            }
            hex
        }
    };
    let head = format!("{:>8} {:>6}  {hex:<16}  ", field.offset, field.bytes);
    let name = human::cut(&field.name, 21);
    let says = pieces(&says(console, field), SAYS_COLUMNS);
    let mark = if field.sound == Some(false) { "✗ " } else { "" };
    let first = format!("{head}{name:<21} {mark}{}", says.first().map_or("", String::as_str));
    match field.sound {
        Some(false) => output.line(&console.paint(Style::Bad, first.trim_end()))?,
        _ => output.line(first.trim_end())?,
    }
    for rest in says.iter().skip(1) {
        output.line(&format!("{:56}{rest}", ""))?;
    }
    Ok(())
}

/// Lines of at most `width` characters, broken between words, or in a word that is longer.
fn pieces(text: &str, width: usize) -> Vec<String> {
    let chunk = |line: &String| -> Vec<String> {
        let characters: Vec<char> = line.chars().collect();
        characters.chunks(width).map(|chunk| chunk.iter().collect()).collect()
    };
    human::wrap(text, width).iter().flat_map(chunk).collect()
}

/// What a field says, in the forms that were asked for.
fn says(console: &Console, field: &Field) -> String {
    match field.content {
        Content::Key => format!("\"{}\"", human::cut(&console.form.show(&field.head), 200)),
        Content::Value if hides(console, field) => human::plural(field.bytes, "byte"),
        Content::Value => human::cut(&console.form.show(&field.head), 200),
        Content::Time => micros(field).map_or_else(|| field.meaning.clone(), time::show),
        _ => field.meaning.clone(),
    }
}

fn hides(console: &Console, field: &Field) -> bool {
    field.content == Content::Value && !console.show_values
}

fn micros(field: &Field) -> Option<u64> {
    field.head.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).filter(|micros| *micros > 0)
}

fn document(console: &Console, args: &Args, found: &Annotation) -> Value {
    let fields = found.fields.iter().map(|field| {
        let mut object = Map::new();
        let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
        add("offset", field.offset.into());
        add("bytes", field.bytes.into());
        add("name", field.name.clone().into());
        if let Some(sound) = field.sound {
            add("sound", sound.into());
        }
        if !hides(console, field) {
            // At most the first 256 bytes.
            add("hex", crate::text::to_hex(&field.head).into());
        }
        match field.content {
            Content::Key | Content::Value => {}
            _ => {
                add("says", field.meaning.clone().into());
            }
        }
        Value::Object(object)
    });
    json!({
        "file": args.file.display().to_string(),
        "file_kind": found.file_kind,
        "structure": found.structure,
        "offset": found.offset,
        "bytes": found.bytes,
        "sound": !found.is_damaged(),
        "fields": fields.collect::<Vec<Value>>(),
    })
}

fn number(typed: &str) -> Result<u64, String> {
    let number = match typed.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => typed.parse(),
    };
    number.map_err(|_| "write a number of bytes: 4096 or 0x1000".to_owned())
}
