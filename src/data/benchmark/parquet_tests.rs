//! Parquet files that are damaged, or claim more than they contain.

use super::*;
use crate::processor_time::ProcessorTime;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;

fn fields() -> Fields<'static> {
    Fields { needed: vec!["sentence", "label"], texts: 1, optional: vec!["idx"] }
}

fn read_bytes(folder: &Path, bytes: &[u8]) -> Result<RawRows> {
    let path = folder.join("rows.parquet");
    fs::write(&path, bytes).unwrap();
    read(&path, &fields())
}

/// A file of `rows` rows with the same text.
fn written(text: &str, rows: usize, schema: &str, packed: Compression) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(packed).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let text = ByteArray::from(text.as_bytes().to_vec());
    column.typed::<ByteArrayType>().write_batch(&vec![text; rows], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&vec![1; rows], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

const SCHEMA: &str = "message m { required binary sentence (UTF8); required int64 label; }";

#[test]
fn what_the_library_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for packed in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
        let read = read_bytes(folder.path(), &written("a b", 3000, SCHEMA, packed)).unwrap();
        assert_eq!(read.rows.len(), 3000);
        assert_eq!(read.rows[2999].fields, [Some("a b".into()), Some("1".into()), None]);
    }
}

#[test]
fn a_small_file_with_much_text_is_refused_at_the_row_where_it_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    // Four GiB in some 30 kB: one text in a dictionary, referenced 8000 times.
    let bytes = written(&"a".repeat(1 << 19), 8000, SCHEMA, Compression::SNAPPY);
    assert!(bytes.len() < 100_000, "{}", bytes.len());
    let error = read_bytes(folder.path(), &bytes).err().unwrap().to_string();
    assert!(
        error.contains("rows.parquet, row ") && error.contains("of text up to here"),
        "{error}"
    );
}

#[test]
fn any_byte_may_be_wrong() {
    let good = fs::read("tests/fixtures/glue/cola/test-00000-of-00001.parquet").unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(read_bytes(folder.path(), &good).is_ok());
    let begun = ProcessorTime::begin();
    for at in 0..good.len() {
        for wrong in [0x00, 0x7f, 0xff, good[at] ^ 1, good[at] ^ 0x10] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            drop(read_bytes(folder.path(), &bytes));
        }
    }
    for end in 0..good.len() {
        assert!(read_bytes(folder.path(), &good[..end]).is_err());
    }
    assert!(begun.taken().as_secs() < 300, "{:?}", begun.taken());
}
