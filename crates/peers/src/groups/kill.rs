//! Open after a kill: a process fills a database and is killed while much of it is unmerged; then the open
//! is timed until a first read is answered.
//!
//! Every engine gets the same records in the same durable batches, and a write budget that holds
//! them, so that engines with a log have them all in it. An engine without a log has nothing unmerged: its
//! figure is shown, but is not the best peer's. The page cache is as warm for one as for the other:
//! what died is the process, not the machine.

use super::parts::{load, load_batches, rest};
use crate::child::{Context, timed};
use crate::engine::{Engine, Outcome, Setup};
use crate::model::{Model, Probes};
use crate::records::{Random, STANDARD};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The group that runs in the process that is killed.
pub const VICTIM: &str = "kill-victim";

/// Records that were merged in peace before the killed process began.
const MERGED: u64 = 1_000_000;
/// Records of the killed process: 64 MiB at full size.
const UNMERGED: u64 = 385_000;
/// Records of each of its commits.
const BATCH: u64 = 100;

fn setup(context: &Context) -> Setup {
    // Six times the data: engines halve or third their budget, and a record in memory takes more than its bytes.
    let write_bytes = context.size(384 << 20) as usize;
    Setup { write_bytes, hold_log: true, ..context.setup }
}

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let (merged, unmerged) = (context.size(MERGED), context.size(UNMERGED));
    let setup = setup(context);
    let engine = E::open(&context.dir, &setup)?;
    load(&engine, STANDARD, 0..merged)?;
    engine.close()?;
    kill_filled(context)?;

    let numbers = std::iter::once(merged + unmerged - 1);
    let last = Probes::of_numbers(STANDARD, numbers);
    let (spent, engine) = timed(|| {
        let engine = E::open(&context.dir, &setup)?;
        engine.read(|reader| last.read::<E>(reader, 0..1))?;
        Ok(engine)
    })?;
    context.value("open-kill", spent.as_secs_f64() * 1e3);
    if !E::FACTS.logged {
        context.aside("open-kill", "it keeps no log, so nothing was unmerged");
    }
    let model = Model::of(0..merged + unmerged);
    model.verify(&engine, "the kill")?;
    if context.wants("reads-kill") {
        rest();
        let count = context.size(200_000);
        let probes = Probes::points(&model, count, &mut Random(17));
        let (spent, ()) =
            timed(|| engine.read(|reader| probes.read::<E>(reader, 0..probes.len())))?;
        context.rate("reads-kill", count, spent);
    }
    engine.close()
}

/// Starts the process that fills, waits until it has, and kills it.
fn kill_filled(context: &Context) -> Outcome {
    let mut child = Command::new(std::env::current_exe()?)
        .args(context.arguments(VICTIM))
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let ready = BufReader::new(stdout).lines().any(|line| line.is_ok_and(|line| line == "ready"));
    child.kill()?;
    child.wait()?;
    if !ready { Err("the process that was to be killed died before".into()) } else { Ok(()) }
}

/// What the killed process does.
pub fn victim<E: Engine>(context: &Context) -> Outcome {
    let (merged, unmerged) = (context.size(MERGED), context.size(UNMERGED));
    let engine = E::open(&context.dir, &setup(context))?;
    load_batches(&engine, STANDARD, merged..merged + unmerged, BATCH, 0)?;
    println!("ready");
    // Until it is killed; the engine stays open.
    loop {
        std::thread::park();
    }
}
