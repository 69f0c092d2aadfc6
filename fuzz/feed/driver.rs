//! The input as a program for the emulator's driver: a byte chooses a call, and the bytes after it the arguments. Handles,
//! device addresses and sizes may be wrong in any way; host pointers are valid, as the API requires.

use emulator::driver::{self, Handle, In, Memcpy3D, Out};
use std::ffi::CStr;
use std::sync::Mutex;

/// Each uses something else that a driver must watch: device memory, a block's memory, atomics, a bounded loop.
const KERNELS: &CStr = c".version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 total;
.visible .entry k0(.param .u64 to, .param .u32 value) {
.reg .b32 %r<4>; .reg .b64 %rd<4>;
ld.param.u64 %rd1, [to]; ld.param.u32 %r1, [value]; mov.u32 %r2, %tid.x; mul.wide.u32 %rd2, %r2, 4;
add.u64 %rd3, %rd1, %rd2; st.global.u32 [%rd3], %r1; ret; }
.visible .entry k1(.param .u64 from) {
.reg .b32 %r<6>; .reg .b64 %rd<4>; .extern .shared .align 4 .b8 here[];
ld.param.u64 %rd1, [from]; ld.global.u32 %r1, [%rd1]; mov.u32 %r2, %tid.x; shl.b32 %r3, %r2, 2;
mov.u32 %r4, here; add.u32 %r4, %r4, %r3; st.shared.u32 [%r4], %r1; bar.sync 0; ld.shared.u32 %r5, [here]; ret; }
.visible .entry k2() {
.reg .b32 %r<4>; .reg .b64 %rd<2>; .reg .pred %p<2>;
mov.u64 %rd1, total; mov.u32 %r1, 0;
$again: atom.global.add.u32 %r2, [%rd1], 1; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 3; @%p1 bra $again; ret; }
";

/// Threads per launch. An input has several launches, and more threads would only do the same and take all of the time.
const MOST_THREADS: u64 = 2048;

/// The grid, or one block if there would be more threads than that. Sizes that no device accepts stay, to be refused.
fn launchable(grid: u32, lines: u32, block: u32) -> (u32, u32) {
    let threads = u64::from(grid).saturating_mul(u64::from(lines)).saturating_mul(u64::from(block));
    let refused = grid == u32::MAX || lines == u32::MAX || block > 1024;
    if refused || threads <= MOST_THREADS { (grid, lines) } else { (1, 1) }
}

/// The position of the module's handle among the handles. Reading the kernels takes longer than most programs, so the
/// module is loaded on first use; until then an invalid handle holds its place.
const MODULE: usize = 1;
const NOT_YET: Handle = Handle(usize::MAX - 1);

/// The host's buffer for copies.
static HOST: Mutex<[u8; 4096]> = Mutex::new([0; 4096]);

struct Program<'a> {
    bytes: &'a [u8],
    handles: Vec<Handle>,
    addresses: Vec<u64>,
    host: usize,
}

impl Program<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first.into()
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.byte() % list.len()]
    }

    fn handle(&mut self) -> Handle {
        let at = self.byte();
        let odd = [Handle::NULL, Handle::LEGACY, Handle::PER_THREAD, Handle(usize::MAX)];
        match at.checked_sub(odd.len()) {
            Some(at) if !self.handles.is_empty() => self.handles[at % self.handles.len()],
            _ => odd[at % odd.len()],
        }
    }

    fn address(&mut self) -> u64 {
        let at = self.byte();
        let base = match at.checked_sub(3) {
            Some(at) if !self.addresses.is_empty() => self.addresses[at % self.addresses.len()],
            _ => [0, 1, u64::MAX - 3][at % 3],
        };
        base.wrapping_add(self.of(&[0, 0, 0, 1, 4, 256, u64::MAX, 1 << 40]))
    }

    fn size(&mut self) -> usize {
        self.of(&[
            4,
            1,
            16,
            255,
            256,
            4096,
            65_536,
            0,
            1 << 30,
            1 << 40,
            usize::MAX - 3,
            usize::MAX,
        ])
    }

    /// A size that fits the host's buffer.
    fn host_size(&mut self) -> usize {
        self.of(&[4, 1, 16, 255, 256, 4096, 0])
    }

    fn count(&mut self) -> u32 {
        self.of(&[1, 1, 2, 3, 32, 0, 33, 1024, 1025, u32::MAX])
    }

    fn keep(&mut self, call: impl FnOnce(Out<Handle>) -> i32) -> i32 {
        let mut made = Handle::NULL;
        let code = call(Out::from(&mut made));
        if code == 0 {
            self.handles.push(made);
        }
        code
    }

    fn keep_address(&mut self, call: impl FnOnce(Out<u64>) -> i32) -> i32 {
        let mut made = 0;
        let code = call(Out::from(&mut made));
        if code == 0 {
            self.addresses.push(made);
        }
        code
    }

    /// A copy of a box within the device.
    fn copy(&mut self) -> Memcpy3D {
        let device = 2;
        Memcpy3D {
            src_type: device,
            src_device: self.address(),
            src_y: self.size(),
            src_pitch: self.size(),
            src_height: self.size(),
            dst_type: device,
            dst_device: self.address(),
            dst_pitch: self.size(),
            dst_height: self.size(),
            width: self.size(),
            height: self.size(),
            depth: self.size(),
            ..Memcpy3D::default()
        }
    }

    /// Loads the module on first use.
    fn load(&mut self) {
        if self.handles.get(MODULE) == Some(&NOT_YET) {
            let out = Out::from(&mut self.handles[MODULE]);
            // SAFETY: the text ends with a zero, and the handle is written to a place of its type.
            unsafe { driver::cuModuleLoadData(out, KERNELS.as_ptr().cast()) };
        }
    }

    /// Makes one call and returns its code.
    fn step(&mut self) -> i32 {
        let call = self.byte();
        // These calls take a module.
        if let 23..=25 = call {
            self.load();
        }
        let mut two = (0usize, 0usize);
        let first = Out::from(&mut two.0);
        let second = Out::from(&mut two.1);
        // SAFETY: every host pointer is null, or has the type and the room that the call requires.
        unsafe {
            match call {
                0 | 1 => {
                    let size = self.size();
                    self.keep_address(|out| driver::cuMemAlloc_v2(out, size))
                }
                2 => driver::cuMemFree_v2(self.address()),
                3 => {
                    let (size, stream) = (self.size(), self.handle());
                    self.keep_address(|out| driver::cuMemAllocAsync(out, size, stream))
                }
                4 => driver::cuMemFreeAsync(self.address(), self.handle()),
                5 => driver::cuMemcpyHtoD_v2(self.address(), self.host, self.host_size()),
                6 => driver::cuMemcpyDtoH_v2(self.host, self.address(), self.host_size()),
                7 => driver::cuMemcpyDtoD_v2(self.address(), self.address(), self.size()),
                8 => driver::cuMemcpyHtoDAsync_v2(
                    self.address(),
                    self.host,
                    self.host_size(),
                    self.handle(),
                ),
                9 => driver::cuMemcpyDtoHAsync_v2(
                    self.host,
                    self.address(),
                    self.host_size(),
                    self.handle(),
                ),
                10 => driver::cuMemsetD8_v2(self.address(), 7, self.size()),
                11 => driver::cuMemsetD32Async(self.address(), 7, self.size(), self.handle()),
                12 => driver::cuMemsetD2D16_v2(
                    self.address(),
                    self.size(),
                    7,
                    self.size(),
                    self.size(),
                ),
                13 => {
                    let copy = self.copy();
                    driver::cuMemcpy3DAsync_v2(In::from(&copy), self.handle())
                }
                14 => {
                    let flags = self.count();
                    self.keep(|out| driver::cuStreamCreate(out, flags))
                }
                15 => driver::cuStreamDestroy_v2(self.handle()),
                16 => driver::cuStreamSynchronize(self.handle()),
                17 => driver::cuStreamQuery(self.handle()),
                18 => driver::cuStreamWaitEvent(self.handle(), self.handle(), 0),
                19 => {
                    let flags = self.count();
                    self.keep(|out| driver::cuEventCreate(out, flags))
                }
                20 => driver::cuEventRecord(self.handle(), self.handle()),
                21 => driver::cuEventSynchronize(self.handle()),
                22 => driver::cuEventDestroy_v2(self.handle()),
                23 | 24 => {
                    let module = self.handle();
                    let name = self.of(&[c"k0", c"k1", c"k2", c"none"]);
                    self.keep(|out| driver::cuModuleGetFunction(out, module, name.into()))
                }
                25 => driver::cuModuleUnload(self.handle()),
                26..=29 => {
                    let (function, stream) = (self.handle(), self.handle());
                    let [grid, lines, block, shared] = [(); 4].map(|()| self.count());
                    let (grid, lines) = launchable(grid, lines, block);
                    let (to, value) = (self.address(), 7u32);
                    let params = [&raw const to as usize, &raw const value as usize, 0];
                    driver::cuLaunchKernel(
                        function,
                        grid,
                        lines,
                        1,
                        block,
                        1,
                        1,
                        shared,
                        stream,
                        params.as_ptr() as usize,
                        0,
                    )
                }
                30 => driver::cuStreamBeginCapture_v2(self.handle(), self.byte() as i32),
                31 => {
                    let stream = self.handle();
                    self.keep(|out| driver::cuStreamEndCapture(stream, out))
                }
                32 => {
                    let graph = self.handle();
                    self.keep(|out| driver::cuGraphInstantiateWithFlags(out, graph, 0))
                }
                33 => driver::cuGraphLaunch(self.handle(), self.handle()),
                34 => driver::cuGraphDestroy(self.handle()),
                35 => driver::cuGraphExecDestroy(self.handle()),
                36 => self.keep(|out| driver::cuGraphCreate(out, 0)),
                37 => {
                    let (graph, before) = (self.handle(), [self.handle(), self.handle()]);
                    let count = self.byte() % 3;
                    self.keep(|out| {
                        driver::cuGraphAddEmptyNode(out, graph, In::from(&before[..]), count)
                    })
                }
                38 => {
                    let (graph, copy) = (self.handle(), self.copy());
                    self.keep(|out| {
                        driver::cuGraphAddMemcpyNode(
                            out,
                            graph,
                            In::NULL,
                            0,
                            In::from(&copy),
                            Handle::NULL,
                        )
                    })
                }
                39 => {
                    let (graph, child) = (self.handle(), self.handle());
                    self.keep(|out| {
                        driver::cuGraphAddChildGraphNode(out, graph, In::NULL, 0, child)
                    })
                }
                40 => {
                    let (graph, from, to) = (self.handle(), self.handle(), self.handle());
                    driver::cuGraphAddDependencies(graph, In::from(&from), In::from(&to), 1)
                }
                41 => {
                    let graph = self.handle();
                    self.keep(|out| driver::cuGraphClone(out, graph))
                }
                42 => driver::cuGraphDestroyNode(self.handle()),
                43 => {
                    let (exec, graph) = (self.handle(), self.handle());
                    let (mut node, mut result) = (Handle::NULL, 0);
                    driver::cuGraphExecUpdate(
                        exec,
                        graph,
                        Out::from(&mut node),
                        Out::from(&mut result),
                    )
                }
                44 => driver::cuMemGetAddressRange_v2(Out::NULL, first, self.address()),
                45 => driver::cuMemGetInfo_v2(first, second),
                46 => self.keep(|out| driver::cuCtxCreate_v2(out, 0, 0)),
                47 => driver::cuCtxDestroy_v2(self.handle()),
                48 => driver::cuCtxPushCurrent_v2(self.handle()),
                49 => self.keep(|out| driver::cuCtxPopCurrent_v2(out)),
                50 => driver::cuCtxSetCurrent(self.handle()),
                51 => driver::cuFuncSetAttribute(self.handle(), 8, self.count() as i32),
                52 => {
                    let (stream, event) = (self.handle(), self.handle());
                    driver::cuStreamWriteValue32_v2(stream, self.address(), 7, 0);
                    driver::cuEventQuery(event)
                }
                53 => self.keep(|out| driver::cuModuleLoadData(out, KERNELS.as_ptr().cast())),
                54 => {
                    let (width, height) = (self.size(), self.size());
                    self.keep_address(|out| {
                        driver::cuMemAllocPitch_v2(out, first, width, height, 4)
                    })
                }
                _ => driver::cuCtxSynchronize(),
            }
        }
    }
}

/// Runs the calls in a context of their own, which must free everything. Graphs belong to no context.
pub fn calls(data: &[u8]) -> Option<()> {
    let host = HOST.lock().unwrap().as_mut_ptr() as usize;
    let mut program = Program { bytes: data, handles: Vec::new(), addresses: Vec::new(), host };
    // SAFETY: these take only pointers to existing variables.
    unsafe {
        driver::cuInit(0);
        program.keep(|out| driver::cuCtxCreate_v2(out, 0, 0));
        program.handles.push(NOT_YET);
        let mut good = true;
        for _ in 0..64 {
            if program.bytes.is_empty() {
                break;
            }
            good &= program.step() == 0;
        }
        for &handle in &program.handles {
            driver::cuGraphExecDestroy(handle);
            driver::cuGraphDestroy(handle);
        }
        for &handle in &program.handles {
            driver::cuCtxDestroy_v2(handle);
        }
        let mut top = Handle::NULL;
        while driver::cuCtxPopCurrent_v2(Out::from(&mut top)) == 0 {}

        let (mut free, mut total) = (0, 0);
        assert_eq!(driver::cuCtxCreate_v2(Out::from(&mut top), 0, 0), 0);
        assert_eq!(driver::cuMemGetInfo_v2(Out::from(&mut free), Out::from(&mut total)), 0);
        assert_eq!(driver::cuCtxDestroy_v2(top), 0);
        while driver::cuCtxPopCurrent_v2(Out::from(&mut top)) == 0 {}
        assert_eq!(free, total, "the calls have left memory allocated");
        good.then_some(())
    }
}
