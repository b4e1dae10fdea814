//! Random scripts against a second machine that is too simple to be wrong: every file twice, as seen and
//! as durable, both as plain bytes.

use super::*;
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["/a", "/b", "/c", "/d"];
const SCRIPTS: u64 = 300;
const STEPS: usize = 60;

/// Both sides of a disk; files by number, so that renames move them.
#[derive(Clone, Default)]
struct Shadow {
    files: Vec<Sides>,
    seen: BTreeMap<&'static str, usize>,
    durable: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Default)]
struct Sides {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

#[test]
fn nothing_new_is_what_is_durable_and_everything_new_is_what_was_seen() {
    for seed in 0..SCRIPTS {
        let (disk, shadows) = run(seed);
        let recording = disk.record();
        assert_eq!(recording.operations() + 1, shadows.len(), "seed {seed}");
        for (point, shadow) in recording.walker().zip(&shadows) {
            let place = format!("seed {seed}, operation {}", point.position());
            let all = |outcome| point.image(&Choice::all(outcome, point.units().len()));
            assert_eq!(contents(&all(Outcome::Old)), shadow.contents(false), "{place}");
            assert_eq!(contents(&all(Outcome::New)), shadow.contents(true), "{place}");
        }
        let last = shadows.last().unwrap();
        assert_eq!(contents(&disk), last.contents(true), "seed {seed}");
        assert_eq!(contents(&disk.durable_image()), last.contents(false), "seed {seed}");
    }
}

#[test]
fn hashes_tell_images_apart_and_only_them() {
    let mut by_hash: BTreeMap<u64, BTreeMap<PathBuf, Vec<u8>>> = BTreeMap::new();
    for seed in 0..SCRIPTS / 5 {
        let (disk, _) = run(seed);
        for point in disk.record().walker().step_by(7) {
            for number in 0..10 {
                let mut choice = point.random_choice(number);
                if number == 9 && !point.units().is_empty() {
                    choice.set(seed as usize % point.units().len(), Outcome::Garbage(seed));
                }
                let image = point.image(&choice);
                let place = format!("seed {seed}, operation {}, choice {number}", point.position());
                assert_eq!(point.image_hash(&choice), image.content_hash(), "{place}");
                // An image has nothing left to lose.
                assert_eq!(image.crash_point().units(), [], "{place}");
                assert_eq!(image.durable_image().content_hash(), image.content_hash(), "{place}");
                let held = contents(&image);
                assert_eq!(*by_hash.entry(image.content_hash()).or_insert(held.clone()), held);
            }
        }
    }
    let distinct: BTreeSet<_> = by_hash.values().collect();
    assert_eq!(distinct.len(), by_hash.len(), "equal images with different hashes");
    assert!(distinct.len() > 500, "{}", distinct.len());
}

#[test]
fn a_walk_may_start_anywhere() {
    let (disk, _) = run(1);
    let recording = disk.record();
    let steps: Vec<CrashPoint> = recording.walker().collect();
    let mut walker = recording.walker();
    for position in [10, 3, 3, 40, recording.operations(), 0] {
        walker.seek(position);
        assert_eq!(walker.position(), position);
        let point = walker.crash_point();
        assert_eq!(point.units(), steps[position].units());
        let choice = point.random_choice(5);
        assert_eq!(point.image_hash(&choice), steps[position].image_hash(&choice));
        let (one, other) = (point.image(&choice), steps[position].image(&choice));
        assert_eq!(one.random().unwrap(), other.random().unwrap());
    }
}

/// A random script; the shadow before it and after each of its operations.
fn run(seed: u64) -> (SimDisk, Vec<Shadow>) {
    let disk = SimDisk::with_seed(seed);
    let mut random = Random::new(seed);
    let mut shadow = Shadow::default();
    let mut shadows = vec![shadow.clone()];
    for _ in 0..STEPS {
        let name = NAMES[random.below(NAMES.len())];
        let Some(&number) = shadow.seen.get(name) else {
            create(&disk, name, 0, 0);
            shadow.seen.insert(name, shadow.files.len());
            shadow.files.push(Sides::default());
            shadows.push(shadow.clone());
            continue;
        };
        let sides = &mut shadow.files[number];
        match random.below(16) {
            0..8 => {
                let offset = random.below(3000);
                let len = [1, 100, 512, 700, 2048][random.below(5)];
                let letter = [0, b'A', b'B', b'C'][random.below(4)];
                // Whole sectors more often than chance would have it.
                let offset = if random.below(2) == 0 { offset / 512 * 512 } else { offset };
                write(&disk, name, offset as u64, letter, len);
                sides.seen.resize(sides.seen.len().max(offset + len), 0);
                sides.seen[offset..offset + len].fill(letter);
            }
            8..10 => {
                let len = random.below(4000);
                set_len(&disk, name, len as u64);
                sides.seen.resize(len, 0);
            }
            10 => {
                let len = random.below(4000);
                allocate(&disk, name, len as u64);
                sides.seen.resize(sides.seen.len().max(len), 0);
            }
            11..13 => {
                sync(&disk, name);
                sides.durable = sides.seen.clone();
            }
            13 => {
                sync_names(&disk, "/");
                shadow.durable = shadow.seen.clone();
            }
            14 => {
                remove(&disk, name);
                shadow.seen.remove(name);
            }
            _ => {
                let to = NAMES[random.below(NAMES.len())];
                rename(&disk, name, to);
                if to == name {
                    continue;
                }
                shadow.seen.remove(name);
                shadow.seen.insert(to, number);
            }
        }
        shadows.push(shadow.clone());
    }
    (disk, shadows)
}

impl Shadow {
    fn contents(&self, seen: bool) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = if seen { &self.seen } else { &self.durable };
        let bytes = |file: &Sides| if seen { file.seen.clone() } else { file.durable.clone() };
        names.iter().map(|(name, file)| (name.into(), bytes(&self.files[*file]))).collect()
    }
}

fn contents(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |(path, _): (PathBuf, u64)| (path.clone(), disk.read_file(&path).unwrap());
    disk.files().into_iter().map(read).collect()
}
