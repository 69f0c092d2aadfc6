//! Thrift's compact protocol, in which parquet files store their metadata, read strictly: every known field must have
//! its type and occur once, so that another reader of the same bytes finds the same values.

use std::collections::BTreeMap;

/// Deepest nesting: real metadata has half as many levels.
const DEEPEST: usize = 16;

/// What a field must hold.
pub(super) enum ThriftType {
    Flag,
    Byte,
    Short,
    Int,
    Long,
    Double,
    Binary,
    List(&'static ThriftType),
    /// Its known fields; others may hold anything.
    Struct(&'static [(i16, ThriftType)]),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ThriftValue {
    Number(i64),
    /// Bytes or a floating-point number, which nobody needs.
    Other,
    List(Vec<ThriftValue>),
    Struct(BTreeMap<i16, ThriftValue>),
}

impl ThriftValue {
    /// A field of a struct.
    pub fn get(&self, id: i16) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.get(&id),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

/// Reads the struct at the start of `bytes`; also returns how many bytes it takes.
///
/// # Errors
/// It is cut off, or has a field of another type, a repeated field, or a type that parquet does not use.
pub(super) fn read(bytes: &[u8], shape: &ThriftType) -> Result<(ThriftValue, usize), String> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(STRUCT, Some(shape), 0)?;
    Ok((value, reader.at))
}

/// Type codes as written. A flag in a struct is its own type.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const SHORT: u8 = 4;
const INT: u8 = 5;
const LONG: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(
        &mut self,
        kind: u8,
        shape: Option<&ThriftType>,
        depth: usize,
    ) -> Result<ThriftValue, String> {
        if depth > DEEPEST {
            return Err("its parts are nested too deeply".to_owned());
        }
        let fits = |wanted: &ThriftType| match wanted {
            ThriftType::Flag => matches!(kind, TRUE | FALSE),
            ThriftType::Byte => kind == BYTE,
            ThriftType::Short => kind == SHORT,
            ThriftType::Int => kind == INT,
            ThriftType::Long => kind == LONG,
            ThriftType::Double => kind == DOUBLE,
            ThriftType::Binary => kind == BINARY,
            ThriftType::List(_) => kind == LIST,
            ThriftType::Struct(_) => kind == STRUCT,
        };
        if !shape.is_none_or(fits) {
            return Err(format!("a field has the wrong type {kind}"));
        }
        Ok(match kind {
            TRUE | FALSE => ThriftValue::Number(i64::from(kind == TRUE)),
            BYTE => ThriftValue::Number(i64::from(self.byte()?)),
            SHORT => ThriftValue::Number(i16::try_from(self.signed()?).map_err(large)?.into()),
            INT => ThriftValue::Number(i32::try_from(self.signed()?).map_err(large)?.into()),
            LONG => ThriftValue::Number(self.signed()?),
            DOUBLE => self.skip(8)?,
            BINARY => {
                let length = self.unsigned()?;
                self.skip(length)?
            }
            LIST => {
                let element = match shape {
                    Some(ThriftType::List(element)) => Some(*element),
                    _ => None,
                };
                self.list(element, depth)?
            }
            STRUCT => {
                let known = match shape {
                    Some(ThriftType::Struct(known)) => known,
                    _ => &[][..],
                };
                self.fields(known, depth)?
            }
            other => {
                return Err(format!("a field has the type {other}, which parquet does not use"));
            }
        })
    }

    fn list(&mut self, element: Option<&ThriftType>, depth: usize) -> Result<ThriftValue, String> {
        let header = self.byte()?;
        let (kind, count) = match header >> 4 {
            15 => (header & 15, self.unsigned()?),
            few => (header & 15, u64::from(few)),
        };
        if count == 0 {
            return Ok(ThriftValue::List(Vec::new()));
        }
        // Readers disagree on how flags are stored in a list. Anything else takes at least one byte.
        if matches!(kind, TRUE | FALSE) || count > (self.bytes.len() - self.at) as u64 {
            return Err(format!("a list of {count} elements, more than the data can hold"));
        }
        let elements = (0..count).map(|_| self.value(kind, element, depth + 1));
        Ok(ThriftValue::List(elements.collect::<Result<_, _>>()?))
    }

    fn fields(&mut self, known: &[(i16, ThriftType)], depth: usize) -> Result<ThriftValue, String> {
        let mut fields = BTreeMap::new();
        let mut last = 0i16;
        loop {
            let header = self.byte()?;
            let kind = header & 15;
            if kind == STOP {
                return Ok(ThriftValue::Struct(fields));
            }
            last = match i16::from(header >> 4) {
                0 => i16::try_from(self.signed()?).map_err(large)?,
                step => last.checked_add(step).ok_or("a field's number is too large")?,
            };
            let shape = known.iter().find(|(id, _)| *id == last).map(|(_, shape)| shape);
            let value = self.value(kind, shape, depth + 1)?;
            if fields.insert(last, value).is_some() {
                return Err(format!("the field {last} occurs twice"));
            }
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied().ok_or("it is cut")?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: u64) -> Result<ThriftValue, String> {
        if count > (self.bytes.len() - self.at) as u64 {
            return Err("it is cut".to_owned());
        }
        self.at += count as usize;
        Ok(ThriftValue::Other)
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too large".to_owned())
    }

    fn signed(&mut self) -> Result<i64, String> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

fn large(_: std::num::TryFromIntError) -> String {
    "a number is too large".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ThriftType = ThriftType::Struct(&[
        (1, ThriftType::Int),
        (2, ThriftType::List(&ThriftType::Struct(&[(1, ThriftType::Binary)]))),
    ]);

    #[test]
    fn fields_are_read_by_number_and_unknown_ones_are_passed_over() {
        // 1: -2; 2: [{1: "ab"}]; 20 (explicit id): 7; then a byte that is not part of it.
        let bytes = [0x15, 3, 0x19, 0x1c, 0x18, 2, b'a', b'b', 0, 0x05, 40, 14, 0, 9];
        let (value, taken) = read(&bytes, &SHAPE).unwrap();
        assert_eq!(taken, 13);
        assert_eq!(value.get(1).and_then(ThriftValue::number), Some(-2));
        assert_eq!(value.get(20).and_then(ThriftValue::number), Some(7));
        assert_eq!(value.get(2).unwrap().elements().len(), 1);
    }

    #[test]
    fn what_two_readers_could_take_for_different_things_is_refused() {
        for (bytes, why) in [
            (&[0x18, 0, 0][..], "wrong type 8"),
            (&[0x15, 2, 0x05, 2, 2, 0], "field 1 occurs twice"),
            (&[0x15, 2], "cut"),
            (&[0x15, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], "too large"),
            (&[0x25, 2, 0], "wrong type"),
            (&[0x3b, 0], "parquet does not use"),
            (&[0x29, 0xfc, 0xff, 0xff, 0x7f, 0], "2097151 elements"),
            (&[0x39, 0x12, 1, 0], "1 elements"),
            (&[0x38, 0x7f, 0], "cut"),
        ] {
            let error = read(bytes, &SHAPE).unwrap_err();
            assert!(error.contains(why), "{bytes:?}: {error}");
        }
        assert!(read(&[0x3c; 100], &SHAPE).unwrap_err().contains("too deep"));
    }
}
