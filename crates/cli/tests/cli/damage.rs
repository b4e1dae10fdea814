//! Databases whose bytes were changed, or that a newer version wrote.

use crate::support::Place;

const COMMANDS: [&[&str]; 4] =
    [&["info", "db"], &["get", "db", "k", "a"], &["put", "db", "k", "a", "c"], &["compact", "db"]];

#[test]
fn damage_has_its_own_exit_code_and_changes_nothing() {
    let place = Place::new();
    place.ok(&["put", "db", "k", "a", "b"]);
    let path = place.path("db/MANIFEST");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for args in COMMANDS {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(5), ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains("damage in db/MANIFEST at byte"), "{ran:?}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    std::fs::remove_file(&path).unwrap();
    for args in COMMANDS {
        let ran = place.run(args);
        assert_eq!(ran.code, Some(5), "{args:?}: {ran:?}");
        assert!(ran.err.contains("manifest is missing"), "{ran:?}");
    }
}

#[test]
fn a_newer_format_is_named() {
    let place = Place::new();
    place.ok(&["put", "db", "k", "a", "b"]);
    let path = place.path("db/MANIFEST");
    let mut bytes = std::fs::read(&path).unwrap();
    // The version stands behind the magic; the header's checksum is its last four bytes.
    bytes[8..12].copy_from_slice(&99_u32.to_le_bytes());
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    for args in COMMANDS {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(12), ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains("format version 99"), "{ran:?}");
    }
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
