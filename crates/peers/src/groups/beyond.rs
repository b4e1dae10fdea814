//! A data set four times as large as the memory that the process may use, page cache included.
//!
//! The set is loaded without a limit and forgotten by the page cache; then, for each way of reading that
//! the engine has, a process of its own is put under the limit and opens it. An engine with one way of reading
//! is measured once, and stands with that figure in both rows: each of our ways meets all others. Its cache budget is a quarter of
//! the limit, its write budget a sixteenth. Measured are random reads on the whole set, ranges, and durable
//! batches of 100 that overwrite records with what they are.

use super::parts::{Chunk, load, rest};
use crate::child::{Context, timed};
use crate::engine::{Batch, Engine, Outcome, Promise, Reads, Setup};
use crate::limit::{MemoryLimit, forget};
use crate::model::{Probes, refuse};
use crate::records::{KEY_BYTES, Random, STANDARD, VALUE_BYTES, digest};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The signal by which the system ends a process that goes beyond the limit.
const SIGKILL: i32 = 9;

/// The group of the limited process that reads through a mapping, and by positional reads.
pub const LIMITED: [&str; 2] = ["beyond-mapped", "beyond-positional"];

const PHASES: [[&str; 3]; 2] = [
    ["beyond-reads", "beyond-ranges", "beyond-batches"],
    ["beyond-reads-p", "beyond-ranges-p", "beyond-batches-p"],
];

fn memory_bytes(context: &Context) -> u64 {
    let default = if context.full { 256 } else { 16 };
    (if context.memory_mib == 0 { default } else { context.memory_mib as u64 }) << 20
}

fn count(context: &Context) -> u64 {
    4 * memory_bytes(context) / (KEY_BYTES + VALUE_BYTES) as u64
}

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let limit = match MemoryLimit::new(memory_bytes(context)) {
        Ok(limit) => limit,
        Err(error) => {
            for phase in PHASES.as_flattened() {
                context.missing(phase, &format!("no control group: {error}"));
            }
            return Ok(());
        }
    };
    let engine = E::open(&context.dir, &context.setup)?;
    let (count, step) = (count(context), 500_000);
    for from in (0..count).step_by(step) {
        load(&engine, STANDARD, from..(from + step as u64).min(count))?;
    }
    rest();
    engine.close()?;
    for (positional, group) in LIMITED.into_iter().enumerate() {
        let has = match E::FACTS.reads {
            Reads::Mapped => positional == 0,
            Reads::Positional => positional == 1,
            Reads::Either => true,
        };
        if has && rows::<E>(positional == 1).as_flattened().iter().any(|row| context.wants(row)) {
            forget(&context.dir)?;
            limited_process(context, group, &limit, rows::<E>(positional == 1))?;
        }
    }
    Ok(())
}

/// The rows that a way of reading stands in.
fn rows<E: Engine>(positional: bool) -> &'static [[&'static str; 3]] {
    match (E::FACTS.reads, positional) {
        (Reads::Either, false) => &PHASES[..1],
        (Reads::Either, true) => &PHASES[1..],
        _ => &PHASES,
    }
}

/// Starts a process, puts it under the limit, lets it go on, and waits for it. Its lines are ours.
/// One that the system kills has no figure, and that is said.
fn limited_process(
    context: &Context,
    group: &str,
    limit: &MemoryLimit,
    rows: &[[&str; 3]],
) -> Outcome {
    let mut child = Command::new(std::env::current_exe()?)
        .args(context.arguments(group))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let held = limit.hold(child.id());
    // Closing it lets the process go on; it ends by itself if it is not held.
    if let Some(mut stdin) = child.stdin.take()
        && held.is_ok()
    {
        stdin.write_all(b"go")?;
    }
    let mut text = String::new();
    child.stdout.take().ok_or("no pipe")?.read_to_string(&mut text)?;
    let status = child.wait()?;
    held?;
    for line in text.lines().filter(|line| *line != "done") {
        println!("{line}");
    }
    if status.signal() == Some(SIGKILL) {
        let mib = memory_bytes(context) >> 20;
        for row in rows.as_flattened().iter().filter(|row| !text.contains(&format!("\t{row}\t"))) {
            context.missing(row, &format!("killed by the system for more than {mib} MiB"));
        }
    } else if !status.success() {
        return Err(format!("the process under the limit ended with {status}").into());
    }
    Ok(())
}

/// What the limited process does.
pub fn limited<E: Engine>(context: &Context, positional: bool) -> Outcome {
    let mut word = String::new();
    std::io::stdin().read_to_string(&mut word)?;
    if word != "go" {
        return Err("not put under the limit".into());
    }
    let memory = memory_bytes(context) as usize;
    let (cache_bytes, write_bytes) = (memory / 4, memory / 16);
    let setup =
        Setup { cache_bytes, write_bytes, positional, beyond_memory: true, ..context.setup };
    let engine = E::open(&context.dir, &setup)?;
    rest();
    let count = count(context);
    let limit = context.limit(20.0, 0.15);
    let rows = rows::<E>(positional);
    let wants = |column: usize| rows.iter().any(|row| context.wants(row[column]));
    let report = |column: usize, done: u64, spent| {
        rows.iter().for_each(|row| context.rate(row[column], done, spent));
    };
    let mut random = Random(29);
    if wants(0) {
        let (mut done, mut wrong) = (0_u64, 0_u64);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let (spent, ()) = timed(|| {
            let started = Instant::now();
            engine.read(|reader| {
                while started.elapsed() < limit {
                    let number = random.below(count);
                    STANDARD.key(number, &mut key);
                    STANDARD.value(number, 0, &mut value);
                    let expected = digest(&value);
                    let found = E::get(reader, &key, |value| value.map(digest))?;
                    wrong += u64::from(found != Some(expected));
                    done += 1;
                }
                Ok(())
            })
        })?;
        refuse(E::NAME, wrong, "reads beyond memory")?;
        report(0, done, spent);
    }
    if wants(1) {
        let numbers: Vec<u64> = (0..100_000).map(|_| random.below(count)).collect();
        let probes = Probes::of_numbers(STANDARD, numbers.into_iter());
        let (mut done, mut wrong) = (0, 0_u64);
        let started = Instant::now();
        engine.read(|reader| {
            while done < probes.len() && started.elapsed() < limit {
                let (key, expected) = probes.at(done);
                let mut first = None;
                E::scan(reader, key, 10, |_, value| {
                    first.get_or_insert(digest(value));
                })?;
                wrong += u64::from(first != Some(expected));
                done += 1;
            }
            Ok(())
        })?;
        let spent = started.elapsed();
        refuse(E::NAME, wrong, "ranges beyond memory")?;
        report(1, done as u64, spent);
    }
    if wants(2) {
        let mut done = 0;
        let started = Instant::now();
        while started.elapsed() < limit {
            let numbers: Vec<u64> = (0..100).map(|_| random.below(count)).collect();
            let chunk = Chunk::listed(STANDARD, numbers.into_iter(), 0);
            engine.batch(Promise::Durable, |batch| {
                chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
            })?;
            done += chunk.len() as u64;
        }
        report(2, done, started.elapsed());
    }
    engine.close()
}
