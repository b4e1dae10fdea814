//! Tests of the manifest's codec.

use super::*;
use crate::bytes::testing::{Random, assert_golden, every_bit_flip};

fn sample() -> Manifest {
    Manifest {
        generation: Generation(5),
        database: DatabaseId(*b"0123456789abcdef"),
        features: Features { compatible: 1 << 63, read_only: 0, incompatible: 0 },
        created_micros: 1_700_000_000_000_000,
        written_micros: 1_700_000_000_000_001,
        next_file_id: FileId(9),
        next_keyspace_id: KeyspaceId(4),
        checkpoint_seqno: Seqno(70),
        checkpoint_lsn: Lsn(0x10_2008),
        segment_base: Lsn(0x10_0000),
        next_segment_bytes: 0x20_0000,
        epochs: vec![
            EpochRange { epoch: Epoch(2), salt: 22, start: Lsn(0x1000), end: Some(Lsn(0x10_3000)) },
            EpochRange { epoch: Epoch(3), salt: 33, start: Lsn(0x20_0000), end: None },
        ],
        last_epoch: Epoch(3),
        clean: false,
        salvaged: true,
        keyspaces: vec![
            KeyspaceEntry { id: KeyspaceId(0), name: "default".into(), created: Seqno(0) },
            KeyspaceEntry { id: KeyspaceId(3), name: "ü".into(), created: Seqno(60) },
        ],
        runs: vec![
            RunEntry {
                min_seqno: Seqno(51),
                max_seqno: Seqno(70),
                level: 0,
                tables: vec![vec![1, 2]],
            },
            RunEntry {
                min_seqno: Seqno(1),
                max_seqno: Seqno(50),
                level: 1,
                tables: vec![vec![3], vec![4, 5, 6]],
            },
        ],
    }
}

fn smallest() -> Manifest {
    Manifest {
        generation: Generation(1),
        next_file_id: FileId(1),
        next_segment_bytes: 8192,
        ..Manifest::default()
    }
}

/// Mends both checksums of a changed manifest.
fn mend(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
    set_u32(bytes, HEADER_CRC_AT, crc);
    let body_end = bytes.len() - 4;
    let crc = body_crc(&bytes[..MANIFEST_HEADER_BYTES], &bytes[MANIFEST_HEADER_BYTES..body_end]);
    set_u32(bytes, body_end, crc);
}

/// Changing these bytes means a new format version.
#[test]
fn golden() {
    assert_golden(
        &sample().encode(),
        "
            48576d616e69660a 0100000000000000 0000000000000080 0000000000000000
            0000000000000000 1b01000000000000 0000000000000000 0000000035fee2b4
            0500000000000000 3031323334353637 3839616263646566 00401e18240a0600
            01401e18240a0600 0900000000000000 0400000002000000 4600000000000000
            0820100000000000 0000100000000000 0000200000000000 0300000000000000
            0200000002000000 0200000000000000 0200000000000000 1600000000000000
            0010000000000000 0030100000000000 0300000000000000 2100000000000000
            0000200000000000 ffffffffffffffff 0000000007000000 0000000000000000
            64656661756c7403 000000020000003c 00000000000000c3 bc33000000000000
            0046000000000000 0000000000010000 0002000000010201 0000000000000032
            0000000000000001 0000000200000001 0000000303000000 040506eeb79ffd
            ",
    );
}

#[test]
fn round_trips() {
    let large = Manifest {
        runs: vec![RunEntry {
            tables: vec![vec![7; MAX_TABLE_META_BYTES]; 3],
            level: MAX_RUN_LEVEL,
            ..RunEntry::default()
        }],
        // Miri is some thousand times slower.
        keyspaces: (0..if cfg!(miri) { 20 } else { 1000_u32 })
            .map(|id| KeyspaceEntry {
                id: KeyspaceId(id),
                name: format!("{id:0255}"),
                created: Seqno(1),
            })
            .collect(),
        next_keyspace_id: KeyspaceId(1000),
        ..sample()
    };
    let mut closed = Manifest { clean: true, ..sample() };
    closed.epochs[1].end = Some(Lsn(0x20_0000));
    for manifest in [sample(), smallest(), large, closed] {
        let bytes = manifest.encode();
        assert_eq!(bytes.len(), manifest.encoded_bytes());
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }
}

#[test]
fn every_bit_flip_and_every_cut_is_refused() {
    for bytes in [sample().encode(), smallest().encode()] {
        every_bit_flip(&bytes, |bit, changed| {
            let fault = Manifest::decode(changed).expect_err(&format!("bit {bit} changed unseen"));
            // A changed bit is damage, never a newer version or unknown features.
            assert!(matches!(fault, ManifestFault::Magic | ManifestFault::Crc { .. }), "bit {bit}");
        });
        for length in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..length]), Err(ManifestFault::Short), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let offset = bytes.len() as u64;
        assert_eq!(Manifest::decode(&longer), Err(ManifestFault::Trailing { offset }));
    }
}

#[test]
fn halves_of_two_manifests_do_not_make_a_third() {
    let one = sample().encode();
    let other = Manifest { features: Features::default(), ..sample() }.encode();
    let mixed = [&one[..MANIFEST_HEADER_BYTES], &other[MANIFEST_HEADER_BYTES..]].concat();
    let offset = one.len() as u64 - 4;
    assert_eq!(Manifest::decode(&mixed), Err(ManifestFault::Crc { offset }));
}

#[test]
fn versions_and_features_are_told_from_damage() {
    let changed = |at: usize, value: u64| {
        let mut bytes = sample().encode();
        set_u64(&mut bytes, at, value);
        mend(&mut bytes);
        Manifest::decode(&bytes)
    };
    assert_eq!(changed(8, 2), Err(ManifestFault::Version { found: 2 }));
    assert_eq!(changed(32, 6), Err(ManifestFault::IncompatibleFeatures { found: 6 }));
    assert!(matches!(changed(8, 1 | 1 << 32), Err(ManifestFault::Field { offset: 12, .. })));
    assert!(matches!(changed(48, 1), Err(ManifestFault::Field { .. })));
    assert!(matches!(changed(40, u64::MAX), Err(ManifestFault::Field { offset: 40, .. })));
    assert_eq!(changed(40, 1 << 20), Err(ManifestFault::Short));
    let read_only = changed(24, 4).unwrap();
    assert!(!read_only.read_only_features_supported());
    let compatible = changed(16, u64::MAX).unwrap();
    assert!(compatible.read_only_features_supported());
    assert_eq!(compatible.features.compatible, u64::MAX, "unknown compatible bits are kept");
}

#[test]
fn broken_invariants_are_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 29] = [
        ("generation", |m| m.generation = Generation(0)),
        ("generation", |m| m.generation = Generation(u64::MAX)),
        ("next file id", |m| m.next_file_id = FileId(0)),
        ("next file id", |m| m.next_file_id = FileId(COUNTER_LIMIT)),
        ("checkpoint seqno", |m| m.checkpoint_seqno = Seqno(u64::MAX)),
        ("checkpoint LSN", |m| m.checkpoint_lsn = Lsn(COUNTER_LIMIT)),
        ("boundary", |m| m.checkpoint_lsn = Lsn(0x10_2001)),
        ("segment base", |m| m.segment_base = Lsn(0x10_0008)),
        ("segment base", |m| m.segment_base = Lsn(0x10_3000)),
        ("segment length", |m| m.next_segment_bytes = 0),
        ("segment length", |m| m.next_segment_bytes = 0x20_0001),
        ("above the last", |m| m.last_epoch = Epoch(2)),
        ("last epoch", |m| m.last_epoch = Epoch(COUNTER_LIMIT)),
        ("epoch", |m| m.epochs[0].epoch = Epoch(0)),
        ("ascend", |m| m.epochs[0].epoch = Epoch(3)),
        ("end of the one before", |m| m.epochs[1].start = Lsn(0x10_2000)),
        ("end of the one before", |m| m.epochs[0].end = None),
        ("end of an epoch", |m| m.epochs[0].end = Some(Lsn(0xfff))),
        ("end of an epoch", |m| m.epochs[0].end = Some(Lsn(COUNTER_LIMIT))),
        ("clean", |m| m.clean = true),
        ("above the next", |m| m.next_keyspace_id = KeyspaceId(3)),
        ("id appears twice", |m| m.keyspaces[1].id = KeyspaceId(0)),
        ("name appears twice", |m| m.keyspaces[1].name = "default".into()),
        ("too long", |m| m.keyspaces[1].name = "x".repeat(256)),
        ("wrong way", |m| m.runs[0].min_seqno = Seqno(71)),
        ("seqno of a run", |m| m.runs[0].max_seqno = Seqno(u64::MAX)),
        ("level", |m| m.runs[0].level = MAX_RUN_LEVEL + 1),
        ("table meta", |m| m.runs[1].tables[0] = Vec::new()),
        ("table meta", |m| m.runs[1].tables[0] = vec![0; MAX_TABLE_META_BYTES + 1]),
    ];
    for (index, (expected, change)) in changes.into_iter().enumerate() {
        let mut manifest = sample();
        change(&mut manifest);
        match Manifest::decode(&manifest.encode_unchecked()) {
            Err(ManifestFault::Field { what, .. }) => {
                assert!(what.contains(expected), "case {index}: {what} is not {expected}");
            }
            other => panic!("case {index} ({expected}): {other:?}"),
        }
    }
}

/// Counts, lengths and everything else out of a damaged body whose checksum holds: an error or a
/// manifest, never a panic and never an allocation beyond the file's length.
#[test]
fn random_bodies_never_panic_and_never_alias() {
    let mut random = Random(61);
    let good = sample().encode();
    let mut taken = 0;
    let tries = crate::bytes::testing::scaled(50_000);
    for _ in 0..tries {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            let at = MANIFEST_HEADER_BYTES + random.below(bytes.len() - MANIFEST_HEADER_BYTES - 4);
            bytes[at] = [0, 1, 0x7f, 0xff, random.next() as u8][random.below(5)];
        }
        mend(&mut bytes);
        if let Ok(manifest) = Manifest::decode(&bytes) {
            taken += 1;
            assert_eq!(manifest.encode(), bytes);
        }
        let length = random.below(300);
        assert!(Manifest::decode(&random.bytes(length)).is_err());
    }
    assert!(taken >= tries / 50, "only {taken} changes left a manifest: the test says little");
}

#[test]
fn counts_are_bounded_before_they_are_used() {
    for at in [160, 164, 168] {
        let mut bytes = smallest().encode();
        set_u32(&mut bytes, at, u32::MAX);
        mend(&mut bytes);
        let what = "more entries than bytes";
        assert_eq!(Manifest::decode(&bytes), Err(ManifestFault::Field { offset: 176, what }));
    }
}
