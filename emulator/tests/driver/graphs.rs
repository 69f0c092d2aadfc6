//! Stream capture and graphs.

use std::ffi::c_int;

use emulator::driver::{
    Handle, In, KernelNodeParams, LaunchAttribute, LaunchConfig, MemsetNodeParams, Out,
};

use crate::child::{
    arg, context, cu, download, function, get, in_child, launch, module, ok, upload,
};

const GLOBAL: c_int = 0;
const RELAXED: c_int = 2;

fn nodes(graph: Handle) -> usize {
    let mut count = 0;
    ok!(cuGraphGetNodes(graph, Out::NULL, Out::from(&mut count)));
    count
}

#[test]
fn capture_and_replay() {
    in_child(
        "graphs::capture_and_replay",
        &[],
        || {
            context();
            let bump = function(module(), c"bump");
            let (stream, side): (Handle, Handle) =
                (get!(cuStreamCreate(0)), get!(cuStreamCreate(1)));
            let (x, event): (u64, Handle) = (upload(&[0, 0]), get!(cuEventCreate(2)));
            ok!(cuStreamBeginCapture_v2(stream, GLOBAL));
            let mut status = 0;
            ok!(cuStreamIsCapturing(stream, Out::from(&mut status)));
            assert_eq!(status, 1);
            assert_eq!(launch(bump, 1, 1, 0, stream, &[arg(&x)]), 0);
            // Another stream joins by an event and comes back by another.
            ok!(cuEventRecord(event, stream));
            ok!(cuStreamWaitEvent(side, event, 0));
            ok!(cuMemcpyDtoDAsync_v2(x + 4, x, 4, side));
            let back: Handle = get!(cuEventCreate(2));
            ok!(cuEventRecord(back, side));
            ok!(cuStreamWaitEvent(stream, back, 0));
            assert_eq!(launch(bump, 1, 1, 0, stream, &[arg(&x)]), 0);
            let mut graph = Handle::NULL;
            ok!(cuStreamEndCapture(stream, Out::from(&mut graph)));
            assert_eq!(nodes(graph), 3);
            assert_eq!(download(x, 2), [0, 0], "captured, not run");

            let exec: Handle = get!(cuGraphInstantiateWithFlags(graph, 0));
            ok!(cuGraphDestroy(graph));
            for _ in 0..3 {
                ok!(cuGraphLaunch(exec, stream));
            }
            ok!(cuStreamSynchronize(stream));
            assert_eq!(download(x, 2), [6, 5]);
            ok!(cuGraphExecDestroy(exec));
        },
        |_| {},
    );
}

#[test]
fn what_a_capture_forbids() {
    in_child(
        "graphs::what_a_capture_forbids",
        &[],
        || {
            context();
            let (stream, side): (Handle, Handle) =
                (get!(cuStreamCreate(0)), get!(cuStreamCreate(1)));
            let x = upload(&[0]);
            let mut graph = Handle::NULL;
            let event: Handle = get!(cuEventCreate(2));
            let spoil = |spoil: &dyn Fn() -> c_int, mode: c_int, error: c_int, end: c_int| {
                ok!(cuStreamBeginCapture_v2(stream, mode));
                ok!(cuMemsetD32Async(x, 1, 1, stream));
                assert_eq!(spoil(), error);
                let mut graph = Handle::NULL;
                assert_eq!(cu!(cuStreamEndCapture(stream, Out::from(&mut graph))), end);
            };
            spoil(&|| cu!(cuStreamSynchronize(stream)), GLOBAL, 900, 901);
            spoil(&|| cu!(cuStreamQuery(stream)), RELAXED, 900, 901);
            spoil(&|| cu!(cuCtxSynchronize()), GLOBAL, 900, 901);
            spoil(&|| cu!(cuMemsetD32Async(x, 2, 1, Handle::NULL)), GLOBAL, 906, 901);
            let mut other = 0u64;
            spoil(&|| cu!(cuMemAlloc_v2(Out::from(&mut other.clone()), 4)), GLOBAL, 900, 901);
            spoil(&|| cu!(cuMemAlloc_v2(Out::from(&mut other.clone()), 4)), RELAXED, 0, 0);
            other += 1;
            assert_eq!(other, 1);
            ok!(cuEventRecord(event, side));
            spoil(&|| cu!(cuStreamWaitEvent(stream, event, 0)), GLOBAL, 905, 901);
            let fork = || {
                ok!(cuEventRecord(event, stream));
                ok!(cuStreamWaitEvent(side, event, 0));
                cu!(cuMemsetD32Async(x, 3, 1, side))
            };
            spoil(&fork, GLOBAL, 0, 904);
            spoil(
                &|| {
                    ok!(cuEventRecord(event, stream));
                    cu!(cuEventQuery(event))
                },
                GLOBAL,
                907,
                901,
            );
            assert_eq!(cu!(cuStreamEndCapture(stream, Out::from(&mut graph))), 401, "no capture");
            assert_eq!(cu!(cuStreamBeginCapture_v2(Handle::NULL, GLOBAL)), 900);
            // The streams work as before.
            ok!(cuMemsetD32Async(x, 8, 1, stream));
            ok!(cuStreamSynchronize(stream));
            assert_eq!(download(x, 1), [8]);
        },
        |_| {},
    );
}

/// A node of one thread; the arguments must outlive its use.
fn one_thread(function: Handle, args: &[usize]) -> KernelNodeParams {
    KernelNodeParams {
        function,
        grid: [1; 3],
        block: [1; 3],
        shared: 0,
        params: args.as_ptr() as usize,
        extra: 0,
        kernel: Handle::NULL,
        context: Handle::NULL,
    }
}

#[test]
fn graphs_node_by_node() {
    in_child(
        "graphs::graphs_node_by_node",
        &[],
        || {
            context();
            let module = module();
            let bump = function(module, c"bump");
            let (x, y) = (upload(&[0]), upload(&[100]));
            let graph: Handle = get!(cuGraphCreate(0));
            let fill = MemsetNodeParams {
                dst: x,
                pitch: 0,
                value: 10,
                element_size: 4,
                width: 1,
                height: 1,
            };
            let first: Handle =
                get!(cuGraphAddMemsetNode(graph, In::NULL, 0, (&fill).into(), Handle::NULL));
            let kernel = |address: &u64, list: &mut [usize; 1]| {
                list[0] = arg(address);
                one_thread(bump, list)
            };
            let mut list = [0];
            let params = kernel(&x, &mut list);
            let after: Handle =
                get!(cuGraphAddKernelNode_v2(graph, (&first).into(), 1, (&params).into()));
            assert_eq!(nodes(graph), 2);
            let kind: c_int = {
                let mut kind = -1;
                ok!(cuGraphNodeGetType(after, Out::from(&mut kind)));
                kind
            };
            assert_eq!(kind, 0);
            let exec: Handle = get!(cuGraphInstantiateWithFlags(graph, 0));
            ok!(cuGraphLaunch(exec, Handle::NULL));
            assert_eq!(download(x, 1), [11]);

            // The executable takes another parameter.
            let params = kernel(&y, &mut list);
            ok!(cuGraphExecKernelNodeSetParams_v2(exec, after, (&params).into()));
            ok!(cuGraphLaunch(exec, Handle::NULL));
            assert_eq!((download(x, 1), download(y, 1)), (vec![10], vec![101]));

            // A cycle is refused.
            ok!(cuGraphAddDependencies(graph, (&after).into(), (&first).into(), 1));
            let mut broken = Handle::NULL;
            assert_eq!(cu!(cuGraphInstantiateWithFlags(Out::from(&mut broken), graph, 0)), 1);
            ok!(cuGraphExecDestroy(exec));
            ok!(cuGraphDestroy(graph));
            assert_eq!(cu!(cuGraphDestroy(graph)), 1);
        },
        |_| {},
    );
}

#[test]
fn an_executable_is_updated_from_a_graph_of_its_shape() {
    in_child(
        "graphs::an_executable_is_updated_from_a_graph_of_its_shape",
        &[],
        || {
            context();
            let stream: Handle = get!(cuStreamCreate(1));
            let x = upload(&[0, 0]);
            let capture = |value: u32, twice: bool| {
                ok!(cuStreamBeginCapture_v2(stream, GLOBAL));
                ok!(cuMemsetD32Async(x, value, 1, stream));
                if twice {
                    ok!(cuMemsetD32Async(x + 4, value, 1, stream));
                }
                let mut graph = Handle::NULL;
                ok!(cuStreamEndCapture(stream, Out::from(&mut graph)));
                graph
            };
            let exec: Handle = get!(cuGraphInstantiateWithFlags(capture(1, false), 0));
            let mut result = -1;
            ok!(cuGraphExecUpdate(exec, capture(2, false), Out::NULL, Out::from(&mut result)));
            assert_eq!(result, 0);
            assert_eq!(
                cu!(cuGraphExecUpdate(exec, capture(3, true), Out::NULL, Out::from(&mut result))),
                910
            );
            assert_eq!(result, 2, "another topology");
            ok!(cuGraphLaunch(exec, stream));
            ok!(cuStreamSynchronize(stream));
            assert_eq!(download(x, 2), [2, 0]);

            // Memory allocated in a capture belongs to the graph.
            ok!(cuStreamBeginCapture_v2(stream, GLOBAL));
            let inside: u64 = get!(cuMemAllocAsync(4, stream));
            ok!(cuMemsetD32Async(inside, 77, 1, stream));
            ok!(cuMemcpyDtoDAsync_v2(x, inside, 4, stream));
            ok!(cuMemFreeAsync(inside, stream));
            let mut graph = Handle::NULL;
            ok!(cuStreamEndCapture(stream, Out::from(&mut graph)));
            let exec: Handle = get!(cuGraphInstantiateWithFlags(graph, 0));
            ok!(cuGraphLaunch(exec, stream));
            ok!(cuGraphLaunch(exec, stream));
            ok!(cuStreamSynchronize(stream));
            assert_eq!(download(x, 1), [77]);
            ok!(cuGraphDestroy(graph));
            ok!(cuGraphExecDestroy(exec));
            assert_eq!(cu!(cuMemcpyDtoD_v2(x, inside, 4)), 1, "gone with the graph");
        },
        |_| {},
    );
}

/// `write(at)` stores; `early(at)` reads that and then waits, `late(at)` waits and then reads.
const DEPENDENT: &str = "
.version 8.0
.target sm_90
.address_size 64
.visible .entry write(.param .u64 at)
{
    .reg .b64 %rd1;
    ld.param.u64 %rd1, [at];
    griddepcontrol.launch_dependents;
    st.global.u32 [%rd1], 7;
    ret;
}
.visible .entry early(.param .u64 at)
{
    .reg .b32 %r1;
    .reg .b64 %rd1;
    ld.param.u64 %rd1, [at];
    ld.global.u32 %r1, [%rd1];
    griddepcontrol.wait;
    st.global.u32 [%rd1+4], %r1;
    ret;
}
.visible .entry late(.param .u64 at)
{
    .reg .b32 %r1;
    .reg .b64 %rd1;
    ld.param.u64 %rd1, [at];
    griddepcontrol.wait;
    ld.global.u32 %r1, [%rd1];
    st.global.u32 [%rd1+4], %r1;
    ret;
}
\0";

/// A launch that may begin before the previous one has ended.
fn launch_dependent(function: Handle, stream: Handle, args: &[usize]) -> c_int {
    let mut attribute = LaunchAttribute { id: 6, pad: [0; 4], value: [0; 16] };
    attribute.value[0] = 1;
    let config = LaunchConfig {
        grid: [1; 3],
        block: [1; 3],
        shared: 0,
        stream,
        attributes: arg(&attribute),
        attribute_count: 1,
    };
    cu!(cuLaunchKernelEx(In::from(&config), function, args.as_ptr() as usize, 0))
}

/// What the second of two launches does in a stream, in a captured graph, and in one made edge by edge; and in a graph
/// with an ordinary kernel between them in running order.
fn dependent_launches(second: &std::ffi::CStr) -> [c_int; 4] {
    let attempt = |run: &dyn Fn(Handle, Handle, Handle, u64)| {
        let context = context();
        let module: Handle = get!(cuModuleLoadData(DEPENDENT.as_ptr().cast()));
        let (first, second) = (function(module, c"write"), function(module, second));
        let (stream, x): (Handle, u64) = (get!(cuStreamCreate(1)), upload(&[1, 2]));
        run(first, second, stream, x);
        let result = cu!(cuStreamSynchronize(stream));
        if result == 0 {
            assert_eq!(download(x, 2), [7, 7]);
        }
        cu!(cuCtxDestroy_v2(context));
        result
    };
    let launched = |graph: Handle, stream: Handle| {
        let exec: Handle = get!(cuGraphInstantiateWithFlags(graph, 0));
        ok!(cuGraphLaunch(exec, stream));
    };
    let captured = |between: bool| {
        move |first: Handle, second: Handle, stream: Handle, x: u64| {
            let side: Handle = get!(cuStreamCreate(1));
            let (event, back): (Handle, Handle) = (get!(cuEventCreate(2)), get!(cuEventCreate(2)));
            let y = upload(&[0, 0]);
            ok!(cuStreamBeginCapture_v2(stream, GLOBAL));
            assert_eq!(launch(first, 1, 1, 0, stream, &[arg(&x)]), 0);
            if between {
                // Recorded before the dependent launch, and so run before it.
                ok!(cuEventRecord(event, stream));
                ok!(cuStreamWaitEvent(side, event, 0));
                assert_eq!(launch(first, 1, 1, 0, side, &[arg(&y)]), 0);
            }
            assert_eq!(launch_dependent(second, stream, &[arg(&x)]), 0);
            if between {
                ok!(cuEventRecord(back, side));
                ok!(cuStreamWaitEvent(stream, back, 0));
            }
            let mut graph = Handle::NULL;
            ok!(cuStreamEndCapture(stream, Out::from(&mut graph)));
            let mut count = 0usize;
            ok!(cuGraphGetEdges(graph, Out::NULL, Out::NULL, Out::from(&mut count)));
            if !between {
                assert_eq!(count, 1);
                let (mut from, mut to, mut kind) = (Handle::NULL, Handle::NULL, 9u64);
                let mut ends = || (Out::from(&mut from), Out::from(&mut to));
                let (a, b) = ends();
                assert_eq!(cu!(cuGraphGetEdges(graph, a, b, Out::from(&mut count))), 402);
                let (a, b) = ends();
                let data = Out::from(&mut kind);
                ok!(cuGraphGetEdges_v2(graph, a, b, data, Out::from(&mut count)));
                assert_eq!(kind.to_le_bytes(), [1, 0, 1, 0, 0, 0, 0, 0]);
            }
            launched(graph, stream);
        }
    };
    [
        attempt(&|first, second, stream, x| {
            assert_eq!(launch(first, 1, 1, 0, stream, &[arg(&x)]), 0);
            assert_eq!(launch_dependent(second, stream, &[arg(&x)]), 0);
        }),
        attempt(&captured(false)),
        attempt(&|first, second, stream, x| {
            let graph: Handle = get!(cuGraphCreate(0));
            let args = [arg(&x)];
            let node = |function: Handle| -> Handle {
                let params = one_thread(function, &args);
                get!(cuGraphAddKernelNode_v2(graph, In::NULL, 0, In::from(&params)))
            };
            let (from, to) = (node(first), node(second));
            let kind = u64::from_le_bytes([1, 0, 1, 0, 0, 0, 0, 0]);
            let (from, to) = (In::from(&from), In::from(&to));
            ok!(cuGraphAddDependencies_v2(graph, from, to, In::from(&kind), 1));
            launched(graph, stream);
        }),
        attempt(&captured(true)),
    ]
}

#[test]
fn dependent_launches_in_streams_and_graphs() {
    let capability = [("CUDA_EMULATOR_CAPABILITY", "9.0"), ("CUDA_EMULATOR_LEAKS", "0")];
    in_child(
        "graphs::dependent_launches_in_streams_and_graphs",
        &capability,
        || {
            assert_eq!(dependent_launches(c"late"), [0; 4]);
            assert_eq!(dependent_launches(c"early"), [719; 4]);
        },
        |_| {},
    );
}
