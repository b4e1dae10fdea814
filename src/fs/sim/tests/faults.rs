//! Faults, room, permission: what the caller is told, and what the disk holds afterwards.

use super::*;
use crate::fs::{read_full, write_full};
use std::io::ErrorKind;

#[test]
fn a_failed_sync_leaves_what_the_fault_says() {
    struct Case {
        pages: PageState,
        seen: &'static str,
        after_failure: &'static [&'static str],
        after_next_sync: &'static [&'static str],
        after_rewrite_and_sync: &'static [&'static str],
    }
    let cases = [
        Case {
            pages: PageState::Dirty,
            seen: "a:C512B512D512",
            after_failure: &[
                "a:A512B512",
                "a:C512B512",
                "a:A512B512.512",
                "a:C512B512.512",
                "a:A512B512D512",
                "a:C512B512D512",
            ],
            after_next_sync: &["a:C512B512D512"],
            after_rewrite_and_sync: &["a:C256E256B512D512"],
        },
        Case {
            pages: PageState::MarkedClean,
            seen: "a:C512B512D512",
            after_failure: &["a:A512B512", "a:A512B512.512"],
            after_next_sync: &["a:A512B512.512"],
            // The sector is written whole, with the bytes that memory holds.
            after_rewrite_and_sync: &["a:C256E256B512.512"],
        },
        Case {
            pages: PageState::Reverted,
            seen: "a:A512B512.512",
            after_failure: &["a:A512B512", "a:A512B512.512"],
            after_next_sync: &["a:A512B512.512"],
            after_rewrite_and_sync: &["a:A256E256B512.512"],
        },
    ];
    for case in cases {
        let disk = prepared();
        write(&disk, "a", 0, b'C', 512);
        write(&disk, "a", 1024, b'D', 512);
        disk.inject(Fault::new(FaultKind::Io).on(OperationKind::SyncData).pages_after(case.pages));
        let error = open(&disk, "a").sync_data(Barrier::LogCommit).unwrap_err();
        assert!(!cfg!(unix) || error.raw_os_error() == Some(5));
        let check = |expected: &[&str], when: &str| {
            let expected: BTreeSet<String> = expected.iter().map(|text| text.to_string()).collect();
            assert_eq!(images(&disk.crash_point()), expected, "{:?}, {when}", case.pages);
            let recorded = disk.record().crash_point(usize::MAX);
            assert_eq!(images(&recorded), expected, "{:?}, {when}, recorded", case.pages);
        };
        assert_eq!(render(&disk), case.seen, "{:?}", case.pages);
        check(case.after_failure, "after the failure");
        sync(&disk, "a");
        check(case.after_next_sync, "after the next sync");
        write(&disk, "a", 256, b'E', 256);
        sync(&disk, "a");
        check(case.after_rewrite_and_sync, "after writing again");
    }
}

#[test]
fn a_stranded_sector_that_is_cut_does_not_come_back() {
    let disk = prepared();
    write(&disk, "a", 0, b'C', 1024);
    let fault = Fault::new(FaultKind::Io).pages_after(PageState::MarkedClean);
    disk.inject(fault.barrier(Barrier::Copy));
    assert!(sync_data(&*open(&disk, "a"), Barrier::Copy).is_err());
    set_len(&disk, "a", 100);
    set_len(&disk, "a", 600);
    sync(&disk, "a");
    assert_eq!(render(&disk), "a:C100.500");
    // The bytes 0..100 were never written again.
    assert_eq!(images(&disk.crash_point()), BTreeSet::from(["a:A100.500".to_owned()]));
}

#[test]
fn a_failed_sync_of_a_directory_leaves_what_the_fault_says() {
    let cases: [(PageState, &str, &[&str], &[&str]); 3] = [
        (PageState::Dirty, "b:A512B512", &["a:A512B512", "b:A512B512"], &["b:A512B512"]),
        (PageState::MarkedClean, "b:A512B512", &["a:A512B512"], &["a:A512B512"]),
        (PageState::Reverted, "a:A512B512", &["a:A512B512"], &["a:A512B512"]),
    ];
    for (pages, seen, after_failure, after_next_sync) in cases {
        let disk = prepared();
        rename(&disk, "a", "b");
        disk.inject(Fault::new(FaultKind::Io).on(OperationKind::SyncDir).pages_after(pages));
        assert!(sync_dir(&disk, Path::new("/"), Barrier::ManifestName).is_err());
        let set = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
        assert_eq!(render(&disk), seen, "{pages:?}");
        assert_eq!(images(&disk.crash_point()), set(after_failure), "{pages:?}");
        sync_names(&disk, "/");
        assert_eq!(images(&disk.crash_point()), set(after_next_sync), "{pages:?}");
    }
}

#[test]
fn faults_strike_what_they_name() {
    let strikes = |fault: Fault| {
        let disk = prepared();
        disk.write_file("log-1", b"").unwrap();
        let (file, log) = (open(&disk, "a"), open(&disk, "log-1"));
        disk.inject(fault);
        let mut outcome = String::new();
        for (index, write_to) in [&file, &log, &log, &file].into_iter().enumerate() {
            outcome.push(match write_to.write_at(&[b'0' + index as u8; 10], 0) {
                Ok(10) => '.',
                Ok(_) => 's',
                Err(_) => 'w',
            });
            let barrier = if index == 1 { Barrier::LogCommit } else { Barrier::Copy };
            outcome.push(if write_to.sync_data(barrier).is_ok() { '.' } else { 'f' });
        }
        (outcome, disk.faults_struck())
    };
    let io = || Fault::new(FaultKind::Io);
    // Write and sync of a, log, log, a. The log of operations has two entries for each.
    let cases = [
        ("next", io().on(OperationKind::Write), "w......."),
        ("path", io().path_contains("log"), "..w....."),
        ("path and kind", io().path_contains("log").on(OperationKind::SyncData), "...f...."),
        ("nth", io().on(OperationKind::Write).nth(3), "....w..."),
        ("lasting", io().on(OperationKind::SyncData).nth(2).from_then_on(), "...f.f.f"),
        ("barrier", io().barrier(Barrier::LogCommit).from_then_on(), "...f...."),
        ("place in the log", io().at_operation(5), ".....f.."),
        ("short", Fault::new(FaultKind::Short(3)).from_then_on(), "s.s.s.s."),
        ("none", io().on(OperationKind::Rename).from_then_on(), "........"),
    ];
    for (name, fault, expected) in cases {
        let (outcome, struck) = strikes(fault);
        assert_eq!(outcome, expected, "{name}");
        assert_eq!(struck, expected.chars().filter(|letter| *letter != '.').count() as u64);
    }
}

#[test]
fn interruptions_and_short_transfers_are_survived_by_the_helpers() {
    let disk = prepared();
    let file = open(&disk, "a");
    for kind in [OperationKind::Read, OperationKind::Write, OperationKind::SyncData] {
        disk.inject(Fault::new(FaultKind::Interrupted).on(kind).nth(2));
        disk.inject(Fault::new(FaultKind::Interrupted).on(kind));
    }
    disk.inject(Fault::new(FaultKind::Short(100)).from_then_on());
    write_full(&*file, &[b'C'; 700], 0).unwrap();
    let mut bytes = vec![0; 1024];
    assert_eq!(read_full(&*file, &mut bytes, 0).unwrap(), 1024);
    assert_eq!((bytes[699], bytes[700]), (b'C', b'B'));
    sync_data(&*file, Barrier::Copy).unwrap();
    assert_eq!(images(&disk.crash_point()), BTreeSet::from(["a:C700B324".to_owned()]));
    // An interrupted sync is no operation.
    assert_eq!(disk.operations(), 7 + 1);
    disk.clear_faults();
    disk.inject(Fault::new(FaultKind::Short(0)).on(OperationKind::Write));
    assert_eq!(write_full(&*file, b"x", 0).unwrap_err().kind(), ErrorKind::WriteZero);
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    for disk in [SimDisk::new(), SimDisk::without_history()] {
        create(&disk, "a", b'A', 1000);
        disk.set_capacity(Some(2048));
        assert_eq!(disk.used_bytes(), 1024);
        let file = open(&disk, "a");
        write_full(&*file, &[b'B'; 24], 1000).unwrap();
        create(&disk, "b", b'B', 1024);
        let full = |outcome: io::Result<()>| {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            assert!(crate::error::is_no_space(&error));
        };
        let operations = disk.operations();
        full(write_full(&*file, b"x", 1024));
        full(file.set_len(1025));
        full(file.allocate(2000));
        assert_eq!((disk.operations(), file.len().unwrap()), (operations, 1024));
        write_full(&*file, &[b'C'; 1024], 0).unwrap();
        let other = open(&disk, "b");
        remove(&disk, "b");
        full(write_full(&*file, b"x", 1024));
        drop(other);
        write_full(&*file, b"x", 1024).unwrap();
        assert_eq!(disk.used_bytes(), 1536);
        file.set_len(0).unwrap();
        assert_eq!(disk.used_bytes(), 0);
        disk.set_capacity(None);
        file.set_len(1 << 30).unwrap();
        assert_eq!(disk.allocated_bytes(Path::new("/")).unwrap(), 1 << 30);
    }
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let disk = prepared();
    drop(disk.lock(Path::new("LOCK")).unwrap());
    let file = open(&disk, "a");
    let before = (disk.content_hash(), disk.operations());
    disk.set_read_only(true);
    let path = Path::new("a");
    let refused = [
        file.write_at(b"x", 0).map(drop),
        file.set_len(1),
        file.allocate(5000),
        file.sync_data(Barrier::Copy),
        disk.open(path, OpenMode::ReadWrite).map(drop),
        disk.open(Path::new("b"), OpenMode::CreateNew).map(drop),
        disk.create_dir(Path::new("d")),
        disk.rename(path, Path::new("b")),
        disk.remove(path),
        disk.sync_dir(Path::new("/"), Barrier::Copy),
        disk.lock(Path::new("LOCK")).map(drop),
    ];
    for (index, outcome) in refused.into_iter().enumerate() {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem, "{index}");
    }
    assert_eq!((disk.content_hash(), disk.operations()), before);
    let reader = disk.open(path, OpenMode::Read).unwrap();
    assert_eq!(reader.map(4).unwrap()[..], *b"AAAA");
    assert_eq!(disk.lock_holder(Path::new("LOCK")).unwrap(), None);
    assert_eq!(disk.list(Path::new("/")).unwrap().len(), 2);
    disk.set_read_only(false);
    file.set_len(1).unwrap();
}

#[test]
fn a_denied_path_is_refused_with_all_below_it() {
    let disk = prepared();
    disk.create_dir(Path::new("/d")).unwrap();
    create(&disk, "/d/b", b'B', 1);
    disk.deny("d");
    let kind = |outcome: io::Result<()>| outcome.unwrap_err().kind();
    let (dir, file) = (Path::new("/d"), Path::new("/d/b"));
    for outcome in [
        disk.open(file, OpenMode::Read).map(drop),
        disk.open(Path::new("d/../d/c"), OpenMode::CreateNew).map(drop),
        disk.list(dir).map(drop),
        disk.kind(file).map(drop),
        disk.remove(file),
        disk.rename(file, Path::new("/d/c")),
        disk.sync_dir(dir, Barrier::Copy),
        disk.lock(file).map(drop),
        disk.lock_holder(file).map(drop),
        disk.allocated_bytes(dir).map(drop),
    ] {
        assert_eq!(kind(outcome), ErrorKind::PermissionDenied);
    }
    open(&disk, "a");
    disk.allow("/d");
    open(&disk, "/d/b");
}

#[test]
fn the_simulated_clock_goes_on_by_itself_and_by_hand() {
    let (disk, twin) = (SimDisk::with_seed(7), SimDisk::with_seed(7));
    let readings = |disk: &SimDisk| (disk.now_micros(), disk.monotonic(), disk.random().unwrap());
    let first = readings(&disk);
    assert_eq!(first, readings(&twin));
    assert_ne!(first.2, SimDisk::with_seed(8).random().unwrap());
    let steady = disk.monotonic();
    disk.set_clock_micros(5);
    disk.advance_clock(Duration::from_millis(2));
    assert_eq!(disk.now_micros(), 2006);
    assert!(disk.monotonic() >= steady + Duration::from_millis(2));
}
