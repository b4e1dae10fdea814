//! `table show`: how one table is built.

use super::{level, list, must_be_there, parse};
use crate::console::{Console, Style};
use crate::failure::{Failure, InDir};
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use highwater::FileId;
use highwater::check::{self, SectionSummary, TableDetail};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// How one table is built: sections, blocks, fences, filter, range tombstones
///
/// How full the blocks are, is told as the mean block: its bytes and entries.
/// With --fences every data block is listed with the fence before it: no key in
/// it is smaller.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater table show ./db 3
  highwater table show ./db 3 --fences --format json")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The number of the table, or the name of its file
    #[arg(value_parser = parse)]
    table: FileId,
    /// List every data block with its fence
    #[arg(long)]
    fences: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let names = Keyspaces::from(must_be_there(dir, args.table)?);
    let found = check::table_detail(&open::file_system(), dir, args.table).in_dir(dir)?;
    let show = Show { args, console, names, found };
    let mut output = Output::of(console, "table show");
    if console.is_text() {
        show.text(&mut output)?;
    } else {
        output.document(show.document())?;
    }
    output.flush()
}

struct Show<'a> {
    args: &'a Args,
    console: &'a Console,
    names: Keyspaces,
    found: TableDetail,
}

impl Show<'_> {
    fn text(&self, output: &mut Output) -> Result<(), Failure> {
        let (found, summary) = (&self.found, &self.found.summary);
        output.row("Table", &format!("{}, {}", summary.id, summary.file))?;
        let place = match summary.run {
            Some(run) => format!(
                "run {run}, {}, up to commit {}",
                level(summary),
                human::count(summary.seqnos.1.get())
            ),
            None => "installed by a transaction in the log".to_owned(),
        };
        output.row("Place", &place)?;
        output.row("Size", &human::bytes(summary.bytes))?;
        output.row(
            "Entries",
            &format!(
                "{}, {} of them tombstones; {}",
                human::count(summary.entries),
                human::count(summary.tombstones),
                human::plural(summary.range_tombstones, "range tombstone")
            ),
        )?;
        output.row("Index", &human::bytes(found.index_bytes))?;
        let filter = match found.filter_bytes {
            0 => "none".to_owned(),
            bytes => format!("{}, {:.1} bits a key", human::bytes(bytes), self.filter_bits()),
        };
        output.row("Filter", &filter)?;
        output.row("Large values", &human::plural(found.value_blocks, "block"))?;
        for section in &found.sections {
            self.section(output, section)?;
        }
        Ok(())
    }

    fn filter_bits(&self) -> f64 {
        self.found.filter_bytes as f64 * 8.0 / self.found.summary.entries.max(1) as f64
    }

    fn section(&self, output: &mut Output, section: &SectionSummary) -> Result<(), Failure> {
        let (console, form) = (self.console, self.console.form);
        output.line("")?;
        let name = self.names.show(section.keyspace);
        output.line(&console.paint(Style::Heading, &format!("Section of {name}")))?;
        output.line(&format!(
            "  {}, {} of them tombstones",
            human::plural_of(section.entries, "entry", "entries"),
            human::count(section.tombstones),
        ))?;
        output.line(&format!(
            "  {}, {}; the mean block has {} and {:.1} entries",
            human::plural(section.blocks.len() as u64, "data block"),
            human::bytes(section.bytes),
            human::bytes(mean(section.bytes, section) as u64),
            mean(section.entries, section)
        ))?;
        for range in &section.ranges {
            let end = match &range.end {
                Some(end) => format!("before {}", human::cut(&form.show(end), 25)),
                None => "the end".to_owned(),
            };
            let start = human::cut(&form.show(&range.start), 25);
            output.line(&format!("  removed below: from {start} to {end}"))?;
        }
        if self.args.fences {
            let heading = format!("  {:>12} {:>8}  keys", "offset", "bytes");
            output.line(&console.paint(Style::Heading, &heading))?;
            for block in &section.blocks {
                let fence = match &block.fence {
                    Some(fence) => format!("from {}", human::cut(&form.show(fence), 50)),
                    None => "from the first".to_owned(),
                };
                output.line(&format!("  {:>12} {:>8}  {fence}", block.offset, block.bytes))?;
            }
        }
        Ok(())
    }

    fn document(&self) -> Value {
        let found = &self.found;
        let mut object = match list::json(&found.summary, &self.names, self.console) {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
        add("index_bytes", found.index_bytes.into());
        add("filter_bytes", found.filter_bytes.into());
        add("value_blocks", found.value_blocks.into());
        add("sections", found.sections.iter().map(|one| self.section_json(one)).collect());
        Value::Object(object)
    }

    fn section_json(&self, section: &SectionSummary) -> Value {
        let form = self.console.form;
        let mut object = Map::new();
        let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
        add("keyspace_id", section.keyspace.get().into());
        add("keyspace", self.names.json(section.keyspace));
        add("entries", section.entries.into());
        add("tombstones", section.tombstones.into());
        add("bytes", section.bytes.into());
        add("data_blocks", section.blocks.len().into());
        add("mean_block_bytes", (mean(section.bytes, section) as u64).into());
        add("mean_block_entries", ((mean(section.entries, section) * 10.0).round() / 10.0).into());
        let ranges = section.ranges.iter().map(|range| {
            let mut object = Map::new();
            form.member(&mut object, "from", &range.start);
            if let Some(end) = &range.end {
                form.member(&mut object, "to", end);
            }
            Value::Object(object)
        });
        add("range_tombstones", ranges.collect());
        if self.args.fences {
            let blocks = section.blocks.iter().map(|block| {
                let mut object = Map::new();
                object.insert("offset".to_owned(), block.offset.into());
                object.insert("bytes".to_owned(), block.bytes.into());
                if let Some(fence) = &block.fence {
                    form.member(&mut object, "fence", fence);
                }
                Value::Object(object)
            });
            add("blocks", blocks.collect());
        }
        Value::Object(object)
    }
}

fn mean(total: u64, section: &SectionSummary) -> f64 {
    total as f64 / section.blocks.len().max(1) as f64
}
