//! A file of named f32 tensors with text metadata, and of lists of places in tensors as i32: the safetensors format,
//! read defensively.
//!
//! Written in sorted order, so that equal content gives equal bytes, and piece by piece if it is large. Read by the
//! `safetensors` crate; additionally refuses what the crate accepts (repeated keys, values that are not finite), with
//! one error for each kind of damage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use crate::content::{mistaken, mistaken_file};
use crate::files::write_atomic;
use crate::finite::first_not_finite;
use safetensors::Dtype;
use safetensors::tensor::{SafeTensorError, SafeTensors, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Larger files are refused unread: no delta, head or checkpoint comes close.
pub const MAX_FILE: u64 = 16 << 30;
/// Larger headers are refused unread.
pub const MAX_HEADER: u64 = 16 << 20;

/// Possible problems of a file of tensors. The messages do not name the file; callers add it.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("{0}")]
    Mistaken(&'static str),
    #[error("cannot read it")]
    Io(#[from] io::Error),
    #[error("it is {0} bytes long, too many for such a file; is it another kind of file?")]
    FileTooLarge(u64),
    #[error(
        "it is {0} bytes long, less than the 8 bytes that safetensors begins with; the file is truncated or of another kind"
    )]
    TooShort(u64),
    #[error(
        "its header claims {claimed} bytes, but the file has {present}; it is truncated or not safetensors"
    )]
    HeaderPastEnd { claimed: u64, present: u64 },
    #[error(
        "its header claims {0} bytes, more than any real file's; it is damaged or not safetensors"
    )]
    HeaderTooLarge(u64),
    #[error("its header is not text in UTF-8; the file is damaged or not safetensors")]
    HeaderNotUtf8,
    #[error("its header is not a safetensors header: {0}")]
    HeaderNotJson(String),
    #[error("its header names tensor `{0}` twice")]
    DuplicateTensor(String),
    #[error("its metadata has the key `{0}` twice")]
    DuplicateMetadata(String),
    #[error("tensor `{tensor}` is {dtype:?}; only F32 is supported, and I32 for places in tensors")]
    WrongDtype { tensor: String, dtype: Dtype },
    #[error("tensor `{0}` overlaps another, leaves a gap or ends before it begins")]
    BadOffsets(String),
    #[error("a tensor's shape does not match its bytes")]
    BadSize,
    #[error(
        "the data does not end where the header says: the file is truncated or has extra bytes at its end"
    )]
    BadEnd,
    #[error("a tensor's size overflows")]
    SizeOverflow,
    #[error("it is not valid safetensors: {0}")]
    Unreadable(SafeTensorError),
    #[error(
        "`{0}` is a list of places in a tensor, which must ascend from 0 in one dimension; these do not"
    )]
    BadPlaces(String),
    #[error("tensor `{tensor}` has {value} at place {place}: only finite values are accepted")]
    NotFinite { tensor: String, place: usize, value: f32 },
}

impl From<SafeTensorError> for ContainerError {
    fn from(error: SafeTensorError) -> Self {
        match error {
            SafeTensorError::InvalidOffset(tensor) => Self::BadOffsets(tensor),
            SafeTensorError::TensorInvalidInfo => Self::BadSize,
            SafeTensorError::MetadataIncompleteBuffer => Self::BadEnd,
            SafeTensorError::ValidationOverflow => Self::SizeOverflow,
            other => Self::Unreadable(other),
        }
    }
}

/// A tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A one-dimensional tensor.
    pub fn vector(data: Vec<f32>) -> Self {
        Self { shape: vec![data.len()], data }
    }
}

/// The content of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Tensor>,
    /// Places in tensors: ascending integers.
    pub places: BTreeMap<String, Vec<u32>>,
}

impl Container {
    /// The file's bytes. Equal content gives equal bytes.
    ///
    /// # Errors
    /// A tensor whose shape does not fit its data.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContainerError> {
        let tensors = self.tensors.iter();
        if tensors.clone().any(|(_, t)| count(&t.shape) != t.data.len()) {
            return Err(ContainerError::BadSize);
        }
        let shapes = tensors.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()));
        let mut bytes = header(&self.metadata, shapes, &self.places)?;
        for tensor in self.tensors.values() {
            bytes.extend(tensor.data.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes.extend(bytes_of(&self.places));
        Ok(bytes)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`ContainerError`].
    pub fn read(path: &Path) -> Result<Self, ContainerError> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if about.len() > MAX_FILE {
            return Err(ContainerError::FileTooLarge(about.len()));
        }
        let (mut bytes, header) = read_header(&mut file)?;
        header.check_types()?;
        // Known before any of it is read, so that a header of a hundred bytes cannot make us read the rest of a large
        // file.
        let data = header.data_bytes();
        if about.is_file() && about.len().saturating_sub(bytes.len() as u64) > data {
            return Err(ContainerError::BadEnd);
        }
        // A special file has no length.
        file.take(data.min(MAX_FILE) + 1).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// See [`ContainerError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ContainerError> {
        let (header, _) = split(bytes)
            .map_err(|error| mistaken(bytes).map_or(error, ContainerError::Mistaken))?;
        let header: Header = serde_json::from_str(header)
            .map_err(|error| ContainerError::HeaderNotJson(error.to_string()))?;
        header.check()?;
        header.check_types()?;
        let parsed = SafeTensors::deserialize(bytes)?;
        let (mut tensors, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in parsed.iter() {
            if view.dtype() == Dtype::I32 {
                let words = view.data().as_chunks::<4>().0.iter();
                let list: Vec<u32> = words.map(|word| u32::from_le_bytes(*word)).collect();
                let ascend = list.windows(2).all(|pair| pair[0] < pair[1]);
                let whole = list.last().is_none_or(|&last| last <= i32::MAX as u32);
                if view.shape().len() != 1 || !ascend || !whole {
                    return Err(ContainerError::BadPlaces(name.to_string()));
                }
                places.insert(name.to_string(), list);
                continue;
            }
            let data: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
                .collect();
            if let Some(place) = first_not_finite(&data) {
                let (tensor, value) = (name.to_string(), data[place]);
                return Err(ContainerError::NotFinite { tensor, place, value });
            }
            tensors.insert(name.to_string(), Tensor { shape: view.shape().to_vec(), data });
        }
        let metadata = header.metadata.into_iter().flatten().collect();
        Ok(Self { metadata, tensors, places })
    }
}

/// Values read and written at a time by [`write()`].
const PIECE: usize = 1 << 18;

/// The bytes of lists of places.
fn bytes_of(places: &BTreeMap<String, Vec<u32>>) -> Vec<u8> {
    places.values().flatten().flat_map(|place| place.to_le_bytes()).collect()
}

/// Writes a file whose content is too large to hold in memory twice: `read` is called for each tensor (by its index in
/// `tensors`) piece by piece. Equal content gives equal bytes, the same as [`Container::to_bytes`] if the names are
/// sorted.
///
/// # Errors
/// Those of `read` and of writing.
pub fn write(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[(String, Vec<usize>)],
    places: &BTreeMap<String, Vec<u32>>,
    mut read: impl FnMut(usize, Range<usize>) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<()> {
    let shapes = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice()));
    out.write_all(&header(metadata, shapes, places)?)?;
    let mut bytes = Vec::new();
    for (index, (_, shape)) in tensors.iter().enumerate() {
        let count = count(shape);
        for start in (0..count).step_by(PIECE) {
            let values = read(index, start..count.min(start + PIECE))?;
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes)?;
        }
    }
    out.write_all(&bytes_of(places))?;
    Ok(())
}

/// [`write()`] for in-memory tensors, ordered by name, to a file that is then either complete or unchanged.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_file(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, Tensor>,
) -> anyhow::Result<()> {
    let shapes: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), t.shape.clone())).collect();
    let values: Vec<_> = tensors.values().map(|tensor| &tensor.data).collect();
    write_atomic(path, |out| {
        write(out, metadata, &shapes, &BTreeMap::new(), |i, range| Ok(values[i][range].to_vec()))
    })
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// What precedes the data. Metadata is sorted and tensors are in the given order, so that equal content gives equal
/// bytes.
fn header<'a>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    places: &BTreeMap<String, Vec<u32>>,
) -> Result<Vec<u8>, ContainerError> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| ContainerError::HeaderNotJson(error.to_string()))
    };
    let mut text = format!("{{\"__metadata__\":{}", json(serde_json::to_string(metadata))?);
    let mut start = 0;
    let mut add = |name: &str, dtype: &str, shape: &[usize]| -> Result<(), ContainerError> {
        let end = start + count(shape) * size_of::<f32>();
        text += &format!(
            ",{}:{{\"dtype\":\"{dtype}\",\"shape\":{},\"data_offsets\":[{start},{end}]}}",
            json(serde_json::to_string(name))?,
            json(serde_json::to_string(shape))?,
        );
        start = end;
        Ok(())
    };
    for (name, shape) in tensors {
        add(name, "F32", shape)?;
    }
    for (name, places) in places {
        add(name, "I32", &[places.len()])?;
    }
    text.push('}');
    // Data starts at a multiple of 8 bytes, as the format requires.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes)
}

/// The metadata of a file, without reading its tensors.
///
/// # Errors
/// See [`ContainerError`].
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>, ContainerError> {
    // A valid file can start like other formats.
    metadata_of(path).map_err(|error| mistaken_file(path).map_or(error, ContainerError::Mistaken))
}

fn metadata_of(path: &Path) -> Result<BTreeMap<String, String>, ContainerError> {
    let (_, header) = read_header(&mut File::open(path)?)?;
    header.check_types()?;
    Ok(header.metadata.into_iter().flatten().collect())
}

/// What precedes the data, as bytes and parsed.
///
/// # Errors
/// See [`ContainerError`].
pub fn read_header(file: &mut File) -> Result<(Vec<u8>, Header), ContainerError> {
    let present = file.metadata()?.len();
    let mut bytes = vec![0; 8];
    file.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ContainerError::TooShort(present),
        _ => ContainerError::Io(error),
    })?;
    let claimed = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
    if claimed > MAX_HEADER {
        return Err(ContainerError::HeaderTooLarge(claimed));
    }
    file.take(claimed).read_to_end(&mut bytes)?;
    let text = &bytes[8..];
    if (text.len() as u64) < claimed {
        let present = text.len() as u64;
        return Err(ContainerError::HeaderPastEnd { claimed, present });
    }
    let text = std::str::from_utf8(text).map_err(|_| ContainerError::HeaderNotUtf8)?;
    let header: Header = serde_json::from_str(text)
        .map_err(|error| ContainerError::HeaderNotJson(error.to_string()))?;
    header.check()?;
    Ok((bytes, header))
}

/// Header text and data of a file's bytes.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), ContainerError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ContainerError::TooShort(bytes.len() as u64));
    };
    let claimed = u64::from_le_bytes(*length);
    let present = rest.len() as u64;
    if claimed > MAX_HEADER {
        return Err(ContainerError::HeaderTooLarge(claimed));
    }
    if claimed > present {
        return Err(ContainerError::HeaderPastEnd { claimed, present });
    }
    // At most MAX_HEADER, so it fits a usize.
    let (header, data) = rest.split_at(claimed as usize);
    let header = std::str::from_utf8(header).map_err(|_| ContainerError::HeaderNotUtf8)?;
    Ok((header, data))
}

/// A header as in the file, with its keys in order.
pub struct Header {
    /// The content of every `__metadata__`; a valid file has at most one.
    metadata: Vec<Vec<(String, String)>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// Where the last tensor ends.
    fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, info)| info.data_offsets.1 as u64).max().unwrap_or(0)
    }

    fn check(&self) -> Result<(), ContainerError> {
        if self.metadata.len() > 1 {
            return Err(ContainerError::DuplicateMetadata("__metadata__".to_string()));
        }
        let mut seen = BTreeSet::new();
        if let Some((key, _)) = self.metadata.iter().flatten().find(|(key, _)| !seen.insert(key)) {
            return Err(ContainerError::DuplicateMetadata(key.clone()));
        }
        let mut seen = BTreeSet::new();
        for (name, _) in &self.tensors {
            if !seen.insert(name) {
                return Err(ContainerError::DuplicateTensor(name.clone()));
            }
        }
        Ok(())
    }

    /// This program's own files hold values and places.
    fn check_types(&self) -> Result<(), ContainerError> {
        let other = |dtype: Dtype| !matches!(dtype, Dtype::F32 | Dtype::I32);
        match self.tensors.iter().find(|(_, info)| other(info.dtype)) {
            Some((name, info)) => {
                Err(ContainerError::WrongDtype { tensor: name.clone(), dtype: info.dtype })
            }
            None => Ok(()),
        }
    }

    /// The tensors by name, checked to lie within the data, to have the right size, and to cover all of it: for reading
    /// piece by piece. `data` is the length of what follows the header.
    ///
    /// # Errors
    /// Tensors that overlap or leave a gap, a size that does not match the shape, data of another length.
    pub fn laid_out(self, data: u64) -> Result<BTreeMap<String, TensorInfo>, ContainerError> {
        let mut order: Vec<&(String, TensorInfo)> = self.tensors.iter().collect();
        order.sort_by_key(|(_, info)| info.data_offsets);
        let mut next = 0;
        for (name, info) in order {
            let (start, end) = info.data_offsets;
            if start != next || end < start {
                return Err(ContainerError::BadOffsets(name.clone()));
            }
            let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
            let bits = bits.ok_or(ContainerError::SizeOverflow)?;
            if !bits.is_multiple_of(8) || bits / 8 != end - start {
                return Err(ContainerError::BadSize);
            }
            next = end;
        }
        match next as u64 == data {
            true => Ok(self.tensors.into_iter().collect()),
            false => Err(ContainerError::BadEnd),
        }
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { metadata: Vec::new(), tensors: Vec::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata.push(map.next_value::<Pairs>()?.0);
                    } else {
                        header.tensors.push((key, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A JSON object of strings, including repeated keys.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
