//! What a drill tells: a row for each round, a total, a verdict; and the same as one JSON object.

use super::tear::{Cut, Torn};
use crate::human;
use highwater::Recovery;
use serde_json::{Value, json};
use std::path::Path;

/// What came of a round.
#[derive(Debug, Clone)]
pub struct Round {
    pub number: u64,
    pub killed_in: &'static str,
    pub memory_budget: u64,
    /// Commits acknowledged in this round.
    pub acknowledged: u64,
    /// Commits of this round that were found, and the records in them.
    pub recovered: u64,
    pub records: u64,
    /// Commits that were acknowledged and not found.
    pub lost: u64,
    /// Keys that differ from the state that the commits found make.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// Why the open was refused.
    pub refused: Option<String>,
    pub open_micros: u64,
    pub recovery: Recovery,
    pub torn: Torn,
}

impl Default for Round {
    fn default() -> Self {
        Round {
            number: 0,
            killed_in: "",
            memory_budget: 0,
            acknowledged: 0,
            recovered: 0,
            records: 0,
            lost: 0,
            wrong: 0,
            first_wrong: None,
            refused: None,
            open_micros: 0,
            recovery: Recovery::default(),
            torn: Torn { cut: Cut::Kept, unsynced_bytes: 0, changed_bytes: 0 },
        }
    }
}

/// All rounds.
#[derive(Debug)]
pub struct Report {
    planned: u64,
    seed: u64,
    /// Commits are lost on purpose.
    lying_disk: bool,
    rounds: Vec<Round>,
    /// What the last round found is there after a clean close, too.
    pub ends_well: bool,
}

/// What stands above the rows.
pub fn header(records: u64, rounds: u64, seed: u64, dir: &Path) -> String {
    format!(
        "Importing {} in {}, seed {seed}\nin {}\n\n{}",
        human::plural(records, "record"),
        human::plural(rounds, "round"),
        dir.display(),
        columns([
            "round",
            "killed in",
            "acked",
            "found",
            "lost",
            "refused",
            "open",
            "replayed",
            "cut"
        ])
    )
}

/// The row of a round.
pub fn row(round: &Round) -> String {
    columns([
        &round.number.to_string(),
        round.killed_in,
        &human::count(round.acknowledged),
        &human::count(round.recovered),
        &human::count(round.lost),
        if round.refused.is_some() { "1" } else { "0" },
        &human::micros(round.open_micros),
        &human::bytes(round.recovery.replayed_bytes),
        &human::bytes(round.recovery.trimmed_bytes),
    ])
}

fn columns(cells: [&str; 9]) -> String {
    let [number, killed_in, acked, found, lost, refused, open, replayed, cut] = cells;
    format!(
        "{number:>5}  {killed_in:<10} {acked:>7} {found:>7} {lost:>5} {refused:>7} \
         {open:>9} {replayed:>10} {cut:>9}"
    )
}

impl Report {
    /// No round yet.
    pub fn new(planned: u64, seed: u64, lying_disk: bool) -> Report {
        Report { planned, seed, lying_disk, rounds: Vec::new(), ends_well: false }
    }

    /// Adds a round.
    pub fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Whether an open was refused.
    pub fn was_refused(&self) -> bool {
        self.rounds.iter().any(|round| round.refused.is_some())
    }

    /// Whether the promise was kept in all rounds.
    pub fn is_good(&self) -> bool {
        self.rounds.len() as u64 == self.planned
            && !self.was_refused()
            && self.sum(|round| round.lost + round.wrong) == 0
            && self.ends_well
    }

    fn sum(&self, number: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(number).sum()
    }

    /// The total and the verdict. `dir` is where the database was kept.
    pub fn summary(&self, dir: Option<&Path>) -> String {
        let refused = self.sum(|round| u64::from(round.refused.is_some()));
        let total = columns([
            "total",
            "",
            &human::count(self.sum(|round| round.acknowledged)),
            &human::count(self.sum(|round| round.recovered)),
            &human::count(self.sum(|round| round.lost)),
            &refused.to_string(),
            &human::micros(self.sum(|round| round.open_micros)),
            &human::bytes(self.sum(|round| round.recovery.replayed_bytes)),
            &human::bytes(self.sum(|round| round.recovery.trimmed_bytes)),
        ]);
        let mut text = format!("{total}\n\n{}", self.verdict());
        if let Some(dir) = dir {
            text.push_str(&format!("\nThe database is kept in {}.", dir.display()));
        }
        text
    }

    fn verdict(&self) -> String {
        let kills = human::plural(self.rounds.len() as u64, "kill");
        let acked = human::plural(self.sum(|round| round.acknowledged), "acknowledged commit");
        if self.is_good() {
            let torn = human::bytes(self.sum(|round| round.torn.changed_bytes));
            return format!(
                "Kept its promise: {kills}, {torn} of unsynced log torn, no open refused,\n\
                 all of {acked} ({}) found, nothing lost.",
                human::plural(self.sum(|round| round.records), "record")
            );
        }
        let mut text = format!("BROKE ITS PROMISE after {kills} and {acked}:");
        for round in &self.rounds {
            let number = round.number;
            if let Some(why) = &round.refused {
                text.push_str(&format!("\n- round {number}: the open was refused: {why}"));
            } else if round.lost > 0 {
                let lost = human::plural(round.lost, "acknowledged commit");
                text.push_str(&format!("\n- round {number}: {lost} lost"));
            }
            if round.wrong > 0 {
                let wrong = human::plural(round.wrong, "key");
                let first = round.first_wrong.as_deref().unwrap_or("keys are missing");
                text.push_str(&format!("\n- round {number}: {wrong} wrong: {first}"));
            }
        }
        if !self.was_refused() && !self.ends_well {
            text.push_str("\n- after a clean close it holds something else than before");
        }
        if self.lying_disk {
            text.push_str("\nSo it must with --lying-disk: what a disk loses, the drill notices.");
        } else {
            text.push_str(&format!(
                "\nKeep the directory and report it, with the command and seed {}.",
                self.seed
            ));
        }
        text
    }

    /// Everything as one object.
    pub fn json(&self) -> Value {
        let details: Vec<Value> = self.rounds.iter().map(round_json).collect();
        json!({
            "version": 1,
            "ok": self.is_good(),
            "seed": self.seed,
            "lying_disk": self.lying_disk,
            "rounds": self.rounds.len(),
            "records": self.sum(|round| round.records),
            "acknowledged": self.sum(|round| round.acknowledged),
            "recovered": self.sum(|round| round.recovered),
            "lost": self.sum(|round| round.lost),
            "wrong": self.sum(|round| round.wrong),
            "refused": self.sum(|round| u64::from(round.refused.is_some())),
            "torn_bytes": self.sum(|round| round.torn.changed_bytes),
            "details": details,
        })
    }
}

fn round_json(round: &Round) -> Value {
    json!({
        "round": round.number,
        "killed_in": round.killed_in,
        "memory_budget": round.memory_budget,
        "acknowledged": round.acknowledged,
        "recovered": round.recovered,
        "records": round.records,
        "lost": round.lost,
        "wrong": round.wrong,
        "first_wrong": round.first_wrong,
        "refused": u64::from(round.refused.is_some()),
        "refusal": round.refused,
        "open_micros": round.open_micros,
        "replayed_commits": round.recovery.replayed_transactions,
        "replayed_bytes": round.recovery.replayed_bytes,
        "trimmed_bytes": round.recovery.trimmed_bytes,
        "unwitnessed_tail": round.recovery.unwitnessed_tail,
        "tear": round.torn.cut.name(),
        "unsynced_bytes": round.torn.unsynced_bytes,
        "torn_bytes": round.torn.changed_bytes,
    })
}
