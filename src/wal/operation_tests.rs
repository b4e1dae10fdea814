//! Tests of the operation codec.

use super::*;
use crate::bytes::testing::{Random, assert_golden};

fn samples() -> Vec<Operation<'static>> {
    let keyspace = KeyspaceId(300);
    vec![
        Operation::Put { keyspace, key: b"key", value: b"value" },
        Operation::Remove { keyspace, key: b"" },
        Operation::RemoveRange { keyspace, start: b"a", end: Some(b"") },
        Operation::RemoveRange { keyspace: KeyspaceId::MAX, start: b"", end: None },
        Operation::RemoveRange { keyspace, start: b"a", end: Some(b"bc") },
        Operation::CreateKeyspace { id: keyspace, name: "näme" },
        Operation::DropKeyspace { id: KeyspaceId(0) },
        Operation::InstallTable { meta: &[9, 8, 7] },
    ]
}

fn encode(operations: &[Operation<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    operations.iter().for_each(|operation| operation.encode(&mut stream));
    stream
}

/// Changing these bytes means a new format version.
#[test]
fn golden() {
    assert_golden(
        &encode(&samples()),
        "
        01ac0203056b6579 76616c756502ac02 0003ac0201016103 ffffffff0f000003
        ac02010361626304 ac02056ec3a46d65 05000603090807
        ",
    );
}

#[test]
fn round_trips_and_tells_its_length() {
    let stream = encode(&samples());
    let decoded: Result<Vec<_>, _> = Operations::new(&stream).collect();
    assert_eq!(decoded.unwrap(), samples());
    for operation in samples() {
        assert_eq!(encode(&[operation]).len(), operation.encoded_bytes(), "{operation:?}");
    }
}

#[test]
fn the_limits_round_trip() {
    let (key, meta) = (vec![7; MAX_KEY_BYTES], vec![1; MAX_TABLE_META_BYTES]);
    let (keyspace, name) = (KeyspaceId(1), "n".repeat(MAX_KEYSPACE_NAME_BYTES));
    let operations = [
        Operation::Put { keyspace, key: &key, value: &meta },
        Operation::RemoveRange { keyspace, start: &key, end: Some(&key) },
        Operation::CreateKeyspace { id: keyspace, name: &name },
        Operation::InstallTable { meta: &meta },
    ];
    let stream = encode(&operations);
    let decoded: Result<Vec<_>, _> = Operations::new(&stream).collect();
    assert_eq!(decoded.unwrap(), operations);
    assert_eq!(operations.iter().map(Operation::encoded_bytes).sum::<usize>(), stream.len());
}

#[test]
fn every_cut_inside_an_operation_is_refused() {
    let stream = encode(&samples());
    let mut ends = vec![0];
    let mut operations = Operations::new(&stream);
    while operations.next().is_some() {
        ends.push(operations.offset());
    }
    for length in 0..stream.len() {
        let last = Operations::new(&stream[..length]).last();
        assert_eq!(matches!(last, Some(Err(OperationFault::Short))), !ends.contains(&length));
    }
}

#[test]
fn faults_are_told_apart_and_end_the_iterator() {
    let cases: [(&[u8], OperationFault); 13] = [
        (&[0], OperationFault::UnknownKind(0)),
        (&[7, 0, 0], OperationFault::UnknownKind(7)),
        (&[1, 0, 0x80, 0x80, 4, 0], OperationFault::Length),
        (&[1, 0, 0, 0x81, 0x80, 0x80, 0x80, 4], OperationFault::Length),
        (&[1, 0, 0, 0x80, 0x80, 0x80, 0x80, 4], OperationFault::Short),
        (&[2, 0x80, 0x80, 0x80, 0x80, 0x10, 0], OperationFault::Varint),
        (&[2, 0x80, 0, 0], OperationFault::Varint),
        (&[3, 0, 0, 0x81, 0x80, 4], OperationFault::Length),
        (&[3, 0, 0, 0x80, 0x80, 4], OperationFault::Short),
        (&[4, 0, 0x80, 2], OperationFault::Length),
        (&[4, 0, 1, 0xff], OperationFault::Name),
        (&[6, 0], OperationFault::Length),
        (&[6, 0x81, 0x80, 0x10], OperationFault::Length),
    ];
    for (bytes, fault) in cases {
        let mut stream = encode(&[Operation::DropKeyspace { id: KeyspaceId(1) }]);
        stream.extend_from_slice(bytes);
        let mut operations = Operations::new(&stream);
        assert!(operations.next().unwrap().is_ok());
        assert_eq!(operations.next(), Some(Err(fault)), "{bytes:02x?}");
        assert_eq!(operations.next(), None);
        assert_eq!(operations.offset(), 2);
    }
}

/// One operation, one encoding: whatever is taken is what would be written.
#[test]
fn random_bytes_never_panic_and_never_alias() {
    let mut random = Random(41);
    for _ in 0..crate::bytes::testing::scaled(50_000) {
        let mut stream = encode(&samples());
        for _ in 0..=random.below(3) {
            let at = random.below(stream.len());
            stream[at] = random.next() as u8;
        }
        let decoded: Vec<_> = Operations::new(&stream).map_while(Result::ok).collect();
        let again = encode(&decoded);
        assert_eq!(again, stream[..again.len()]);
    }
}
