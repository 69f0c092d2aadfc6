//! What Triton compiled, compared with the outputs of its interpreter (`fixtures/triton/kernels.py`).

use crate::rig::{Arg, Plain, Rig, close, read, seeds, text, value, wide};
use half::{bf16, f16};
use serde_json::Value;

/// Buffer contents by the fixture's type names.
pub fn encode(kind: &str, values: &[f32]) -> Vec<u8> {
    match kind {
        "fp32" => f32::bytes(values),
        "fp16" => f16::bytes(&values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>()),
        "bf16" => bf16::bytes(&values.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>()),
        "i32" => i32::bytes(&values.iter().map(|v| *v as i32).collect::<Vec<_>>()),
        other => panic!("type {other}"),
    }
}

pub fn decode(kind: &str, bytes: &[u8]) -> Vec<f64> {
    match kind {
        "fp32" => wide(&f32::values(bytes)),
        "fp16" => f16::values(bytes).iter().map(|v| v.to_f64()).collect(),
        "bf16" => bf16::values(bytes).iter().map(|v| v.to_f64()).collect(),
        other => panic!("type {other}"),
    }
}

pub fn width(kind: &str) -> usize {
    if matches!(kind, "fp16" | "bf16") { 2 } else { 4 }
}

pub fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn triton_case(case: &Value, seed: Option<u64>) {
    let name = case["name"].as_str().expect("a name");
    let rig = Rig::new(&text(&format!("triton/{name}.ptx.gz")), seed);
    let mut outputs = vec![];
    let mut args: Vec<Arg> = vec![];
    for arg in case["args"].as_array().expect("arguments") {
        let kind = arg["type"].as_str().expect("a type");
        if arg.get("value").is_some() {
            let value = number(arg, "value");
            args.push(if kind == "i32" { Arg::I32(value as i32) } else { Arg::F32(value as f32) });
            continue;
        }
        let count = number(arg, "count") as usize;
        let address = rig.alloc(count * width(kind));
        let contents = match (arg["seed"].as_u64(), arg["fill"].as_f64()) {
            (Some(seed), _) => {
                let (scale, offset) = (number(arg, "scale") as f32, number(arg, "offset") as f32);
                Some(value(seed as u32, count).iter().map(|v| v * scale + offset).collect())
            }
            (None, Some(fill)) => Some(vec![fill as f32; count]),
            (None, None) => None,
        };
        if let Some(contents) = contents {
            rig.memory
                .copy_from_host(address, &encode(kind, &contents))
                .expect("a copy inside its allocation");
        }
        if arg["out"] == Value::Bool(true) {
            outputs.push((address, kind, count));
        }
        args.push(Arg::Pointer(address));
    }
    // Triton's own two: global scratch and profile scratch, unused here.
    args.extend([Arg::Pointer(0), Arg::Pointer(0)]);
    let grid: Vec<u32> = case["grid"]
        .as_array()
        .expect("a grid")
        .iter()
        .map(|n| n.as_u64().expect("a number") as u32)
        .collect();
    let shape = (
        [grid[0], grid[1], grid[2]],
        [number(case, "threads") as u32, 1, 1],
        number(case, "shared") as u32,
    );
    rig.pass(case["kernel"].as_str().expect("a kernel"), shape, &args);

    let expected = read(&format!("triton/{name}.out.gz"));
    let mut at = 0;
    for (index, (address, kind, count)) in outputs.into_iter().enumerate() {
        let bytes = count * width(kind);
        let got = rig.download::<u8>(address, bytes);
        let what = format!("{name}, output {index}, seed {seed:?}");
        close(
            &what,
            &decode(kind, &got),
            &decode(kind, &expected[at..at + bytes]),
            number(case, "tolerance"),
        );
        at += bytes;
    }
    assert_eq!(at, expected.len(), "{name}: outputs");
}

/// Runs the cases whose name starts with a prefix, under every seed.
fn triton(prefix: &str) {
    let cases: Value = serde_json::from_str(&text("triton/cases.json")).expect("JSON");
    let mut ran = 0;
    for case in cases["cases"].as_array().expect("cases") {
        if case["name"].as_str().is_some_and(|name| name.starts_with(prefix)) {
            seeds().for_each(|seed| triton_case(case, seed));
            ran += 1;
        }
    }
    assert!(ran > 0, "no case starts with {prefix}");
}

#[test]
fn triton_vector_add() {
    triton("vector_add");
}

#[test]
fn triton_matmul_f16() {
    triton("matmul_fp16");
}

#[test]
fn triton_matmul_bf16() {
    triton("matmul_bf16");
}

#[test]
fn triton_matmul_tf32() {
    triton("matmul_fp32");
}

#[test]
fn triton_softmax() {
    triton("softmax");
}

#[test]
fn triton_layer_norm() {
    triton("layer_norm");
}

#[test]
fn triton_attention() {
    triton("attention");
}

#[test]
fn triton_dropout() {
    triton("seeded_dropout");
}
