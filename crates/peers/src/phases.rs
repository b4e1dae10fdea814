//! The phases: what each row of the table measures, in which unit, and in which group it runs.
//!
//! A group runs in one process on one database (or a few), in the order of this list, so that one load serves
//! many phases.

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A rate.
    More,
    /// A time or a size.
    Less,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// The group that it runs in.
    pub group: &'static str,
    /// Its title in tables.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The ratio to the best peer (or, with `of_floor`, to the bare loop) that is asked for.
    pub bar: Option<f64>,
    /// The ratio to the bare loop that is asked for, where a bare loop runs beside it.
    pub floor_bar: Option<f64>,
}

const fn phase(
    group: &'static str,
    name: &'static str,
    title: &'static str,
    unit: &'static str,
) -> Phase {
    Phase { name, group, title, unit, better: Better::More, bar: None, floor_bar: None }
}

impl Phase {
    const fn less(mut self) -> Phase {
        self.better = Better::Less;
        self
    }

    const fn bar(mut self, bar: f64) -> Phase {
        self.bar = Some(bar);
        self
    }

    const fn floor(mut self, bar: f64) -> Phase {
        self.floor_bar = Some(bar);
        self
    }
}

const RECORDS: &str = "records/s";
const COMMITS: &str = "commits/s";
const READS: &str = "reads/s";
const OPERATIONS: &str = "operations/s";

/// All phases, in the order in which they run and are printed.
pub const PHASES: &[Phase] = &[
    phase("main", "load", "bulk load, one transaction", RECORDS).bar(3.0),
    phase("main", "single", "durable single commits", COMMITS).bar(1.0).floor(0.9),
    phase("main", "batches", "durable batches of 1,000", RECORDS).bar(2.0),
    phase("main", "buffered", "commits handed to the system", COMMITS).bar(1.0).floor(0.7),
    phase("main", "memory", "commits in memory", COMMITS).bar(3.0),
    phase("main", "len-first", "len, first after the writes", "us").less(),
    phase("main", "len", "len, again", "us").less(),
    phase("main", "reads", "random reads", READS).bar(4.0),
    phase("main", "ranges", "ranges of 10", "ranges/s").bar(2.5),
    phase("main", "reads-4", "random reads, 4 threads", READS).bar(3.0),
    phase("main", "reads-8", "random reads, 8 threads", READS).bar(3.0),
    phase("main", "reads-16", "random reads, 16 threads", READS).bar(3.0),
    phase("main", "reads-32", "random reads, 32 threads", READS).bar(3.0),
    phase("main", "reads-zipf", "Zipf reads", READS).bar(1.0),
    phase("main", "reads-beside", "reads beside a durable writer", READS).bar(1.0),
    phase("main", "writes-beside", "the writes beside those reads", RECORDS).bar(1.0),
    phase("main", "open", "open, clean", "ms").less().bar(1.0),
    phase("main", "reads-first", "reads, first pass after open", READS).bar(1.5),
    phase("main", "remove", "removal of half, one transaction", "removals/s").bar(5.0),
    phase("main", "retain", "retain every other", "removals/s").bar(4.0),
    phase("main", "extract", "extract_if over a third", "removals/s").bar(2.0),
    phase("main", "pop", "pops, first and last in turn", "pops/s").bar(1.0),
    phase("main", "size", "size", "MiB").less().bar(1.0),
    phase("main", "compact", "compaction", "ms").less(),
    phase("main", "size-compact", "size, compacted", "MiB").less().bar(1.0),
    phase("main", "sorted", "sorted inserts, one transaction", RECORDS).bar(1.0),
    phase("threads", "commits-1", "durable commits, 1 thread", COMMITS).bar(1.0),
    phase("threads", "commits-4", "durable commits, 4 threads", COMMITS).bar(1.0),
    phase("threads", "commits-16", "durable commits, 16 threads", COMMITS).bar(1.5),
    phase("threads", "commits-64", "durable commits, 64 threads", COMMITS).bar(1.5),
    phase("kill", "open-kill", "open after a kill", "ms").less().bar(1.0),
    phase("kill", "reads-kill", "reads after that open", READS).bar(1.0),
    phase("latency", "latency-p50", "durable commit under merges, p50", "us").less().bar(1.0),
    phase("latency", "latency-p99", "durable commit under merges, p99", "us").less().bar(1.0),
    phase("latency", "latency-p999", "durable commit under merges, p99.9", "us").less().bar(1.25),
    phase("latency", "latency-max", "durable commit under merges, max", "us").less(),
    phase("latency", "latency-slow", "of them over 50 ms", "commits").less().floor(1.0),
    phase("latency", "latency-rate", "their rate", COMMITS).bar(1.0),
    phase("drain", "drain", "durable batches, ten budgets, drained", RECORDS).bar(1.5),
    phase("churn", "churn", "overwrites, ten rounds, drained", RECORDS).bar(1.0),
    phase("churn", "churn-peak", "largest size meanwhile", "x data").less().bar(1.0),
    phase("churn", "churn-rest", "size after them, at rest", "x data").less().bar(1.0),
    phase("sequence", "sequence-load", "u64 keys in sequence: load", RECORDS).bar(1.0),
    phase("sequence", "sequence-reads", "u64 keys in sequence: reads", READS).bar(1.0),
    phase("sequence", "sequence-ranges", "u64 keys in sequence: ranges of 10", "ranges/s").bar(1.0),
    phase("sequence", "sequence-size", "u64 keys in sequence: size", "MiB").less().bar(1.0),
    phase("prefixed", "prefixed-load", "keys with a long prefix: load", RECORDS).bar(1.0),
    phase("prefixed", "prefixed-reads", "keys with a long prefix: reads", READS).bar(1.0),
    phase("prefixed", "prefixed-ranges", "keys with a long prefix: ranges of 10", "ranges/s")
        .bar(1.0),
    phase("prefixed", "prefixed-size", "keys with a long prefix: size", "MiB").less().bar(1.0),
    phase("values-1k", "values-1k-load", "values of 1 KiB: load, drained", "MiB/s").bar(1.0),
    phase("values-1k", "values-1k-reads", "values of 1 KiB: reads", READS).bar(1.0),
    phase("values-1k", "values-1k-size", "values of 1 KiB: size", "x data").less().bar(1.0),
    phase("values-16k", "values-16k-load", "values of 16 KiB: load, drained", "MiB/s").bar(1.0),
    phase("values-16k", "values-16k-reads", "values of 16 KiB: reads", READS).bar(1.0),
    phase("values-16k", "values-16k-size", "values of 16 KiB: size", "x data").less().bar(1.0),
    phase("values-1m", "values-1m-load", "values of 1 MiB: load, drained", "MiB/s").bar(1.0),
    phase("values-1m", "values-1m-reads", "values of 1 MiB: reads", READS).bar(1.0),
    phase("values-1m", "values-1m-size", "values of 1 MiB: size", "x data").less().bar(1.0),
    phase("ycsb", "ycsb-a", "YCSB A: half reads, half updates", OPERATIONS).bar(1.0),
    phase("ycsb", "ycsb-b", "YCSB B: 95 % reads, 5 % updates", OPERATIONS).bar(1.0),
    phase("ycsb", "ycsb-c", "YCSB C: reads", OPERATIONS).bar(1.0),
    phase("ycsb", "ycsb-d", "YCSB D: 95 % reads of the latest, 5 % inserts", OPERATIONS).bar(1.0),
    phase("ycsb", "ycsb-e", "YCSB E: 95 % short ranges, 5 % inserts", OPERATIONS).bar(1.0),
    phase("ycsb", "ycsb-f", "YCSB F: half reads, half read-modify-write", OPERATIONS).bar(1.0),
    phase("beyond", "beyond-reads", "data 4 x memory: reads, ours mapped", READS).bar(1.0),
    phase("beyond", "beyond-ranges", "data 4 x memory: ranges of 10, ours mapped", "ranges/s")
        .bar(1.0),
    phase("beyond", "beyond-batches", "data 4 x memory: batches, ours mapped", RECORDS).bar(1.0),
    phase("beyond", "beyond-reads-p", "data 4 x memory: reads, ours positional", READS).bar(1.0),
    phase(
        "beyond",
        "beyond-ranges-p",
        "data 4 x memory: ranges of 10, ours positional",
        "ranges/s",
    )
    .bar(1.0),
    phase("beyond", "beyond-batches-p", "data 4 x memory: batches, ours positional", RECORDS)
        .bar(1.0),
];

/// The names of all groups, in order.
pub fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = PHASES.iter().map(|phase| phase.group).collect();
    groups.dedup();
    groups
}

/// The phase of this name.
pub fn named(name: &str) -> Option<&'static Phase> {
    PHASES.iter().find(|phase| phase.name == name)
}
