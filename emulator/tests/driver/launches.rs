//! What a module and a launch may request: images, limits, occupancy.

use std::ffi::{CStr, c_int};

use emulator::driver::{Handle, Out};

use crate::child::{arg, context, cu, function, get, in_child, launch, module, ok, upload};

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
                    scale,
                    blocks,
                    1,
                    1,
                    32,
                    1,
                    1,
                    0,
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
