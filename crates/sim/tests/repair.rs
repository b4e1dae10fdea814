//! Every damage of the campaign, through the repair in place: what it does must be what its plan says, a
//! repaired database opens with a prefix of the commits, an undo gives every byte back, and the power may
//! fail at any moment of either.

use highwater::Database;
use highwater::fs::FileSystem;
use highwater::fs::sim::{EnumerationLimits, SimDisk};
use highwater::repair::{Action, Plan, PlanId, apply, plan, undo};
use highwater_sim::check::Failure;
use highwater_sim::damage::{Damaged, SUBJECTS, visit, visit_all};
use highwater_sim::model::{State, read_state};
use highwater_sim::run::PATH;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Counts {
    cases: u64,
    sound: u64,
    refused: u64,
    lossless: u64,
    lossy: u64,
    manifests: u64,
    tables: u64,
    logs: u64,
}

impl Counts {
    fn add(&mut self, more: &Counts) {
        self.cases += more.cases;
        self.sound += more.sound;
        self.refused += more.refused;
        self.lossless += more.lossless;
        self.lossy += more.lossy;
        self.manifests += more.manifests;
        self.tables += more.tables;
        self.logs += more.logs;
    }
}

fn violation(what: impl Into<String>) -> Failure {
    Failure::violation(what.into())
}

fn on(disk: &SimDisk) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

fn state_of(disk: &SimDisk) -> Result<State, Failure> {
    let builder = Database::builder().file_system(on(disk)).background(false);
    let db = builder.read_only(true).open(PATH);
    let db = db.map_err(|e| violation(format!("the repaired database does not open: {e}")))?;
    read_state(&db).map_err(|e| violation(format!("the repaired database: {e}")))
}

/// All files of the database but the lock, with their bytes.
fn contents(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let ours = files.filter(|path| path.starts_with(PATH) && !path.ends_with("LOCK"));
    ours.map(|path| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

fn planned(disk: &SimDisk) -> Result<Plan, Failure> {
    plan(&on(disk), PATH, &mut |_| {}).map_err(|e| violation(format!("plan: {e}")))
}

#[test]
fn every_damage_is_repaired_as_planned_or_refused() {
    let (counts, failures) = visit_all(197, check, Counts::add);
    println!("repair: {counts:?}");
    for failure in failures.iter().take(12) {
        println!("{failure}\n");
    }
    assert!(failures.is_empty(), "{} of {} cases failed", failures.len(), counts.cases);
    assert!(counts.cases >= 1000, "only {} cases were tried", counts.cases);
    assert!(counts.manifests > 50 && counts.tables > 5 && counts.logs > 50, "{counts:?}");
    assert!(counts.lossy > 20 && counts.refused > 50 && counts.sound > 50, "{counts:?}");
}

fn check(damaged: &Damaged<'_>, counts: &mut Counts) -> Result<(), Failure> {
    counts.cases += 1;
    let disk = &damaged.disk;
    let before = contents(disk);
    let opened = Database::builder().file_system(on(disk)).read_only(true).open(PATH).is_ok();
    let plan = planned(disk)?;
    if contents(disk) != before {
        return Err(violation("the plan changed something"));
    }
    if counts.cases.is_multiple_of(8) && planned(disk)? != plan {
        return Err(violation("a second plan is another one"));
    }
    if plan.is_sound() && !opened {
        return Err(violation("nothing to repair, but it does not open"));
    }
    let Some(id) = plan.id else {
        match plan.is_sound() {
            true => counts.sound += 1,
            false => counts.refused += 1,
        }
        return Ok(());
    };
    for action in &plan.actions {
        match action {
            Action::MendManifest { .. } => counts.manifests += 1,
            Action::RebuildTable { .. } => counts.tables += 1,
            _ => counts.logs += 1,
        }
    }
    let wrong = apply(&on(disk), PATH, PlanId(id.0 ^ 1), &mut |_| {});
    if wrong.is_ok() || contents(disk) != before {
        return Err(violation("a wrong plan was carried out"));
    }
    apply(&on(disk), PATH, id, &mut |_| {})
        .map_err(|e| violation(format!("apply: {e}\n{plan:?}")))?;
    judge(damaged, &plan, disk, counts)?;
    undo(&on(disk), PATH, None).map_err(|e| violation(format!("undo: {e}")))?;
    if contents(disk) != before {
        return Err(violation("an undo did not put everything back"));
    }
    Ok(())
}

/// A prefix of the commits, as long as the plan says.
fn judge(
    damaged: &Damaged<'_>,
    plan: &Plan,
    disk: &SimDisk,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let found = state_of(disk)?;
    let states = damaged.states;
    if plan.is_lossless() {
        counts.lossless += 1;
        let least = damaged.rolled_back_to.unwrap_or(damaged.vouched);
        return match (least..states.len()).any(|at| states[at].hash() == found.hash()) {
            true => Ok(()),
            false => Err(violation(format!(
                "no loss is named:\n{plan:?}\n{}",
                states[states.len() - 1].difference(&found)
            ))),
        };
    }
    counts.lossy += 1;
    let at = plan.last_seqno.get() as usize;
    match states.get(at).is_some_and(|state| state.hash() == found.hash()) {
        true => Ok(()),
        false => Err(violation(format!("not the state after commit {at}: {plan:?}"))),
    }
}

/// The power fails at every operation of a repair and of its undoing.
#[test]
fn a_repair_that_broke_off_is_finished_by_running_it_again() {
    let limits = EnumerationLimits { per_family: 1, samples: 1, ..EnumerationLimits::default() };
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    let mut images = 0;
    let mut failures: Vec<String> = Vec::new();
    for name in SUBJECTS {
        let visited = visit(name, 3, 499, &mut |damaged| {
            let plan = planned(&damaged.disk).unwrap();
            let Some(id) = plan.id else { return };
            let kind = match plan.actions[0] {
                Action::MendManifest { .. } => "manifest",
                Action::RebuildTable { .. } => "table",
                _ => "log",
            };
            let tried = kinds.entry(kind).or_default();
            *tried += 1;
            if *tried > 2 {
                return;
            }
            if let Err(failure) = break_off(damaged, &plan, id, &limits, &mut images) {
                failures.push(format!("{}: {}", damaged.what, failure.what));
            }
        });
        visited.unwrap();
    }
    println!("repair: {images} images of {kinds:?}");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(kinds.len() == 3 && images > 500, "{images} images of {kinds:?}");
}

fn break_off(
    damaged: &Damaged<'_>,
    plan: &Plan,
    id: PlanId,
    limits: &EnumerationLimits,
    images: &mut u64,
) -> Result<(), Failure> {
    let disk = &damaged.disk;
    let before = contents(disk);
    disk.restart_recording();
    apply(&on(disk), PATH, id, &mut |_| {}).map_err(|e| violation(e.to_string()))?;
    let repaired = state_of(disk)?;
    let applied = disk.record();
    let image_of_repaired = disk.fork();
    for point in applied.walker() {
        for choice in point.choices(limits, 7).step_by(3) {
            *images += 1;
            let image = point.image(&choice);
            let at = || format!("apply, {}", point.describe(&choice));
            match images.is_multiple_of(3) {
                true => {
                    // A user who thinks better of it.
                    match undo(&on(&image), PATH, Some(id)) {
                        Ok(_) | Err(highwater::Error::NotFound { .. }) => {}
                        Err(error) => return Err(violation(format!("{}: undo: {error}", at()))),
                    }
                    let left = contents(&image);
                    if before.iter().any(|(path, bytes)| left.get(path) != Some(bytes)) {
                        return Err(violation(format!("{}: an original is not back", at())));
                    }
                }
                false => {
                    let again = apply(&on(&image), PATH, id, &mut |_| {});
                    again.map_err(|e| violation(format!("{}: apply again: {e}", at())))?;
                    if state_of(&image)?.hash() != repaired.hash() {
                        return Err(violation(format!("{}: another state\n{plan:?}", at())));
                    }
                }
            }
        }
    }
    let disk = image_of_repaired;
    disk.restart_recording();
    undo(&on(&disk), PATH, None).map_err(|e| violation(e.to_string()))?;
    for point in disk.record().walker() {
        for choice in point.choices(limits, 9).step_by(3) {
            *images += 1;
            let image = point.image(&choice);
            let at = || format!("undo, {}", point.describe(&choice));
            match undo(&on(&image), PATH, None) {
                Ok(_) | Err(highwater::Error::NotFound { .. }) => {}
                Err(error) => return Err(violation(format!("{}: undo again: {error}", at()))),
            }
            let left = contents(&image);
            if left != before {
                let of =
                    |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
                let what = format!("{}: {:?} became {:?}", at(), of(&before), of(&left));
                return Err(violation(what));
            }
        }
    }
    Ok(())
}
