//! Chapter 10: special registers; miscellaneous.

use crate::harness::*;

fn each(body: &str, blocks: u32, threads: u32) -> Vec<u32> {
    let code = format!(
        "mov.u32 %b, %ctaid.x;\nmov.u32 %n, %ntid.x;\nmad.lo.u32 %b, %b, %n, %tid0;\nmad.wide.u32 %p, %b, 4, %out;\n{body}\nst.global.b32 [%p], %v;\n"
    );
    let text = module_text("", ".reg .b32 %b, %n, %v;\n.reg .b64 %p, %w;", &code);
    words(
        &run_grid(&text, blocks, threads, 256, &[], (4 * blocks * threads) as usize)
            .unwrap_or_else(|e| panic!("{body}: {e}")),
    )
}

#[test]
fn identity() {
    for (register, want) in [
        ("%tid.x", (|_, t| t) as fn(u32, u32) -> u32),
        ("%tid.y", |_, _| 0),
        ("%tid.z", |_, _| 0),
        ("%ntid.x", |_, _| 48),
        ("%ntid.y", |_, _| 1),
        ("%ntid.z", |_, _| 1),
        ("%ctaid.x", |b, _| b),
        ("%ctaid.y", |_, _| 0),
        ("%ctaid.z", |_, _| 0),
        ("%nctaid.x", |_, _| 3),
        ("%nctaid.y", |_, _| 1),
        ("%nctaid.z", |_, _| 1),
        ("%laneid", |_, t| t % 32),
        ("%warpid", |_, t| t / 32),
        ("%lanemask_eq", |_, t| 1 << (t % 32)),
        ("%lanemask_le", |_, t| ((2u64 << (t % 32)) - 1) as u32),
        ("%lanemask_lt", |_, t| (1 << (t % 32)) - 1),
        ("%lanemask_ge", |_, t| u32::MAX << (t % 32)),
        ("%lanemask_gt", |_, t| ((u64::from(u32::MAX) << 1) << (t % 32)) as u32),
        ("%dynamic_smem_size", |_, _| 256),
    ] {
        let out = each(&format!("mov.u32 %v, {register};"), 3, 48);
        for (i, got) in out.into_iter().enumerate() {
            assert_eq!(got, want(i as u32 / 48, i as u32 % 48), "{register} of thread {i}");
        }
    }
    assert!(each("mov.u32 %v, WARP_SZ;", 1, 1) == [32]);
}

#[test]
fn clocks_move_forward() {
    for register in ["%clock64", "%globaltimer"] {
        let body = format!(
            "mov.u64 %w, {register};\nmov.u64 %p, {register};\nsetp.ge.u64 %c, %p, %w;\nselp.b32 %v, 1, 0, %c;\nmad.wide.u32 %p, %b, 4, %out;"
        );
        let text = body;
        let code = format!("mov.u32 %b, %tid0;\n{text}\nst.global.b32 [%p], %v;\n");
        let module = module_text("", ".reg .b32 %b, %v;\n.reg .b64 %p, %w;\n.reg .pred %c;", &code);
        assert_eq!(words(&run(&module, 1, &[], 4).unwrap()), [1], "{register}");
    }
    each("mov.u32 %v, %clock;", 1, 1);
    each("nanosleep.u32 20;\nmov.u32 %v, 1;", 1, 32);
}

/// A block of two dimensions: threads are numbered x first.
#[test]
fn two_dimensional_lanes() {
    use emulator::{AllocationKind, DeviceMemory, Launch, Module, launch};
    use std::sync::Arc;
    let body = "mov.u32 %v, %tid.y;\nmad.lo.u32 %b, %v, 8, %tid0;\nmad.wide.u32 %p, %b, 4, %out;\nmov.u32 %v, %laneid;\nst.global.b32 [%p], %v;\n";
    let text = module_text("", ".reg .b32 %b, %v;\n.reg .b64 %p;", body);
    let config = config();
    let memory = Arc::new(DeviceMemory::new(config.total_memory));
    let module = Module::load(&text, &memory, &config).unwrap();
    let out = memory.alloc(4 * 64, AllocationKind::Device).unwrap();
    let params = [out.to_le_bytes(), out.to_le_bytes()].concat();
    let what = Launch {
        grid: [1; 3],
        block: [8, 8, 1],
        dynamic_shared: 0,
        params,
        dependent: false,
        workspace: 0,
    };
    launch(&module.kernel("k").unwrap(), &what, &memory, &config).unwrap();
    let mut bytes = vec![0; 256];
    memory.copy_to_host(&mut bytes, out).unwrap();
    assert!(words(&bytes).iter().enumerate().all(|(i, &lane)| lane == i as u32 % 32));
}

#[test]
fn trap_fails_the_launch() {
    let text = module_text("", "", "trap;\n");
    assert!(run(&text, 1, &[], 4).is_err());
}
