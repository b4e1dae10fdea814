//! The phases of the field's best-known comparison, on one database, and a few beside them: Zipf reads, reads
//! beside a writer, open and first reads.
//!
//! After each phase that changes something, the whole database is read and held against the model, untimed;
//! that also leaves every engine's caches in the same state. Before each timed read the engine's own threads
//! come to rest.

use super::parts::{Chunk, load, load_batches, read_threads, rest};
use crate::child::{Context, timed};
use crate::engine::{Batch, Change, Engine, Outcome, Promise};
use crate::floor::BareLoop;
use crate::model::{Model, Probes};
use crate::records::{KEY_BYTES, Random, STANDARD, Zipf};
use crate::system::allocated_bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Commits of the engine, then as many steps of the bare loop, in turn: both see the same disk.
const TURN: u64 = 50;

struct Run<'a, E> {
    context: &'a Context,
    engine: E,
    /// Records with numbers below this have been inserted.
    next: u64,
    model: Model,
}

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let engine = E::open(&context.dir, &context.setup)?;
    let mut run = Run { context, engine, next: 0, model: Model::default() };
    run.writes()?;
    run.lengths()?;
    run.reads()?;
    if context.goes_on("open") {
        run = run.reopen()?;
    }
    if context.goes_on("remove") {
        run.removals()?;
    }
    if context.goes_on("size") {
        run = run.sizes()?;
    }
    if context.goes_on("sorted") {
        run.sorted()?;
    }
    run.engine.close()
}

impl<E: Engine> Run<'_, E> {
    fn take(&mut self, count: u64) -> std::ops::Range<u64> {
        self.next += count;
        self.next - count..self.next
    }

    fn writes(&mut self) -> Outcome {
        let context = self.context;
        let count = context.size(5_000_000);
        let numbers = self.take(count);
        context.rate("load", count, load(&self.engine, STANDARD, numbers)?);
        if context.goes_on("single") {
            rest();
            self.commits("single", Promise::Durable, if context.full { 1000 } else { 500 })?;
            rest();
            let batches = if context.full { 100 } else { 20 };
            let numbers = self.take(batches * 1000);
            let spent = load_batches(&self.engine, STANDARD, numbers, 1000, 0)?;
            context.rate("batches", batches * 1000, spent);
        }
        if context.goes_on("buffered") {
            let count = if context.full { 50_000 } else { 10_000 };
            self.commits("buffered", Promise::Buffered, count)?;
            self.commits("memory", Promise::Memory, count)?;
        }
        self.model = Model::of(0..self.next);
        Ok(())
    }

    /// Commits of one record each, in turns with the bare loop that does the least such a commit must.
    fn commits(&mut self, phase: &str, promise: Promise, count: u64) -> Outcome {
        let context = self.context;
        if !context.offers(phase, &E::FACTS, promise) {
            // Every engine goes on with the same records.
            let numbers = self.take(count);
            load(&self.engine, STANDARD, numbers)?;
            return Ok(());
        }
        let sync = promise == Promise::Durable;
        let mut bare = if sync {
            BareLoop::new(&context.dir, 4096, count)?
        } else {
            BareLoop::packed(&context.dir, KEY_BYTES + STANDARD.value_bytes, count)?
        };
        let (mut ours, mut floor) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..count / TURN {
            let numbers = self.take(TURN);
            let chunk = Chunk::of(STANDARD, numbers, 0);
            let started = Instant::now();
            for (key, value) in chunk.records() {
                self.engine.put(promise, key, value)?;
            }
            ours += started.elapsed();
            if promise != Promise::Memory {
                for _ in 0..TURN {
                    floor += if sync { bare.step()? } else { bare.write()? };
                }
            }
        }
        context.rate(phase, count, ours);
        if promise != Promise::Memory {
            context.floor(phase, count as f64 / floor.as_secs_f64());
        }
        Ok(())
    }

    fn lengths(&mut self) -> Outcome {
        for phase in ["len-first", "len"] {
            let (spent, len) = timed(|| self.engine.read(|reader| E::len(reader)))?;
            if len != self.model.entries().len() as u64 {
                return Err(format!("{}: len is {len}, not {}", E::NAME, self.next).into());
            }
            self.context.value(phase, spent.as_secs_f64() * 1e6);
        }
        Ok(())
    }

    fn reads(&mut self) -> Outcome {
        let context = self.context;
        self.model.verify(&self.engine, "the writes")?;
        rest();
        let (count, mut random) = (context.size(1_000_000), Random(7));
        let points = Probes::points(&self.model, count, &mut random);
        if context.wants("reads") {
            // The second pass counts.
            self.engine.read(|reader| points.read::<E>(reader, 0..points.len()))?;
            let (spent, ()) =
                timed(|| self.engine.read(|reader| points.read::<E>(reader, 0..points.len())))?;
            context.rate("reads", count, spent);
        }
        if context.wants("ranges") {
            let ranges = Probes::ranges(&self.model, context.size(500_000), 10, &mut random);
            let (spent, ()) = timed(|| self.engine.read(|reader| ranges.scan::<E>(reader, 10)))?;
            context.rate("ranges", ranges.len() as u64, spent);
        }
        for threads in [4, 8, 16, 32] {
            let phase = format!("reads-{threads}");
            if context.wants(&phase) {
                let all = Probes::points(&self.model, self.next, &mut random);
                let spent = read_threads(&self.engine, &all, threads)?;
                context.rate(&phase, self.next, spent);
            }
        }
        if context.wants("reads-zipf") {
            let zipf = Zipf::new(self.next);
            let numbers = (0..count).map(|_| zipf.number(&mut random));
            let probes = Probes::of_numbers(STANDARD, numbers);
            let (spent, ()) =
                timed(|| self.engine.read(|reader| probes.read::<E>(reader, 0..probes.len())))?;
            context.rate("reads-zipf", count, spent);
        }
        if context.wants("reads-beside") || context.wants("writes-beside") {
            self.reads_beside(&points)?;
        }
        Ok(())
    }

    /// One thread reads, on a new snapshot for every thousand reads, while one commits durable batches of a
    /// hundred that set records to what they are.
    fn reads_beside(&self, points: &Probes) -> Outcome {
        let stop = AtomicBool::new(false);
        let chunks: Vec<_> = (0..50)
            .map(|turn| {
                let mut random = Random(turn);
                let numbers = (0..100).map(|_| random.below(self.next));
                Chunk::listed(STANDARD, numbers.collect::<Vec<_>>().into_iter(), 0)
            })
            .collect();
        let (read, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Outcome<(u64, Duration)> {
                let started = Instant::now();
                let mut written = 0;
                for chunk in chunks.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    self.engine.batch(Promise::Durable, |batch| {
                        chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
                    })?;
                    written += chunk.len() as u64;
                }
                Ok((written, started.elapsed()))
            });
            let read = timed(|| {
                for start in (0..points.len()).step_by(1000) {
                    let part = start..(start + 1000).min(points.len());
                    self.engine.read(|reader| points.read::<E>(reader, part))?;
                }
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            let written = writer.join().map_err(|_| "the writing thread panicked")?;
            Outcome::Ok((read?.0, written?))
        })?;
        self.context.rate("reads-beside", points.len() as u64, read);
        self.context.rate("writes-beside", written.0, written.1);
        Ok(())
    }

    fn reopen(self) -> Outcome<Self> {
        let Run { context, engine, next, model } = self;
        engine.close()?;
        // Until a first read is answered: an engine may put off what an open has to do.
        let first = Probes::points(&model, 1, &mut Random(13));
        let (spent, engine) = timed(|| {
            let engine = E::open(&context.dir, &context.setup)?;
            engine.read(|reader| first.read::<E>(reader, 0..1))?;
            Ok(engine)
        })?;
        context.value("open", spent.as_secs_f64() * 1e3);
        if context.wants("reads-first") {
            let count = context.size(1_000_000);
            let probes = Probes::points(&model, count, &mut Random(11));
            let (spent, ()) =
                timed(|| engine.read(|reader| probes.read::<E>(reader, 0..probes.len())))?;
            context.rate("reads-first", count, spent);
        }
        Ok(Run { context, engine, next, model })
    }

    fn removals(&mut self) -> Outcome {
        let context = self.context;
        rest();
        let half = self.next / 2;
        let chunk = Chunk::of(STANDARD, 0..half, 0);
        let (spent, ()) = timed(|| {
            self.engine.batch(Promise::Durable, |batch| {
                chunk.records().try_for_each(|(key, _)| batch.remove(key))
            })
        })?;
        drop(chunk);
        context.rate("remove", half, spent);
        self.model.retain(|_, entry| entry.number >= half);
        self.model.verify(&self.engine, "the removals")?;
        if context.goes_on("retain") {
            self.retain()?;
        }
        if context.goes_on("extract") {
            self.extract()?;
        }
        if context.goes_on("pop") {
            self.pops()?;
        }
        Ok(())
    }

    /// Puts as many new records in as were taken out, so that the next phase finds a database of this size.
    fn refill(&mut self, count: u64) -> Outcome {
        let numbers = self.take(count);
        load(&self.engine, STANDARD, numbers.clone())?;
        self.model.add(numbers);
        Ok(())
    }

    fn retain(&mut self) -> Outcome {
        rest();
        let (spent, removed) = timed(|| {
            let mut place = 0_u64;
            self.engine.change(|change| {
                change.retain(|_, _| {
                    place += 1;
                    place % 2 == 1
                })
            })
        })?;
        self.context.rate("retain", removed, spent);
        self.model.retain(|place, _| place.is_multiple_of(2));
        self.model.verify(&self.engine, "retain")?;
        self.refill(removed)
    }

    fn extract(&mut self) -> Outcome {
        rest();
        let (from, to) = ([0x55; KEY_BYTES], [0xaa; KEY_BYTES]);
        let (mut sum, mut expected) = (0_u64, 0_u64);
        let (spent, extracted) = timed(|| {
            let mut place = 0_u64;
            self.engine.change(|change| {
                let pick = |_: &[u8], _: &[u8]| {
                    place += 1;
                    place.is_multiple_of(2)
                };
                let each = |_: &[u8], value: &[u8]| {
                    sum = sum.wrapping_add(crate::records::digest(value));
                };
                change.extract(&from, &to, pick, each)
            })
        })?;
        self.context.rate("extract", extracted, spent);
        let mut place = 0_u64;
        self.model.retain(|_, entry| {
            let within = entry.key >= from && entry.key < to;
            place += u64::from(within);
            let taken = within && place.is_multiple_of(2);
            if taken {
                expected = expected.wrapping_add(entry.digest);
            }
            !taken
        });
        if sum != expected {
            return Err(format!("{}: extract_if gave wrong data", E::NAME).into());
        }
        self.model.verify(&self.engine, "extract_if")?;
        self.refill(extracted)
    }

    fn pops(&mut self) -> Outcome {
        rest();
        let count = self.context.size(500_000);
        let entries = self.model.entries();
        let mut wrong = 0_u64;
        let mut popped = 0_u64;
        let limit = self.context.limit(15.0, 0.5);
        let (spent, ()) = timed(|| {
            let started = Instant::now();
            self.engine.change(|change| {
                while popped < count {
                    let back = popped % 2 == 1;
                    let place = (popped / 2) as usize;
                    let place = if back { entries.len() - 1 - place } else { place };
                    let found = change.pop(back, |key, value| {
                        let same = key == entries[place].key
                            && crate::records::digest(value) == entries[place].digest;
                        wrong += u64::from(!same);
                    })?;
                    wrong += u64::from(!found);
                    popped += 1;
                    if popped.is_multiple_of(64) && started.elapsed() > limit {
                        break;
                    }
                }
                Ok(())
            })
        })?;
        if wrong > 0 {
            return Err(format!("{}: {wrong} pops gave wrong data", E::NAME).into());
        }
        self.context.rate("pop", popped, spent);
        if popped < count {
            let text = format!("stopped after {popped} of {count} pops");
            self.context.note("pop", &text);
        }
        self.model.cut(popped.div_ceil(2) as usize, (popped / 2) as usize);
        self.model.verify(&self.engine, "the pops")?;
        self.refill(popped)
    }

    fn sizes(self) -> Outcome<Self> {
        const MIB: f64 = 1024.0 * 1024.0;
        let Run { context, engine, next, model } = self;
        rest();
        context.value("size", allocated_bytes(&context.dir)? as f64 / MIB);
        let (spent, engine) = timed(|| engine.compact(&context.dir, &context.setup))?;
        context.value("compact", spent.as_secs_f64() * 1e3);
        rest();
        context.value("size-compact", allocated_bytes(&context.dir)? as f64 / MIB);
        model.verify(&engine, "the compaction")?;
        Ok(Run { context, engine, next, model })
    }

    /// Keys past all others, ready before the clock starts.
    fn sorted(&mut self) -> Outcome {
        const SORTED_KEY_BYTES: usize = KEY_BYTES + 8;
        let count = self.context.size(1_000_000);
        let chunk = Chunk::of(STANDARD, 0..count, 1);
        let keys: Vec<[u8; SORTED_KEY_BYTES]> = (0..count)
            .map(|number| {
                let mut key = [0xff; SORTED_KEY_BYTES];
                key[KEY_BYTES..].copy_from_slice(&number.to_be_bytes());
                key
            })
            .collect();
        rest();
        let records = keys.iter().zip(chunk.records());
        let records = records.map(|(key, (_, value))| (key.as_slice(), value));
        let (spent, ()) = timed(|| self.engine.insert_sorted(records))?;
        self.context.rate("sorted", count, spent);
        let mut values = chunk.records().map(|(_, value)| value);
        let mut wrong = 0_u64;
        let found = self.engine.read(|reader| {
            E::scan(reader, &[0xff; KEY_BYTES], u64::MAX, |_, value| {
                wrong += u64::from(values.next() != Some(value));
            })
        })?;
        if found != count || wrong > 0 {
            let what = format!("{}: {found} sorted records of {count}, {wrong} wrong", E::NAME);
            return Err(what.into());
        }
        Ok(())
    }
}
