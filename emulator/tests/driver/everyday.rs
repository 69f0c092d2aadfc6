//! The everyday API: devices, contexts, memory, copies, modules, launches.

use std::ffi::{CStr, c_char, c_int};

use emulator::driver::{Handle, Memcpy2D, Memcpy3D, Out, TextOut};

use crate::child::{
    arg, context, cu, download, function, get, in_child, launch, module, now, ok, pinned, upload,
};

#[test]
fn the_device() {
    in_child(
        "everyday::the_device",
        &[
            ("CUDA_EMULATOR_CAPABILITY", "9.0"),
            ("CUDA_EMULATOR_MEMORY", "64M"),
            ("CUDA_EMULATOR_SM_COUNT", "7"),
        ],
        || {
            let mut count = 0;
            assert_eq!(cu!(cuDeviceGetCount(Out::from(&mut count))), 3, "not initialised");
            ok!(cuInit(0));
            assert_eq!(get!(cuDeviceGetCount()), 1);
            assert_eq!(cu!(cuDeviceGet(Out::from(&mut count), 1)), 101);
            let mut name = [0 as c_char; 64];
            ok!(cuDeviceGetName(TextOut::from(&mut name[..]), 64, 0));
            // SAFETY: the driver ended it with NUL.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_str().expect("text");
            assert!(name.contains("emulator"), "{name}");
            let attribute = |which: c_int| -> c_int { get!(cuDeviceGetAttribute(which, 0)) };
            assert_eq!((attribute(75), attribute(76)), (9, 0));
            assert_eq!(attribute(16), 7);
            assert_eq!(attribute(97), 227 << 10);
            assert_eq!(attribute(10), 32);
            assert_eq!(attribute(41), 1);
            let bytes: usize = get!(cuDeviceTotalMem_v2(0));
            assert_eq!(bytes, 64 << 20);
            let mut text: *const c_char = std::ptr::null();
            ok!(cuGetErrorName(700, Out::from(&mut text)));
            // SAFETY: the driver's own constant.
            let text = unsafe { CStr::from_ptr(text) };
            assert_eq!(text, c"CUDA_ERROR_ILLEGAL_ADDRESS");
            let mut text: *const c_char = std::ptr::null();
            assert_eq!(cu!(cuGetErrorName(12345, Out::from(&mut text))), 1);
        },
        |text| assert!(text.contains("emulator"), "it does not say that it is one: {text}"),
    );
}

#[test]
fn a_wrong_setting_is_refused() {
    in_child(
        "everyday::a_wrong_setting_is_refused",
        &[("CUDA_EMULATOR_CHECKS", "everything")],
        || assert_eq!(cu!(cuInit(0)), 1),
        |text| assert!(text.contains("CUDA_EMULATOR_CHECKS"), "{text}"),
    );
}

#[test]
fn a_program() {
    in_child(
        "everyday::a_program",
        &[],
        || {
            let context = context();
            let module = module();
            let scale = function(module, c"scale");
            let values: Vec<u32> = (0..100).map(|i| (i as f32).to_bits()).collect();
            let x = upload(&values);
            let (n, f) = (100u32, 0.5f32);
            assert_eq!(launch(scale, 4, 32, 0, Handle::NULL, &[arg(&x), arg(&n), arg(&f)]), 0);
            let expected: Vec<u32> = (0..100).map(|i| (i as f32 * 0.5).to_bits()).collect();
            // A blocking copy in the default stream comes after the launch.
            assert_eq!(download(x, 100), expected);

            // The same by `extra`, with a block of parameters.
            let mut block = [0u8; 16];
            block[..8].copy_from_slice(&x.to_le_bytes());
            block[8..12].copy_from_slice(&n.to_le_bytes());
            block[12..].copy_from_slice(&2.0f32.to_le_bytes());
            let size = 16usize;
            let extra = [1usize, arg(&block), 2, arg(&size), 0];
            ok!(cuLaunchKernel(scale, 4, 1, 1, 32, 1, 1, 0, Handle::NULL, 0, arg(&extra)));
            assert_eq!(download(x, 100), values);

            let (mut address, mut bytes) = (0u64, 0usize);
            ok!(cuModuleGetGlobal_v2(
                Out::from(&mut address),
                Out::from(&mut bytes),
                module,
                c"answer".into()
            ));
            assert_eq!((bytes, download(address, 1)), (4, vec![42]));
            assert_eq!(
                cu!(cuModuleGetFunction(
                    Out::from(&mut Handle::NULL.clone()),
                    module,
                    c"nothing".into()
                )),
                500
            );

            let staged = function(module, c"staged");
            assert_eq!(launch(staged, 1, 64, 256, Handle::NULL, &[arg(&x)]), 0);
            assert_eq!(download(x, 64), (0..64).collect::<Vec<u32>>());

            ok!(cuMemFree_v2(x));
            ok!(cuModuleUnload(module));
            ok!(cuCtxDestroy_v2(context));
        },
        |text| assert!(!text.contains("leak"), "{text}"),
    );
}

#[test]
fn copies_and_fills() {
    in_child(
        "everyday::copies_and_fills",
        &[],
        || {
            context();
            let (a, b) = (upload(&[1, 2, 3, 4, 5, 6, 7, 8]), upload(&[0; 8]));
            ok!(cuMemcpyDtoD_v2(b, a + 8, 16));
            assert_eq!(download(b, 8), [3, 4, 5, 6, 0, 0, 0, 0]);
            ok!(cuMemsetD32_v2(b, 9, 2));
            ok!(cuMemsetD16_v2(b + 8, 0x0102, 2));
            ok!(cuMemsetD8_v2(b + 12, 0xff, 4));
            assert_eq!(download(b, 4), [9, 9, 0x0102_0102, 0xffff_ffff]);

            // Unified copies tell host from device by the address.
            let mut host = [0u32; 8];
            ok!(cuMemcpy(host.as_mut_ptr() as u64, a, 32));
            assert_eq!(host, [1, 2, 3, 4, 5, 6, 7, 8]);

            let (mut pitched, mut pitch) = (0u64, 0usize);
            ok!(cuMemAllocPitch_v2(Out::from(&mut pitched), Out::from(&mut pitch), 12, 2, 4));
            assert!(pitch >= 12);
            let rows = [1u32, 2, 3, 4, 5, 6];
            let copy = Memcpy2D {
                src_type: 1,
                src_host: rows.as_ptr() as usize,
                src_pitch: 12,
                dst_type: 2,
                dst_device: pitched,
                dst_pitch: pitch,
                width: 12,
                height: 2,
                ..Default::default()
            };
            ok!(cuMemcpy2D_v2((&copy).into()));
            assert_eq!(download(pitched + pitch as u64, 3), [4, 5, 6]);
            ok!(cuMemsetD2D32_v2(pitched, pitch, 7, 2, 2));
            assert_eq!(download(pitched, 3), [7, 7, 3]);
            assert_eq!(download(pitched + pitch as u64, 3), [7, 7, 6]);

            // Leaving an allocation, or following a dangling pointer, is an error of the call.
            assert_eq!(cu!(cuMemcpyDtoD_v2(b, a, 64)), 1);
            assert_eq!(cu!(cuMemsetD8_v2(a + 31, 0, 2)), 1);
            ok!(cuMemFree_v2(a));
            assert_eq!(cu!(cuMemFree_v2(a)), 1);
            assert_eq!(cu!(cuMemcpyDtoD_v2(b, a, 4)), 1);
        },
        |text| assert!(text.contains("freed"), "{text}"),
    );
}

#[test]
fn memory_and_pointers() {
    in_child(
        "everyday::memory_and_pointers",
        &[("CUDA_EMULATOR_MEMORY", "1M")],
        || {
            context();
            let (mut free, mut total) = (0usize, 0usize);
            ok!(cuMemGetInfo_v2(Out::from(&mut free), Out::from(&mut total)));
            assert_eq!((free, total), (1 << 20, 1 << 20));
            let a: u64 = get!(cuMemAlloc_v2(600 << 10));
            assert_eq!(a % 256, 0);
            let mut b = 0u64;
            assert_eq!(cu!(cuMemAlloc_v2(Out::from(&mut b), 600 << 10)), 2, "out of memory");
            assert_eq!(cu!(cuMemAlloc_v2(Out::from(&mut b), 0)), 1);
            let (mut base, mut size) = (0u64, 0usize);
            ok!(cuMemGetAddressRange_v2(Out::from(&mut base), Out::from(&mut size), a + 1000));
            assert_eq!((base, size), (a, 600 << 10));
            let mut kind = 0u32;
            let place = || Out::<u8>::at_address(0).address();
            assert_eq!(place(), 0);
            ok!(cuPointerGetAttribute(Out::cast(&Out::from(&mut kind)), 2, a + 8));
            assert_eq!(kind, 2, "device memory");
            let page = pinned(16);
            ok!(cuPointerGetAttribute(Out::cast(&Out::from(&mut kind)), 2, page.as_ptr() as u64));
            assert_eq!(kind, 1, "host memory");
            let on_device: u64 = get!(cuMemHostGetDevicePointer_v2(page.as_ptr() as usize, 0));
            ok!(cuMemsetD32_v2(on_device, 5, 16));
            ok!(cuCtxSynchronize());
            assert_eq!(now(&page[15]), 5);
            ok!(cuMemFreeHost(page.as_ptr() as usize));
            assert_eq!(cu!(cuMemFreeHost(page.as_ptr() as usize)), 1);

            let mut own = vec![1u32; 1024];
            ok!(cuMemHostRegister_v2(own.as_mut_ptr() as usize, 4096, 0));
            assert_eq!(cu!(cuMemHostRegister_v2(own.as_mut_ptr() as usize, 4096, 0)), 712);
            ok!(cuMemHostUnregister(own.as_mut_ptr() as usize));
            assert_eq!(cu!(cuMemHostUnregister(own.as_mut_ptr() as usize)), 713);

            let managed: u64 = get!(cuMemAllocManaged(64, 1));
            ok!(cuMemsetD8_v2(managed, 1, 64));
            ok!(cuCtxSynchronize());
            // SAFETY: managed memory is host memory, and nothing uses it now.
            assert_eq!(unsafe { *(managed as *const u32) }, 0x0101_0101);
            ok!(cuMemFree_v2(managed));

            // Frees in stream order make room before an allocation fails.
            ok!(cuMemFree_v2(a));
            let stream: Handle = get!(cuStreamCreate(1));
            for _ in 0..4 {
                let pooled: u64 = get!(cuMemAllocAsync(600 << 10, stream));
                ok!(cuMemFreeAsync(pooled, stream));
            }
        },
        |_| {},
    );
}

#[test]
fn leaks_and_counters() {
    let counters = crate::child::scratch("counters.json");
    in_child(
        "everyday::leaks_and_counters",
        &[("CUDA_EMULATOR_COUNTERS", &counters)],
        || {
            let context = context();
            let bump = function(module(), c"bump");
            let x = upload(&[1]);
            upload(&[0; 100]);
            for _ in 0..3 {
                assert_eq!(launch(bump, 1, 1, 0, Handle::NULL, &[arg(&x)]), 0);
            }
            assert_eq!(download(x, 1), [4]);
            ok!(cuMemFree_v2(x));
            ok!(cuCtxDestroy_v2(context));
        },
        |text| {
            assert!(text.contains("leak") && text.contains("1 allocations, 400 bytes"), "{text}");
            let report = std::fs::read_to_string(&counters).expect("a counters file");
            let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
            let kernel = &report["kernels"][0];
            assert_eq!(
                (kernel["kernel"].as_str(), kernel["launches"].as_u64()),
                (Some("bump"), Some(3)),
                "{report}"
            );
        },
    );
}

#[test]
fn contexts() {
    in_child(
        "everyday::contexts",
        &[],
        || {
            ok!(cuInit(0));
            let mut current = Handle::LEGACY;
            ok!(cuCtxGetCurrent(Out::from(&mut current)));
            assert!(current.is_null());
            let mut pointer = 0u64;
            assert_eq!(cu!(cuMemAlloc_v2(Out::from(&mut pointer), 4)), 201, "no context");
            let primary: Handle = get!(cuDevicePrimaryCtxRetain(0));
            assert_eq!(primary, get!(cuDevicePrimaryCtxRetain(0)));
            ok!(cuCtxSetCurrent(primary));
            let other: Handle = get!(cuCtxCreate_v2(0, 0));
            ok!(cuCtxGetCurrent(Out::from(&mut current)));
            assert_eq!(current, other);
            ok!(cuCtxPopCurrent_v2(Out::from(&mut current)));
            assert_eq!(current, other);
            ok!(cuCtxGetCurrent(Out::from(&mut current)));
            assert_eq!(current, primary);
            ok!(cuCtxDestroy_v2(other));
            assert_eq!(cu!(cuCtxSetCurrent(other)), 201);
            let limit: usize = get!(cuCtxGetLimit(0));
            assert!(limit > 0);
            ok!(cuDevicePrimaryCtxRelease_v2(0));
            ok!(cuCtxSynchronize());
            ok!(cuDevicePrimaryCtxRelease_v2(0));
            assert_eq!(cu!(cuCtxSynchronize()), 709, "destroyed");
        },
        |_| {},
    );
}

#[test]
fn what_leaves_every_address_space_is_refused_and_no_overflow() {
    in_child(
        "everyday::what_leaves_every_address_space_is_refused_and_no_overflow",
        &[],
        || {
            context();
            let device: u64 = get!(cuMemAlloc_v2(4096));
            let host = [0u8; 4];
            let from = host.as_ptr() as usize;
            for address in [u64::MAX, u64::MAX - 3, 0, 1, device + 4095] {
                assert_eq!(cu!(cuMemcpyHtoD_v2(address, from, 4)), 1, "{address:#x}");
            }
            let mut copy = Memcpy3D {
                src_type: 2,
                dst_type: 2,
                src_device: device,
                dst_device: device + 2048,
                width: 4,
                height: 1,
                depth: 1,
                ..Memcpy3D::default()
            };
            ok!(cuMemcpy3D_v2((&copy).into()));
            for huge in [1 << 40, usize::MAX / 2, usize::MAX] {
                (copy.src_pitch, copy.src_height) = (huge, huge);
                assert_eq!(cu!(cuMemcpy3D_v2((&copy).into())), 1, "{huge}");
                (copy.src_pitch, copy.src_height, copy.src_y) = (0, 0, huge);
                assert_eq!(cu!(cuMemcpy3D_v2((&copy).into())), 1, "{huge}");
                (copy.src_y, copy.depth) = (0, huge);
                assert_eq!(cu!(cuMemcpy3D_v2((&copy).into())), 1, "{huge}");
                copy.depth = 1;
                assert_eq!(cu!(cuMemsetD2D8_v2(device, huge, 0, 4, huge)), 1, "{huge}");
                ok!(cuMemsetD2D8_v2(device, huge, 0, 0, huge));
                let (mut out, mut pitch) = (0u64, 0usize);
                let (out, pitch) = (Out::from(&mut out), Out::from(&mut pitch));
                assert_ne!(cu!(cuMemAllocPitch_v2(out, pitch, huge, 2, 4)), 0, "{huge}");
            }
            // None of these is sticky.
            ok!(cuCtxSynchronize());
        },
        |_| {},
    );
}
