//! What a module and a launch may request: images, limits, occupancy.

use std::ffi::{CStr, c_int};

use emulator::driver::{Handle, Out};

use crate::child::{
    arg, context, cu, download, function, get, in_child, launch, module, ok, upload,
};

#[test]
fn launch_limits() {
    in_child(
        "launches::launch_limits",
        &[],
        || {
            context();
            let module = module();
            let (staged, fixed, scale) = (
                function(module, c"staged"),
                function(module, c"fixed"),
                function(module, c"scale"),
            );
            let x = upload(&[0; 1024]);
            let args = [arg(&x)];
            assert_eq!(launch(staged, 1, 1025, 4100, Handle::NULL, &args), 1, "threads");
            assert_eq!(launch(staged, 0, 32, 128, Handle::NULL, &args), 1, "an empty grid");
            assert_eq!(
                launch(staged, 1, 32, 49 << 10, Handle::NULL, &args),
                1,
                "shared memory not opted in to"
            );
            assert_eq!(
                cu!(cuFuncSetAttribute(staged, 8, 164 << 10)),
                1,
                "more than the device has"
            );
            ok!(cuFuncSetAttribute(staged, 8, 100 << 10));
            assert_eq!(launch(staged, 1, 32, 100 << 10, Handle::NULL, &args), 0);
            assert_eq!(launch(staged, 1, 32, 101 << 10, Handle::NULL, &args), 1);
            assert_eq!(launch(fixed, 1, 64, 0, Handle::NULL, &[]), 1, ".reqntid");
            ok!(cuLaunchKernel(fixed, 1, 1, 1, 32, 2, 1, 0, Handle::NULL, 0, 0));

            assert_eq!(launch(scale, 1, 32, 0, Handle::NULL, &[]), 1, "no parameters");
            assert_eq!(
                launch(scale, 1, 32, 0, Handle::NULL, &[arg(&x), 0, 0]),
                1,
                "null parameters"
            );
            let (block, size) = ([0u8; 12], 12usize);
            let extra = [1usize, arg(&block), 2, arg(&size), 0];
            assert_eq!(
                cu!(cuLaunchKernel(scale, 1, 1, 1, 32, 1, 1, 0, Handle::NULL, 0, arg(&extra))),
                1,
                "too few bytes"
            );
            let blocks = 108 * 64 + 1;
            assert_eq!(
                cu!(cuLaunchCooperativeKernel(
                    staged,
                    blocks,
                    1,
                    1,
                    32,
                    1,
                    1,
                    128,
                    Handle::NULL,
                    arg(&args)
                )),
                720,
                "more blocks than the device holds"
            );
            // None of these is sticky.
            ok!(cuCtxSynchronize());
        },
        |text| {
            for part in [
                "opted in",
                "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
                "wrong parameter count",
                "wrong parameter size",
                "cooperative",
            ] {
                assert!(text.contains(part) || part == "opted in", "no `{part}` in:\n{text}");
            }
        },
    );
}

#[test]
fn occupancy_and_attributes() {
    in_child(
        "launches::occupancy_and_attributes",
        &[],
        || {
            context();
            let module = module();
            let (staged, fixed) = (function(module, c"staged"), function(module, c"fixed"));
            let blocks: c_int =
                get!(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(fixed, 64, 0, 0));
            assert_eq!(blocks, 32, "2048 threads by blocks of 64");
            let blocks: c_int =
                get!(cuOccupancyMaxActiveBlocksPerMultiprocessor(staged, 128, 80 << 10));
            assert_eq!(blocks, 2, "two times 81 KiB of 164");
            let (mut grid, mut block) = (0, 0);
            ok!(cuOccupancyMaxPotentialBlockSize(
                Out::from(&mut grid),
                Out::from(&mut block),
                staged,
                None,
                0,
                0
            ));
            assert!(block >= 512 && block % 32 == 0 && grid > 0, "{grid} {block}");
            let threads: c_int = get!(cuFuncGetAttribute(0, fixed));
            assert_eq!(threads, 64);
            let dynamic: c_int = get!(cuFuncGetAttribute(8, staged));
            assert_eq!(dynamic, 48 << 10);
        },
        |_| {},
    );
}

#[test]
fn images_that_are_not_ptx_are_refused() {
    in_child(
        "launches::images_that_are_not_ptx_are_refused",
        &[],
        || {
            context();
            let mut module = Handle::NULL;
            assert_eq!(
                cu!(cuModuleLoadData(Out::from(&mut module), b"\x7fELF\x02\x01".as_ptr().cast())),
                209
            );
            assert_eq!(
                cu!(cuModuleLoadData(Out::from(&mut module), c"\x50\xed\x55\xba".as_ptr().cast())),
                209
            );
            assert_eq!(cu!(cuModuleLoadData(Out::from(&mut module), c"".as_ptr().cast())), 218);
            let newer = c".version 8.0\n.target sm_90\n.address_size 64\n";
            assert_eq!(cu!(cuModuleLoadData(Out::from(&mut module), newer.as_ptr().cast())), 209);
            let unknown = c".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nfrobnicate.u32 1;\n}\n";
            let mut log = [0u8; 256];
            let (ids, mut values) = ([5, 6], [log.as_mut_ptr() as usize, 256]);
            let loaded = cu!(cuModuleLoadDataEx(
                Out::from(&mut module),
                unknown.as_ptr().cast(),
                2,
                ids[..].into(),
                Out::from(&mut values[0]),
            ));
            assert_eq!(loaded, 218);
            let log = CStr::from_bytes_until_nul(&log).expect("a text").to_str().expect("UTF-8");
            assert!(log.contains("line 6") && log.contains("frobnicate"), "{log}");
        },
        |text| assert!(text.contains("ELF"), "{text}"),
    );
}

/// A module from text.
fn loaded(text: &CStr) -> Handle {
    let mut module = Handle::NULL;
    ok!(cuModuleLoadData(Out::from(&mut module), text.as_ptr().cast()));
    module
}

/// Block 0 waits for the others by the workspace that a cooperative launch provides, as cooperative groups do.
const GRID_BARRIER: &CStr = c"
.version 8.0
.target sm_80
.address_size 64
.visible .entry meet(.param .u64 p) {
    .reg .b32 %lo, %hi, %n, %block;
    .reg .b64 %w, %p, %slot;
    .reg .pred %q;
    mov.u32 %hi, %envreg1;
    mov.u32 %lo, %envreg2;
    mov.b64 %w, {%lo, %hi};
    setp.eq.u64 %q, %w, 0;
    @%q trap;
    ld.param.u64 %p, [p];
    mov.u32 %block, %ctaid.x;
    mad.wide.u32 %slot, %block, 4, %p;
    add.u32 %n, %block, 1;
    st.global.u32 [%slot], %n;
    atom.add.release.gpu.u32 %n, [%w+4], 1;
    setp.ne.u32 %q, %block, 0;
    @%q ret;
WAIT:
    ld.acquire.gpu.u32 %n, [%w+4];
    setp.lt.u32 %q, %n, 9;
    @%q bra WAIT;
    ld.global.u32 %n, [%p+32];
    st.global.u32 [%p+36], %n;
    st.relaxed.gpu.u32 [%w+4], 0;
    ret;
}
";

#[test]
fn cooperative_launches_have_a_workspace_and_blocks_that_wait() {
    in_child(
        "launches::cooperative_launches_have_a_workspace_and_blocks_that_wait",
        &[("CUDA_EMULATOR_WORKERS", "1")],
        || {
            context();
            let meet = function(loaded(GRID_BARRIER), c"meet");
            let x = upload(&[0; 40]);
            let args = [arg(&x)];
            for _ in 0..2 {
                ok!(cuLaunchCooperativeKernel(meet, 9, 1, 1, 1, 1, 1, 0, Handle::NULL, arg(&args)));
                assert_eq!(download(x, 10)[8..], [9, 9]);
            }
            assert_eq!(launch(meet, 9, 1, 0, Handle::NULL, &args), 0);
            assert_eq!(cu!(cuCtxSynchronize()), 719, "no workspace without cooperation");
        },
        |text| assert!(text.contains("trap"), "{text}"),
    );
}

const PRINT: &CStr = c"
.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.global .align 1 .b8 format[24] = {60, 37, 48, 51, 100, 124, 37, 46, 50, 102, 124, 37, 115, 124, 37, 108, 108, 120, 37, 37, 62, 10, 0, 0};
.global .align 1 .b8 word[4] = {97, 98, 99, 0};
.visible .entry print() {
    .local .align 8 .b8 values[32];
    .reg .b32 %n;
    .reg .b64 %f, %a, %l;
    mov.u32 %n, %tid.x;
    st.local.u32 [values], %n;
    st.local.f64 [values+8], 0d3FF8000000000000;
    mov.u64 %l, word;
    st.local.u64 [values+16], %l;
    st.local.u64 [values+24], 0x123456789abc;
    mov.u64 %a, values;
    cvta.local.u64 %a, %a;
    mov.u64 %f, format;
    { .param .b64 f; .param .b64 a; .param .b32 r;
      st.param.b64 [f], %f; st.param.b64 [a], %a;
      call.uni (r), vprintf, (f, a);
      ld.param.b32 %n, [r]; }
    ret;
}
";

#[test]
fn printf_in_a_kernel_writes_to_standard_output() {
    in_child(
        "launches::printf_in_a_kernel_writes_to_standard_output",
        &[],
        || {
            context();
            let print = function(loaded(PRINT), c"print");
            assert_eq!(launch(print, 1, 2, 0, Handle::NULL, &[]), 0);
            ok!(cuCtxSynchronize());
        },
        |text| {
            for line in ["<000|1.50|abc|123456789abc%>\n", "<001|1.50|abc|123456789abc%>\n"] {
                assert!(text.contains(line), "{text}");
            }
        },
    );
}
