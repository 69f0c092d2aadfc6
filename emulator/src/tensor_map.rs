//! Tensor maps: 128 bytes that say how a tensor lies in global memory and which box of it one copy moves.
//!
//! The encoding is the emulator's own. Each field has a fixed place, because a kernel may write them one by one
//! (`tensormap.replace`) into bytes that were zero or another map. Word 1 is unused: some programs clear a bit of it.

/// Bytes of a map.
pub const MAP_BYTES: usize = 128;

/// Element types by the driver's numbers: name, bytes, and whether NaN can fill elements outside.
const ELEMENTS: [(&str, u64, bool); 13] = [
    ("u8", 1, false),
    ("u16", 2, false),
    ("u32", 4, false),
    ("s32", 4, false),
    ("u64", 8, false),
    ("s64", 8, false),
    ("f16", 2, true),
    ("f32", 4, true),
    ("f64", 8, true),
    ("bf16", 2, true),
    ("f32.ftz", 4, true),
    ("tf32", 4, true),
    ("tf32.ftz", 4, true),
];

/// The driver's number of each type that PTX numbers.
const OF_PTX: [u8; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12];

const ADDRESS: usize = 0;
const ELEMENT: usize = 16;
const RANK: usize = 17;
const INTERLEAVE: usize = 18;
const SWIZZLE: usize = 19;
const FILL: usize = 20;
const MARK: usize = 21;
const DIMS: usize = 24;
const BOX: usize = 44;
const STRIDES: usize = 64;
const STEPS: usize = 96;
/// Present in every map, so that other bytes are not mistaken for one.
const MARKED: u8 = 0xb5;

/// A map, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub address: u64,
    /// The driver's number.
    pub element: u8,
    pub rank: usize,
    /// Elements, innermost first.
    pub dims: [u64; 5],
    /// Bytes between neighbours in dimensions 1 and up.
    pub strides: [u64; 4],
    pub box_dims: [u32; 5],
    /// Element stride: every how many elements one is taken.
    pub steps: [u32; 5],
    pub interleave: u8,
    pub swizzle: u8,
    pub fill_nan: bool,
}

/// A field that `tensormap.replace` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapField {
    Address,
    Rank,
    Box(u8),
    Dim(u8),
    Stride(u8),
    Step(u8),
    Element,
    Interleave,
    Swizzle,
    Fill,
}

impl TensorMap {
    pub fn element_bytes(&self) -> u64 {
        ELEMENTS[usize::from(self.element)].1
    }

    /// The name of the elements' type.
    pub fn name(&self) -> &'static str {
        ELEMENTS[usize::from(self.element)].0
    }

    /// The name of a type whose elements change in transit: subnormals become zero, or bits are rounded off.
    pub fn changes(&self) -> Option<&'static str> {
        let name = ELEMENTS[usize::from(self.element)].0;
        (name.ends_with(".ftz") || name.starts_with("tf32")).then_some(name)
    }

    /// Bytes over which the swizzle repeats within a row; 16 without one.
    pub fn span(&self) -> u64 {
        16 << self.swizzle
    }

    /// Elements of the box that are copied, by dimension.
    pub fn counts(&self) -> [u64; 5] {
        std::array::from_fn(|d| match d {
            0 => u64::from(self.box_dims[0]),
            _ if d < self.rank => u64::from(self.box_dims[d].div_ceil(self.steps[d])),
            _ => 1,
        })
    }

    /// Bytes that one copy moves.
    pub fn box_bytes(&self) -> u64 {
        self.counts().iter().product::<u64>() * self.element_bytes()
    }

    /// What fills an element outside the tensor.
    pub fn fill(&self) -> u64 {
        if !self.fill_nan {
            return 0;
        }
        match ELEMENTS[usize::from(self.element)].0 {
            "f16" => 0x7fff,
            "bf16" => 0x7fff,
            "f64" => 0x7fff_ffff_ffff_ffff,
            _ => 0x7fff_ffff,
        }
    }

    pub fn encode(&self) -> [u8; MAP_BYTES] {
        let mut out = [0; MAP_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(ADDRESS, &self.address.to_le_bytes());
        put(ELEMENT, &[self.element, self.rank as u8 - 1, self.interleave, self.swizzle]);
        put(FILL, &[self.fill_nan.into(), MARKED]);
        for d in 0..self.rank {
            // 2³² is written as 0.
            put(DIMS + 4 * d, &(self.dims[d] as u32).to_le_bytes());
            put(BOX + 4 * d, &self.box_dims[d].to_le_bytes());
            put(STEPS + 4 * d, &self.steps[d].to_le_bytes());
        }
        for d in 0..self.rank - 1 {
            put(STRIDES + 8 * d, &self.strides[d].to_le_bytes());
        }
        out
    }

    /// The map that these bytes encode, or why they are not one.
    pub fn decode(bytes: &[u8; MAP_BYTES]) -> Result<TensorMap, String> {
        if bytes[MARK] != MARKED {
            return Err("these 128 bytes are no tensor map".into());
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let rank = usize::from(bytes[RANK]) + 1;
        let map = TensorMap {
            address: wide(ADDRESS),
            element: bytes[ELEMENT],
            rank,
            dims: std::array::from_fn(|d| match word(DIMS + 4 * d) {
                0 => 1 << 32,
                n => n.into(),
            }),
            strides: std::array::from_fn(|d| wide(STRIDES + 8 * d)),
            box_dims: std::array::from_fn(|d| word(BOX + 4 * d)),
            steps: std::array::from_fn(|d| word(STEPS + 4 * d)),
            interleave: bytes[INTERLEAVE],
            swizzle: bytes[SWIZZLE],
            fill_nan: bytes[FILL] != 0,
        };
        map.check()?;
        Ok(map)
    }

    /// What the driver refuses, and what the emulator does not support.
    pub fn check(&self) -> Result<(), String> {
        let refuse = |text: String| Err(text);
        let Some(&(name, bytes, float)) = ELEMENTS.get(usize::from(self.element)) else {
            return refuse(format!("element type {} is not supported", self.element));
        };
        if !(1..=5).contains(&self.rank) {
            return refuse(format!("{} dimensions; there are 1 to 5", self.rank));
        }
        if self.interleave != 0 {
            return refuse("an interleaved layout is not supported".into());
        }
        if self.swizzle > 3 {
            return refuse(format!("swizzle mode {} is not supported", self.swizzle));
        }
        if self.fill_nan && !float {
            return refuse(format!("NaN cannot fill elements of type {name}"));
        }
        if !self.address.is_multiple_of(16) {
            return refuse(format!("address {:#x} is not a multiple of 16", self.address));
        }
        for d in 0..self.rank {
            if !(1..=1 << 32).contains(&self.dims[d]) {
                return refuse(format!("dimension {d} has {} elements", self.dims[d]));
            }
            if !(1..=256).contains(&self.box_dims[d]) {
                return refuse(format!(
                    "the box has {} elements in dimension {d}; 1 to 256 are possible",
                    self.box_dims[d]
                ));
            }
            if !(1..=8).contains(&self.steps[d]) {
                return refuse(format!(
                    "element stride {} in dimension {d}; 1 to 8 are possible",
                    self.steps[d]
                ));
            }
        }
        for (d, &stride) in self.strides[..self.rank - 1].iter().enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return refuse(format!(
                    "the stride of dimension {} is {stride} bytes; it must be a multiple of 16 below 2^40",
                    d + 1
                ));
            }
        }
        let row = u64::from(self.box_dims[0]) * bytes;
        if !row.is_multiple_of(16) {
            return refuse(format!("a row of the box has {row} bytes, not a multiple of 16"));
        }
        if self.swizzle != 0 && row > self.span() {
            return refuse(format!(
                "a row of the box has {row} bytes; this swizzle takes {}",
                self.span()
            ));
        }
        Ok(())
    }

    /// Writes one field like `tensormap.replace`: the rank is minus one, and element types have PTX's numbers.
    pub fn replace(bytes: &mut [u8; MAP_BYTES], field: MapField, value: u64) -> Result<(), String> {
        let mut put = |at: usize, value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        let small = |most: u64, what: &str| match value <= most {
            true => Ok([value as u8]),
            false => Err(format!("{value} is no {what}")),
        };
        match field {
            MapField::Address => put(ADDRESS, &value.to_le_bytes()),
            MapField::Rank => put(RANK, &small(4, "rank minus one")?),
            MapField::Box(d) => put(BOX + 4 * usize::from(d), &(value as u32).to_le_bytes()),
            MapField::Dim(d) => put(DIMS + 4 * usize::from(d), &(value as u32).to_le_bytes()),
            MapField::Stride(d) => put(STRIDES + 8 * usize::from(d), &value.to_le_bytes()),
            MapField::Step(d) => put(STEPS + 4 * usize::from(d), &(value as u32).to_le_bytes()),
            MapField::Element => {
                let number = OF_PTX.get(value as usize).filter(|_| value < 13);
                let number = number.ok_or(format!("element type {value} is not supported"))?;
                put(ELEMENT, &[*number]);
            }
            MapField::Interleave => put(INTERLEAVE, &small(2, "interleave layout")?),
            MapField::Swizzle => put(SWIZZLE, &small(3, "swizzle mode that is supported")?),
            MapField::Fill => put(FILL, &small(1, "fill mode")?),
        }
        put(MARK, &[MARKED]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            address: 0x1000,
            element: 6,
            rank: 2,
            dims: [100, 1 << 32, 1, 1, 1],
            strides: [208, 0, 0, 0],
            box_dims: [64, 128, 1, 1, 1],
            steps: [1; 5],
            interleave: 0,
            swizzle: 3,
            fill_nan: false,
        }
    }

    #[test]
    fn a_map_is_read_back_and_word_one_means_nothing() {
        let mut bytes = map().encode();
        bytes[8..16].fill(0xff);
        let back = TensorMap::decode(&bytes).expect("a map");
        assert_eq!((back.address, back.rank, back.dims[1]), (0x1000, 2, 1 << 32));
        assert_eq!(back.box_bytes(), 64 * 128 * 2);
        assert!(TensorMap::decode(&[0; MAP_BYTES]).is_err());
    }

    #[test]
    fn fields_written_one_by_one_make_the_same_map() {
        let mut bytes = [0; MAP_BYTES];
        for (field, value) in [
            (MapField::Address, 0x1000),
            (MapField::Rank, 1),
            (MapField::Box(0), 64),
            (MapField::Box(1), 128),
            (MapField::Dim(0), 100),
            (MapField::Dim(1), 0),
            (MapField::Stride(0), 208),
            (MapField::Step(0), 1),
            (MapField::Step(1), 1),
            (MapField::Element, 6),
            (MapField::Interleave, 0),
            (MapField::Swizzle, 3),
            (MapField::Fill, 0),
        ] {
            TensorMap::replace(&mut bytes, field, value).expect("a value that fits");
        }
        assert_eq!(bytes, map().encode());
        assert!(TensorMap::replace(&mut bytes, MapField::Element, 13).is_err());
        TensorMap::replace(&mut bytes, MapField::Element, 10).expect("bf16");
        assert_eq!(TensorMap::decode(&bytes).expect("a map").element, 9);
    }

    #[test]
    fn what_the_driver_refuses() {
        let refused = |change: &dyn Fn(&mut TensorMap)| {
            let mut m = map();
            change(&mut m);
            m.check().is_err()
        };
        assert!(!refused(&|_| ()));
        assert!(refused(&|m| m.address = 8));
        assert!(refused(&|m| m.strides[0] = 200));
        assert!(refused(&|m| m.strides[0] = 1 << 40));
        assert!(refused(&|m| m.box_dims[0] = 72), "longer than the swizzle's span");
        assert!(refused(&|m| m.box_dims[0] = 4), "a row of 8 bytes");
        assert!(refused(&|m| m.box_dims[1] = 257));
        assert!(refused(&|m| m.box_dims[1] = 0));
        assert!(refused(&|m| m.dims[0] = 0));
        assert!(refused(&|m| m.steps[1] = 9));
        assert!(refused(&|m| m.interleave = 1));
        assert!(refused(&|m| (m.element, m.fill_nan) = (1, true)));
    }
}
