//! Tensor maps as programs make them, and a kernel that loads with one.

use emulator::driver::{Handle, In, Out};

use crate::child::{arg, context, cu, download, function, get, in_child, launch, ok, upload};

#[repr(C, align(64))]
struct Map([u8; 128]);

/// One warp loads a box of 32 by 4 words and stores it.
const PTX: &str = "
.version 8.0
.target sm_90a
.address_size 64
.extern .shared .align 128 .b8 smem[];
.visible .entry take(.param .align 64 .b8 map[128], .param .u64 out)
{
    .shared .align 8 .b64 bar;
    .reg .b64 %rd<6>;
    .reg .b32 %r<8>;
    .reg .pred %p<3>;
    mov.b64 %rd1, map;
    cvta.param.u64 %rd2, %rd1;
    ld.param.u64 %rd3, [out];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, smem;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra WAIT;
    mbarrier.init.shared::cta.b64 [bar], 1;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd2, {0, 0}], [bar];
WAIT:
    bar.warp.sync -1;
AGAIN:
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [bar], 0;
    @!%p2 bra AGAIN;
    shl.b32 %r3, %r1, 4;
    add.u32 %r4, %r2, %r3;
    ld.shared.v4.b32 {%r5, %r6, %r7, %r3}, [%r4];
    mul.wide.u32 %rd4, %r1, 16;
    add.u64 %rd3, %rd3, %rd4;
    st.global.v4.b32 [%rd3], {%r5, %r6, %r7, %r3};
    ret;
}
\0";

struct Shape {
    element: i32,
    rank: u32,
    dims: [u64; 5],
    strides: [u64; 4],
    box_dims: [u32; 5],
    steps: [u32; 5],
    interleave: i32,
    swizzle: i32,
    fill: i32,
}

/// Words, 40 by 4, and a box of 32 by 4.
fn shape() -> Shape {
    Shape {
        element: 2,
        rank: 2,
        dims: [40, 4, 1, 1, 1],
        strides: [160, 0, 0, 0],
        box_dims: [32, 4, 1, 1, 1],
        steps: [1; 5],
        interleave: 0,
        swizzle: 0,
        fill: 0,
    }
}

fn encode(map: &mut Map, address: u64, s: &Shape) -> i32 {
    cu!(cuTensorMapEncodeTiled(
        Out::from(&mut map.0),
        s.element,
        s.rank,
        address,
        In::from(&s.dims[..]),
        In::from(&s.strides[..]),
        In::from(&s.box_dims[..]),
        In::from(&s.steps[..]),
        s.interleave,
        s.swizzle,
        2,
        s.fill,
    ))
}

#[test]
fn a_map_by_value() {
    in_child(
        "maps::a_map_by_value",
        &[("CUDA_EMULATOR_CAPABILITY", "9.0")],
        || {
            context();
            let words: Vec<u32> = (0..160).collect();
            let (first, second) =
                (upload(&words), upload(&words.iter().map(|x| x + 1000).collect::<Vec<_>>()));
            let mut map = Map([0; 128]);
            assert_eq!(encode(&mut map, first, &shape()), 0);
            let module: Handle = get!(cuModuleLoadData(PTX.as_ptr().cast()));
            let take = function(module, c"take");
            let out = upload(&[0; 128]);
            let want =
                |add: u32| -> Vec<u32> { (0..128).map(|n| n / 32 * 40 + n % 32 + add).collect() };
            assert_eq!(launch(take, 1, 32, 512, Handle::NULL, &[arg(&map), arg(&out)]), 0);
            assert_eq!(download(out, 128), want(0));
            ok!(cuTensorMapReplaceAddress(Out::from(&mut map.0), second));
            assert_eq!(launch(take, 1, 32, 512, Handle::NULL, &[arg(&map), arg(&out)]), 0);
            assert_eq!(download(out, 128), want(1000));
        },
        |_| (),
    );
}

#[test]
fn refusals() {
    in_child(
        "maps::refusals",
        &[("CUDA_EMULATOR_CAPABILITY", "9.0")],
        || {
            context();
            let at = upload(&[0; 160]);
            let mut map = Map([0; 128]);
            let mut refused = |address: u64, change: &dyn Fn(&mut Shape)| {
                let mut s = shape();
                change(&mut s);
                encode(&mut map, address, &s)
            };
            assert_eq!(refused(at, &|_| ()), 0);
            assert_eq!(refused(at + 8, &|_| ()), 1, "address");
            assert_eq!(refused(at, &|s| s.rank = 6), 1, "rank");
            assert_eq!(refused(at, &|s| s.rank = 0), 1, "rank");
            assert_eq!(refused(at, &|s| s.strides[0] = 164), 1, "stride");
            assert_eq!(refused(at, &|s| s.box_dims[1] = 0), 1, "box");
            assert_eq!(refused(at, &|s| s.box_dims[0] = 257), 1, "box");
            assert_eq!(refused(at, &|s| s.swizzle = 1), 1, "a row longer than the swizzle");
            assert_eq!(refused(at, &|s| s.interleave = 1), 1, "interleaved");
            assert_eq!(refused(at, &|s| s.fill = 1), 1, "NaN among integers");
            assert_eq!(refused(at, &|s| s.element = 99), 1, "type");
            let mut none = Map([0; 128]);
            assert_eq!(cu!(cuTensorMapReplaceAddress(Out::from(&mut none.0), at)), 1);
        },
        |text| assert!(text.contains("not a multiple of 16"), "{text}"),
    );
}

#[test]
fn older_devices_have_none() {
    in_child(
        "maps::older_devices_have_none",
        &[("CUDA_EMULATOR_CAPABILITY", "8.0")],
        || {
            context();
            let at = upload(&[0; 160]);
            assert_eq!(encode(&mut Map([0; 128]), at, &shape()), 801);
        },
        |_| (),
    );
}
