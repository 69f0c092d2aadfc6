//! Checks the sizes that a parquet file claims against the file, before the `parquet` crate allocates anything of these
//! sizes: the metadata at its end, and the header of each page. What the crate then allocates is bounded by the file
//! and by a page.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::file::metadata::ParquetMetaData;

use super::thrift::{self, ThriftType, ThriftValue};

/// Longest metadata of a file. Those of benchmarks have a few thousand bytes.
const LONGEST_FOOTER: u64 = 1 << 20;
/// Deepest nesting of columns.
const DEEPEST: usize = 32;
/// Longest page header.
const LONGEST_HEADER: u64 = 1 << 16;
/// Largest page when unpacked. Writers end a page at one MiB, or after a long text.
const LARGEST_PAGE: i64 = 64 << 20;
/// Snappy's largest compression factor (64 bytes in 3), rounded up, and allowance for a small page.
const PACKED: i64 = 24;
const SMALL: i64 = 64;

const DATA: i64 = 0;
const DICTIONARY: i64 = 2;
const DATA_V2: i64 = 3;
/// Plain values, runs, and dictionary indices (old and new). The others state inside a page how much to allocate.
const ENCODINGS: [i64; 4] = [0, 2, 3, 8];

const LOGICAL: ThriftType = ThriftType::Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, ThriftType::Struct(&[(1, ThriftType::Int), (2, ThriftType::Int)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, ThriftType::Struct(&[(1, ThriftType::Byte), (2, ThriftType::Flag)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, ThriftType::Struct(&[(1, ThriftType::Byte)])),
    (17, ThriftType::Struct(&[(1, ThriftType::Binary)])),
    (18, ThriftType::Struct(&[(1, ThriftType::Binary), (2, ThriftType::Int)])),
]);
const EMPTY: ThriftType = ThriftType::Struct(&[]);
const TIME: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Flag),
    (2, ThriftType::Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)])),
]);
const STATISTICS: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Binary),
    (2, ThriftType::Binary),
    (3, ThriftType::Long),
    (4, ThriftType::Long),
    (5, ThriftType::Binary),
    (6, ThriftType::Binary),
    (7, ThriftType::Flag),
    (8, ThriftType::Flag),
    (9, ThriftType::Long),
]);
const COLUMN_DATA: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Int),
    (2, ThriftType::List(&ThriftType::Int)),
    (3, ThriftType::List(&ThriftType::Binary)),
    (4, ThriftType::Int),
    (5, ThriftType::Long),
    (6, ThriftType::Long),
    (7, ThriftType::Long),
    (8, ThriftType::List(&KEY_VALUE)),
    (9, ThriftType::Long),
    (10, ThriftType::Long),
    (11, ThriftType::Long),
    (12, STATISTICS),
    (
        13,
        ThriftType::List(&ThriftType::Struct(&[
            (1, ThriftType::Int),
            (2, ThriftType::Int),
            (3, ThriftType::Int),
        ])),
    ),
    (14, ThriftType::Long),
    (15, ThriftType::Int),
    (
        16,
        ThriftType::Struct(&[
            (1, ThriftType::Long),
            (2, ThriftType::List(&ThriftType::Long)),
            (3, ThriftType::List(&ThriftType::Long)),
        ]),
    ),
    (17, ThriftType::Struct(&[(1, BOX), (2, ThriftType::List(&ThriftType::Int))])),
]);
const BOX: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Double),
    (2, ThriftType::Double),
    (3, ThriftType::Double),
    (4, ThriftType::Double),
    (5, ThriftType::Double),
    (6, ThriftType::Double),
    (7, ThriftType::Double),
    (8, ThriftType::Double),
]);
const KEY_VALUE: ThriftType =
    ThriftType::Struct(&[(1, ThriftType::Binary), (2, ThriftType::Binary)]);
const COLUMN: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Binary),
    (2, ThriftType::Long),
    (3, COLUMN_DATA),
    (4, ThriftType::Long),
    (5, ThriftType::Int),
    (6, ThriftType::Long),
    (7, ThriftType::Int),
]);
const ROW_GROUP: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::List(&COLUMN)),
    (2, ThriftType::Long),
    (3, ThriftType::Long),
    (
        4,
        ThriftType::List(&ThriftType::Struct(&[
            (1, ThriftType::Int),
            (2, ThriftType::Flag),
            (3, ThriftType::Flag),
        ])),
    ),
    (5, ThriftType::Long),
    (6, ThriftType::Long),
    (7, ThriftType::Short),
]);
const SCHEMA_ELEMENT: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Int),
    (2, ThriftType::Int),
    (3, ThriftType::Int),
    (4, ThriftType::Binary),
    (5, ThriftType::Int),
    (6, ThriftType::Int),
    (7, ThriftType::Int),
    (8, ThriftType::Int),
    (9, ThriftType::Int),
    (10, LOGICAL),
]);
const FOOTER: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Int),
    (2, ThriftType::List(&SCHEMA_ELEMENT)),
    (3, ThriftType::Long),
    (4, ThriftType::List(&ROW_GROUP)),
    (5, ThriftType::List(&KEY_VALUE)),
    (6, ThriftType::Binary),
    (7, ThriftType::List(&ThriftType::Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))),
]);
const PAGE: ThriftType = ThriftType::Struct(&[
    (1, ThriftType::Int),
    (2, ThriftType::Int),
    (3, ThriftType::Int),
    (4, ThriftType::Int),
    (
        5,
        ThriftType::Struct(&[
            (1, ThriftType::Int),
            (2, ThriftType::Int),
            (3, ThriftType::Int),
            (4, ThriftType::Int),
            (5, STATISTICS),
        ]),
    ),
    (6, EMPTY),
    (7, ThriftType::Struct(&[(1, ThriftType::Int), (2, ThriftType::Int), (3, ThriftType::Flag)])),
    (
        8,
        ThriftType::Struct(&[
            (1, ThriftType::Int),
            (2, ThriftType::Int),
            (3, ThriftType::Int),
            (4, ThriftType::Int),
            (5, ThriftType::Int),
            (6, ThriftType::Int),
            (7, ThriftType::Flag),
            (8, STATISTICS),
        ]),
    ),
]);

/// Checks the metadata at the end of a file against the file, before the crate reads it.
///
/// # Errors
/// It is too long, not where it must be, or describes impossible columns.
pub(super) fn check_footer(file: &mut File) -> Result<(), String> {
    let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    let tail = bytes(file, length.saturating_sub(8), 8)?;
    let Some((&[a, b, c, d], b"PAR1")) = tail.split_first_chunk::<4>() else {
        return Err("it does not end like a parquet file".to_owned());
    };
    let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
    if footer > LONGEST_FOOTER || footer + 12 > length {
        return Err(format!("its footer claims {footer} bytes, but the file has {length}"));
    }
    let (footer, _) = thrift::read(&bytes(file, length - 8 - footer, footer)?, &FOOTER)?;
    check_schema(footer.get(2).map_or(&[], ThriftValue::elements))
}

/// Each element says how many of the following elements are nested in it.
fn check_schema(elements: &[ThriftValue]) -> Result<(), String> {
    // For each open element, how many are still to come.
    let mut open: Vec<u64> = Vec::new();
    for element in elements {
        let children = element.get(5).and_then(ThriftValue::number).unwrap_or(0);
        let children = u64::try_from(children).ok().filter(|n| *n <= elements.len() as u64);
        let children = children.ok_or("a column claims more columns than there are")?;
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        open.push(children);
        if open.len() > DEEPEST {
            return Err("its columns are nested too deeply".to_owned());
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

/// Checks the pages of the wanted columns against the file, whose metadata the crate has read.
///
/// # Errors
/// With the column: a page that claims more than the file has, or than its bytes can represent.
pub(super) fn check_pages(
    file: &mut File,
    metadata: &ParquetMetaData,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    for group in metadata.row_groups() {
        for column in group.columns() {
            let name = column.column_path().string();
            if !wanted(&name) {
                continue;
            }
            let (start, size) = column.byte_range();
            let end = start.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| {
                format!("column {name:?}: its pages extend beyond the file's {length} bytes")
            })?;
            let packed = column.compression() != parquet::basic::Compression::UNCOMPRESSED;
            pages(file, start, end, packed).map_err(|e| format!("column {name:?}: {e}"))?;
        }
    }
    Ok(())
}

fn pages(file: &mut File, mut at: u64, end: u64, packed: bool) -> Result<(), String> {
    while at < end {
        let start = bytes(file, at, LONGEST_HEADER.min(end - at))?;
        let (page, header) =
            thrift::read(&start, &PAGE).map_err(|e| format!("the page at byte {at}: {e}"))?;
        let body = check_page(&page, end - at - header as u64, packed)
            .map_err(|e| format!("the page at byte {at} {e}"))?;
        at += header as u64 + body;
    }
    Ok(())
}

/// Returns how many bytes follow the header.
fn check_page(page: &ThriftValue, left: u64, packed: bool) -> Result<u64, String> {
    let number = |value: &ThriftValue, id| value.get(id).and_then(ThriftValue::number);
    let missing = || "lacks a part of its header".to_owned();
    let needed = |value: &ThriftValue, id| number(value, id).ok_or_else(missing);
    let (kind, unpacked, stored) = (needed(page, 1)?, needed(page, 2)?, needed(page, 3)?);
    let body = u64::try_from(stored).ok().filter(|body| *body <= left);
    let body = body.ok_or_else(|| format!("claims that {stored} bytes follow, but {left} do"))?;
    let most = if packed { stored.saturating_mul(PACKED).saturating_add(SMALL) } else { stored };
    if !(0..=most.min(LARGEST_PAGE)).contains(&unpacked) {
        return Err(format!(
            "claims that its {stored} bytes unpack to {unpacked}; the most they can give is {most}, and up to {} \
             MiB are read",
            LARGEST_PAGE >> 20
        ));
    }
    let part = |id| page.get(id).ok_or_else(missing);
    let (values, encoding) = match kind {
        DATA => (needed(part(5)?, 1)?, needed(part(5)?, 2)?),
        DICTIONARY => (needed(part(7)?, 1)?, needed(part(7)?, 2)?),
        DATA_V2 => {
            let part = part(8)?;
            let values = needed(part, 1)?;
            let (nulls, rows) = (needed(part, 2)?, needed(part, 3)?);
            if !(0..=values).contains(&nulls) || !(0..=values).contains(&rows) {
                return Err(format!(
                    "has {values} values, {nulls} of them missing, in {rows} rows"
                ));
            }
            let levels = needed(part, 5)?.saturating_add(needed(part, 6)?);
            if !(0..=unpacked.min(stored)).contains(&levels) {
                return Err(format!("has {levels} bytes of levels among {unpacked}"));
            }
            (values, needed(part, 4)?)
        }
        other => return Err(format!("is of kind {other}, which is not supported")),
    };
    if !ENCODINGS.contains(&encoding) {
        return Err(format!(
            "uses the encoding {encoding}, which is not supported: save the file with plain or dictionary values"
        ));
    }
    // A dictionary's values are allocated at once; the shortest text and the smallest number take four bytes each.
    if values < 0 || (kind == DICTIONARY && values > unpacked / 4) {
        return Err(format!("claims that its {unpacked} bytes are {values} values"));
    }
    Ok(body)
}

fn bytes(file: &mut File, at: u64, count: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
    file.take(count).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Numeric fields, by field id.
    fn part(fields: &[(i16, i64)]) -> ThriftValue {
        ThriftValue::Struct(
            fields.iter().map(|&(id, number)| (id, ThriftValue::Number(number))).collect(),
        )
    }

    fn page(kind: i64, unpacked: i64, stored: i64, id: i16, about: &[(i16, i64)]) -> ThriftValue {
        let sizes = [(1, kind), (2, unpacked), (3, stored)];
        let ThriftValue::Struct(mut fields) = part(&sizes) else { return part(&[]) };
        fields.insert(id, part(about));
        ThriftValue::Struct(fields)
    }

    #[test]
    fn a_page_that_says_more_than_its_bytes_is_refused() {
        let plain = [(1, 10), (2, 0)];
        assert_eq!(check_page(&page(0, 100, 100, 5, &plain), 100, false), Ok(100));
        assert_eq!(check_page(&page(0, 2000, 100, 5, &plain), 100, true), Ok(100));
        let halves = [(1, 10), (2, 4), (3, 8), (4, 8), (5, 3), (6, 0)];
        assert_eq!(check_page(&page(3, 100, 90, 8, &halves), 90, true), Ok(90));
        let nulls = [(1, 10), (2, 11), (3, 8), (4, 8), (5, 3), (6, 0)];
        let levels = [(1, 10), (2, 4), (3, 8), (4, 8), (5, i64::from(i32::MAX)), (6, 1)];
        for (wrong, left, packed, why) in [
            (page(0, 100, 101, 5, &plain), 100, false, "101 bytes follow, but 100 do"),
            (page(0, 100, -1, 5, &plain), 100, false, "-1 bytes follow"),
            (
                page(0, 1 << 30, 100, 5, &plain),
                100,
                true,
                "unpack to 1073741824; the most they can give is 2464",
            ),
            (page(0, 101, 100, 5, &plain), 100, false, "unpack to 101"),
            (page(0, -1, 100, 5, &plain), 100, false, "unpack to -1"),
            (page(0, 65 << 20, 65 << 20, 5, &plain), 1 << 40, false, "up to 64 MiB are read"),
            (page(0, 100, 100, 5, &[(1, 10), (2, 5)]), 100, false, "the encoding 5"),
            (page(0, 100, 100, 5, &[(1, -1), (2, 0)]), 100, false, "-1 values"),
            (page(2, 100, 100, 7, &[(1, 26), (2, 0)]), 100, false, "26 values"),
            (page(3, 100, 90, 8, &nulls), 90, true, "11 of them missing"),
            (page(3, 100, 90, 8, &levels), 90, true, "bytes of levels"),
            (page(0, 100, 100, 7, &plain), 100, false, "lacks a part"),
            (page(9, 100, 100, 5, &plain), 100, false, "kind 9"),
        ] {
            let error = check_page(&wrong, left, packed).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn columns_that_cannot_be_are_refused() {
        let of = |children: &[i64]| {
            let elements: Vec<_> = children.iter().map(|&n| part(&[(5, n)])).collect();
            check_schema(&elements)
        };
        assert_eq!(of(&[2, 0, 2, 0, 0]), Ok(()));
        assert_eq!(check_schema(&[ThriftValue::Struct(BTreeMap::new())]), Ok(()));
        assert!(of(&[i64::from(i32::MAX), 0]).unwrap_err().contains("more columns than there are"));
        assert!(of(&[-1, 0]).is_err());
        assert!(of(&[1; 40]).unwrap_err().contains("too deep"));
    }
}
