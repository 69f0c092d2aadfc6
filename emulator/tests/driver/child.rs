//! Tests in child processes, and calls of the exported functions.

use std::ffi::c_int;
use std::path::PathBuf;
use std::process::{Command, Output};

use emulator::driver::Handle;

const CHILD: &str = "EMULATOR_TEST_CHILD";

/// Runs the body in a separate process, which must succeed, and passes its output to `examine`. `name` is the test's
/// full name.
pub fn in_child(
    name: &str,
    environment: &[(&str, &str)],
    body: impl FnOnce(),
    examine: impl FnOnce(&str),
) {
    if std::env::var(CHILD).as_deref() == Ok(name) {
        body();
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, name);
    command.envs(environment.iter().copied());
    let (output, text) = run(&mut command);
    assert!(output.status.success(), "{name} failed in its process:\n{text}");
    assert!(text.contains("1 passed"), "there is no test {name}:\n{text}");
    examine(&text);
}

/// Output and errors together.
pub fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("a program that starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    (output, text)
}

/// A folder with the emulator as `libcuda.so` and `libcuda.so.1`.
pub fn library_folder(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    let library = own
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join("libemulator.so"), folder.join("deps/libemulator.so")])
        .find(|path| path.exists())
        .expect("cargo builds the shared library with the tests");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    for name in ["libcuda.so", "libcuda.so.1"] {
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&library, link).expect("a link");
    }
    folder
}

/// A file for a report, empty at the start.
pub fn scratch(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().expect("a plain path").to_owned()
}

/// Calls an exported function.
macro_rules! cu {
    ($name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: the tests pass pointers to living values of the right types, or null where they mean to.
        unsafe { emulator::driver::$name($($arg),*) }
    };
}

/// Calls an exported function that must succeed.
macro_rules! ok {
    ($name:ident($($arg:expr),* $(,)?)) => {
        assert_eq!($crate::child::cu!($name($($arg),*)), 0, stringify!($name))
    };
}

/// Calls a function whose first argument is its result.
macro_rules! get {
    ($name:ident($($arg:expr),* $(,)?)) => {{
        let mut value = Default::default();
        $crate::child::ok!($name(emulator::driver::Out::from(&mut value), $($arg),*));
        value
    }};
}

pub(crate) use {cu, get, ok};

/// Starts the driver and makes a context.
pub fn context() -> Handle {
    ok!(cuInit(0));
    let context: Handle = get!(cuCtxCreate_v2(0, 0));
    context
}

/// Kernels for the tests: `scale(x, n, f)`: x[i] *= f; `bump(at)`: one thread adds 1; `wild(at)`: stores outside;
/// `staged(x)`: uses dynamic shared memory; `fixed()` wants blocks of exactly 32 by 2.
pub const PTX: &str = "
.version 8.0
.target sm_80
.address_size 64

.global .align 4 .u32 answer = 42;
.extern .shared .align 16 .b8 dynamic[];

.visible .entry scale(.param .u64 x, .param .u32 n, .param .f32 f)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [n];
    ld.param.f32 %f1, [f];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra done;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    mul.f32 %f3, %f2, %f1;
    st.global.f32 [%rd4], %f3;
done:
    ret;
}

.visible .entry bump(.param .u64 at)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [at];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [%rd2];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd2], %r2;
    ret;
}

.visible .entry wild(.param .u64 at)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [at];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 7;
    st.global.u32 [%rd2+1024], %r1;
    ret;
}

.visible .entry staged(.param .u64 x)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    mov.u64 %rd4, dynamic;
    add.u64 %rd4, %rd4, %rd3;
    st.shared.u32 [%rd4], %r1;
    bar.sync 0;
    ld.shared.u32 %r2, [%rd4];
    add.u64 %rd2, %rd2, %rd3;
    st.global.u32 [%rd2], %r2;
    ret;
}

.visible .entry fixed()
.reqntid 32, 2, 1
{
    ret;
}
\0";

/// The module above.
pub fn module() -> Handle {
    get!(cuModuleLoadData(PTX.as_ptr().cast()))
}

pub fn function(module: Handle, name: &std::ffi::CStr) -> Handle {
    get!(cuModuleGetFunction(module, name.into()))
}

/// Launches with `kernelParams`.
pub fn launch(
    function: Handle,
    grid: u32,
    block: u32,
    shared: u32,
    stream: Handle,
    args: &[usize],
) -> c_int {
    let list = if args.is_empty() { 0 } else { args.as_ptr() as usize };
    cu!(cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, stream, list, 0))
}

/// The address of a value, as `kernelParams` wants it.
pub fn arg<T>(value: &T) -> usize {
    std::ptr::from_ref(value) as usize
}

/// Page-locked memory as a slice of numbers.
pub fn pinned(count: usize) -> &'static mut [u32] {
    let address: usize = get!(cuMemHostAlloc(count * 4, 0));
    // SAFETY: the driver gave this memory, zeroed and aligned to a page; the tests do not free it while they use it.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u32, count) }
}

/// The current content of host memory: read as a device program may have changed it.
pub fn now(place: &u32) -> u32 {
    // SAFETY: a reference is valid for reads.
    unsafe { std::ptr::from_ref(place).read_volatile() }
}

pub fn download(address: u64, count: usize) -> Vec<u32> {
    let mut values = vec![0u32; count];
    ok!(cuMemcpyDtoH_v2(values.as_mut_ptr() as usize, address, count * 4));
    values
}

pub fn upload(values: &[u32]) -> u64 {
    let address: u64 = get!(cuMemAlloc_v2(values.len() * 4));
    ok!(cuMemcpyHtoD_v2(address, values.as_ptr() as usize, values.len() * 4));
    address
}
