//! Failed checks as a program sees them: sticky errors and reports.

use emulator::driver::{Handle, Out};

use crate::child::{
    arg, context, cu, download, function, get, in_child, launch, module, ok, scratch, upload,
};

#[test]
fn a_fault_sticks_to_its_context() {
    let report = scratch("fault.txt");
    in_child(
        "faults::a_fault_sticks_to_its_context",
        &[("CUDA_EMULATOR_REPORT", &report)],
        || {
            let first = context();
            let module = module();
            let (wild, bump) = (function(module, c"wild"), function(module, c"bump"));
            let x = upload(&[1]);
            assert_eq!(
                launch(wild, 1, 1, 0, Handle::NULL, &[arg(&x)]),
                0,
                "the launch itself succeeds"
            );
            assert_eq!(cu!(cuCtxSynchronize()), 700);
            assert_eq!(cu!(cuCtxSynchronize()), 700);
            assert_eq!(launch(bump, 1, 1, 0, Handle::NULL, &[arg(&x)]), 700);
            let mut other = 0u64;
            assert_eq!(cu!(cuMemAlloc_v2(Out::from(&mut other), 4)), 700);
            assert_eq!(cu!(cuMemFree_v2(x)), 700);
            assert_eq!(cu!(cuStreamSynchronize(Handle::NULL)), 700);
            // Another context is not affected, and ending the first one clears the error.
            let second = context();
            let y = upload(&[5]);
            assert_eq!(download(y, 1), [5]);
            ok!(cuMemFree_v2(y));
            ok!(cuCtxDestroy_v2(second));
            ok!(cuCtxDestroy_v2(first));
        },
        |_| {
            let report = std::fs::read_to_string(&report).expect("a report");
            for part in [
                "CUDA_ERROR_ILLEGAL_ADDRESS (700)",
                "out-of-bounds",
                "wild",
                "st.global.u32",
                "4 bytes",
                "block (0,0,0)",
                "leak",
            ] {
                assert!(report.contains(part), "no `{part}` in:\n{report}");
            }
        },
    );
}

#[test]
fn the_primary_context_recovers_by_a_reset() {
    in_child(
        "faults::the_primary_context_recovers_by_a_reset",
        &[],
        || {
            ok!(cuInit(0));
            let primary: Handle = get!(cuDevicePrimaryCtxRetain(0));
            ok!(cuCtxSetCurrent(primary));
            let wild = function(module(), c"wild");
            let x = upload(&[1]);
            assert_eq!(launch(wild, 1, 1, 0, Handle::NULL, &[arg(&x)]), 0);
            let mut back = [0u32];
            assert_eq!(cu!(cuMemcpyDtoH_v2(back.as_mut_ptr() as usize, x, 4)), 700);
            ok!(cuDevicePrimaryCtxReset_v2(0));
            let primary: Handle = get!(cuDevicePrimaryCtxRetain(0));
            ok!(cuCtxSetCurrent(primary));
            let x = upload(&[3]);
            assert_eq!(download(x, 1), [3]);
            ok!(cuMemFree_v2(x));
        },
        |_| {},
    );
}

#[test]
fn memory_freed_in_stream_order_too_early_is_found() {
    in_child(
        "faults::memory_freed_in_stream_order_too_early_is_found",
        &[],
        || {
            context();
            let bump = function(module(), c"bump");
            let (a, b): (Handle, Handle) = (get!(cuStreamCreate(1)), get!(cuStreamCreate(1)));
            let x: u64 = get!(cuMemAllocAsync(4, a));
            ok!(cuMemsetD32Async(x, 1, 1, a));
            ok!(cuStreamSynchronize(a));
            // The free does not wait for the other stream's kernel.
            assert_eq!(launch(bump, 1, 1, 0, b, &[arg(&x)]), 0);
            ok!(cuMemFreeAsync(x, a));
            ok!(cuStreamSynchronize(a));
            assert_eq!(cu!(cuStreamSynchronize(b)), 700);
        },
        |text| assert!(text.contains("use-after-free"), "{text}"),
    );
}
