//! `export`: writes a keyspace to a file or a pipe, in key order, as one point in time.
//!
//! A file appears under its name only when it is complete.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::interrupt;
use crate::open;
use crate::records::Format;
use crate::rescue::Limit;
use highwater::{Keyspace, Snapshot};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write a keyspace to a file or a pipe
///
/// The whole keyspace as it was at one moment, in key order. Works beside a
/// live owner; writes nothing to the database. A file of that name is replaced
/// when the export is complete. `highwater import` reads it back, byte by byte
/// the same.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater export ./db users users.csv
  highwater export ./db users --to jsonl | head
  highwater export ./db users --to mdb_dump | mdb_load -s users ./lmdb")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    /// The file to write, or - for the standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The form of the records [default: by the ending of the file: .jsonl, .csv,
    /// .mdb or .dump]
    #[arg(long, value_name = "FORM")]
    to: Option<Format>,
    #[command(flatten)]
    time: Limit,
}

/// Runs the command.
pub fn run(args: &Args, _console: &Console) -> Result<(), Failure> {
    args.time.start("the export");
    let form = Format::of("--to", args.to, &args.file)?;
    let db = open::read_only(&args.dir)?;
    let keyspace = open::keyspace(&db, &args.dir, &args.keyspace)?;
    let snapshot = db.snapshot();
    let export = Export { args, form, snapshot: &snapshot, keyspace: &keyspace };
    if args.file.as_os_str() == "-" {
        return export.write(&mut io::stdout().lock(), &|error| Failure::stdout(error)).map(|_| ());
    }
    let records = export.to_file(&args.file)?;
    let text = format!("exported {} to {}", human::plural(records, "record"), args.file.display());
    let _ = writeln!(io::stderr(), "{text}");
    Ok(())
}

struct Export<'a> {
    args: &'a Args,
    form: Format,
    snapshot: &'a Snapshot,
    keyspace: &'a Keyspace,
}

impl Export<'_> {
    fn to_file(&self, path: &Path) -> Result<u64, Failure> {
        let fail = |error: &io::Error| Failure::file("write", path, error);
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            // A device or a pipe is written to, not replaced.
            let mut file = File::create(path).map_err(|error| fail(&error))?;
            return self.write(&mut file, &fail);
        }
        let mut part = OsString::from(path.as_os_str());
        part.push(".part");
        let part = PathBuf::from(part);
        let mut file = File::create(&part).map_err(|error| fail(&error))?;
        let unfinished = part.clone();
        interrupt::on_interrupt(move || drop(fs::remove_file(unfinished)));
        let outcome = self.write(&mut file, &fail).and_then(|records| {
            let put = file.sync_all().and_then(|()| fs::rename(&part, path));
            put.map(|()| records).map_err(|error| fail(&error))
        });
        if outcome.is_err() {
            let _ = fs::remove_file(&part);
        }
        outcome
    }

    fn write(
        &self,
        output: &mut dyn Write,
        fail: &dyn Fn(&io::Error) -> Failure,
    ) -> Result<u64, Failure> {
        let buffered = BufWriter::with_capacity(256 << 10, output);
        let mut writer = self.form.writer(buffered).map_err(|error| fail(&error))?;
        let mut records = 0;
        for entry in self.snapshot.iter(self.keyspace).in_dir(&self.args.dir)? {
            let (key, value) = entry.in_dir(&self.args.dir)?;
            writer.write_record(&key, &value).map_err(|error| fail(&error))?;
            records += 1;
        }
        writer.finish().map_err(|error| fail(&error))?;
        Ok(records)
    }
}
