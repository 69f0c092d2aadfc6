//! Small kernels, one a feature of the executor. Instructions have their own table in `tests/`.

use crate::{
    AllocationKind, Checks, DeviceConfig, DeviceMemory, Fault, FaultKind, KernelCounters, Launch,
    Module, launch,
};
use std::sync::Arc;

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

struct Device {
    memory: Arc<DeviceMemory>,
    config: DeviceConfig,
}

impl Device {
    fn new() -> Self {
        let config = DeviceConfig { workers: 2, spin_limit: 1 << 18, ..DeviceConfig::default() };
        Self { memory: Arc::new(DeviceMemory::new(1 << 30)), config }
    }

    fn upload<T: Copy>(&self, data: &[T]) -> u64 {
        let bytes = std::mem::size_of_val(data);
        let address = self.memory.alloc(bytes as u64, AllocationKind::Device).unwrap();
        // SAFETY: plain numbers seen as bytes.
        let raw = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), bytes) };
        self.memory.copy_from_host(address, raw).unwrap();
        address
    }

    fn empty(&self, bytes: u64) -> u64 {
        self.memory.alloc(bytes, AllocationKind::Device).unwrap()
    }

    fn words(&self, address: u64, n: usize) -> Vec<u32> {
        let mut raw = vec![0; n * 4];
        self.memory.copy_to_host(&mut raw, address).unwrap();
        raw.chunks(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    fn floats(&self, address: u64, n: usize) -> Vec<f32> {
        self.words(address, n).into_iter().map(f32::from_bits).collect()
    }

    /// Runs the module's only kernel with 64-bit parameters.
    fn run(
        &self,
        body: &str,
        grid: u32,
        block: u32,
        params: &[u64],
    ) -> Result<KernelCounters, Box<Fault>> {
        self.run_shared(body, grid, block, 0, params)
    }

    fn run_shared(
        &self,
        body: &str,
        grid: u32,
        block: u32,
        dynamic_shared: u32,
        params: &[u64],
    ) -> Result<KernelCounters, Box<Fault>> {
        let text = format!("{HEAD}{body}");
        let module =
            Module::load(&text, &self.memory, &self.config).unwrap_or_else(|e| panic!("{e}"));
        let kernel = module.kernels().next().unwrap().clone();
        let params = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let launch_ = Launch { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared, params };
        launch(&kernel, &launch_, &self.memory, &self.config)
    }
}

/// A kernel of `n` 64-bit parameters, loaded into %a0, %a1, …, with some registers declared.
fn kernel(n: usize, shared: &str, body: &str) -> String {
    let params: Vec<String> = (0..n).map(|i| format!(".param .u64 p{i}")).collect();
    let loads: String = (0..n).map(|i| format!("ld.param.u64 %a{i}, [p{i}];\n")).collect();
    format!(
        "{shared}\n.visible .entry k({})\n{{\n.reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<60>; .reg .f32 %f<60>;\n\
         .reg .b64 %a<10>; .reg .b64 %d<60>;\n{loads}{body}\n}}\n",
        params.join(", ")
    )
}

const VECTOR_ADD: &str = "
mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
mad.lo.s32 %r4, %r1, %r2, %r3;
cvt.u32.u64 %r5, %a3;
setp.ge.s32 %p1, %r4, %r5;
@%p1 bra $done;
mul.wide.s32 %d1, %r4, 4;
add.s64 %d2, %a0, %d1; add.s64 %d3, %a1, %d1; add.s64 %d4, %a2, %d1;
ld.global.f32 %f1, [%d2]; ld.global.f32 %f2, [%d3];
add.f32 %f3, %f1, %f2;
st.global.f32 [%d4], %f3;
$done:
ret;";

#[test]
fn vector_add() {
    let d = Device::new();
    let n = 1000;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
    let (pa, pb, pc) = (d.upload(&a), d.upload(&b), d.empty(n as u64 * 4));
    let counters = d.run(&kernel(4, "", VECTOR_ADD), 8, 128, &[pa, pb, pc, n as u64]).unwrap();
    let c = d.floats(pc, n);
    assert!((0..n).all(|i| c[i] == a[i] + b[i]));
    assert_eq!(counters.blocks, 8);
    assert_eq!(counters.global_bytes_asked, n as u64 * 12);
    assert_eq!(counters.global_sectors, counters.global_sectors_ideal);
    assert_eq!(counters.global_sectors, (n as u64 * 4).div_ceil(32) * 3);
}

#[test]
fn out_of_bounds_and_use_after_free() {
    let d = Device::new();
    let a = vec![1f32; 100];
    let (pa, pb, pc) = (d.upload(&a), d.upload(&a), d.empty(400));
    let text = kernel(4, "", VECTOR_ADD);
    let fault = d.run(&text, 1, 128, &[pa, pb, pc, 101]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfBounds);
    assert_eq!((fault.thread, fault.address), ([100, 0, 0], Some(pa + 400)));
    assert!(fault.instruction.contains("ld.global.f32 %f1"), "{fault}");
    assert_eq!(fault.allocation.as_ref().unwrap().size, 400);
    d.memory.free(pb).unwrap();
    let fault = d.run(&text, 1, 128, &[pa, pb, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::UseAfterFree);
    let fault = d.run(&text, 1, 128, &[pa, pc, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::UninitialisedRead);
    let fault = d.run(&text, 1, 128, &[pa + 2, pc, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misaligned);
    assert_eq!(d.run(&text, 1, 128, &[pa, pc, pc]).unwrap_err().kind, FaultKind::InvalidLaunch);
}

/// Every lane loops as often as its number says, then adds up across the warp.
#[test]
fn loops_diverge_and_join() {
    let d = Device::new();
    let out = d.empty(32 * 4);
    let body = "
mov.u32 %r1, %tid.x; mov.u32 %r2, 0; mov.u32 %r3, 0;
$loop: setp.ge.u32 %p1, %r2, %r1; @%p1 bra $after;
and.b32 %r4, %r2, 1; setp.eq.u32 %p2, %r4, 0; @%p2 bra $even;
add.u32 %r3, %r3, 100; bra.uni $next;
$even: add.u32 %r3, %r3, 1;
$next: add.u32 %r2, %r2, 1; bra.uni $loop;
$after:
activemask.b32 %r5;
shfl.sync.bfly.b32 %r6, %r3, 1, 31, -1;
add.u32 %r7, %r3, %r6;
setp.ne.u32 %p3, %r5, -1; @%p3 trap;
mul.wide.u32 %d1, %r1, 4; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r7;
ret;";
    d.run(&kernel(1, "", body), 1, 32, &[out]).unwrap();
    let one = |n: u32| (0..n).map(|i| if i % 2 == 0 { 1 } else { 100 }).sum::<u32>();
    let got = d.words(out, 32);
    for l in 0..32u32 {
        assert_eq!(got[l as usize], one(l) + one(l ^ 1), "lane {l}");
    }
}

/// One lane holds a lock while the others of its warp spin for it.
#[test]
fn lanes_of_a_warp_may_wait_for_each_other() {
    let mut d = Device::new();
    d.config.spin_limit = 1 << 24;
    let (lock, sum) = (d.upload(&[0u32]), d.upload(&[0u32]));
    let body = "
$spin: atom.global.acquire.gpu.cas.b32 %r1, [%a0], 0, 1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $spin;
ld.global.u32 %r2, [%a1]; add.u32 %r2, %r2, 1; st.global.u32 [%a1], %r2;
membar.gl;
atom.global.release.gpu.exch.b32 %r3, [%a0], 0;
ret;";
    let counters = d.run(&kernel(2, "", body), 4, 64, &[lock, sum]).unwrap();
    assert_eq!(d.words(sum, 1)[0], 256);
    assert!(counters.average_active_lanes() > 0.0);
}

/// What a block did behind a lock is ordered before the next that takes it, however closely it follows.
#[test]
fn a_lock_that_passes_from_block_to_block_orders_what_they_do() {
    let mut d = Device::new();
    d.config.workers = 4;
    d.config.spin_limit = 1 << 24;
    let (lock, sum) = (d.upload(&[0u32]), d.upload(&[0u32]));
    let body = "
mov.u32 %r4, 0;
$again:
$spin: atom.global.acq_rel.gpu.cas.b32 %r1, [%a0], 0, 1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $spin;
ld.global.u32 %r2, [%a1]; add.u32 %r2, %r2, 1; st.global.u32 [%a1], %r2;
atom.global.acq_rel.gpu.exch.b32 %r3, [%a0], 0;
add.u32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, 4; @%p1 bra $again;
ret;";
    let text = kernel(2, "", body);
    for launch in 1..=200 {
        d.run(&text, 16, 1, &[lock, sum])
            .unwrap_or_else(|fault| panic!("launch {launch}: {fault}"));
        assert_eq!(d.words(sum, 1)[0], 64 * launch);
    }
}

const REDUCE: &str = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2;
mov.u32 %r3, buffer; add.u32 %r4, %r3, %r2;
add.u32 %r5, %r1, 1; st.shared.u32 [%r4], %r5;
BARRIER
mov.u32 %r6, 128;
$loop: shr.u32 %r6, %r6, 1; setp.ge.u32 %p1, %r1, %r6; @%p1 bra $skip;
shl.b32 %r7, %r6, 2; add.u32 %r8, %r4, %r7;
ld.shared.u32 %r9, [%r4]; ld.shared.u32 %r10, [%r8]; add.u32 %r9, %r9, %r10; st.shared.u32 [%r4], %r9;
$skip: bar.sync 0; setp.gt.u32 %p2, %r6, 1; @%p2 bra $loop;
setp.ne.u32 %p3, %r1, 0; @%p3 bra $done;
ld.shared.u32 %r11, [buffer]; mov.u32 %r12, %ctaid.x; mul.wide.u32 %d1, %r12, 4; add.u64 %d2, %a0, %d1;
st.global.u32 [%d2], %r11;
$done: ret;";

#[test]
fn shared_reduction() {
    let mut d = Device::new();
    let out = d.empty(64);
    let good =
        kernel(1, ".shared .align 4 .b8 buffer[512];", &REDUCE.replace("BARRIER", "bar.sync 0;"));
    for seed in 0..8 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&good, 16, 128, &[out]).unwrap_or_else(|f| panic!("seed {seed}: {f}"));
        assert_eq!(d.words(out, 16), vec![128 * 129 / 2; 16]);
    }
    let bad = kernel(1, ".shared .align 4 .b8 buffer[512];", &REDUCE.replace("BARRIER", ""));
    for seed in 0..4 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        let fault = d.run(&bad, 16, 128, &[out]).unwrap_err();
        assert!(
            matches!(fault.kind, FaultKind::SharedRace | FaultKind::UninitialisedRead),
            "{fault}"
        );
    }
}

#[test]
fn barrier_that_some_never_reach() {
    let d = Device::new();
    let body =
        "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, LIMIT; @%p1 bra $out; bar.sync 0; $out: ret;";
    for limit in ["16", "32", "48"] {
        let fault = d.run(&kernel(0, "", &body.replace("LIMIT", limit)), 1, 64, &[]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BarrierDivergence, "{fault}");
        assert!(fault.instruction.contains("bar.sync"), "{fault}");
    }
    // Two different barriers.
    let body = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra $o; bar.sync 1; bra $x; $o: bar.sync 2; $x: ret;";
    assert_eq!(
        d.run(&kernel(0, "", body), 1, 64, &[]).unwrap_err().kind,
        FaultKind::BarrierDivergence
    );
}

#[test]
fn named_barriers_between_producer_and_consumer() {
    let mut d = Device::new();
    let out = d.empty(128);
    // Warp 1 waits for warp 0's data with a counted barrier that warp 0 only arrives at.
    let body = "
mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 31; shl.b32 %r3, %r2, 2; mov.u32 %r4, buffer; add.u32 %r4, %r4, %r3;
setp.ge.u32 %p1, %r1, 32; @%p1 bra $consumer;
st.shared.u32 [%r4], %r1; bar.arrive 1, 64; bra $done;
$consumer: bar.sync 1, 64; ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d1, %r3; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r5;
$done: bar.sync 0; ret;";
    for seed in 0..6 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&kernel(1, ".shared .align 4 .b8 buffer[128];", body), 1, 64, &[out]).unwrap();
        assert_eq!(d.words(out, 32), (0..32).collect::<Vec<u32>>());
    }
}

#[test]
fn reductions_at_barriers() {
    let d = Device::new();
    let out = d.empty(64 * 4);
    let body = "
mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 40;
bar.red.popc.u32 %r2, 0, %p1; bar.red.and.pred %p2, 0, %p1; bar.red.or.pred %p3, 0, %p1;
selp.u32 %r3, 1000, 0, %p2; selp.u32 %r4, 2000, 0, %p3; add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4;
mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r2; ret;";
    d.run(&kernel(1, "", body), 1, 64, &[out]).unwrap();
    assert_eq!(d.words(out, 64), vec![2040; 64]);
}

#[test]
fn calls_and_local_memory() {
    let d = Device::new();
    let out = d.empty(128);
    let text = format!(
        ".func (.param .b32 result) square(.param .b32 x) {{
.reg .b32 %r<4>; ld.param.u32 %r1, [x]; mul.lo.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret; }}
{}",
        kernel(
            1,
            "",
            "
.local .align 4 .b8 stack[16]; mov.u64 %d5, stack; cvta.local.u64 %d6, %d5;
mov.u32 %r1, %tid.x; st.u32 [%d6+8], %r1; ld.local.u32 %r2, [%d5+8];
{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r2; call.uni (b), square, (a); ld.param.b32 %r3, [b+0]; }
mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r3; ret;"
        )
    );
    d.run(&text, 1, 32, &[out]).unwrap();
    assert_eq!(d.words(out, 32), (0..32).map(|x| x * x).collect::<Vec<u32>>());
    let bad = kernel(1, "", ".local .align 4 .b8 s[16]; ld.local.u32 %r1, [s+4]; ret;");
    assert_eq!(d.run(&bad, 1, 32, &[out]).unwrap_err().kind, FaultKind::UninitialisedRead);
}

/// Each lane computes the Fibonacci number of its own index, so that the lanes' stacks differ all the time.
#[test]
fn recursion() {
    let d = Device::new();
    let out = d.empty(128);
    let text = format!(
        ".func (.param .b32 r) fib(.param .b32 n) {{
.reg .pred %p<2>; .reg .b32 %r<9>; .local .align 4 .b8 keep[4];
ld.param.u32 %r1, [n]; st.local.u32 [keep], %r1; mov.u32 %r7, %r1;
setp.lt.u32 %p1, %r1, 2; @%p1 bra $L_done;
add.u32 %r2, %r1, -1;
{{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r2; call.uni (b), fib, (a); ld.param.b32 %r3, [b+0]; }}
ld.local.u32 %r4, [keep]; add.u32 %r4, %r4, -2;
{{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r4; call.uni (b), fib, (a); ld.param.b32 %r5, [b+0]; }}
add.u32 %r7, %r3, %r5;
$L_done: st.param.b32 [r], %r7; ret; }}
{}",
        kernel(
            1,
            "",
            "mov.u32 %r1, %tid.x; and.b32 %r9, %r1, 7;
{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r9; call.uni (b), fib, (a); ld.param.b32 %r3, [b+0]; }
bar.warp.sync -1; mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r3; ret;"
        )
    );
    d.run(&text, 1, 32, &[out]).unwrap_or_else(|f| panic!("{f}"));
    let fib = [0, 1, 1, 2, 3, 5, 8, 13];
    assert_eq!(d.words(out, 32), (0..32).map(|l| fib[l % 8]).collect::<Vec<u32>>());
    let endless = format!(".func f() {{ call f; ret; }}\n{}", kernel(0, "", "call f; ret;"));
    assert_eq!(d.run(&endless, 1, 32, &[]).unwrap_err().kind, FaultKind::OutOfBounds);
}

#[test]
fn asynchronous_copies() {
    let mut d = Device::new();
    let input: Vec<u32> = (0..256).map(|x| x * 3).collect();
    let (src, out) = (d.upload(&input), d.empty(1024));
    let body = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4; mov.u32 %r3, buffer; add.u32 %r3, %r3, %r2; cvt.u64.u32 %d1, %r2;
add.u64 %d2, %a0, %d1; add.u64 %d3, %a1, %d1;
cp.async.cg.shared.global [%r3], [%d2], 16; cp.async.commit_group;
WAIT
ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3]; st.global.v4.u32 [%d3], {%r4, %r5, %r6, %r7}; ret;";
    let shared = ".extern .shared .align 16 .b8 buffer[];";
    let good = kernel(2, shared, &body.replace("WAIT", "cp.async.wait_group 0;"));
    d.run_shared(&good, 1, 64, 1024, &[src, out]).unwrap();
    assert_eq!(d.words(out, 256), input);
    let bad = kernel(2, shared, &body.replace("WAIT", "cp.async.wait_group 1;"));
    let fault = d.run_shared(&bad, 1, 64, 1024, &[src, out]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::PendingAsyncCopy);
    assert_eq!(
        d.run_shared(&good, 1, 64, 512, &[src, out]).unwrap_err().kind,
        FaultKind::OutOfBounds
    );
    // Without the check the bytes are simply not there yet.
    d.config.checks = Checks::NONE;
    d.run_shared(&bad, 1, 64, 1024, &[src, out]).unwrap();
    assert_ne!(d.words(out, 256), input);
}

#[test]
fn matrix_product() {
    let d = Device::new();
    // A is 16 × 16 (row + 2·column mod 5), B 16 × 8 by columns, both f16 in shared memory through ldmatrix.
    let half = |x: f32| crate::numeric::half::f32_to_f16_rn(x);
    let a = |r: usize, c: usize| ((r + 2 * c) % 5) as f32;
    let b = |r: usize, c: usize| ((3 * r + c) % 7) as f32 - 3.0;
    let am: Vec<u16> = (0..256).map(|i| half(a(i / 16, i % 16))).collect();
    let bm: Vec<u16> = (0..128).map(|i| half(b(i % 16, i / 16))).collect();
    let (pa, pb, pc) = (d.upload(&am), d.upload(&bm), d.empty(512));
    let body = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4; cvt.u64.u32 %d1, %r2; add.u64 %d2, %a0, %d1;
mov.u32 %r3, sa; add.u32 %r4, %r3, %r2; ld.global.v4.u32 {%r10,%r11,%r12,%r13}, [%d2]; st.shared.v4.u32 [%r4], {%r10,%r11,%r12,%r13};
shl.b32 %r2, %r1, 3; cvt.u64.u32 %d1, %r2; add.u64 %d2, %a1, %d1; mov.u32 %r5, sb; add.u32 %r6, %r5, %r2;
ld.global.v2.u32 {%r10,%r11}, [%d2]; st.shared.v2.u32 [%r6], {%r10,%r11};
bar.warp.sync -1;
and.b32 %r7, %r1, 15; shl.b32 %r7, %r7, 5; shr.u32 %r8, %r1, 4; shl.b32 %r8, %r8, 4; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r3;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20,%r21,%r22,%r23}, [%r7];
and.b32 %r7, %r1, 7; shl.b32 %r7, %r7, 5; shr.u32 %r8, %r1, 3; and.b32 %r8, %r8, 1; shl.b32 %r8, %r8, 4; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r5;
ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r24,%r25}, [%r7];
mov.f32 %f1, 0f00000000;
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2,%f3,%f4,%f5}, {%r20,%r21,%r22,%r23}, {%r24,%r25}, {%f1,%f1,%f1,%f1};
shr.u32 %r30, %r1, 2; and.b32 %r31, %r1, 3; shl.b32 %r30, %r30, 5; shl.b32 %r31, %r31, 3; add.u32 %r30, %r30, %r31;
cvt.u64.u32 %d3, %r30; add.u64 %d3, %a2, %d3; st.global.v2.f32 [%d3], {%f2,%f3}; st.global.v2.f32 [%d3+256], {%f4,%f5}; ret;";
    let counters = d
        .run(
            &kernel(3, ".shared .align 16 .b8 sa[512]; .shared .align 16 .b8 sb[256];", body),
            1,
            32,
            &[pa, pb, pc],
        )
        .unwrap();
    let c = d.floats(pc, 128);
    for row in 0..16 {
        for col in 0..8 {
            let want: f32 = (0..16).map(|k| a(row, k) * b(k, col)).sum();
            assert_eq!(c[row * 8 + col], want, "({row},{col})");
        }
    }
    assert_eq!((counters.mma, counters.mma_flops), (1, 4096));
    assert!(counters.shared_bank_conflicts > 0);
}

#[test]
fn blocks_that_race() {
    let d = Device::new();
    let out = d.upload(&[0u32; 64]);
    let body = "mov.u32 %r1, %ctaid.x; st.global.u32 [%a0], %r1; ret;";
    assert_eq!(d.run(&kernel(1, "", body), 8, 32, &[out]).unwrap_err().kind, FaultKind::GlobalRace);
    // Neighbouring halves of one word are no conflict.
    let body = "mov.u32 %r1, %ctaid.x; cvt.u16.u32 %h1, %r1; mul.wide.u32 %d1, %r1, 2; add.u64 %d1, %a0, %d1; st.global.u16 [%d1], %h1; ret;";
    d.run(&kernel(1, "", body), 8, 32, &[out]).unwrap();
    // The last block to finish adds the others' results up: a fence and an atomic order it behind them.
    let body = "
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mul.wide.u32 %d1, %r2, 4; add.u64 %d2, %a0, %d1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $done;
st.global.u32 [%d2], %r2; membar.gl; atom.global.inc.u32 %r3, [%a1], 7; setp.ne.u32 %p2, %r3, 7; @%p2 bra $done;
membar.gl; mov.u32 %r4, 0; mov.u32 %r5, 0;
$loop: mul.wide.u32 %d3, %r4, 4; add.u64 %d3, %a0, %d3; ld.global.u32 %r6, [%d3]; add.u32 %r5, %r5, %r6;
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, 8; @%p3 bra $loop; st.global.u32 [%a1+4], %r5;
$done: ret;";
    let counter = d.upload(&[0u32, 0]);
    for _ in 0..5 {
        d.run(&kernel(2, "", body), 8, 32, &[out, counter]).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(d.words(counter, 2), vec![0, 28]);
    }
    let fault = d
        .run(&kernel(2, "", &body.replace("membar.gl; atom", "atom")), 8, 32, &[out, counter])
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::GlobalRace);
}

#[test]
fn mbarriers_hand_data_over() {
    let mut d = Device::new();
    let out = d.empty(128);
    let body = "
mov.u32 %r1, %tid.x; setp.ne.u32 %p1, %r1, 0; @%p1 bra $ready; mbarrier.init.shared.b64 [bar], 32;
$ready: bar.sync 0; and.b32 %r2, %r1, 31; shl.b32 %r3, %r2, 2; mov.u32 %r4, buffer; add.u32 %r4, %r4, %r3;
setp.ge.u32 %p2, %r1, 32; @%p2 bra $consumer;
st.shared.u32 [%r4], %r1; mbarrier.arrive.shared.b64 %d5, [bar]; bra $done;
$consumer: mbarrier.try_wait.parity.shared.b64 %p3, [bar], 0; @!%p3 bra $consumer;
xor.b32 %r4, %r4, 4; ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d1, %r3; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r5;
$done: ret;";
    let shared = ".shared .align 8 .b8 bar[8]; .shared .align 4 .b8 buffer[128];";
    for seed in 0..6 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&kernel(1, shared, body), 1, 64, &[out]).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(d.words(out, 32), (0..32).map(|l| l ^ 1).collect::<Vec<u32>>());
    }
    let fault = d
        .run(&kernel(1, shared, &body.replace("[bar], 32", "[bar], 33")), 1, 64, &[out])
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
}

#[test]
fn lanes_without_a_warp_barrier() {
    let d = Device::new();
    let body = "mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; mov.u32 %r3, buffer; add.u32 %r4, %r3, %r2; st.shared.u32 [%r4], %r1;
SYNC xor.b32 %r4, %r4, 4; ld.shared.u32 %r5, [%r4]; ret;";
    let shared = ".shared .align 4 .b8 buffer[128];";
    d.run(&kernel(0, shared, &body.replace("SYNC", "bar.warp.sync -1;")), 1, 32, &[]).unwrap();
    let fault = d.run(&kernel(0, shared, &body.replace("SYNC", "")), 1, 32, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::SharedRace);
}

#[test]
fn module_variables() {
    let d = Device::new();
    let out = d.empty(64);
    let text = kernel(
        1,
        ".const .align 4 .u32 table[4] = {10, 20, 30};\n.global .align 8 .u64 pointer = table;\n.global .align 4 .f32 factor = 0f40000000;",
        "
mov.u64 %d1, table; ld.const.u32 %r1, [table+8]; ld.const.u32 %r2, [table+12];
ld.global.u64 %d2, [pointer]; ld.global.u32 %r3, [%d2+4]; ld.global.f32 %f1, [factor]; cvt.rzi.u32.f32 %r4, %f1;
st.global.v4.u32 [%a0], {%r1, %r2, %r3, %r4}; ret;",
    );
    d.run(&text, 1, 1, &[out]).unwrap();
    assert_eq!(d.words(out, 4), vec![30, 0, 20, 2]);
}

#[test]
fn refusals_name_the_line() {
    let d = Device::new();
    let load =
        |body: &str| Module::load(&format!("{HEAD}{body}"), &d.memory, &d.config).unwrap_err();
    let e = load(&kernel(0, "", "frobnicate.u32 %r1, %r2;"));
    assert!(
        e.line > 3 && e.text.contains("frobnicate") && e.message.contains("not supported"),
        "{e}"
    );
    assert!(load(&kernel(0, "", "add.u32.banana %r1, %r2, %r3;")).message.contains("banana"));
    assert!(load(&kernel(0, "", "add.u32 %r1, %r2, %nope;")).message.contains("%nope"));
    assert!(load(&kernel(0, "", "add.u64 %r1, %d2, %d3;")).message.contains("wide"));
    assert!(load(&kernel(0, "", "bra $nowhere;")).message.contains("$nowhere"));
    assert!(load(".visible .entry k() { ").line > 0);
}

#[test]
fn a_loop_that_never_ends() {
    let d = Device::new();
    let fault = d.run(&kernel(0, "", "$a: bra.uni $a;"), 1, 32, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadlock);
}
