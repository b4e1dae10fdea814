//! A table file, field by field: its header, and the block around an offset.

use super::annotate::{Annotation, Content, SHOWN_BYTES, made, raw, read};
use super::layout::{Reader, hex, plain};
use crate::error::Result;
use crate::fs::File;
use crate::table::format::{
    ALIGNMENT_BYTES, BLOCK_HEADER_BYTES, BlockHeader, Extent, FILE_HEADER_BYTES, FileHeader,
    Identity,
};
use std::path::Path;

/// The structure around an offset.
pub(super) fn table(file: &dyn File, path: &Path, length: u64, offset: u64) -> Result<Annotation> {
    let head = read(file, path, 0, FILE_HEADER_BYTES as u64)?;
    if offset < FILE_HEADER_BYTES as u64 {
        return Ok(file_header(&head));
    }
    let identity = head.first_chunk().and_then(FileHeader::decode).map(|header| header.identity);
    let mut at = FILE_HEADER_BYTES as u64;
    while at <= offset {
        let bytes = read(file, path, at, BLOCK_HEADER_BYTES as u64)?;
        let decoded = BlockHeader::decode(&bytes).map(|(header, _)| header);
        let step = match decoded {
            Some(header) if at + u64::from(header.length_bytes) <= length => {
                u64::from(header.length_bytes)
            }
            _ => ALIGNMENT_BYTES as u64,
        };
        if offset < at + step {
            let Some(header) = decoded.filter(|_| step > 0) else { break };
            if step != u64::from(header.length_bytes) {
                break;
            }
            let bytes = read(file, path, at, step.min(SHOWN_BYTES))?;
            return Ok(block(&bytes, at, &header, identity));
        }
        at += step;
    }
    raw(file, path, offset, "table", "bytes that are no block")
}

fn file_header(bytes: &[u8]) -> Annotation {
    let mut reader = Reader::new(bytes, 0);
    reader.magic(b"HWTABLE\n");
    reader.u32("version", plain);
    reader.u32("incompatible-features", |bits| format!("{bits:#x}"));
    reader.u32("compatible-features", |bits| format!("{bits:#x}"));
    reader.zeros(4, "reserved");
    reader.u64("file-id", plain);
    reader.hex(16, "database-id");
    reader.zeros(12, "reserved");
    let expected = bytes.first_chunk::<FILE_HEADER_BYTES>().map_or(0, |bytes| {
        let mut database = [0; 16];
        database.copy_from_slice(&bytes[32..48]);
        let mut id = [0; 8];
        id.copy_from_slice(&bytes[24..32]);
        let identity = Identity {
            database: crate::types::DatabaseId(database),
            file_id: crate::types::FileId(u64::from_le_bytes(id)),
        };
        let mut hasher = identity.hasher(0);
        hasher.update(&bytes[..60]);
        hasher.finalize()
    });
    reader.crc("crc", expected);
    made("table", "file header", 0, bytes.len() as u64, reader)
}

fn block(bytes: &[u8], start: u64, header: &BlockHeader, identity: Option<Identity>) -> Annotation {
    let mut reader = Reader::new(bytes, start);
    reader.magic(b"HWBK");
    match identity {
        Some(identity) if bytes.len() == header.length_bytes as usize => {
            let mut hasher = identity.hasher(start);
            hasher.update(&bytes[8..]);
            reader.crc("crc", hasher.finalize());
        }
        _ => {
            reader.u32("crc", |crc| format!("{crc:08x}, not checked"));
        }
    }
    let name = match header.kind as u8 {
        1 => "data",
        2 => "value",
        3 => "ranges",
        4 => "index",
        5 => "filter",
        _ => "footer",
    };
    reader.u32("length", plain);
    reader.u8("kind", |kind| format!("{kind}: {name}"));
    reader.u8("form", |form| {
        let name = match form {
            0 => "general",
            1 => "uniform values",
            2 => "uniform tombstones",
            _ => "unknown",
        };
        format!("{form}: {name}")
    });
    reader.u8("codec", plain);
    reader.u8("padding", |bytes| format!("{bytes} bytes at the end"));
    reader.u32("keyspace", plain);
    reader.u32("number", plain);
    reader.u32("count", plain);
    reader.u16("key-bytes", plain);
    reader.u16("value-bytes", plain);
    let end = bytes.len() - usize::from(header.padding_bytes).min(bytes.len() - reader.at());
    let _ = match name {
        "data" => data(&mut reader, bytes, header, end),
        "value" => reader.bytes_of(end - reader.at(), "value", Content::Value),
        "ranges" => ranges(&mut reader, header.count),
        "index" => index(&mut reader, header.count),
        "filter" => filter(&mut reader, header.count),
        _ => footer(&mut reader),
    };
    if reader.at() < end {
        reader.bytes_of(end - reader.at(), "not told apart", Content::Value);
    }
    reader.seek(end);
    reader.zeros(bytes.len() - end, "padding");
    made("table", &format!("{name} block"), start, u64::from(header.length_bytes), reader)
}

fn data(reader: &mut Reader<'_>, bytes: &[u8], header: &BlockHeader, end: usize) -> Option<()> {
    let count = header.count as usize;
    reader.take(count, "fingerprints", Content::Plain, |_| format!("{count} bytes, one a key"))?;
    let form = bytes.get(13).copied()?;
    if form != 0 {
        for number in 1..=count {
            let (key, value) = (usize::from(header.key_bytes), usize::from(header.value_bytes));
            reader.bytes_of(key, &format!("key {number}"), Content::Key)?;
            if form == 1 {
                reader.bytes_of(value, "value", Content::Value)?;
            }
        }
        return Some(());
    }
    let wide = bytes.len() > 65_536;
    let ends = count * if wide { 4 } else { 2 };
    let stored =
        reader.take(ends, "ends", Content::Plain, |_| format!("{count} ends of entries"))?;
    let first = reader.at();
    for number in 0..count {
        let stop = match wide {
            true => u32::from_le_bytes(*stored.get(number * 4..)?.first_chunk()?) as usize,
            false => usize::from(u16::from_le_bytes(*stored.get(number * 2..)?.first_chunk()?)),
        };
        let stop = (first + stop).min(end);
        let shape = reader.varint("shape", |shape| {
            let what = match shape & 3 {
                0 => "a value",
                1 => "a tombstone",
                2 => "a value in a block of its own",
                _ => "unknown",
            };
            format!("{shape}: a key of {} bytes, {what}", shape >> 2)
        })?;
        let name = format!("key {}", number + 1);
        reader.bytes_of((shape >> 2) as usize, &name, Content::Key)?;
        match shape & 3 {
            0 => reader.bytes_of(stop.checked_sub(reader.at())?, "value", Content::Value)?,
            2 => {
                reader.u32("value block", plain)?;
                reader.u32("value length", plain)?;
            }
            _ => {}
        }
    }
    Some(())
}

fn ranges(reader: &mut Reader<'_>, count: u32) -> Option<()> {
    for number in 1..=count {
        let has_end = reader.u8(&format!("range {number} has-end"), plain)?;
        reader.key("start")?;
        if has_end == 1 {
            reader.key("end")?;
        }
    }
    Some(())
}

fn extent(reader: &mut Reader<'_>, name: &str) -> Option<u64> {
    reader.u64(name, |word| match (word, Extent::decode(word, u64::MAX)) {
        (0, _) => "none".to_owned(),
        (_, Some(extent)) => format!("{} bytes at {}", extent.length_bytes(), extent.offset()),
        (_, None) => "no place in a file".to_owned(),
    })
}

fn index(reader: &mut Reader<'_>, sections: u32) -> Option<()> {
    let data = reader.u32("data-blocks", plain)?;
    let values = reader.u32("value-blocks", plain)?;
    let ranges = reader.u32("range-blocks", plain)?;
    for (name, count) in [("data", data), ("value", values), ("ranges", ranges)] {
        for number in 0..count {
            extent(reader, &format!("{name} block {number}"))?;
        }
    }
    for number in 1..=sections {
        reader.u32(&format!("section {number} keyspace"), plain)?;
        let blocks = reader.u32("data-blocks", plain)?;
        reader.u32("range-blocks", plain)?;
        reader.u64("entries", plain)?;
        reader.u64("tombstones", plain)?;
        reader.u64("block-bytes", plain)?;
        reader.key("prefix")?;
        for _ in 1..blocks {
            reader.key("fence")?;
        }
    }
    Some(())
}

fn filter(reader: &mut Reader<'_>, lines: u32) -> Option<()> {
    for number in 0..lines {
        reader.take(64, &format!("line {number}"), Content::Plain, |line| {
            let bits: u32 = line.iter().map(|byte| byte.count_ones()).sum();
            format!("{bits} of 512 bits: {}…", hex(&line[..8]))
        })?;
    }
    Some(())
}

fn footer(reader: &mut Reader<'_>) -> Option<()> {
    reader.u64("file-bytes", plain)?;
    reader.u64("entries", plain)?;
    reader.u64("tombstones", plain)?;
    reader.u64("range-tombstones", plain)?;
    extent(reader, "index")?;
    extent(reader, "filter")?;
    reader.u32("index-crc", |crc| format!("{crc:08x}"))?;
    reader.u32("filter-crc", |crc| format!("{crc:08x}"))?;
    reader.zeros(40, "reserved");
    Some(())
}
