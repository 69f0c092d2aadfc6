//! Bulk copies and tensor maps: boxes of one to five dimensions both ways, swizzles, edges, and maps in every place
//! they may be. Expected bytes are cut from a plain array.

use crate::device::{Hopper, Param, kernel};
use emulator::FaultKind;
use emulator::tensor_map::TensorMap;

/// A tensor of 16-bit elements, and a box of it.
fn map(address: u64, dims: &[u64], box_dims: &[u32], swizzle: u8) -> TensorMap {
    let mut m = TensorMap {
        address,
        element: 1,
        rank: dims.len(),
        dims: [1; 5],
        strides: [0; 4],
        box_dims: [1; 5],
        steps: [1; 5],
        interleave: 0,
        swizzle,
        fill_nan: false,
    };
    m.dims[..dims.len()].copy_from_slice(dims);
    m.box_dims[..dims.len()].copy_from_slice(box_dims);
    let mut stride = (2 * dims[0]).next_multiple_of(16);
    for (to, &d) in m.strides.iter_mut().zip(&dims[1..]) {
        *to = stride;
        stride = stride.wrapping_mul(d);
    }
    m
}

/// The array, padded rows included; element values are their indices.
fn tensor(dims: &[u64]) -> Vec<u16> {
    let row = dims[0].next_multiple_of(8);
    let all = row * dims[1..].iter().product::<u64>();
    (0..all).map(|n| n as u16 + 1).collect()
}

/// The element at these coordinates, if there is one.
fn element(dims: &[u64], at: &[i64]) -> Option<usize> {
    let inside = at.iter().zip(dims).all(|(&c, &d)| c >= 0 && (c as u64) < d);
    let row = dims[0].next_multiple_of(8) as usize;
    inside.then(|| {
        let outer = (1..dims.len()).rev().fold(0, |n, d| n * dims[d] as usize + at[d] as usize);
        outer * row + at[0] as usize
    })
}

/// The coordinates of a box's elements, innermost fastest.
fn walk(start: &[i32], box_dims: &[u32]) -> Vec<Vec<i64>> {
    let total: u32 = box_dims.iter().product();
    (0..total)
        .map(|n| {
            let mut rest = n;
            let place = |(&s, &b): (&i32, &u32)| {
                let c = rest % b;
                rest /= b;
                i64::from(s) + i64::from(c)
            };
            start.iter().zip(box_dims).map(place).collect()
        })
        .collect()
}

/// Where byte `at` of a dense box is with this swizzle: in each run of eight rows, chunks are permuted by row.
fn swizzled(at: usize, swizzle: u8) -> usize {
    let span = 16usize << swizzle;
    let row = at / 128 % 8;
    at ^ (row & (span / 16 - 1)) << 4
}

fn coordinates(start: &[i32]) -> String {
    start.iter().map(|c| c.to_string()).collect::<Vec<_>>().join(", ")
}

const WAIT: &str = "W:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [bar], 0;\n@!%q bra W;\n";

/// Loads one box and stores what shared memory then holds.
fn load_text(rank: usize, bytes: usize, start: &[i32]) -> String {
    let body = format!(
        "setp.ne.u32 %p, %tid0, 0;\n@%p bra START;\nmbarrier.init.shared::cta.b64 [bar], 1;\nfence.mbarrier_init.release.cluster;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};\n\
         cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%smem], [%map, {{{}}}], [bar];\n\
         START:\nbar.sync 0;\n{WAIT}\
         mov.u32 %i, %tid.x;\nshl.b32 %i, %i, 2;\nNEXT:\nsetp.ge.u32 %p, %i, {bytes};\n@%p bra DONE;\n\
         add.u32 %s, %smem, %i;\nld.shared.b32 %x0, [%s];\ncvt.u64.u32 %w, %i;\nadd.u64 %w, %w, %out;\n\
         st.global.b32 [%w], %x0;\nadd.u32 %i, %i, 128;\nbra NEXT;\nDONE:\n",
        coordinates(start)
    );
    with_map(&body)
}

/// The kernel takes a map by value and `out`.
fn with_map(body: &str) -> String {
    kernel(32, "", "", body)
        .replace(".param .u64 p_in,", ".param .align 64 .b8 p_in[128],")
        .replace("ld.param.u64 %in, [p_in];", "mov.b64 %map, p_in;\ncvta.param.u64 %map, %map;")
}

fn check_load(dims: &[u64], box_dims: &[u32], swizzle: u8, start: &[i32]) {
    let hopper = Hopper::new();
    let data = tensor(dims);
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = hopper.upload(&bytes);
    let m = map(at, dims, box_dims, swizzle);
    let size = m.box_bytes() as usize;
    let out = hopper.alloc(size);
    let text = load_text(dims.len(), size, start);
    let what = format!("{dims:?} box {box_dims:?} swizzle {swizzle} at {start:?}");
    hopper
        .run(&text, (1, 32, size as u32), &[Param::Map(m), Param::Pointer(out)])
        .unwrap_or_else(|f| panic!("{what}: {f}"));
    let got = hopper.bytes(out, size);
    for (n, place) in walk(start, box_dims).iter().enumerate() {
        let want = element(dims, place).map_or(0, |n| data[n]);
        let at = swizzled(2 * n, swizzle);
        assert_eq!(u16::from_le_bytes([got[at], got[at + 1]]), want, "{what}: {place:?}");
    }
}

#[test]
fn boxes_are_loaded_with_every_swizzle_and_zeros_outside() {
    for start in [[0, 0], [8, 3], [-5, 2], [3, -4], [90, 30], [-200, 0], [0, 50]] {
        check_load(&[100, 40], &[64, 16], 3, &start);
        check_load(&[100, 40], &[32, 16], 2, &start);
        check_load(&[100, 40], &[16, 16], 1, &start);
        check_load(&[100, 40], &[64, 16], 0, &start);
        check_load(&[100, 40], &[8, 3], 0, &start);
        check_load(&[100, 40], &[200, 2], 0, &start);
    }
}

#[test]
fn boxes_of_one_to_five_dimensions() {
    check_load(&[1000], &[256], 0, &[900]);
    check_load(&[24, 10, 6], &[16, 4, 3], 0, &[12, -1, 4]);
    check_load(&[16, 5, 4, 3], &[16, 2, 2, 2], 1, &[0, 4, 3, -1]);
    check_load(&[16, 5, 4, 3, 6], &[8, 2, 2, 2, 3], 0, &[8, 1, 2, 2, 4]);
}

/// Rows beyond a count given in the coordinates read as zeros; the addresses wrap around 2⁶⁴.
#[test]
fn a_ragged_tensor() {
    let hopper = Hopper::new();
    let (width, rows, base_row) = (64u64, 40, 10);
    let data: Vec<u8> = (0..width * rows).flat_map(|n| (n as u16).to_le_bytes()).collect();
    let at = hopper.upload(&data);
    let pitch = 2 * width;
    let far = 1u64 << 30;
    let mut m = map(at, &[width, far, 0x7fff_0000, 0x7fff_0000], &[64, 8, 1, 1], 3);
    m.strides = [pitch, pitch, (1u64 << 34).wrapping_sub(pitch), 0];
    let count = 5i64;
    m.address = at.wrapping_add(base_row * pitch);
    let start = [0, (far as i64 - count) as i32, count as i32, far as i32];
    let text = load_text(4, 64 * 8 * 2, &start);
    let out = hopper.alloc(1024);
    // 2³⁰·pitch + 2³⁰·(2³⁴ − pitch) = 2⁶⁴.
    hopper
        .run(&text, (1, 32, 1024), &[Param::Map(m), Param::Pointer(out)])
        .unwrap_or_else(|f| panic!("{f}"));
    let got = hopper.bytes(out, 1024);
    for row in 0..8 {
        for column in 0..64 {
            let at = swizzled(2 * (row * 64 + column), 3);
            let want = match row < count as usize {
                true => ((base_row as usize + row) * 64 + column) as u16,
                false => 0,
            };
            assert_eq!(u16::from_le_bytes([got[at], got[at + 1]]), want, "row {row} {column}");
        }
    }
}

/// Fills shared memory with a counter and stores a box of it.
fn store_text(rank: usize, bytes: usize, start: &[i32], wait: &str) -> String {
    let body = format!(
        "mov.u32 %i, %tid.x;\nshl.b32 %i, %i, 2;\nNEXT:\nsetp.ge.u32 %p, %i, {bytes};\n@%p bra DONE;\n\
         add.u32 %s, %smem, %i;\nadd.u32 %x0, %i, 0x10000;\nst.shared.b32 [%s], %x0;\nadd.u32 %i, %i, 128;\nbra NEXT;\nDONE:\n\
         fence.proxy.async.shared::cta;\nbar.sync 0;\nsetp.ne.u32 %p, %tid0, 0;\n@%p bra END;\n\
         cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group [%map, {{{}}}], [%smem];\n\
         cp.async.bulk.commit_group;\n{wait}END:\n",
        coordinates(start)
    );
    with_map(&body)
}

#[test]
fn boxes_are_stored_and_clipped() {
    for (swizzle, box_dims) in [(3u8, [64u32, 8]), (2, [32, 8]), (1, [16, 8]), (0, [24, 8])] {
        for start in [[0, 0], [16, 5], [-3, 2], [5, -4], [90, 30]] {
            let hopper = Hopper::new();
            let dims = [100u64, 33];
            let size = tensor(&dims).len();
            let at = hopper.upload(&vec![0xee; 2 * size]);
            let m = map(at, &dims, &box_dims, swizzle);
            let bytes = m.box_bytes() as usize;
            let text = store_text(2, bytes, &start, "cp.async.bulk.wait_group 0;\n");
            hopper
                .run(&text, (1, 32, bytes as u32), &[Param::Map(m), Param::Pointer(at)])
                .unwrap_or_else(|f| panic!("{f}"));
            let mut want = vec![0xeeee; size];
            for (n, place) in walk(&start, &box_dims).iter().enumerate() {
                if let Some(to) = element(&dims, place) {
                    let from = swizzled(2 * n, swizzle);
                    want[to] = if from.is_multiple_of(4) { from as u16 } else { 1 };
                }
            }
            let got = hopper.bytes(at, 2 * size);
            let got: Vec<u16> = got.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            assert_eq!(got, want, "{box_dims:?} at {start:?}");
        }
    }
}

#[test]
fn plain_ranges_both_ways() {
    let hopper = Hopper::new();
    let data: Vec<u8> = (0..256u32).map(|n| n as u8 ^ 0x5a).collect();
    let (input, out) = (hopper.upload(&data), hopper.alloc(256));
    let body = format!(
        "setp.ne.u32 %p, %tid0, 0;\n@%p bra END;\nmbarrier.init.shared::cta.b64 [bar], 1;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 240;\nmov.u32 %n, 240;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem], [%in], %n, [bar];\n{WAIT}\
         cp.async.bulk.global.shared::cta.bulk_group [%out+16], [%smem], 240;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group.read 0;\nEND:\n"
    );
    let text = kernel(32, "", "", &body);
    let params = [Param::Pointer(input), Param::Pointer(out)];
    hopper.run(&text, (1, 32, 256), &params).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(hopper.bytes(out + 16, 240), data[..240]);
}

/// CUTLASS has every lane of a warp issue the same store. Two blocks that write to one place are a different matter.
#[test]
fn a_store_that_every_lane_issues_is_one_store_and_that_of_two_blocks_a_race() {
    let hopper = Hopper::new();
    let out = hopper.alloc(128);
    let body = "shl.b32 %s, %tid0, 2;\nadd.u32 %s, %smem, %s;\nst.shared.b32 [%s], %tid0;\nfence.proxy.async;\n\
                bar.sync 0;\ncp.async.bulk.global.shared::cta.bulk_group [%out], [%smem], 128;\n\
                cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\n";
    let text = kernel(32, "", "", body);
    let params = [Param::Pointer(out), Param::Pointer(out)];
    hopper.run(&text, (1, 32, 128), &params).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(hopper.words(out, 32), (0..32).collect::<Vec<_>>());
    let fault = hopper.run(&text, (2, 32, 128), &params).expect_err("a race");
    assert_eq!(fault.kind, emulator::FaultKind::GlobalRace, "{fault}");
}

/// Blocks add, or take the larger of, what they have in shared memory and what is in global memory.
#[test]
fn reductions_of_plain_ranges() {
    for (op, ty, word, before, want) in [
        ("add", "u32", "%i", 7, [7 + 3, 7 + 3 * 4]),
        ("max", "s32", "%j", -50i32 as u32, [2, 5]),
        ("xor", "b32", "%i", 0xff, [0xff ^ 3, 0xff ^ 4 ^ 5 ^ 3]),
        ("add", "f32", "%x0", 1.5f32.to_bits(), [4.5f32.to_bits(), 13.5f32.to_bits()]),
        ("add.noftz", "f16", "%x1", 0x3c00_3c00, [0x4400_4400, 0x4a80_4a80]),
    ] {
        let hopper = Hopper::new();
        let out = hopper.upload(&before.to_le_bytes().repeat(32));
        // Word n of block b is n + b, as an integer and in the two formats.
        let body = format!(
            "mov.u32 %j, %ctaid.x;\nadd.u32 %j, %j, %tid0;\nmov.b32 %i, %j;\ncvt.rn.f32.u32 %x0, %j;\n\
             cvt.rn.f16x2.f32 %x1, %x0, %x0;\nshl.b32 %s, %tid0, 2;\nadd.u32 %s, %smem, %s;\nst.shared.b32 [%s], {word};\n\
             fence.proxy.async;\nbar.sync 0;\nsetp.ne.u32 %p, %tid0, 0;\n@%p bra END;\n\
             cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}.{ty} [%out], [%smem], 128;\n\
             cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nEND:\n"
        );
        let text = kernel(32, "", "", &body);
        hopper
            .run(&text, (3, 32, 128), &[Param::Pointer(out), Param::Pointer(out)])
            .unwrap_or_else(|f| panic!("{op} {ty}: {f}"));
        let got = hopper.words(out, 32);
        assert_eq!([got[0], got[3]], want, "{op} {ty}");
    }
}

#[test]
fn reductions_of_boxes_are_clipped() {
    let hopper = Hopper::new();
    let dims = [100u64, 33];
    let size = tensor(&dims).len();
    let at = hopper.upload(&vec![0u8; 2 * size]);
    let mut m = map(at, &dims, &[64, 8], 3);
    m.element = 1;
    let bytes = m.box_bytes() as usize;
    let reduce = |m: TensorMap| {
        let text = store_text(2, bytes, &[80, 30], "cp.async.bulk.wait_group 0;\n").replace(
            "cp.async.bulk.tensor.2d.global.shared::cta.tile",
            "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile",
        );
        assert!(text.contains("cp.reduce"), "{text}");
        hopper.run(&text, (1, 32, bytes as u32), &[Param::Map(m), Param::Pointer(at)])
    };
    let fault = reduce(m.clone()).expect_err("no sums of u16");
    assert_eq!(fault.kind, emulator::FaultKind::IllegalInstruction, "{fault}");
    m.element = 6;
    let big = hopper.upload(&vec![0u8; 2 * size]);
    m.address = big;
    for _ in 0..2 {
        reduce(m.clone()).unwrap_or_else(|f| panic!("{f}"));
    }
    // What the kernels store are small bit patterns, subnormal numbers: doubling one doubles the pattern.
    let got = hopper.bytes(big, 2 * size);
    for (n, place) in walk(&[80, 30], &[64, 8]).iter().enumerate() {
        if let Some(to) = element(&dims, place) {
            let from = swizzled(2 * n, 3);
            let one = if from.is_multiple_of(4) { from as u16 } else { 1 };
            let got = u16::from_le_bytes([got[2 * to], got[2 * to + 1]]);
            let twice = half::f16::from_bits(one).to_f32() * 2.0;
            assert_eq!(half::f16::from_bits(got).to_f32(), twice, "{place:?}");
        }
    }
}

/// A map in global memory, given by address.
#[test]
fn maps_in_global_memory() {
    let hopper = Hopper::new();
    let data: Vec<u8> = tensor(&[64, 8]).iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = hopper.upload(&data);
    let place = hopper.upload(&map(at, &[64, 8], &[64, 8], 0).encode());
    let out = hopper.alloc(1024);
    let text = load_text(2, 1024, &[0, 0])
        .replace(".param .align 64 .b8 p_in[128],", ".param .u64 p_in,")
        .replace(
            "mov.b64 %map, p_in;\ncvta.param.u64 %map, %map;",
            "ld.param.u64 %map, [p_in];\nprefetch.tensormap [%map];",
        );
    hopper
        .run(&text, (1, 32, 1024), &[Param::Pointer(place), Param::Pointer(out)])
        .unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(hopper.bytes(out, 1024), data);
}

/// A map that the kernel makes in shared memory, publishes and uses.
fn made_by_the_kernel(fence: &str) -> Result<Vec<u8>, Box<emulator::Fault>> {
    let hopper = Hopper::new();
    let data: Vec<u8> = tensor(&[64, 8]).iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = hopper.upload(&data);
    let out = hopper.alloc(1024 + 128);
    let mut body = String::from(
        "mov.u32 %s, draft;\nshl.b32 %i, %tid0, 2;\nadd.u32 %i, %i, %s;\nst.shared.b32 [%i], 0;\nbar.warp.sync -1;\n\
         setp.eq.u32 %p, %tid0, 0;\nmov.u64 %v, 128;\ncvt.u64.u32 %w, %s;\n",
    );
    for (field, value) in [
        ("global_address", "b64 [%w], %in"),
        ("rank", "b32 [%w], 1"),
        ("box_dim", "b32 [%w], 0, 64"),
        ("box_dim", "b32 [%w], 1, 8"),
        ("global_dim", "b32 [%w], 0, 64"),
        ("global_dim", "b32 [%w], 1, 8"),
        ("global_stride", "b64 [%w], 0, %v"),
        ("element_stride", "b32 [%w], 0, 1"),
        ("element_stride", "b32 [%w], 1, 1"),
        ("elemtype", "b32 [%w], 6"),
        ("interleave_layout", "b32 [%w], 0"),
        ("swizzle_mode", "b32 [%w], 0"),
        ("fill_mode", "b32 [%w], 0"),
    ] {
        body += &format!("@%p tensormap.replace.tile.{field}.shared::cta.b1024.{value};\n");
    }
    body += "bar.warp.sync -1;\nadd.u64 %map, %out, 1024;\n\
             tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%map], [%s], 128;\n";
    body += fence;
    let load = load_text(2, 1024, &[0, 0]);
    let (from, to) = (load.find("setp.ne.u32 %p, %tid0, 0;"), load.rfind("ret;"));
    body += &load[from.expect("the body")..to.expect("the end")];
    let text = kernel(32, "", ".shared .align 128 .b8 draft[128];\n", &body);
    hopper.run(&text, (1, 32, 1024), &[Param::Pointer(at), Param::Pointer(out)])?;
    assert_eq!(hopper.bytes(out, 1024), data);
    Ok(data)
}

#[test]
fn maps_that_a_kernel_makes() {
    let fence = "fence.proxy.tensormap::generic.acquire.gpu [%map], 128;\n";
    made_by_the_kernel(fence).unwrap_or_else(|f| panic!("{f}"));
    let fault = made_by_the_kernel("").expect_err("no fence");
    assert_eq!(fault.kind, FaultKind::MissingFence, "{fault}");
}

#[test]
fn misplaced_boxes_and_maps_are_reported() {
    let run = |change: &dyn Fn(&mut TensorMap), text: &dyn Fn(String) -> String| {
        let hopper = Hopper::new();
        let at = hopper.upload(&vec![1; 8192]);
        let mut m = map(at, &[64, 16], &[64, 8], 3);
        change(&mut m);
        let out = hopper.alloc(1024);
        let text = text(load_text(2, 1024, &[0, 0]));
        let fault = hopper.run(&text, (1, 32, 4096), &[Param::Map(m), Param::Pointer(out)]);
        fault.map_err(|f| f.kind)
    };
    let same = |text: String| text;
    assert_eq!(run(&|_| (), &same), Ok(()));
    let moved = |by: usize| {
        move |text: String| text.replace("bytes [%smem],", &format!("bytes [%smem+{by}],"))
    };
    assert_eq!(run(&|_| (), &moved(128)), Err(FaultKind::Misaligned));
    assert_eq!(run(&|m| m.swizzle = 0, &moved(64)), Err(FaultKind::Misaligned));
    assert_eq!(run(&|_| (), &moved(4096)), Err(FaultKind::OutOfBounds));
    assert_eq!(
        run(&|m| m.dims[1] = 1000, &|t| t.replace("{0, 0}", "{0, 500}")),
        Err(FaultKind::OutOfBounds)
    );
    assert_eq!(run(&|m| m.box_dims[0] = 32, &same), Err(FaultKind::IllegalInstruction));
    assert_eq!(run(&|m| m.swizzle = 9, &same), Err(FaultKind::IllegalInstruction));
    let typed = |element: u8| {
        move |m: &mut TensorMap| {
            (m.element, m.dims[0], m.box_dims[0]) = (element, 32, 32);
        }
    };
    assert_eq!(run(&typed(7), &same), Ok(()));
    // f32.ftz, tf32, tf32.ftz.
    for element in 10..=12 {
        assert_eq!(run(&typed(element), &same), Err(FaultKind::IllegalInstruction));
    }
    let off = |text: String| {
        text.replace(
            "cvta.param.u64 %map, %map;",
            "cvta.param.u64 %map, %map;\nadd.u64 %map, %map, 32;",
        )
    };
    assert_eq!(run(&|_| (), &off), Err(FaultKind::Misaligned));
}
