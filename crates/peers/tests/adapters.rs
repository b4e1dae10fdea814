//! Every adapter against one script of every operation, so that all engines are asked the same and agree.

use highwater_peers::engine::{Batch, Change, Engine, Fault, Outcome, Promise, Setup};
use highwater_peers::engines::{self, Visit};
use std::collections::BTreeMap;
use std::path::Path;

type Plain = BTreeMap<Vec<u8>, Vec<u8>>;

fn setup() -> Setup {
    Setup { cache_bytes: 8 << 20, write_bytes: 8 << 20, ..Setup::default() }
}

fn key(number: u32) -> Vec<u8> {
    // Scattered, so that the order of insertion is not the order of keys.
    number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec()
}

fn value(number: u32) -> Vec<u8> {
    format!("value {number} {}", "x".repeat(number as usize % 200)).into_bytes()
}

fn contents<E: Engine>(engine: &E) -> Outcome<Plain> {
    let mut found = Plain::new();
    let mut before = Vec::new();
    let count = engine.read(|reader| {
        E::scan(reader, &[0], u64::MAX, |key, value| {
            assert!(before.as_slice() < key, "{}: keys out of order", E::NAME);
            before = key.to_vec();
            found.insert(key.to_vec(), value.to_vec());
        })
    })?;
    assert_eq!(count, found.len() as u64);
    assert_eq!(engine.read(|reader| E::len(reader))?, count);
    Ok(found)
}

fn reads<E: Engine>(engine: &E, plain: &Plain) -> Outcome {
    engine.read(|reader| {
        for number in 0..700 {
            let key = key(number);
            let found = E::get(reader, &key, |value| value.map(<[u8]>::to_vec))?;
            assert_eq!(found.as_ref(), plain.get(&key), "{}: key {number}", E::NAME);
            let mut ten = Vec::new();
            let count = E::scan(reader, &key, 10, |key, value| {
                ten.push((key.to_vec(), value.to_vec()));
            })?;
            assert_eq!(count, ten.len() as u64);
            let expected = plain.range(key..).take(10).map(|(k, v)| (k.clone(), v.clone()));
            assert_eq!(ten, expected.collect::<Vec<_>>(), "{}: range {number}", E::NAME);
        }
        Ok(())
    })
}

fn script<E: Engine>(dir: &Path) -> Outcome {
    let mut plain = Plain::new();
    let mut engine = E::open(dir, &setup())?;
    engine.batch(Promise::Durable, |batch| {
        for number in 0..500 {
            batch.insert(&key(number), &value(number))?;
            plain.insert(key(number), value(number));
        }
        Ok(())
    })?;
    for promise in [Promise::Durable, Promise::Buffered, Promise::Memory, Promise::Durable] {
        if E::FACTS.offers(promise) {
            for number in 480..520 {
                engine.put(promise, &key(number), &value(number + 7))?;
                plain.insert(key(number), value(number + 7));
            }
        }
    }
    assert_eq!(contents(&engine)?, plain, "{}: after the puts", E::NAME);
    reads(&engine, &plain)?;

    // A snapshot stays as it was from its first read on.
    engine.read(|reader| {
        E::get(reader, &key(4), |value| assert!(value.is_some()))?;
        engine.put(Promise::Durable, &key(3), b"changed beside a snapshot")?;
        let old = E::get(reader, &key(3), |value| value.map(<[u8]>::to_vec))?;
        assert_eq!(old, Some(value(3)), "{}", E::NAME);
        Ok(())
    })?;
    plain.insert(key(3), b"changed beside a snapshot".to_vec());

    engine.batch(Promise::Durable, |batch| {
        for number in 0..100 {
            batch.remove(&key(number))?;
            plain.remove(&key(number));
        }
        Ok(())
    })?;
    assert_eq!(contents(&engine)?, plain, "{}: after the removals", E::NAME);

    let mut place = 0;
    let removed = engine.change(|change| {
        change.retain(|_, _| {
            place += 1;
            place % 3 != 0
        })
    })?;
    let before = plain.len();
    let mut place = 0;
    plain.retain(|_, _| {
        place += 1;
        place % 3 != 0
    });
    assert_eq!(removed, (before - plain.len()) as u64, "{}", E::NAME);
    assert_eq!(contents(&engine)?, plain, "{}: after retain", E::NAME);

    let (from, to) = ([0x40], [0xc0]);
    let within = |key: &[u8]| key >= from.as_slice() && key < to.as_slice();
    let picked = |value: &[u8]| value.len().is_multiple_of(2);
    let mut taken = Plain::new();
    let extracted = engine.change(|change| {
        let each = |key: &[u8], value: &[u8]| drop(taken.insert(key.to_vec(), value.to_vec()));
        change.extract(&from, &to, |_, value| picked(value), each)
    })?;
    let (gone, kept) = plain.into_iter().partition(|(key, value)| within(key) && picked(value));
    plain = kept;
    assert_eq!((extracted, taken), (Plain::len(&gone) as u64, gone), "{}", E::NAME);
    assert_eq!(contents(&engine)?, plain, "{}: after extract_if", E::NAME);

    engine.change(|change| {
        for turn in 0..60 {
            let back = turn % 2 == 1;
            let expected = if back { plain.pop_last() } else { plain.pop_first() };
            let mut popped = None;
            let found = change.pop(back, |key, value| {
                popped = Some((key.to_vec(), value.to_vec()));
            })?;
            assert!(found);
            assert_eq!(popped, expected, "{}: pop {turn}", E::NAME);
        }
        Ok(())
    })?;
    assert_eq!(contents(&engine)?, plain, "{}: after the pops", E::NAME);

    let sorted: Vec<_> = (0..300_u32)
        .map(|number| ([[0xff; 4], number.to_be_bytes()].concat(), value(number)))
        .collect();
    engine.insert_sorted(sorted.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))?;
    plain.extend(sorted);
    engine = engine.compact(dir, &setup())?;
    assert_eq!(contents(&engine)?, plain, "{}: after the compaction", E::NAME);
    engine.close()?;

    let engine = E::open(dir, &setup())?;
    assert_eq!(contents(&engine)?, plain, "{}: after a reopening", E::NAME);
    reads(&engine, &plain)?;

    // A transaction that fails leaves nothing behind.
    let failed: Outcome = engine.batch(Promise::Durable, |batch| {
        batch.insert(b"never", b"seen")?;
        Err(Fault::from("on purpose"))
    });
    assert!(failed.is_err());
    assert_eq!(contents(&engine)?, plain, "{}: after a rollback", E::NAME);

    // An emptied set pops nothing.
    engine.change(|change| {
        change.retain(|_, _| false)?;
        Ok(())
    })?;
    engine.change(|change| {
        assert!(!change.pop(false, |_, _| {})? && !change.pop(true, |_, _| {})?);
        Ok(())
    })?;
    assert_eq!(contents(&engine)?, Plain::new(), "{}", E::NAME);
    engine.close()
}

/// From many threads at once: each reads its own commits, and none is lost.
fn threads<E: Engine>(dir: &Path) -> Outcome {
    let engine = E::open(dir, &setup())?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8_u32)
            .map(|thread| {
                let engine = &engine;
                scope.spawn(move || -> Outcome {
                    for number in thread * 100..thread * 100 + 20 {
                        engine.put(Promise::Durable, &key(number), &value(number))?;
                        let own = engine.read(|reader| {
                            E::get(reader, &key(number), |value| value.map(<[u8]>::to_vec))
                        })?;
                        assert_eq!(own, Some(value(number)), "{}", E::NAME);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    assert_eq!(contents(&engine)?.len(), 160, "{}", E::NAME);
    engine.close()
}

#[test]
fn adapters_agree_on_every_operation() -> Outcome {
    struct Script<'a>(&'a Path);
    impl Visit for Script<'_> {
        type Out = ();
        fn visit<E: Engine>(self) -> Outcome {
            for (name, run) in
                [("script", script::<E> as fn(&Path) -> Outcome), ("threads", threads::<E>)]
            {
                let dir = self.0.join(E::NAME).join(name);
                std::fs::create_dir_all(&dir)?;
                run(&dir).map_err(|error| format!("{}, {name}: {error}", E::NAME))?;
            }
            Ok(())
        }
    }
    let dir = tempfile::tempdir()?;
    let names = engines::names();
    assert_eq!(names[0], "highwater");
    for name in names {
        engines::visit(name, Script(dir.path()))?;
    }
    Ok(())
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let error = engines::about("leveldb").expect_err("no such engine").to_string();
    assert!(error.contains("leveldb") && error.contains("highwater"), "{error}");
    for name in engines::names() {
        let about = engines::about(name).expect("an engine");
        assert!(about.version.contains('.'), "{name}: {}", about.version);
    }
}
