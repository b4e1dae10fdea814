//! Tiny scripts whose legal crash images are all listed by hand.

use super::*;

/// What happens, starting from a durable file `a` of one sector of `A` and one of `B`; then all images.
type Script = (&'static str, fn(&SimDisk), &'static [&'static str]);

const SCRIPTS: &[Script] = &[
    ("nothing", |_| {}, &["a:A512B512"]),
    (
        "a write without a sync",
        |disk| write(disk, "a", 0, b'C', 512),
        &["a:A512B512", "a:C512B512"],
    ),
    (
        "a write and a sync",
        |disk| {
            write(disk, "a", 0, b'C', 512);
            sync(disk, "a");
        },
        &["a:C512B512"],
    ),
    ("the same bytes again", |disk| write(disk, "a", 0, b'A', 512), &["a:A512B512"]),
    (
        "two versions of one sector",
        |disk| {
            write(disk, "a", 0, b'C', 512);
            write(disk, "a", 0, b'D', 512);
        },
        &["a:A512B512", "a:C512B512", "a:D512B512"],
    ),
    (
        "a version that goes back to the old one",
        |disk| {
            write(disk, "a", 0, b'C', 512);
            write(disk, "a", 0, b'A', 512);
        },
        &["a:A512B512", "a:C512B512"],
    ),
    (
        "two sectors, each for itself",
        |disk| write(disk, "a", 0, b'C', 1024),
        &["a:A512B512", "a:C512B512", "a:A512C512", "a:C1024"],
    ),
    (
        "parts of two sectors",
        |disk| write(disk, "a", 500, b'C', 20),
        &["a:A512B512", "a:A500C12B512", "a:A512C8B504", "a:A500C20B504"],
    ),
    (
        "growth by a sector",
        |disk| write(disk, "a", 1024, b'C', 512),
        &["a:A512B512", "a:A512B512.512", "a:A512B512C512"],
    ),
    (
        "growth behind a hole",
        |disk| write(disk, "a", 1536, b'C', 3),
        &["a:A512B512", "a:A512B512.515", "a:A512B512.512C3"],
    ),
    (
        "growth over an old sector and two new ones",
        |disk| write(disk, "a", 1000, b'C', 1000),
        &[
            "a:A512B512",
            "a:A512B488C24",
            "a:A512B512.976",
            "a:A512B488C24.976",
            "a:A512B512C512.464",
            "a:A512B512.512C464",
            "a:A512B512C976",
            "a:A512B488C536.464",
            "a:A512B488C24.512C464",
            "a:A512B488C1000",
        ],
    ),
    (
        "growth within a sector",
        |disk| {
            disk.write_file("b", b"xx").unwrap();
            write(disk, "b", 2, b'y', 2);
        },
        &["a:A512B512 b:x2", "a:A512B512 b:x2.2", "a:A512B512 b:x2y2"],
    ),
    (
        "two growths of one sector",
        |disk| {
            disk.write_file("b", b"x").unwrap();
            write(disk, "b", 1, b'y', 1);
            write(disk, "b", 2, b'z', 1);
        },
        // Length 1, 2 or 3; sector as of 1, 2 or 3.
        &[
            "a:A512B512 b:x1",
            "a:A512B512 b:x1.1",
            "a:A512B512 b:x1y1",
            "a:A512B512 b:x1.2",
            "a:A512B512 b:x1y1.1",
            "a:A512B512 b:x1y1z1",
        ],
    ),
    ("a cut", |disk| set_len(disk, "a", 100), &["a:A512B512", "a:A100"]),
    (
        "a cut, then growth: the bytes that were cut are gone",
        |disk| {
            set_len(disk, "a", 100);
            set_len(disk, "a", 1024);
        },
        &["a:A512B512", "a:A100", "a:A100.924"],
    ),
    (
        "a cut, then a write",
        |disk| {
            set_len(disk, "a", 0);
            write(disk, "a", 0, b'C', 512);
        },
        &["a:A512B512", "a:C512B512", "a:", "a:.512", "a:C512"],
    ),
    (
        "a write, then a cut and growth",
        |disk| {
            write(disk, "a", 512, b'C', 512);
            set_len(disk, "a", 512);
            set_len(disk, "a", 600);
        },
        &["a:A512B512", "a:A512C512", "a:A512", "a:A512.88"],
    ),
    (
        "the same bytes after a cut and growth",
        |disk| {
            set_len(disk, "a", 0);
            write(disk, "a", 0, b'A', 512);
            set_len(disk, "a", 1024);
        },
        &["a:A512B512", "a:", "a:.512", "a:A512", "a:.1024", "a:A512.512"],
    ),
    ("an allocation", |disk| allocate(disk, "a", 1030), &["a:A512B512", "a:A512B512.6"]),
    ("an allocation of what is there", |disk| allocate(disk, "a", 1024), &["a:A512B512"]),
    (
        "a new file, synced without its name",
        |disk| {
            create(disk, "b", b'N', 3);
            sync(disk, "b");
        },
        &["a:A512B512", "a:A512B512 b:N3"],
    ),
    (
        "a new name, synced without its file",
        |disk| {
            create(disk, "b", b'N', 3);
            sync_names(disk, "/");
        },
        &["a:A512B512 b:", "a:A512B512 b:.3", "a:A512B512 b:N3"],
    ),
    (
        "a rename without a sync of the directory",
        |disk| {
            disk.write_file("b", b"N").unwrap();
            rename(disk, "b", "a");
        },
        &["a:A512B512 b:N1", "a:N1"],
    ),
    (
        "a rename with a sync of the directory",
        |disk| {
            disk.write_file("b", b"N").unwrap();
            rename(disk, "b", "a");
            sync_names(disk, "/");
        },
        &["a:N1"],
    ),
    (
        "a rename before the sync of the file",
        |disk| {
            disk.write_file("b", b"").unwrap();
            write(disk, "b", 0, b'N', 1);
            rename(disk, "b", "a");
            sync_names(disk, "/");
        },
        &["a:", "a:.1", "a:N1"],
    ),
    (
        "a new file, renamed",
        |disk| {
            create(disk, "b", b'N', 1);
            sync(disk, "b");
            rename(disk, "b", "c");
        },
        &["a:A512B512", "a:A512B512 b:N1", "a:A512B512 c:N1"],
    ),
    (
        "two renames: never two names",
        |disk| {
            rename(disk, "a", "b");
            rename(disk, "b", "c");
        },
        &["a:A512B512", "b:A512B512", "c:A512B512"],
    ),
    ("a removal", |disk| remove(disk, "a"), &["a:A512B512", ""]),
    (
        "a removal and a new file of the name",
        |disk| {
            remove(disk, "a");
            create(disk, "a", b'N', 1);
            sync(disk, "a");
        },
        &["a:A512B512", "", "a:N1"],
    ),
    (
        "writes to a removed file",
        |disk| {
            write(disk, "a", 0, b'C', 512);
            remove(disk, "a");
        },
        &["a:A512B512", "a:C512B512", ""],
    ),
    (
        "a synced file in an unsynced directory",
        |disk| {
            disk.create_dir(Path::new("d")).unwrap();
            create(disk, "d/b", b'N', 1);
            sync(disk, "d/b");
            sync_names(disk, "d");
        },
        &["a:A512B512", "a:A512B512 d/b:N1"],
    ),
    (
        "a barrier that does nothing",
        |disk| {
            disk.disable_barrier(Barrier::Copy);
            write(disk, "a", 0, b'C', 512);
            sync(disk, "a");
            create(disk, "b", b'N', 0);
            sync_names(disk, "/");
        },
        &["a:A512B512", "a:C512B512", "a:A512B512 b:", "a:C512B512 b:"],
    ),
    (
        "a lock",
        |disk| drop(disk.lock(Path::new("b")).unwrap()),
        &["a:A512B512", "a:A512B512 b:pid"],
    ),
];

#[test]
fn scripts_leave_exactly_the_listed_images() {
    for (name, script, expected) in SCRIPTS {
        let disk = prepared();
        script(&disk);
        let expected: BTreeSet<String> = expected.iter().map(|image| image.to_string()).collect();
        assert_eq!(images(&disk.crash_point()), expected, "{name}");
        // The recording's end is now, seen from afar.
        let recorded = disk.record().crash_point(usize::MAX);
        assert_eq!(images(&recorded), expected, "{name}, recorded");
    }
}
