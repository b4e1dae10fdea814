//! `salvage`: gets what can be read out of a damaged database, into a new one, with a receipt.
//!
//! Invariant: the source is only read.

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open;
use crate::output::Output;
use crate::receipt;
use crate::rescue::{self, Limit, NewPlace};
use highwater::salvage::Receipt;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Get what can be read out of a damaged database into a new one
///
/// Reads every file of SRC, writes none of them, and makes a new database of what
/// passes its checks. The receipt names what is lost: ranges of the log, commits,
/// ranges of keys. The new database carries the mark "salvaged" for ever.
///
/// Ends with 6 if nothing is lost that anything in SRC vouches for, with 7 if
/// something is. --dry-run ends the same way and writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater salvage ./db --dry-run                      what would be lost?
  highwater salvage ./db --to ./saved --receipt lost.json")]
pub struct Args {
    /// The damaged database; nothing in it is changed
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory of the new database; missing or empty
    #[arg(long, value_name = "NEW", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
    /// Read and say what would be saved and lost; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the whole receipt to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let fs = open::file_system();
    let source = &args.source;
    let target = args.to.as_deref().filter(|_| !args.dry_run);
    if let Some(path) = &args.receipt {
        // Not at the end of hours of work.
        check_receipt(path, source)?;
    }
    let place = target.map(NewPlace::new);
    args.limit.start("the salvage");
    let mut progress = rescue::progress(source);
    let mut at = |bytes| progress.at(bytes);
    let outcome = rescue::waiting(console, || match target {
        Some(target) => highwater::salvage::salvage(&fs, source, target, &mut at),
        None => highwater::salvage::assess(&fs, source, &mut at),
    });
    progress.end();
    let receipt = outcome.map_err(|error| {
        place.iter().for_each(NewPlace::remove);
        rescue::failed(source, &error)
    })?;
    let exit = if receipt.is_lossless() { Exit::Repaired } else { Exit::RepairedWithLoss };
    print(&receipt, target, exit, console)?;
    if let Some(path) = &args.receipt {
        write_receipt(path, &receipt, console)?;
    }
    Err(Failure::ended(exit))
}

fn print(
    receipt: &Receipt,
    target: Option<&Path>,
    exit: Exit,
    console: &Console,
) -> Result<(), Failure> {
    let mut output = Output::of(console, "salvage");
    if !console.is_text() {
        let mut document = json!({ "result": exit.name(), "dry_run": target.is_none() });
        if let (Some(object), serde_json::Value::Object(rest)) =
            (document.as_object_mut(), receipt::document(receipt, console))
        {
            object.extend(rest);
        }
        output.document(document)?;
        return output.flush();
    }
    for line in receipt::lines(receipt, console) {
        output.line(&line)?;
    }
    let source = typed(&receipt.source);
    match target {
        Some(target) => {
            output.row("New", &target.display().to_string())?;
            output.row("", &format!("database {}, marked as salvaged", receipt.target_database))?;
            output.row("Next", &format!("highwater info {}", typed(target)))?;
        }
        None => output.row("Next", &format!("highwater salvage {source} --to NEW"))?,
    }
    output.flush()
}

fn check_receipt(path: &Path, source: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let parent = parent.canonicalize().map_err(|error| Failure::file("write", path, &error))?;
    if path.is_dir() || source.canonicalize().is_ok_and(|source| parent.starts_with(source)) {
        let what = "the receipt goes to a file beside the damaged database, not into it";
        return Err(Failure::usage(format!("{}: {what}", path.display())));
    }
    Ok(())
}

fn write_receipt(path: &Path, receipt: &Receipt, console: &Console) -> Result<(), Failure> {
    let text = format!("{:#}\n", receipt::document(receipt, console));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| Failure::file("write", path, &error))
}
