//! Streams and events: order, deferral, the legacy default stream.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use emulator::driver::{Handle, Out};

use crate::child::{context, cu, download, get, in_child, now, ok, pinned, upload};

#[test]
fn work_waits_until_something_waits_for_it() {
    in_child(
        "streams::work_waits_until_something_waits_for_it",
        &[],
        || {
            context();
            let stream: Handle = get!(cuStreamCreate(1));
            let x = upload(&[1, 1]);
            let page = pinned(2);
            ok!(cuMemsetD32Async(x, 7, 2, stream));
            ok!(cuMemcpyDtoHAsync_v2(page.as_ptr() as usize, x, 8, stream));
            assert_eq!(now(&page[0]), 0, "nothing has waited yet");
            // A blocking copy waits for the default stream only: this stream does not block on it.
            assert_eq!(download(x, 1), [1], "stale, because nothing waited for the stream");
            ok!(cuStreamSynchronize(stream));
            assert_eq!(now(&page[0]), 7);

            // Page-locked memory is read when the copy's turn comes, pageable memory at the call.
            page[0] = 20;
            let mut pageable = [30u32];
            let y = upload(&[0]);
            ok!(cuMemcpyHtoDAsync_v2(x, page.as_ptr() as usize, 4, stream));
            ok!(cuMemcpyHtoDAsync_v2(y, pageable.as_ptr() as usize, 4, stream));
            page[0] = 21;
            std::hint::black_box(&mut pageable)[0] = 31;
            ok!(cuStreamSynchronize(stream));
            assert_eq!((download(x, 1), download(y, 1)), (vec![21], vec![30]));

            // A copy to pageable memory is done at return: drivers do this, and programs rely on it.
            let mut pageable = [0u32];
            ok!(cuMemcpyDtoHAsync_v2(pageable.as_mut_ptr() as usize, x, 4, stream));
            assert_eq!(now(&pageable[0]), 21);
        },
        |_| {},
    );
}

#[test]
fn copies_to_pageable_memory_can_be_deferred() {
    in_child(
        "streams::copies_to_pageable_memory_can_be_deferred",
        &[("CUDA_EMULATOR_DEFER_PAGEABLE", "1")],
        || {
            context();
            let stream: Handle = get!(cuStreamCreate(1));
            let (x, mut late) = (upload(&[4]), [0u32]);
            let to = late.as_mut_ptr() as usize;
            ok!(cuMemcpyDtoHAsync_v2(to, x, 4, stream));
            assert_eq!(now(&late[0]), 0);
            ok!(cuCtxSynchronize());
            assert_eq!(now(&late[0]), 4);
        },
        |_| {},
    );
}

#[test]
fn the_legacy_default_stream_and_blocking_streams_wait_for_each_other() {
    in_child(
        "streams::the_legacy_default_stream_and_blocking_streams_wait_for_each_other",
        &[],
        || {
            context();
            let (blocking, free): (Handle, Handle) =
                (get!(cuStreamCreate(0)), get!(cuStreamCreate(1)));
            let x = upload(&[0; 4]);
            ok!(cuMemsetD32Async(x, 1, 1, blocking));
            ok!(cuMemsetD32Async(x + 4, 1, 1, free));
            assert_eq!(
                download(x, 4),
                [1, 0, 0, 0],
                "only the blocking stream's work was waited for"
            );
            ok!(cuMemsetD32Async(x + 8, 2, 1, Handle::NULL));
            ok!(cuMemcpyDtoDAsync_v2(x + 12, x + 8, 4, blocking));
            ok!(cuStreamSynchronize(blocking));
            let page = pinned(4);
            ok!(cuMemcpyDtoHAsync_v2(page.as_ptr() as usize, x, 16, free));
            ok!(cuStreamSynchronize(free));
            assert_eq!(page, [1, 1, 2, 2]);
            let per_thread = Handle::PER_THREAD;
            ok!(cuMemsetD32Async(x, 9, 1, per_thread));
            assert_eq!(download(x, 1), [9], "the per-thread stream is a blocking one");
        },
        |_| {},
    );
}

#[test]
fn events_order_streams_and_tell_time() {
    in_child(
        "streams::events_order_streams_and_tell_time",
        &[],
        || {
            context();
            let (a, b): (Handle, Handle) = (get!(cuStreamCreate(1)), get!(cuStreamCreate(1)));
            let (start, end): (Handle, Handle) = (get!(cuEventCreate(0)), get!(cuEventCreate(0)));
            ok!(cuEventQuery(start));
            let x = upload(&[0, 0]);
            ok!(cuEventRecord(start, a));
            ok!(cuMemsetD32Async(x, 5, 1, a));
            ok!(cuEventRecord(end, a));
            ok!(cuMemsetD32Async(x, 6, 1, a));
            ok!(cuStreamWaitEvent(b, end, 0));
            ok!(cuMemcpyDtoDAsync_v2(x + 4, x, 4, b));
            let mut milliseconds = 0f32;
            assert_eq!(
                cu!(cuEventElapsedTime(Out::from(&mut milliseconds), start, end)),
                600,
                "not ready"
            );
            ok!(cuStreamSynchronize(b));
            // The wait is for the record, not for what came after it.
            assert_eq!(download(x, 2), [5, 5]);
            ok!(cuEventElapsedTime(Out::from(&mut milliseconds), start, end));
            assert!((0.0..60_000.0).contains(&milliseconds));
            assert_eq!(cu!(cuStreamQuery(a)), 600, "one fill is left, and the query runs it");
            ok!(cuStreamQuery(a));
            assert_eq!(download(x, 1), [6]);

            ok!(cuEventRecord(end, a));
            let mut polls = 0;
            while cu!(cuEventQuery(end)) == 600 {
                polls += 1;
            }
            assert_eq!(polls, 1);
            let untimed: Handle = get!(cuEventCreate(2));
            ok!(cuEventRecord(untimed, a));
            ok!(cuEventSynchronize(untimed));
            assert_eq!(cu!(cuEventElapsedTime(Out::from(&mut milliseconds), start, untimed)), 400);
            ok!(cuEventDestroy_v2(end));
            assert_eq!(cu!(cuEventQuery(end)), 400, "a stale handle");
            ok!(cuStreamDestroy_v2(a));
            assert_eq!(cu!(cuStreamSynchronize(a)), 400);
        },
        |_| {},
    );
}

static CALLED: AtomicU32 = AtomicU32::new(0);

/// A host function; it must not call the driver.
unsafe extern "C" fn host_function(data: *mut c_void) {
    let refused = cu!(cuCtxSynchronize());
    CALLED.store(data as usize as u32 + refused as u32, Ordering::Relaxed);
}

#[test]
fn host_functions_run_in_order() {
    in_child(
        "streams::host_functions_run_in_order",
        &[],
        || {
            context();
            let stream: Handle = get!(cuStreamCreate(0));
            ok!(cuLaunchHostFunc(stream, Some(host_function), 3));
            assert_eq!(CALLED.load(Ordering::Relaxed), 0);
            ok!(cuStreamSynchronize(stream));
            assert_eq!(
                CALLED.load(Ordering::Relaxed),
                803,
                "3, and not permitted to call the driver"
            );
        },
        |_| {},
    );
}

#[test]
fn a_long_queue_runs_its_oldest_work() {
    in_child(
        "streams::a_long_queue_runs_its_oldest_work",
        &[],
        || {
            context();
            let stream: Handle = get!(cuStreamCreate(1));
            let x = upload(&[0]);
            for value in 0..5000 {
                ok!(cuMemsetD32Async(x, value, 1, stream));
            }
            let seen = download(x, 1)[0];
            assert!((1000..4999).contains(&seen), "{seen}");
            ok!(cuStreamSynchronize(stream));
            assert_eq!(download(x, 1), [4999]);
        },
        |_| {},
    );
}

#[test]
fn work_that_nothing_waited_for_is_reported() {
    in_child(
        "streams::work_that_nothing_waited_for_is_reported",
        &[],
        || {
            context();
            let x = upload(&[0]);
            let stream: Handle = get!(cuStreamCreate(1));
            ok!(cuMemsetD32Async(x, 1, 1, stream));
        },
        |text| assert!(text.contains("nothing ever waited"), "{text}"),
    );
}

#[test]
fn threads_share_the_device() {
    in_child(
        "streams::threads_share_the_device",
        &[],
        || {
            let context = context();
            let threads: Vec<_> = (0..4u32)
                .map(|thread| {
                    std::thread::spawn(move || {
                        ok!(cuCtxSetCurrent(context));
                        let stream: Handle = get!(cuStreamCreate(1));
                        for round in 0..50 {
                            let x: u64 = get!(cuMemAllocAsync(64, stream));
                            ok!(cuMemsetD32Async(x, thread * 100 + round, 16, stream));
                            let mut back = [0u32; 16];
                            ok!(cuMemcpyDtoHAsync_v2(back.as_mut_ptr() as usize, x, 64, stream));
                            ok!(cuStreamSynchronize(stream));
                            assert_eq!(now(&back[15]), thread * 100 + round);
                            ok!(cuMemFreeAsync(x, stream));
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("a thread that passes"));
        },
        |_| {},
    );
}
