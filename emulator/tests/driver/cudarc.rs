//! A Rust program on cudarc, which loads the emulator as it would a driver.

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::Ptx;

use crate::child::{PTX, in_child, library_folder};

fn program() {
    // SAFETY: loads the library that `LD_LIBRARY_PATH` names.
    assert!(unsafe { sys::is_culib_present() });
    let context = CudaContext::new(0).expect("a device");
    assert!(context.name().expect("a name").contains("emulator"));
    assert_eq!(context.compute_capability().expect("a capability"), (8, 0));
    let stream = context.new_stream().expect("a stream");
    let module = context.load_module(Ptx::from_src(PTX.trim_end_matches('\0'))).expect("a module");
    let scale = module.load_function("scale").expect("a kernel");

    let host: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let mut x = stream.clone_htod(&host).expect("a copy");
    let start = stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).expect("an event");
    let (n, f) = (1000u32, 3.0f32);
    // SAFETY: the arguments are those of the kernel.
    unsafe {
        stream
            .launch_builder(&scale)
            .arg(&mut x)
            .arg(&n)
            .arg(&f)
            .launch(LaunchConfig::for_num_elems(n))
    }
    .expect("a launch");
    let end = stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).expect("an event");
    let back = stream.clone_dtoh(&x).expect("a copy");
    assert_eq!(back, host.iter().map(|v| v * 3.0).collect::<Vec<_>>());
    end.synchronize().expect("an event that happens");
    assert!(start.elapsed_ms(&end).expect("a time") >= 0.0);

    // Two streams, tied by the events that cudarc keeps for each slice.
    let other = context.new_stream().expect("a stream");
    let copy = other.clone_dtod(&x).expect("a copy");
    assert_eq!(other.clone_dtoh(&copy).expect("a copy"), back);

    // A graph: scale by two, three times.
    // SAFETY: from here on only one stream is used.
    unsafe { context.disable_event_tracking() };
    let mut y = stream.clone_htod(&[1.0f32; 8]).expect("a copy");
    stream.synchronize().expect("no fault");
    stream
        .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let (n, f) = (8u32, 2.0f32);
    // SAFETY: as above.
    unsafe {
        stream
            .launch_builder(&scale)
            .arg(&mut y)
            .arg(&n)
            .arg(&f)
            .launch(LaunchConfig::for_num_elems(n))
    }
    .expect("a launch");
    let graph =
        stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("a capture").expect("a graph");
    for _ in 0..3 {
        graph.launch().expect("a launch");
    }
    assert_eq!(stream.clone_dtoh(&y).expect("a copy"), [8.0; 8]);

    // SAFETY: filled before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<f32>(8) }.expect("page-locked memory");
    stream.memcpy_dtoh(&y, &mut pinned).expect("a copy");
    // Without its events cudarc does not wait here on its own.
    stream.synchronize().expect("no fault");
    assert_eq!(pinned.as_slice().expect("an event that happens"), [8.0; 8]);
    let blocks =
        scale.occupancy_max_active_blocks_per_multiprocessor(256, 0, None).expect("an occupancy");
    assert!(blocks > 0);
    let (free, total) = context.mem_get_info().expect("sizes");
    assert!(free < total);
}

fn run(name: &str, pools: &str) {
    let folder = library_folder(&name.replace(':', "_"));
    let path = folder.to_str().expect("a plain path");
    in_child(
        name,
        &[("LD_LIBRARY_PATH", path), ("CUDA_EMULATOR_MEMORY_POOLS", pools)],
        program,
        |text| assert!(!text.contains("leak"), "{text}"),
    );
}

#[test]
fn with_stream_ordered_allocation() {
    run("cudarc_programs::with_stream_ordered_allocation", "1");
}

#[test]
fn without_stream_ordered_allocation() {
    run("cudarc_programs::without_stream_ordered_allocation", "0");
}
