//! Tensor maps: `cuTensorMapEncodeTiled` and `cuTensorMapReplaceAddress`.

use std::ffi::{c_int, c_uint};

use crate::tensor_map::{MAP_BYTES, TensorMap};

use super::entry::api;
use super::error::{CudaResult, Error};
use super::report;
use super::state::driver;
use super::types::{In, Out};

/// Maps exist from capability 9.0 on.
fn known(name: &str) -> CudaResult {
    let (major, minor) = driver()?.config.capability;
    if major >= 9 {
        return Ok(());
    }
    let text = format!("{name}: capability {major}.{minor} has no tensor maps");
    Err(report::refuse(Error::NOT_SUPPORTED, &text))
}

fn put(name: &str, to: &Out<[u8; MAP_BYTES]>, map: &TensorMap) -> CudaResult {
    if !to.address().is_multiple_of(64) {
        let text = format!("{name}: the map is not at a multiple of 64 bytes");
        return Err(report::refuse(Error::INVALID_VALUE, &text));
    }
    if let Err(why) = map.check() {
        return Err(report::refuse(Error::INVALID_VALUE, &format!("{name}: {why}")));
    }
    to.set(map.encode())
}

api! {
    fn cuTensorMapEncodeTiled(
        to: Out<[u8; MAP_BYTES]>, element: c_int, rank: c_uint, address: u64,
        dims: In<u64>, strides: In<u64>, box_dims: In<c_uint>, steps: In<c_uint>,
        interleave: c_int, swizzle: c_int, promotion: c_int, fill: c_int,
    ) {
        const NAME: &str = "cuTensorMapEncodeTiled";
        known(NAME)?;
        let small = |what: &str, value: c_int, most: c_int| {
            u8::try_from(value).ok().filter(|_| value <= most).ok_or_else(|| {
                report::refuse(Error::INVALID_VALUE, &format!("{NAME}: {value} is no {what}"))
            })
        };
        small("L2 promotion", promotion, 3)?;
        let mut map = TensorMap {
            address,
            element: small("element type", element, 15)?,
            rank: rank as usize,
            dims: [1; 5],
            strides: [0; 4],
            box_dims: [1; 5],
            steps: [1; 5],
            interleave: small("interleave", interleave, 2)?,
            swizzle: small("swizzle", swizzle, 6)?,
            fill_nan: small("fill", fill, 1)? == 1,
        };
        if !(1..=5).contains(&rank) {
            return put(NAME, &to, &map);
        }
        for d in 0..map.rank {
            map.dims[d] = dims.at(d)?;
            map.box_dims[d] = box_dims.at(d)?;
            map.steps[d] = steps.at(d)?;
        }
        for d in 0..map.rank - 1 {
            map.strides[d] = strides.at(d)?;
        }
        put(NAME, &to, &map)
    }

    fn cuTensorMapReplaceAddress(map: Out<[u8; MAP_BYTES]>, address: u64) {
        const NAME: &str = "cuTensorMapReplaceAddress";
        known(NAME)?;
        let decoded = TensorMap::decode(&map.get()?);
        let Ok(decoded) = decoded else {
            return Err(report::refuse(Error::INVALID_VALUE, "cuTensorMapReplaceAddress: no tensor map"));
        };
        put(NAME, &map, &TensorMap { address, ..decoded })
    }
}
