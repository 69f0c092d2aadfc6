//! A Python program that calls the driver through ctypes, found only by `LD_LIBRARY_PATH`.

use std::process::Command;

use crate::child::{PTX, library_folder, run};

const PROGRAM: &str = r#"
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
def check(code):
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(text))
        sys.exit(text.value.decode())
check(cuda.cuInit(0))
device, context = ctypes.c_int(), ctypes.c_void_p()
check(cuda.cuDeviceGet(ctypes.byref(device), 0))
name = ctypes.create_string_buffer(100)
check(cuda.cuDeviceGetName(name, 100, device))
check(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device))
module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
check(cuda.cuModuleLoadData(ctypes.byref(module), open(sys.argv[1], "rb").read()))
check(cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"scale"))
data = (ctypes.c_float * 5)(1, 2, 3, 4, 5)
x = ctypes.c_uint64()
check(cuda.cuMemAlloc_v2(ctypes.byref(x), ctypes.c_size_t(20)))
check(cuda.cuMemcpyHtoD_v2(x, data, ctypes.c_size_t(20)))
n, f = ctypes.c_uint32(5), ctypes.c_float(10)
args = (ctypes.c_void_p * 3)(*(ctypes.addressof(a) for a in (x, n, f)))
check(cuda.cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, None, args, None))
check(cuda.cuCtxSynchronize())
check(cuda.cuMemcpyDtoH_v2(data, x, ctypes.c_size_t(20)))
check(cuda.cuMemFree_v2(x))
check(cuda.cuCtxDestroy_v2(context))
print(name.value.decode(), list(data))
"#;

#[test]
fn ctypes() {
    if Command::new("python3").arg("-c").arg("import ctypes").output().is_err() {
        return;
    }
    let folder = library_folder("ctypes");
    let ptx = folder.join("kernels.ptx");
    std::fs::write(&ptx, PTX.trim_end_matches('\0')).expect("a file");
    let mut command = Command::new("python3");
    let (output, text) =
        run(command.arg("-c").arg(PROGRAM).arg(&ptx).env("LD_LIBRARY_PATH", &folder));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("emulator") && text.contains("[10.0, 20.0, 30.0, 40.0, 50.0]"), "{text}");
}
