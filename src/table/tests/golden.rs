//! Golden bytes: the code writes what `docs/format-table.md` says. A change here is a new format.

use super::{Model, Random, table};
use crate::table::{ReadMode, TableMeta, TableOptions};

/// One section in the uniform form, one with every kind of entry and a large value, range tombstones
/// with and without an end.
fn model() -> Model {
    let mut model = Model::default();
    for number in 0..3_u8 {
        model.put(1, [b'a', b'0' + number], [b'v', number, number]);
    }
    model.put(2, "", "");
    model.put(2, "apart", vec![b'L'; 8193]);
    model.delete(2, "gone");
    model.put(2, "key", "value");
    model.delete(3, "t1");
    model.delete(3, "t2");
    for number in 0..20_u8 {
        model.put(5, [b'p', b'q', number], [number; 9]);
    }
    model.delete_range(2, b"b", Some(b"d"));
    model.delete_range(2, b"c", Some(b"e"));
    model.delete_range(4, b"x", None);
    model
}

/// The file, block by block: what it is, its offset, its bytes in hexadecimal. Of the value block only
/// the header; its body is 8,193 times `L`.
const FILE: &[(&str, usize, &[&str])] = &[
    (
        "file header",
        0,
        &[
            "48575441424c450a010000000000000000000000000000000700000000000000",
            "3031323334353637383961626364656600000000000000000000000084999cc7",
        ],
    ),
    (
        "data",
        64,
        &[
            "4857424b5912a163400000000101000e01000000000000000300000002000300",
            "6068c26130760000613176010161327602020000000000000000000000000000",
        ],
    ),
    ("value", 128, &["4857424b4b320f43402000000200001f02000000000000000000000000000000"]),
    (
        "data",
        8384,
        &[
            "4857424bf6cc961f800000000100003702000000010000000400000000000000",
            "a03101d101000f0014001d0000166170617274000000000120000011676f6e65",
            "0c6b657976616c75650000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "data",
        8512,
        &[
            "4857424b2902237a400000000102001a03000000020000000200000002000000",
            "4208743174320000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "data",
        8576,
        &[
            "4857424bc5a82458c00000000101000405000000030000000c00000003000900",
            "36361abdcf89b06f2f8096e57071000000000000000000007071010101010101",
            "0101010170710202020202020202020270710303030303030303030370710404",
            "0404040404040404707105050505050505050505707106060606060606060606",
            "7071070707070707070707077071080808080808080808087071090909090909",
            "0909090970710a0a0a0a0a0a0a0a0a0a70710b0b0b0b0b0b0b0b0b0b00000000",
        ],
    ),
    (
        "data",
        8768,
        &[
            "4857424b5d57e32dc00000000101003805000000040000000800000003000900",
            "943af40c47d9d20a70710c0c0c0c0c0c0c0c0c0c70710d0d0d0d0d0d0d0d0d0d",
            "70710e0e0e0e0e0e0e0e0e0e70710f0f0f0f0f0f0f0f0f0f7071101010101010",
            "1010101070711111111111111111111170711212121212121212121270711313",
            "1313131313131313000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "ranges",
        8960,
        &[
            "4857424bb80bf3bd400000000300001902000000000000000100000000000000",
            "0101006201006500000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "ranges",
        9024,
        &[
            "4857424bbaff0a49400000000300001c04000000010000000100000000000000",
            "0001007800000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "index",
        9088,
        &[
            "4857424b3465f46a400100000400001100000000000000000500000000000000",
            "05000000010000000200000001000004000000000200000c0200000001000014",
            "0200000003000018020000000300002402000000810000080000000001000030",
            "0200000001000034020000000100000001000000000000000300000000000000",
            "0000000000000000400000000000000000000200000001000000010000000400",
            "0000000000000100000000000000002100000000000000000300000001000000",
            "0000000002000000000000000200000000000000400000000000000000000400",
            "0000000000000100000000000000000000000000000000000000400000000000",
            "0000000005000000020000000000000014000000000000000000000000000000",
            "8001000000000000030070710c00000000000000000000000000000000000000",
        ],
    ),
    (
        "filter",
        9408,
        &[
            "4857424b1b8a87dd800000000500002000000000000000000100000000000000",
            "1b8928553b0c88505408ea7e082c04384ad490b11364bc80acaf860091a21500",
            "09482610a102c5b162e0949ca331314152111003069c0a781bac58a838ac200a",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "footer",
        9536,
        &[
            "4857424be2976ba2800000000600000000000000000000000000000000000000",
            "c0250000000000001d0000000000000003000000000000000200000000000000",
            "05000038020000000200004c020000003465f46a1b8a87dd0000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
];

const META: &[&str] = &[
    "0700000000000000c025000000000000e2976ba21d0000000000000003000000",
    "000000000200000000000000010000000200613005000000010300707113",
];

#[test]
fn the_file_is_what_the_format_says() {
    let (bytes, meta) = model().build(TableOptions { block_bytes: 192, filter: true });
    let mut end = 0;
    for (name, offset, expected) in FILE {
        assert_eq!(end, *offset, "{name}");
        let expected = unhex(expected);
        end = offset + expected.len();
        assert_eq!(hex(&bytes[*offset..end]), hex(&expected), "{name} at {offset}");
        if *name == "value" {
            assert!(bytes[end..end + 8193].iter().all(|byte| *byte == b'L'));
            end = (end + 8193).next_multiple_of(64);
        }
    }
    assert_eq!(end, bytes.len());
    let mut encoded = Vec::new();
    meta.encode(&mut encoded);
    assert_eq!(hex(&encoded), META.concat());
}

/// A file of version 1 must be readable for ever, whatever the writer writes today.
#[test]
fn the_golden_file_can_be_read() {
    let mut bytes = Vec::new();
    for (name, offset, block) in FILE {
        bytes.resize(*offset, 0);
        bytes.extend(unhex(block));
        if *name == "value" {
            bytes.extend([b'L'; 8193]);
        }
    }
    let encoded = unhex(META);
    let meta = TableMeta::decode(&mut encoded.as_slice()).unwrap();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let table = table(bytes.clone(), &meta, mode);
        super::round_trip::verify(&table, &model(), &mut Random(3), "golden");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(lines: &[&str]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
    let text = lines.concat();
    text.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}
