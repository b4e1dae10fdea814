//! The manifest, field by field: its header, the fixed part of its body, and each entry of its lists.

use super::annotate::{Annotation, Content, made};
use super::layout::{Reader, plain};

const HEADER_BYTES: usize = 64;
const FIXED_END: usize = 176;

/// The part of a manifest around an offset.
pub(super) fn manifest(bytes: &[u8], offset: u64) -> Annotation {
    let mut parts = vec![header(bytes)];
    body(bytes, &mut parts);
    let last = parts.len() - 1;
    let place = parts.iter().position(|part| offset < part.offset + part.bytes).unwrap_or(last);
    parts.swap_remove(place)
}

fn header(bytes: &[u8]) -> Annotation {
    let bytes = &bytes[..bytes.len().min(HEADER_BYTES)];
    let mut reader = Reader::new(bytes, 0);
    reader.magic(b"HWmanif\n");
    reader.u32("format version", plain);
    reader.zeros(4, "reserved");
    reader.u64("compatible features", |bits| format!("{bits:#x}"));
    reader.u64("read-only features", |bits| format!("{bits:#x}"));
    reader.u64("incompatible features", |bits| format!("{bits:#x}"));
    reader.u64("body bytes", plain);
    reader.zeros(12, "reserved");
    reader.crc("header CRC", crc32fast::hash(&bytes[..bytes.len().min(60)]));
    made("manifest", "manifest header", 0, bytes.len() as u64, reader)
}

fn body(bytes: &[u8], parts: &mut Vec<Annotation>) -> Option<()> {
    let mut reader = part(bytes, HEADER_BYTES)?;
    reader.u64("generation", plain)?;
    reader.hex(16, "database id");
    reader.time("created")?;
    reader.time("written")?;
    reader.u64("next file id", plain)?;
    reader.u32("next keyspace id", plain)?;
    reader.u32("flags", |flags| {
        let clean = if flags & 1 == 0 { "not closed cleanly" } else { "closed cleanly" };
        let salvaged = if flags & 2 == 0 { "" } else { ", put together by salvage" };
        format!("{flags:#x}: {clean}{salvaged}")
    })?;
    reader.u64("checkpoint seqno", |n| format!("{n}: all commits up to it are in tables"))?;
    reader.u64("checkpoint LSN", |n| format!("{n}: replay starts here"))?;
    reader.u64("segment base", plain)?;
    reader.u64("next segment bytes", plain)?;
    reader.u64("last epoch", plain)?;
    let epochs = reader.u32("number of epochs", plain)?;
    let keyspaces = reader.u32("number of keyspaces", plain)?;
    let runs = reader.u32("number of runs", plain)?;
    reader.zeros(4, "reserved");
    let mut at = end(parts, "manifest body", HEADER_BYTES, reader);
    debug_assert_eq!(at, FIXED_END);
    for number in 1..=epochs {
        let mut reader = part(bytes, at)?;
        reader.u64("epoch", plain)?;
        reader.u64("salt", |salt| format!("{salt:016x}"))?;
        reader.u64("start LSN", plain)?;
        reader.u64("end LSN", |lsn| match lsn {
            u64::MAX => "still open".to_owned(),
            lsn => plain(lsn),
        })?;
        at = end(parts, &format!("epoch {number} of {epochs}"), at, reader);
    }
    for number in 1..=keyspaces {
        let mut reader = part(bytes, at)?;
        reader.u32("id", plain)?;
        let name = reader.u32("name bytes", plain)? as usize;
        reader.u64("created", |seqno| format!("{seqno}: the commit that made it"))?;
        reader.bytes_of(name, "name", Content::Key)?;
        at = end(parts, &format!("keyspace {number} of {keyspaces}"), at, reader);
    }
    for number in 1..=runs {
        let mut reader = part(bytes, at)?;
        reader.u64("lowest seqno", plain)?;
        reader.u64("highest seqno", plain)?;
        reader.u32("level", |level| match level {
            0 => "0: upper".to_owned(),
            1 => "1: base".to_owned(),
            other => plain(other),
        })?;
        let tables = reader.u32("number of tables", plain)?;
        at = end(parts, &format!("run {number} of {runs}"), at, reader);
        for table in 1..=tables {
            let mut reader = part(bytes, at)?;
            let meta = reader.u32("meta bytes", plain)? as usize;
            let until = reader.at() + meta;
            table_meta(&mut reader);
            reader.seek(until);
            let name = format!("table {table} of {tables} in run {number}");
            at = end(parts, &name, at, reader);
        }
    }
    let mut reader = part(bytes, at)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..60]);
    hasher.update(&bytes[HEADER_BYTES..at]);
    reader.crc("body CRC", hasher.finalize());
    reader.rest("bytes behind the manifest", Content::Value);
    end(parts, "end of the manifest", at, reader);
    Some(())
}

fn part(bytes: &[u8], at: usize) -> Option<Reader<'_>> {
    (at < bytes.len()).then(|| Reader::new(&bytes[at..], at as u64))
}

fn end(parts: &mut Vec<Annotation>, name: &str, at: usize, reader: Reader<'_>) -> usize {
    let length = reader.at();
    parts.push(made("manifest", name, at as u64, length as u64, reader));
    at + length
}

/// A table as the manifest and install records describe it.
pub(super) fn table_meta(reader: &mut Reader<'_>) -> Option<()> {
    reader.u64("file id", |id| format!("{id}: table-{id:016x}.hwt"))?;
    reader.u64("file bytes", plain)?;
    reader.u32("footer CRC", |crc| format!("{crc:08x}"))?;
    reader.u64("entries", plain)?;
    reader.u64("tombstones", plain)?;
    reader.u64("range tombstones", plain)?;
    reader.u32("first keyspace", plain)?;
    reader.key("first")?;
    reader.u32("last keyspace", plain)?;
    let has_last = reader.u8("has last", |has| match has {
        0 => "0: to the end of the keyspace".to_owned(),
        has => plain(has),
    })?;
    if has_last == 1 {
        reader.key("last")?;
    }
    Some(())
}
