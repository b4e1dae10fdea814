//! Every damage of the campaign, through verify, explain, assess and salvage. The source must stay as it
//! is, the result must open and verify, and the receipt must account for every key that is not as the
//! model says.

use highwater::Database;
use highwater::check::{Loss, Verdict, Verified, VerifyOptions, explain, verify};
use highwater::fs::FileSystem;
use highwater::salvage::{ManifestState, Receipt, assess, salvage};
use highwater_sim::check::Failure;
use highwater_sim::damage::{Damaged, visit_all};
use highwater_sim::model::{State, read_state};
use highwater_sim::run::PATH;
use highwater_sim::verdict::Said;
use std::collections::BTreeMap;
use std::sync::Arc;

const NEW: &str = "/new";

#[derive(Debug, Default)]
struct Counts {
    cases: u64,
    lossless: u64,
    /// The receipt names a loss, and all is there nevertheless.
    all_there: u64,
    /// Keys are missing or older, all of them named by the receipt.
    accounted: u64,
    /// The manifest is gone and the receipt says that the order is a guess; keys differ.
    guessed: u64,
    /// `verify` cannot tell whether something is lost, and nothing is.
    needless: u64,
    /// How `verify` ends.
    said: BTreeMap<Said, u64>,
}

impl Counts {
    fn add(&mut self, more: &Counts) {
        self.cases += more.cases;
        self.lossless += more.lossless;
        self.all_there += more.all_there;
        self.accounted += more.accounted;
        self.guessed += more.guessed;
        self.needless += more.needless;
        for (said, count) in &more.said {
            *self.said.entry(*said).or_default() += count;
        }
    }
}

#[test]
fn every_damage_is_salvaged_and_every_loss_is_named() {
    let (counts, failures) = visit_all(97, check, Counts::add);
    println!("salvage: {counts:?}");
    for failure in failures.iter().take(12) {
        println!("{failure}\n");
    }
    assert!(failures.is_empty(), "{} of {} cases failed", failures.len(), counts.cases);
    assert!(counts.cases >= 1000, "only {} cases were tried", counts.cases);
    assert!(counts.accounted > 20 && counts.lossless > 500, "{counts:?}");
}

fn violation(what: impl Into<String>) -> Failure {
    Failure::violation(what.into())
}

fn check(damaged: &Damaged<'_>, counts: &mut Counts) -> Result<(), Failure> {
    counts.cases += 1;
    let disk = &damaged.disk;
    let before = disk.content_hash_of(PATH).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    // Whatever it says, it must come back and leave everything alone.
    let _ = explain(&*fs, PATH);
    let dry = assess(&fs, PATH, &mut |_| {}).map_err(|e| violation(format!("assess: {e}")))?;
    let receipt = salvage(&fs, PATH, NEW, &mut |_| {})
        .map_err(|e| violation(format!("salvage refused: {e}")))?;
    if disk.content_hash_of(PATH).unwrap() != before {
        return Err(violation("the source was changed"));
    }
    if (&dry.lost_log, &dry.lost_tables, dry.lost_keys_count)
        != (&receipt.lost_log, &receipt.lost_tables, receipt.lost_keys_count)
    {
        return Err(violation(format!("assess saw other losses:\n{dry}\n{receipt}")));
    }
    let result = verify(&fs, NEW, &VerifyOptions::default(), &mut |_, _| {});
    let is_sound = match &result {
        Ok(Some(found)) => {
            found.verdict(true) == Verdict::Sound
                && found.explanation.as_ref().is_some_and(|said| said.clean && said.salvaged)
        }
        _ => false,
    };
    if !is_sound {
        return Err(violation(format!("the result does not verify: {result:?}")));
    }
    let opened = Database::builder().file_system(fs.clone()).background(false).open(NEW);
    let db = opened.map_err(|e| violation(format!("the result does not open: {e}")))?;
    let found = read_state(&db).map_err(|e| violation(format!("the result: {e}")))?;
    *counts.said.entry(damaged.said).or_default() += 1;
    is_true(damaged, &receipt, &found, counts)?;
    judge(damaged, &receipt, &found, counts)
        .map_err(|failure| violation(format!("{}\n{receipt}", failure.what)))
}

/// What `verify` said, held against what the salvage got.
fn is_true(
    damaged: &Damaged<'_>,
    receipt: &Receipt,
    found: &State,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let least = damaged.rolled_back_to.unwrap_or(damaged.vouched);
    let all_there = damaged.states[least..].iter().any(|state| state.hash() == found.hash());
    let wrong = |what: &str| {
        let findings = damaged.verified.as_ref().map(|found| &found.findings);
        Err(violation(format!("verify says {:?}, {what}: {findings:?}", damaged.said)))
    };
    match damaged.said {
        Said::Clean if !all_there => wrong("and something is lost"),
        Said::Clean if !receipt.is_lossless() => wrong("and the receipt names losses"),
        Said::Damage if !all_there => wrong("and something is lost"),
        Said::Damage if !receipt.is_lossless() => wrong("and the receipt names losses"),
        Said::Loss if all_there && receipt.is_lossless() => {
            counts.needless += 1;
            let certain = |found: &Verified| {
                found.findings.iter().any(|finding| finding.loss == Loss::Committed)
            };
            match damaged.verified.as_ref().is_some_and(certain) {
                true => wrong("and all is there"),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn judge(
    damaged: &Damaged<'_>,
    receipt: &Receipt,
    found: &State,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let states = damaged.states;
    let last = states.len() - 1;
    let least = damaged.rolled_back_to.unwrap_or(damaged.vouched);
    let prefix = (least..=last).rev().find(|at| states[*at].hash() == found.hash());
    if receipt.is_lossless() {
        counts.lossless += 1;
        return match prefix {
            Some(_) => Ok(()),
            None => Err(violation(format!(
                "the receipt names no loss:\n{}",
                states[last].difference(found)
            ))),
        };
    }
    if prefix.is_some() {
        counts.all_there += 1;
        return Ok(());
    }
    // Where only the tail is uncertain, the state to compare with is the last one that was found.
    let expected = &states[last];
    let mut unexplained = Vec::new();
    for (name, key) in differing(expected, found) {
        if !accounts_for(damaged, receipt, &name, key.as_deref()) {
            unexplained.push((name, key));
        }
    }
    if unexplained.is_empty() {
        counts.accounted += 1;
        return Ok(());
    }
    let by_guess = !matches!(receipt.manifest, ManifestState::Whole | ManifestState::Mended { .. })
        && (receipt.order_guessed || !receipt.doubts.is_empty());
    if by_guess {
        counts.guessed += 1;
        return Ok(());
    }
    let what = unexplained
        .iter()
        .take(6)
        .map(|(name, key)| {
            format!("{name}/{:?}", key.as_ref().map(|key| key.escape_ascii().to_string()))
        })
        .collect::<Vec<_>>();
    Err(violation(format!(
        "{} keys differ and the receipt does not say so: {}\n{}",
        unexplained.len(),
        what.join(", "),
        expected.difference(found)
    )))
}

/// Keys that differ, and keyspaces (without a key) that only one of the two has.
fn differing(one: &State, two: &State) -> Vec<(String, Option<Vec<u8>>)> {
    let mut differing = Vec::new();
    let names = one.keyspaces().keys().chain(two.keyspaces().keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    for name in names {
        let (here, there) = (one.keyspaces().get(name), two.keyspaces().get(name));
        if here.is_none() != there.is_none() {
            differing.push((name.clone(), None));
        }
        let keys = here.iter().chain(there.iter()).flat_map(|entries| entries.keys());
        let keys: std::collections::BTreeSet<&Vec<u8>> = keys.collect();
        for key in keys {
            if one.get(name, key) != two.get(name, key) {
                differing.push((name.clone(), Some(key.clone())));
            }
        }
    }
    differing
}

fn accounts_for(damaged: &Damaged<'_>, receipt: &Receipt, name: &str, key: Option<&[u8]>) -> bool {
    if key.is_none() && receipt.unnamed_keyspaces.iter().any(|unnamed| unnamed == name) {
        return true;
    }
    let in_range = |range: &highwater::salvage::LostKeys| {
        range.keyspace.as_deref().is_none_or(|keyspace| keyspace == name)
            && key.is_some_and(|key| {
                let to = range.to.as_deref();
                range.from.as_slice() <= key
                    && to.is_none_or(|to| key <= to)
                    && !(range.after && range.from == key)
                    && !(range.before && to == Some(key))
            })
    };
    if receipt.lost_tables.iter().any(|table| table.ranges.iter().any(in_range)) {
        return true;
    }
    if receipt.lost_keys.iter().any(|(keyspace, lost)| keyspace == name && key == Some(&lost[..])) {
        return true;
    }
    // A lost commit accounts for what it changed.
    (1..damaged.states.len()).any(|commit| {
        let lost = receipt.lost_log.iter().any(|lost| {
            lost.first_seqno.is_none_or(|first| first.get() as usize <= commit)
                && lost.last_seqno.is_none_or(|last| commit <= last.get() as usize)
        });
        let (before, after) = (&damaged.states[commit - 1], &damaged.states[commit]);
        lost && match key {
            Some(key) => before.get(name, key) != after.get(name, key),
            None => before.keyspaces().contains_key(name) != after.keyspaces().contains_key(name),
        }
    })
}
