//! The hub's parquet files, read by row group. The file's class names come with the rows.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use parquet::basic::{Compression, Repetition, Type as PhysicalType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::Value;

use super::parquet_claims::{check_footer, check_pages};
use super::raw::{Fields, RawFile, RawRow, RawRows};
use super::tsv::list;
use crate::content::mistaken;
use crate::data::contained::contained;
use crate::settings::benchmarks::TASKS;

/// Allowed memory of rows beyond the file's size, and per byte of it: a dictionary stores a text once for many rows.
const MOST_ROWS_BYTES: u64 = 64 << 20;
const MOST_PER_BYTE: u64 = 64;
/// Memory of a row in addition to its texts.
const ROW_BYTES: u64 = 64;

/// Reads the wanted columns of every row.
///
/// # Errors
/// Not a parquet file, a damaged one, a missing column, or a column of another kind, with file, row and column.
pub fn read(path: &Path, fields: &Fields<'_>) -> Result<RawRows> {
    let file = RawFile::new(path, false);
    let name = file.name.clone();
    named_as_such(path, &name)?;
    // The library is not hardened against hostile files.
    contained(|| rows(path, fields, file))
        .map_err(|panic| anyhow!("{name}: not a readable parquet file ({panic})"))?
}

/// Says what a file is if its name fits but its content does not.
fn named_as_such(path: &Path, name: &str) -> Result<()> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    file.take(64).read_to_end(&mut start).with_context(|| format!("cannot read {name}"))?;
    if start.starts_with(b"PAR1") {
        return Ok(());
    }
    match mistaken(&start) {
        Some(what) => bail!("{name}: not a parquet file: {what}"),
        None => bail!("{name}: not a parquet file; was an error page saved instead?"),
    }
}

fn rows(path: &Path, fields: &Fields<'_>, file: RawFile) -> Result<RawRows> {
    let name = &file.name;
    let broken = |error| anyhow!("{name}: not a readable parquet file ({error})");
    let damaged = |error: String| anyhow!("{name}: not a readable parquet file: {error}");
    let mut input = File::open(path).with_context(|| format!("cannot open {name}"))?;
    check_footer(&mut input).map_err(damaged)?;
    let size = input.metadata().with_context(|| format!("cannot read {name}"))?.len();
    let most = MOST_ROWS_BYTES.saturating_add(size.saturating_mul(MOST_PER_BYTE));
    let reader = SerializedFileReader::new(input.try_clone()?).map_err(broken)?;
    let metadata = reader.metadata().file_metadata();
    let columns = metadata.schema().get_fields();
    let missing = fields.needed.iter().any(|field| !columns.iter().any(|c| c.name() == *field));
    if missing {
        let there: Vec<_> = columns.iter().map(|column| column.name()).collect();
        let known = TASKS.iter().find(|task| {
            let all = task.columns.text.iter().chain(&task.columns.pair);
            all.clone().all(|name| there.contains(name)) && there.contains(&task.columns.label)
        });
        bail!(
            "{name}: the columns {} are needed, but the file has {}{}",
            list(&fields.needed),
            list(&there),
            known.map_or(String::new(), |task| format!("; these look like {}'s", task.title))
        );
    }
    let wanted: Vec<Arc<Type>> =
        columns.iter().filter(|c| fields.all().any(|field| field == c.name())).cloned().collect();
    if let Some(nested) = wanted.iter().find(|column| column.is_group()) {
        bail!(
            "{name}: the column {:?} holds structures; text or a number is needed",
            nested.name()
        );
    }
    let repeated = wanted.iter().find(|column| {
        let about = column.get_basic_info();
        about.has_repetition() && about.repetition() == Repetition::REPEATED
    });
    if let Some(list) = repeated {
        bail!("{name}: the column {:?} holds lists; text or a number is needed", list.name());
    }
    let text = &fields.needed[..fields.texts];
    let number = |column: &&Arc<Type>| {
        text.contains(&column.name()) && column.get_physical_type() != PhysicalType::BYTE_ARRAY
    };
    if let Some(column) = wanted.iter().find(number) {
        bail!("{name}: the column {:?} holds numbers; text is needed", column.name());
    }
    let header = columns.iter().map(|column| column.name().to_owned()).collect();
    let chunks = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
    let unread =
        |codec: &Compression| !matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY);
    if let Some(codec) = chunks.map(|chunk| chunk.compression()).find(unread) {
        bail!(
            "{name}: it is compressed with {codec}, but only snappy and uncompressed parquet are supported; save it \
             with one of these"
        );
    }
    let is_wanted = |column: &str| fields.all().any(|field| field == column);
    check_pages(&mut input, reader.metadata(), &is_wanted).map_err(damaged)?;
    let classes = classes(metadata.key_value_metadata().into_iter().flatten(), fields);
    let projection = Type::group_type_builder(metadata.schema().name())
        .with_fields(wanted)
        .build()
        .map_err(broken)?;
    let (mut rows, mut taken) = (Vec::new(), 0u64);
    for row in reader.get_row_iter(Some(projection)).map_err(broken)? {
        let at = rows.len() as u64 + 1;
        let row = row.map_err(|error| {
            anyhow!("{}: the file is damaged from here on ({error})", file.place(at))
        })?;
        let values = values(row, fields, at, &file)?;
        let texts = values.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
        taken = taken.saturating_add(ROW_BYTES + texts);
        if taken > most {
            bail!(
                "{}: {size} bytes unpack to more than {most} of text up to here, far more than plausible",
                file.place(at)
            );
        }
        rows.push(RawRow { at, fields: values });
    }
    Ok(RawRows { file, header, rows, cut: None, broken: Vec::new(), classes })
}

fn values(row: Row, fields: &Fields<'_>, at: u64, file: &RawFile) -> Result<Vec<Option<String>>> {
    let cells = row.into_columns();
    let value = |column: &str| {
        let Some((_, cell)) = cells.iter().find(|(name, _)| name == column) else {
            return Ok(None);
        };
        Ok(Some(match cell {
            Field::Null => return Ok(None),
            Field::Str(text) => text.clone(),
            Field::Bool(truth) => truth.to_string(),
            Field::Byte(number) => number.to_string(),
            Field::Short(number) => number.to_string(),
            Field::Int(number) => number.to_string(),
            Field::Long(number) => number.to_string(),
            Field::UByte(number) => number.to_string(),
            Field::UShort(number) => number.to_string(),
            Field::UInt(number) => number.to_string(),
            Field::ULong(number) => number.to_string(),
            Field::Float(number) => number.to_string(),
            Field::Double(number) => number.to_string(),
            Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
                Ok(text) => text.to_owned(),
                Err(_) => bail!("{}: invalid UTF-8", file.cell(at, column)),
            },
            _ => bail!("{}: neither text nor a number", file.cell(at, column)),
        }))
    };
    fields.all().map(value).collect()
}

/// The names of the classes in numerical order, as the hub's library writes them next to the schema.
fn classes<'a>(
    metadata: impl Iterator<Item = &'a parquet::file::metadata::KeyValue>,
    fields: &Fields<'_>,
) -> Option<Vec<String>> {
    let said =
        metadata.filter(|entry| entry.key == "huggingface").find_map(|e| e.value.as_ref())?;
    let said: Value = serde_json::from_str(said).ok()?;
    let features = &said["info"]["features"];
    let names = fields.all().find_map(|field| features[field]["names"].as_array())?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
