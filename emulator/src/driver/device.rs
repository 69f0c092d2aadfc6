//! Initialisation and the one device: `cuInit`, `cuDriverGetVersion`, `cuDevice*`.

use std::ffi::{c_char, c_int, c_uint};

use crate::config::DeviceConfig;
use crate::decode::ir::RESERVED_SHARED;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::options::Options;
use super::start::initialise;
use super::state::{check_device, driver};
use super::types::{DeviceProperties, Handle, Out, Text, TextOut, Uuid};

const PCI_BUS_ID: &str = "0000:00:00.0";
/// Bytes 0 to 15 of the device's UUID, in ASCII.
const UUID: [u8; 16] = *b"cuda-emulator-00";

/// `CUdevice_attribute` by number, for answers that do not depend on the settings. Anything not listed is 0: an
/// unsupported feature.
const FIXED: &[(c_int, c_int)] = &[
    (9, 65536),       // total constant memory
    (10, 32),         // warp size
    (11, c_int::MAX), // largest pitch
    (13, 1_410_000),  // clock rate, kHz
    (14, 512),        // texture alignment
    (15, 1),          // copies and kernels overlap
    (19, 1),          // can map host memory
    (21, 131_072),    // texture sizes …
    (22, 131_072),
    (23, 65536),
    (24, 16384),
    (25, 16384),
    (26, 16384),
    (27, 32768),
    (28, 32768),
    (29, 2048),
    (30, 512),       // surface alignment
    (31, 1),         // concurrent kernels
    (36, 1_215_000), // memory clock, kHz
    (37, 5120),      // memory bus width
    (40, 3),         // asynchronous engines
    (41, 1),         // unified addressing
    (51, 32),        // texture pitch alignment
    (78, 1),         // stream priorities
    (79, 1),         // global memory is cached in L1
    (80, 1),         // local memory is cached in L1
    (83, 1),         // managed memory
    (87, 2),         // single to double precision ratio
    (90, 1),         // compute preemption
    (91, 1),         // registered memory has its host pointer
    (95, 1),         // cooperative launches
    (99, 1),         // host registration
    (122, 1),        // 64-bit stream memory operations
    (129, 0),
];

fn attribute(config: &DeviceConfig, memory_pools: bool, attribute: c_int) -> CudaResult<c_int> {
    let int = |value: u32| value as c_int;
    let [grid_x, grid_y, grid_z] = config.max_grid.map(int);
    let [block_x, block_y, block_z] = config.max_block.map(int);
    Ok(match attribute {
        1 => int(config.max_threads_per_block),
        2 => block_x,
        3 => block_y,
        4 => block_z,
        5 => grid_x,
        6 => grid_y,
        7 => grid_z,
        8 => int(config.shared_per_block),
        12 => int(config.registers_per_block),
        16 => int(config.sm_count),
        38 => config.l2_bytes as c_int,
        39 => int(config.max_threads_per_sm),
        75 => int(config.capability.0),
        76 => int(config.capability.1),
        81 => int(config.shared_per_sm),
        82 => int(config.registers_per_sm),
        97 => int(config.shared_per_block_optin),
        106 => int(config.max_blocks_per_sm),
        111 => int(RESERVED_SHARED),
        115 => memory_pools.into(),
        _ if (1..=147).contains(&attribute) => {
            FIXED.iter().find(|(number, _)| *number == attribute).map_or(0, |(_, value)| *value)
        }
        _ => return Err(Error::INVALID_VALUE),
    })
}

api! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        initialise()
    }

    fn cuDriverGetVersion(version: Out<c_int>) {
        // May be queried before `cuInit`.
        let options = Options::from_env().map_err(|_| Error::INVALID_VALUE)?;
        version.set(options.version)
    }

    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) {
        check_device(ordinal)?;
        device.set(0)
    }

    fn cuDeviceGetCount(count: Out<c_int>) {
        count.set(driver()?.options.devices)
    }

    fn cuDeviceGetName(name: TextOut, length: c_int, device: c_int) {
        check_device(device)?;
        name.fill(&driver()?.config.name, length)
    }

    fn cuDeviceGetUuid(uuid: Out<Uuid>, device: c_int) {
        check_device(device)?;
        uuid.set(Uuid(UUID))
    }

    fn cuDeviceGetUuid_v2(uuid: Out<Uuid>, device: c_int) {
        check_device(device)?;
        uuid.set(Uuid(UUID))
    }

    fn cuDeviceGetLuid(_luid: Out<c_char>, _mask: Out<c_uint>, device: c_int) {
        check_device(device)?;
        Err(Error::NOT_SUPPORTED)
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) {
        check_device(device)?;
        bytes.set(driver()?.config.total_memory as usize)
    }

    fn cuDeviceGetAttribute(value: Out<c_int>, which: c_int, device: c_int) {
        check_device(device)?;
        let driver = driver()?;
        value.set(attribute(&driver.config, driver.options.memory_pools, which)?)
    }

    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: c_int) {
        check_device(device)?;
        let capability = driver()?.config.capability;
        major.set(capability.0 as c_int)?;
        minor.set(capability.1 as c_int)
    }

    fn cuDeviceGetProperties(properties: Out<DeviceProperties>, device: c_int) {
        check_device(device)?;
        let config = &driver()?.config;
        properties.set(DeviceProperties {
            max_threads_per_block: config.max_threads_per_block as c_int,
            max_threads_dim: config.max_block.map(|n| n as c_int),
            max_grid_size: config.max_grid.map(|n| n as c_int),
            shared_mem_per_block: config.shared_per_block as c_int,
            total_constant_memory: 65536,
            simd_width: 32,
            mem_pitch: c_int::MAX,
            regs_per_block: config.registers_per_block as c_int,
            clock_rate: 1_410_000,
            texture_align: 512,
        })
    }

    fn cuDeviceGetPCIBusId(name: TextOut, length: c_int, device: c_int) {
        check_device(device)?;
        name.fill(PCI_BUS_ID, length)
    }

    fn cuDeviceGetByPCIBusId(device: Out<c_int>, name: Text) {
        driver()?;
        if name.text()? != PCI_BUS_ID {
            return Err(Error::INVALID_DEVICE);
        }
        device.set(0)
    }

    fn cuDeviceGetExecAffinitySupport(value: Out<c_int>, _kind: c_int, device: c_int) {
        check_device(device)?;
        value.set(0)
    }

    // There is one device, so there are no peers.
    fn cuDeviceCanAccessPeer(can: Out<c_int>, device: c_int, peer: c_int) {
        check_device(device)?;
        check_device(peer)?;
        can.set(0)
    }

    fn cuDeviceGetP2PAttribute(_value: Out<c_int>, _attribute: c_int, _device: c_int, _peer: c_int) {
        driver()?;
        Err(Error::INVALID_DEVICE)
    }

    fn cuCtxEnablePeerAccess(_peer: Handle, _flags: c_uint) {
        driver()?;
        Err(Error::PEER_ACCESS_UNSUPPORTED)
    }

    fn cuCtxDisablePeerAccess(_peer: Handle) {
        driver()?;
        Err(Error::PEER_ACCESS_NOT_ENABLED)
    }

    fn cuProfilerStart() {
        driver().map(drop)
    }

    fn cuProfilerStop() {
        driver().map(drop)
    }
}
