//! `cuGetProcAddress`: every exported function by name.

use std::ffi::{c_int, c_void};

use super::entry::api;
use super::error::Error;
use super::state::driver;
use super::types::{Out, Text};
#[allow(clippy::wildcard_imports)] // the table below names all of them
use super::*;

macro_rules! table {
    ($($name:ident)*) => {
        /// (name, address), sorted by name.
        static PROCS: &[(&str, Proc)] = &[$((stringify!($name), Proc($name as *const c_void)),)*];
    };
}

struct Proc(*const c_void);

// SAFETY: the address of a function.
unsafe impl Sync for Proc {}

table! {
    cuCtxAttach cuCtxCreate cuCtxCreate_v2 cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy cuCtxDestroy_v2 cuCtxDetach
    cuCtxDisablePeerAccess cuCtxEnablePeerAccess cuCtxGetApiVersion cuCtxGetCacheConfig cuCtxGetCurrent
    cuCtxGetDevice cuCtxGetDevice_v2 cuCtxGetFlags cuCtxGetId cuCtxGetLimit cuCtxGetSharedMemConfig
    cuCtxGetStreamPriorityRange cuCtxPopCurrent cuCtxPopCurrent_v2 cuCtxPushCurrent cuCtxPushCurrent_v2
    cuCtxResetPersistingL2Cache cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit
    cuCtxSetSharedMemConfig cuCtxSynchronize cuCtxSynchronize_v2 cuDeviceCanAccessPeer cuDeviceComputeCapability
    cuDeviceGet cuDeviceGetAttribute cuDeviceGetByPCIBusId cuDeviceGetCount cuDeviceGetDefaultMemPool
    cuDeviceGetExecAffinitySupport cuDeviceGetLuid cuDeviceGetMemPool cuDeviceGetName cuDeviceGetP2PAttribute
    cuDeviceGetPCIBusId cuDeviceGetProperties cuDeviceGetUuid cuDeviceGetUuid_v2 cuDevicePrimaryCtxGetState
    cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2 cuDevicePrimaryCtxRetain cuDevicePrimaryCtxSetFlags_v2
    cuDeviceSetMemPool cuDeviceTotalMem_v2 cuDriverGetVersion cuEventCreate cuEventDestroy cuEventDestroy_v2
    cuEventElapsedTime cuEventElapsedTime_v2 cuEventQuery cuEventRecord cuEventRecordWithFlags
    cuEventRecordWithFlags_ptsz cuEventRecord_ptsz cuEventSynchronize cuFuncGetAttribute cuFuncGetModule
    cuFuncGetName cuFuncGetParamInfo cuFuncIsLoaded cuFuncLoad cuFuncSetAttribute cuFuncSetBlockShape
    cuFuncSetCacheConfig cuFuncSetSharedMemConfig cuGetErrorName cuGetErrorString cuGetProcAddress
    cuGetProcAddress_v2 cuGraphAddChildGraphNode cuGraphAddDependencies cuGraphAddDependencies_v2 cuGraphAddEmptyNode cuGraphAddHostNode
    cuGraphAddKernelNode cuGraphAddKernelNode_v2 cuGraphAddMemcpyNode cuGraphAddMemsetNode cuGraphClone cuGraphCreate
    cuGraphDestroy cuGraphDestroyNode cuGraphExecDestroy cuGraphExecGetFlags cuGraphExecKernelNodeSetParams
    cuGraphExecKernelNodeSetParams_v2 cuGraphExecMemcpyNodeSetParams cuGraphExecMemsetNodeSetParams cuGraphExecUpdate
    cuGraphExecUpdate_v2 cuGraphGetEdges cuGraphGetEdges_v2 cuGraphGetNodes cuGraphGetRootNodes cuGraphInstantiate
    cuGraphInstantiateWithFlags cuGraphInstantiateWithParams cuGraphInstantiateWithParams_ptsz cuGraphInstantiate_v2
    cuGraphKernelNodeGetParams cuGraphKernelNodeGetParams_v2 cuGraphKernelNodeSetParams cuGraphKernelNodeSetParams_v2
    cuGraphLaunch cuGraphLaunch_ptsz cuGraphMemcpyNodeSetParams cuGraphMemsetNodeSetParams cuGraphNodeGetDependencies cuGraphNodeGetDependencies_v2
    cuGraphNodeGetDependentNodes cuGraphNodeGetDependentNodes_v2 cuGraphNodeGetType cuGraphRemoveDependencies cuGraphRemoveDependencies_v2 cuGraphUpload cuGraphUpload_ptsz cuInit
    cuKernelGetAttribute cuKernelGetFunction cuKernelGetLibrary cuKernelGetName cuKernelGetParamInfo
    cuKernelSetAttribute cuKernelSetCacheConfig cuLaunch cuLaunchCooperativeKernel cuLaunchCooperativeKernel_ptsz
    cuLaunchHostFunc cuLaunchHostFunc_ptsz cuLaunchKernel cuLaunchKernelEx cuLaunchKernelEx_ptsz cuLaunchKernel_ptsz
    cuLibraryEnumerateKernels cuLibraryGetGlobal cuLibraryGetKernel cuLibraryGetKernelCount cuLibraryGetModule
    cuLibraryLoadData cuLibraryLoadFromFile cuLibraryUnload cuLinkAddData_v2 cuLinkAddFile_v2 cuLinkComplete
    cuLinkCreate_v2 cuLinkDestroy cuMemAdvise cuMemAdvise_v2 cuMemAllocAsync cuMemAllocAsync_ptsz
    cuMemAllocFromPoolAsync cuMemAllocFromPoolAsync_ptsz cuMemAllocHost_v2 cuMemAllocManaged cuMemAllocPitch_v2
    cuMemAlloc_v2 cuMemFreeAsync cuMemFreeAsync_ptsz cuMemFreeHost cuMemFree_v2 cuMemGetAddressRange_v2
    cuMemGetInfo_v2 cuMemHostAlloc cuMemHostGetDevicePointer_v2 cuMemHostGetFlags cuMemHostRegister_v2
    cuMemHostUnregister cuMemPoolCreate cuMemPoolDestroy cuMemPoolGetAccess cuMemPoolGetAttribute cuMemPoolSetAccess
    cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync cuMemPrefetchAsync_v2 cuMemPrefetchAsync_v2_ptsz
    cuMemcpy cuMemcpy2DAsync_v2 cuMemcpy2DAsync_v2_ptsz cuMemcpy2DUnaligned_v2 cuMemcpy2DUnaligned_v2_ptds
    cuMemcpy2D_v2 cuMemcpy2D_v2_ptds cuMemcpy3DAsync_v2 cuMemcpy3DAsync_v2_ptsz cuMemcpy3D_v2 cuMemcpy3D_v2_ptds
    cuMemcpyAsync cuMemcpyAsync_ptsz cuMemcpyDtoDAsync_v2 cuMemcpyDtoDAsync_v2_ptsz cuMemcpyDtoD_v2
    cuMemcpyDtoD_v2_ptds cuMemcpyDtoHAsync_v2 cuMemcpyDtoHAsync_v2_ptsz cuMemcpyDtoH_v2 cuMemcpyDtoH_v2_ptds
    cuMemcpyHtoDAsync_v2 cuMemcpyHtoDAsync_v2_ptsz cuMemcpyHtoD_v2 cuMemcpyHtoD_v2_ptds cuMemcpyPeer
    cuMemcpyPeerAsync cuMemcpyPeerAsync_ptsz cuMemcpyPeer_ptds cuMemcpy_ptds cuMemsetD16Async cuMemsetD16Async_ptsz
    cuMemsetD16_v2 cuMemsetD16_v2_ptds cuMemsetD2D16Async cuMemsetD2D16Async_ptsz cuMemsetD2D16_v2
    cuMemsetD2D16_v2_ptds cuMemsetD2D32Async cuMemsetD2D32Async_ptsz cuMemsetD2D32_v2 cuMemsetD2D32_v2_ptds
    cuMemsetD2D8Async cuMemsetD2D8Async_ptsz cuMemsetD2D8_v2 cuMemsetD2D8_v2_ptds cuMemsetD32Async
    cuMemsetD32Async_ptsz cuMemsetD32_v2 cuMemsetD32_v2_ptds cuMemsetD8Async cuMemsetD8Async_ptsz cuMemsetD8_v2
    cuMemsetD8_v2_ptds cuModuleEnumerateFunctions cuModuleGetFunction cuModuleGetFunctionCount cuModuleGetGlobal_v2
    cuModuleGetLoadingMode cuModuleLoad cuModuleLoadData cuModuleLoadDataEx cuModuleLoadFatBinary cuModuleUnload
    cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveBlocksPerMultiprocessor
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags cuOccupancyMaxPotentialClusterSize
    cuPointerGetAttribute cuPointerGetAttributes cuPointerSetAttribute cuProfilerStart cuProfilerStop
    cuStreamAddCallback cuStreamAddCallback_ptsz cuStreamAttachMemAsync cuStreamAttachMemAsync_ptsz
    cuStreamBeginCapture_v2 cuStreamBeginCapture_v2_ptsz cuStreamCopyAttributes cuStreamCopyAttributes_ptsz
    cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy cuStreamDestroy_v2 cuStreamEndCapture
    cuStreamEndCapture_ptsz cuStreamGetAttribute cuStreamGetAttribute_ptsz cuStreamGetCaptureInfo
    cuStreamGetCaptureInfo_v2 cuStreamGetCtx cuStreamGetCtx_ptsz cuStreamGetCtx_v2 cuStreamGetCtx_v2_ptsz
    cuStreamGetDevice cuStreamGetDevice_ptsz cuStreamGetFlags cuStreamGetFlags_ptsz cuStreamGetId cuStreamGetId_ptsz
    cuStreamGetPriority cuStreamGetPriority_ptsz cuStreamIsCapturing cuStreamIsCapturing_ptsz cuStreamQuery
    cuStreamQuery_ptsz cuStreamSetAttribute cuStreamSetAttribute_ptsz cuStreamSynchronize cuStreamSynchronize_ptsz
    cuStreamUpdateCaptureDependencies cuStreamWaitEvent cuStreamWaitEvent_ptsz cuStreamWaitValue32_v2
    cuStreamWaitValue32_v2_ptsz cuStreamWaitValue64_v2 cuStreamWaitValue64_v2_ptsz cuStreamWriteValue32_v2
    cuStreamWriteValue32_v2_ptsz cuStreamWriteValue64_v2 cuStreamWriteValue64_v2_ptsz
    cuTensorMapEncodeTiled cuTensorMapReplaceAddress cuThreadExchangeStreamCaptureMode
}

/// Base names that mean different functions depending on the CUDA version asked for: (base, name, since). Other base
/// names mean the newest form.
const VERSIONS: &[(&str, &str, c_int)] = &[
    ("cuCtxCreate", "cuCtxCreate_v4", 12050),
    ("cuCtxCreate", "cuCtxCreate_v3", 11040),
    ("cuCtxCreate", "cuCtxCreate_v2", 0),
    ("cuCtxGetDevice", "cuCtxGetDevice_v2", 13000),
    ("cuCtxGetDevice", "cuCtxGetDevice", 0),
    ("cuCtxSynchronize", "cuCtxSynchronize_v2", 13000),
    ("cuCtxSynchronize", "cuCtxSynchronize", 0),
    ("cuDeviceGetUuid", "cuDeviceGetUuid_v2", 11040),
    ("cuDeviceGetUuid", "cuDeviceGetUuid", 0),
    ("cuGraphAddDependencies", "cuGraphAddDependencies_v2", 12030),
    ("cuGraphAddDependencies", "cuGraphAddDependencies", 0),
    ("cuGraphRemoveDependencies", "cuGraphRemoveDependencies_v2", 12030),
    ("cuGraphRemoveDependencies", "cuGraphRemoveDependencies", 0),
    ("cuGraphGetEdges", "cuGraphGetEdges_v2", 12030),
    ("cuGraphGetEdges", "cuGraphGetEdges", 0),
    ("cuGraphNodeGetDependencies", "cuGraphNodeGetDependencies_v2", 12030),
    ("cuGraphNodeGetDependencies", "cuGraphNodeGetDependencies", 0),
    ("cuGraphNodeGetDependentNodes", "cuGraphNodeGetDependentNodes_v2", 12030),
    ("cuGraphNodeGetDependentNodes", "cuGraphNodeGetDependentNodes", 0),
    ("cuGraphAddKernelNode", "cuGraphAddKernelNode_v2", 12000),
    ("cuGraphAddKernelNode", "cuGraphAddKernelNode", 0),
    ("cuGraphExecKernelNodeSetParams", "cuGraphExecKernelNodeSetParams_v2", 12000),
    ("cuGraphExecKernelNodeSetParams", "cuGraphExecKernelNodeSetParams", 0),
    ("cuGraphExecUpdate", "cuGraphExecUpdate_v2", 12000),
    ("cuGraphExecUpdate", "cuGraphExecUpdate", 0),
    ("cuGraphInstantiate", "cuGraphInstantiateWithFlags", 12000),
    ("cuGraphInstantiate", "cuGraphInstantiate_v2", 0),
    ("cuGraphKernelNodeGetParams", "cuGraphKernelNodeGetParams_v2", 12000),
    ("cuGraphKernelNodeGetParams", "cuGraphKernelNodeGetParams", 0),
    ("cuGraphKernelNodeSetParams", "cuGraphKernelNodeSetParams_v2", 12000),
    ("cuGraphKernelNodeSetParams", "cuGraphKernelNodeSetParams", 0),
    ("cuMemAdvise", "cuMemAdvise_v2", 13000),
    ("cuMemAdvise", "cuMemAdvise", 0),
    ("cuMemPrefetchAsync", "cuMemPrefetchAsync_v2", 13000),
    ("cuMemPrefetchAsync", "cuMemPrefetchAsync", 0),
    ("cuStreamGetCaptureInfo", "cuStreamGetCaptureInfo_v2", 11030),
    ("cuStreamGetCaptureInfo", "cuStreamGetCaptureInfo", 0),
    ("cuStreamGetCtx", "cuStreamGetCtx_v2", 12050),
    ("cuStreamGetCtx", "cuStreamGetCtx", 0),
];

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
const PER_THREAD: u64 = 2;

fn exact(name: &str) -> Option<*const c_void> {
    PROCS.binary_search_by_key(&name, |row| row.0).ok().map(|index| PROCS[index].1.0)
}

/// The name of the function that a name means for a program of a CUDA version.
fn meaning(name: &str, version: c_int, flags: u64) -> String {
    let named = VERSIONS
        .iter()
        .find(|(base, _, since)| *base == name && version >= *since)
        .map(|row| row.1.to_owned());
    let newest = || {
        let mut forms = (2..=4).rev().map(|n| format!("{name}_v{n}"));
        forms.find(|name| exact(name).is_some())
    };
    let chosen = named.or_else(newest).unwrap_or_else(|| name.to_owned());
    let per_thread = ["_ptsz", "_ptds"]
        .map(|suffix| format!("{chosen}{suffix}"))
        .into_iter()
        .find(|name| flags & PER_THREAD != 0 && exact(name).is_some());
    per_thread.unwrap_or(chosen)
}

fn get(
    name: &Text,
    out: &Out<*const c_void>,
    version: c_int,
    flags: u64,
    status: &Out<c_int>,
) -> error::CudaResult {
    match exact(&meaning(name.text()?, version, flags)) {
        Some(address) => {
            status.set_optional(0);
            out.set(address)
        }
        None => {
            status.set_optional(1);
            out.set(std::ptr::null())?;
            if driver().is_ok_and(|driver| driver.options.trace) {
                report::warn(&format!("cuGetProcAddress: there is no {}", name.text()?));
            }
            Err(Error::NOT_FOUND)
        }
    }
}

api! {
    fn cuGetProcAddress(name: Text, out: Out<*const c_void>, version: c_int, flags: u64) {
        get(&name, &out, version, flags, &Out::NULL)
    }

    fn cuGetProcAddress_v2(
        name: Text, out: Out<*const c_void>, version: c_int, flags: u64, status: Out<c_int>,
    ) {
        get(&name, &out, version, flags, &status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(PROCS.is_sorted_by_key(|row| row.0));
    }

    #[test]
    fn names_mean_the_form_of_the_version() {
        assert_eq!(meaning("cuMemAlloc", 12000, 0), "cuMemAlloc_v2");
        assert_eq!(meaning("cuCtxCreate", 12000, 0), "cuCtxCreate_v3");
        assert_eq!(meaning("cuCtxCreate", 8000, 0), "cuCtxCreate_v2");
        assert_eq!(meaning("cuMemcpyAsync", 12000, PER_THREAD), "cuMemcpyAsync_ptsz");
        assert_eq!(meaning("cuInit", 12000, PER_THREAD), "cuInit");
        assert!(exact(&meaning("cuNothing", 12000, 0)).is_none());
    }
}
