//! What Triton and Gluon compile for sm_90a, compared with NumPy's results (`fixtures/hopper/triton/make.py`).

use crate::rig::{Arg, Rig, close, read, seeds, text, value};
use crate::triton::{decode, encode, number, width};
use emulator::tensor_map::TensorMap;
use serde_json::Value;

fn integers(value: &Value) -> Vec<u64> {
    let list = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(|n| n.as_u64().expect("a number")).collect()
}

/// A host descriptor, with the content that Triton specifies.
fn described(parameter: &Value, address: u64) -> TensorMap {
    let (dims, strides) = (integers(&parameter["dims"]), integers(&parameter["strides"]));
    let sides = integers(&parameter["box"]);
    TensorMap {
        address,
        // The driver and the device number bf16 differently.
        element: match number(parameter, "element") as u8 {
            10 => 9,
            n => n,
        },
        rank: dims.len(),
        dims: std::array::from_fn(|d| dims.get(d).copied().unwrap_or(1)),
        strides: std::array::from_fn(|d| strides.get(d).copied().unwrap_or(0)),
        box_dims: std::array::from_fn(|d| sides.get(d).map_or(1, |&n| n as u32)),
        steps: [1; 5],
        interleave: 0,
        swizzle: number(parameter, "swizzle") as u8,
        fill_nan: false,
    }
}

fn run(case: &Value, seed: Option<u64>) {
    let name = case["name"].as_str().expect("a name");
    let rig = Rig::hopper(&text(&format!("hopper/triton/{name}.ptx.gz")), seed);
    let mut buffers = vec![];
    for buffer in case["buffers"].as_array().expect("buffers") {
        let (kind, count) =
            (buffer["type"].as_str().expect("a type"), number(buffer, "count") as usize);
        let address = rig.alloc(count * width(kind));
        let contents = match (buffer["seed"].as_u64(), buffer["fill"].as_f64()) {
            (Some(seed), _) => Some(value(seed as u32, count)),
            (None, Some(fill)) => Some(vec![fill as f32; count]),
            (None, None) => None,
        };
        if let Some(contents) = contents {
            let bytes = encode(kind, &contents);
            rig.memory.copy_from_host(address, &bytes).expect("a copy inside its allocation");
        }
        buffers.push((address, kind, count, buffer["out"] == Value::Bool(true)));
    }
    let mut args: Vec<Arg> = vec![];
    for parameter in case["parameters"].as_array().expect("parameters") {
        args.push(if let Some(n) = parameter["i32"].as_i64() {
            Arg::I32(n as i32)
        } else if let Some(n) = parameter["i64"].as_i64() {
            Arg::Bytes(n.to_le_bytes().to_vec())
        } else if let Some(x) = parameter["fp32"].as_f64() {
            Arg::F32(x as f32)
        } else {
            let (address, ..) = buffers[number(parameter, "buffer") as usize];
            match parameter.get("box") {
                Some(_) => Arg::Bytes(described(parameter, address).encode().to_vec()),
                None => Arg::Pointer(address),
            }
        });
    }
    let grid: Vec<u32> = integers(&case["grid"]).into_iter().map(|n| n as u32).collect();
    // Each block has its own part of the scratch memory, in which it builds descriptors.
    let blocks: u32 = grid.iter().product();
    let scratch = match number(case, "scratch") as usize {
        0 => 0,
        bytes => rig.alloc(bytes * blocks as usize),
    };
    args.extend([Arg::Pointer(scratch), Arg::Pointer(0)]);
    let shape = (
        [grid[0], grid[1], grid[2]],
        [number(case, "threads") as u32, 1, 1],
        number(case, "shared") as u32,
    );
    rig.pass(case["kernel"].as_str().expect("a kernel"), shape, &args);

    let expected = read(&format!("hopper/triton/{name}.out.gz"));
    let mut at = 0;
    for (address, kind, count, _) in buffers.into_iter().filter(|(.., out)| *out) {
        let bytes = count * width(kind);
        let got = rig.download::<u8>(address, bytes);
        let want = decode(kind, &expected[at..at + bytes]);
        close(
            &format!("{name}, seed {seed:?}"),
            &decode(kind, &got),
            &want,
            number(case, "tolerance"),
        );
        at += bytes;
    }
    assert_eq!(at, expected.len(), "{name}: outputs");
}

/// Runs the cases whose names start with a prefix, under every seed.
fn all(prefix: &str) {
    let cases: Value = serde_json::from_str(&text("hopper/triton/cases.json")).expect("JSON");
    let mut ran = 0;
    for case in cases["cases"].as_array().expect("cases") {
        if case["name"].as_str().is_some_and(|name| name.starts_with(prefix)) {
            seeds().for_each(|seed| run(case, seed));
            ran += 1;
        }
    }
    assert!(ran > 0, "no case starts with {prefix}");
}

#[test]
fn products_by_pointers() {
    all("pointers");
}

#[test]
fn products_by_descriptors_of_the_host() {
    all("host");
}

#[test]
fn products_by_descriptors_that_the_kernel_makes() {
    all("device");
}

#[test]
fn persistent_products() {
    all("persistent");
}

#[test]
fn attention() {
    all("attention");
}

#[test]
fn sums_by_atomics_and_bulk_reductions() {
    all("reduction");
    all("split_k");
}

#[test]
fn pipelines_written_in_gluon() {
    all("gluon");
}
