//! A small product like real ones: a producer warp that loads tiles of A and B into a ring of two stages, a warpgroup
//! that multiplies them, and an epilogue through shared memory with a bulk store.

use crate::device::{HEAD, Hopper, Param, REGISTERS, map_of_halves};
use emulator::Fault;
use half::f16;

/// Rows, columns and depth.
pub const SIDE: usize = 64;
pub const DEPTH: usize = 384;

/// The correct kernel. Each line that a defect changes occurs exactly once.
pub fn text() -> String {
    let sums: Vec<String> = (0..32).map(|j| format!("%d{j}")).collect();
    let sums = sums.join(", ");
    let mut body = String::from(
        "mov.b64 %ma, map_a;\ncvta.param.u64 %ma, %ma;\nmov.b64 %mb, map_b;\ncvta.param.u64 %mb, %mb;\n\
         ld.param.u64 %out, [p_out];\nmov.u32 %tid0, %tid.x;\nmov.u32 %smem, smem;\nmov.u32 %bars, bar;\n\
         setp.ne.u32 %p, %tid0, 0;\n@%p bra READY;\n\
         mbarrier.init.shared::cta.b64 [bar], 1;\nmbarrier.init.shared::cta.b64 [bar+8], 1;\n\
         mbarrier.init.shared::cta.b64 [bar+16], 1;\nmbarrier.init.shared::cta.b64 [bar+24], 1;\n\
         fence.mbarrier_init.release.cluster;\nREADY:\nbar.sync 0;\n\
         mov.u32 %step, 0;\nmov.u32 %stage, 0;\nmov.u32 %phase, 0;\nshr.u32 %i, %tid0, 7;\n\
         setp.ne.u32 %p, %i, 0;\n@%p bra CONSUMER;\nsetmaxnreg.dec.sync.aligned.u32 40;\n\
         setp.ne.u32 %p, %tid0, 0;\n@%p bra DONE;\n\
         PRODUCE:\nshl.b32 %i, %stage, 3;\nadd.u32 %full, %bars, %i;\nadd.u32 %empty, %full, 16;\nxor.b32 %i, %phase, 1;\n\
         PW:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [%empty], %i;\n@!%q bra PW;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%full], 16384;\n\
         shl.b32 %i, %stage, 14;\nadd.u32 %s, %smem, %i;\nshl.b32 %i, %step, 6;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%s], [%ma, {%i, 0}], [%full];\n\
         add.u32 %s, %s, 8192;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%s], [%mb, {%i, 0}], [%full];\n\
         xor.b32 %stage, %stage, 1;\nsetp.eq.u32 %p, %stage, 0;\n@%p xor.b32 %phase, %phase, 1;\n\
         add.u32 %step, %step, 1;\nsetp.lt.u32 %p, %step, 6;\n@%p bra PRODUCE;\nbra DONE;\n\
         CONSUMER:\nsetmaxnreg.inc.sync.aligned.u32 256;\n",
    );
    for j in 0..32 {
        body += &format!("mov.b32 %d{j}, 0;\n");
    }
    body += "CONSUME:\nshl.b32 %i, %stage, 3;\nadd.u32 %full, %bars, %i;\n\
             CW:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [%full], %phase;\n@!%q bra CW;\n\
             shl.b32 %i, %stage, 14;\nadd.u32 %i, %smem, %i;\nshr.u32 %i, %i, 4;\ncvt.u64.u32 %w, %i;\n\
             or.b64 %w, %w, 0x4000004000000000;\nadd.u64 %v, %w, 512;\n\
             wgmma.fence.sync.aligned;\n";
    for kk in 0..4 {
        if kk > 0 {
            body += "add.u64 %w, %w, 2;\nadd.u64 %v, %v, 2;\n";
        }
        body += &format!(
            "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {{{sums}}}, %w, %v, 1, 1, 1, 0, 0;\n"
        );
    }
    body += "wgmma.commit_group.sync.aligned;\n// committed\nwgmma.wait_group.sync.aligned 1;\n\
             setp.ne.u32 %p, %tid0, 128;\nsetp.eq.or.u32 %p, %step, 0, %p;\n\
             xor.b32 %i, %stage, 1;\nshl.b32 %i, %i, 3;\nadd.u32 %empty, %bars, %i;\n\
             @!%p mbarrier.arrive.shared::cta.b64 _, [%empty+16];\n\
             xor.b32 %stage, %stage, 1;\nsetp.eq.u32 %p, %stage, 0;\n@%p xor.b32 %phase, %phase, 1;\n\
             add.u32 %step, %step, 1;\nsetp.lt.u32 %p, %step, 6;\n@%p bra CONSUME;\n\
             wgmma.wait_group.sync.aligned 0;\n";
    // Row 16·warp + g + 8·(j/2%2), column 8·(j/4) + 2t: the tile of f32 after the ring.
    body += "sub.u32 %n, %tid0, 128;\nshr.u32 %i, %n, 5;\nshl.b32 %i, %i, 4;\nand.b32 %j, %n, 31;\nshr.u32 %t, %j, 2;\n\
             add.u32 %i, %i, %t;\nshl.b32 %i, %i, 8;\nand.b32 %j, %j, 3;\nshl.b32 %j, %j, 3;\nadd.u32 %i, %i, %j;\n\
             add.u32 %s, %smem, %i;\nadd.u32 %s, %s, 32768;\n";
    for j in (0..32).step_by(2) {
        let at = j / 2 % 2 * 8 * 256 + j / 4 * 32;
        body += &format!("st.shared.v2.b32 [%s+{at}], {{%d{j}, %d{}}};\n", j + 1);
    }
    body += "fence.proxy.async.shared::cta;\nbar.sync 1, 128;\nadd.u32 %t, %smem, 32768;\n\
             setp.ne.u32 %p, %tid0, 128;\nmov.u32 %n, 16384;\n\
             @!%p cp.async.bulk.global.shared::cta.bulk_group [%out], [%t], %n;\n\
             @!%p cp.async.bulk.commit_group;\n\
             @!%p cp.async.bulk.wait_group.read 0;\n\
             bar.sync 1, 128;\nst.shared.b32 [%s], 0;\nDONE:\n";
    format!(
        "{HEAD}.extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry k(.param .align 64 .b8 map_a[128], .param .align 64 .b8 map_b[128], .param .u64 p_out)\n\
         .maxntid 256\n.minnctapersm 1\n{{\n{REGISTERS}\
         .reg .b32 %d<32>, %step, %stage, %phase, %full, %empty, %bars;\n.reg .b64 %ma, %mb;\n\
         .shared .align 8 .b64 bar[4];\n{body}ret;\n}}\n"
    )
}

fn a(m: usize, k: usize) -> f32 {
    ((m * 5 + k * 3) % 7) as f32 - 3.0
}
fn b(n: usize, k: usize) -> f32 {
    ((n * 3 + k * 11) % 5) as f32 - 2.0
}

/// Runs a kernel of this shape; the product must be right if nothing is reported.
pub fn run(text: &str, seed: Option<u64>) -> Result<(), Box<Fault>> {
    let hopper = Hopper::seeded(seed);
    let upload = |f: fn(usize, usize) -> f32| {
        let element = |n| f16::from_f32(f(n / DEPTH, n % DEPTH)).to_bits().to_le_bytes();
        hopper.upload(&(0..SIDE * DEPTH).flat_map(element).collect::<Vec<u8>>())
    };
    let (at_a, at_b) = (upload(a), upload(b));
    let out = hopper.alloc(4 * SIDE * SIDE);
    let params = [
        Param::Map(map_of_halves(at_a, DEPTH, SIDE, [64, 64])),
        Param::Map(map_of_halves(at_b, DEPTH, SIDE, [64, 64])),
        Param::Pointer(out),
    ];
    hopper.run(text, (1, 256, 49152), &params)?;
    for (n, &got) in hopper.words(out, SIDE * SIDE).iter().enumerate() {
        let (row, column) = (n / SIDE, n % SIDE);
        let want: f32 = (0..DEPTH).map(|k| a(row, k) * b(column, k)).sum();
        assert_eq!(f32::from_bits(got), want, "row {row}, column {column}");
    }
    Ok(())
}
