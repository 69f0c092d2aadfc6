//! What the emulated device claims to be, and which checks run. Environment variables are read only here, once.

use std::env;

/// The checks a launch performs; each can be switched off for speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Reads of bytes that nothing has written (global, shared and local memory).
    pub uninitialised: bool,
    /// Conflicting accesses of shared memory by threads of a block without a barrier between them.
    pub shared_races: bool,
    /// Conflicting non-atomic accesses of global memory by different blocks of one launch.
    pub global_races: bool,
    /// Barriers that threads can never reach because they have left the kernel.
    pub barriers: bool,
    /// Reads of shared bytes that a `cp.async` has not delivered yet.
    pub async_copies: bool,
}

impl Checks {
    pub const ALL: Self = Self {
        uninitialised: true,
        shared_races: true,
        global_races: true,
        barriers: true,
        async_copies: true,
    };
    /// Bounds and alignment are always checked: they keep the host process safe.
    pub const NONE: Self = Self {
        uninitialised: false,
        shared_races: false,
        global_races: false,
        barriers: false,
        async_copies: false,
    };

    /// `all`, `none`, or a comma-separated list of names; a name with a leading `-` is taken out of `all`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut checks =
            if text.split(',').any(|w| w.trim().starts_with('-')) { Self::ALL } else { Self::NONE };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let (on, name) = match word.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, word),
            };
            match name {
                "all" => checks = if on { Self::ALL } else { Self::NONE },
                "none" => checks = Self::NONE,
                "uninitialised" => checks.uninitialised = on,
                "shared-races" => checks.shared_races = on,
                "global-races" => checks.global_races = on,
                "barriers" => checks.barriers = on,
                "async-copies" => checks.async_copies = on,
                _ => return Err(format!("unknown check `{name}`")),
            }
        }
        Ok(checks)
    }
}

impl Default for Checks {
    fn default() -> Self {
        Self::ALL
    }
}

/// The emulated device.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    pub name: String,
    /// Compute capability, e.g. `(8, 0)`.
    pub capability: (u32, u32),
    pub total_memory: u64,
    pub sm_count: u32,
    /// Shared memory a block gets without opting in.
    pub shared_per_block: u32,
    /// The most a block gets after `cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES)`.
    pub shared_per_block_optin: u32,
    pub shared_per_sm: u32,
    pub registers_per_block: u32,
    pub registers_per_sm: u32,
    pub max_threads_per_block: u32,
    pub max_threads_per_sm: u32,
    pub max_blocks_per_sm: u32,
    pub max_grid: [u32; 3],
    pub max_block: [u32; 3],
    pub l2_bytes: u64,
    /// Model the L2 cache of `l2_bytes` to count DRAM bytes.
    pub l2_model: bool,
    /// `None`: warps run in index order until they wait. `Some`: an adversarial order drawn from the seed.
    pub warp_order_seed: Option<u64>,
    pub checks: Checks,
    /// Tensor cores truncate sums where hardware may, instead of rounding each.
    pub truncate_sums: bool,
    /// Collect counters.
    pub counters: bool,
    /// Host threads that run blocks; 0 means one per core.
    pub workers: usize,
    /// A block that runs this many warp instructions without storing, arriving anywhere or ending is reported as a
    /// livelock.
    pub spin_limit: u64,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            name: "bitfit CUDA emulator (CPU)".into(),
            capability: (8, 0),
            total_memory: 8 << 30,
            sm_count: 108,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 163 << 10,
            shared_per_sm: 164 << 10,
            registers_per_block: 65536,
            registers_per_sm: 65536,
            max_threads_per_block: 1024,
            max_threads_per_sm: 2048,
            max_blocks_per_sm: 32,
            max_grid: [0x7fff_ffff, 65535, 65535],
            max_block: [1024, 1024, 64],
            l2_bytes: 40 << 20,
            l2_model: false,
            warp_order_seed: None,
            checks: Checks::ALL,
            truncate_sums: false,
            counters: true,
            workers: 0,
            spin_limit: 1 << 28,
        }
    }
}

impl DeviceConfig {
    /// The defaults, changed by `CUDA_EMULATOR_*` environment variables. A value that does not parse is an error: a
    /// misspelt switch must not silently run something else.
    pub fn from_env() -> Result<Self, String> {
        let mut c = Self::default();
        if let Some(text) = var("CUDA_EMULATOR_CAPABILITY") {
            let (major, minor) =
                text.split_once('.').ok_or("CUDA_EMULATOR_CAPABILITY must look like 8.0")?;
            c.capability = (
                number("CUDA_EMULATOR_CAPABILITY", major)?,
                number("CUDA_EMULATOR_CAPABILITY", minor)?,
            );
            // The shared-memory sizes of each generation (CUDA C++ Programming Guide, table of compute capabilities).
            (c.shared_per_block_optin, c.shared_per_sm, c.max_threads_per_sm) = match c.capability {
                (8, 6) | (8, 9) => (99 << 10, 100 << 10, 1536),
                (9, _) | (10, _) => (227 << 10, 228 << 10, 2048),
                (12, _) => (99 << 10, 100 << 10, 1536),
                _ => (163 << 10, 164 << 10, 2048),
            };
        }
        set(&mut c.total_memory, "CUDA_EMULATOR_MEMORY")?;
        set(&mut c.sm_count, "CUDA_EMULATOR_SM_COUNT")?;
        set(&mut c.shared_per_block_optin, "CUDA_EMULATOR_SHARED_OPTIN")?;
        set(&mut c.shared_per_block, "CUDA_EMULATOR_SHARED_PER_BLOCK")?;
        set(&mut c.shared_per_sm, "CUDA_EMULATOR_SHARED_PER_SM")?;
        set(&mut c.l2_bytes, "CUDA_EMULATOR_L2")?;
        c.l2_model = var("CUDA_EMULATOR_L2").is_some();
        set(&mut c.workers, "CUDA_EMULATOR_WORKERS")?;
        set(&mut c.spin_limit, "CUDA_EMULATOR_SPIN_LIMIT")?;
        if let Some(seed) = var("CUDA_EMULATOR_SEED") {
            c.warp_order_seed = Some(number("CUDA_EMULATOR_SEED", &seed)?);
        }
        if let Some(text) = var("CUDA_EMULATOR_TENSOR_SUMS") {
            c.truncate_sums = match text.as_str() {
                "rounded" => false,
                "truncated" => true,
                _ => return Err("CUDA_EMULATOR_TENSOR_SUMS must be rounded or truncated".into()),
            };
        }
        if let Some(text) = var("CUDA_EMULATOR_CHECKS") {
            c.checks = Checks::parse(&text).map_err(|e| format!("CUDA_EMULATOR_CHECKS: {e}"))?;
        }
        Ok(c)
    }

    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        }
    }
}

fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

/// A number with an optional binary suffix: `48K`, `8G`.
fn number<T: TryFrom<u64>>(name: &str, text: &str) -> Result<T, String> {
    let text = text.trim();
    let (digits, shift) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 20),
        Some('g' | 'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bad = || format!("{name}: `{text}` is not a number that fits");
    let n: u64 = digits.parse().map_err(|_| bad())?;
    n.checked_shl(shift)
        .filter(|v| v >> shift == n)
        .and_then(|v| T::try_from(v).ok())
        .ok_or_else(bad)
}

fn set<T: TryFrom<u64>>(field: &mut T, name: &str) -> Result<(), String> {
    if let Some(text) = var(name) {
        *field = number(name, &text)?;
    }
    Ok(())
}
