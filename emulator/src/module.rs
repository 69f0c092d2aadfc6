//! Loaded modules and their kernels: what the driver's `cuModule*` and `cuFunc*` calls see.

use crate::config::DeviceConfig;
use crate::memory::DeviceMemory;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// PTX that cannot be loaded: the first thing not understood, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// 1-based; 0 where the module as a whole is concerned.
    pub line: u32,
    pub text: String,
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}", self.message);
        }
        write!(
            f,
            "PTX line {}: {}\n    {}",
            self.line,
            self.message,
            self.text.trim()
        )
    }
}

impl std::error::Error for LoadError {}

/// A kernel parameter as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamDecl {
    pub name: String,
    pub offset: u32,
    pub size: u32,
    pub align: u32,
}

/// An entry function, ready to launch.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    pub params: Vec<ParamDecl>,
    pub param_bytes: u32,
    pub static_shared: u32,
    pub local_bytes: u32,
    /// Registers a thread would need, estimated from the 32-bit slots live at once.
    pub registers: u32,
    /// `.maxntid` product; `None` where not declared.
    pub max_threads: Option<u32>,
    /// `.reqntid`; missing dimensions are 1.
    pub required_block: Option<[u32; 3]>,
    pub min_blocks_per_sm: Option<u32>,
}

/// A loaded module. Dropping it frees its globals.
#[derive(Debug)]
pub struct Module {
    kernels: HashMap<String, Arc<Kernel>>,
    globals: HashMap<String, (u64, usize)>,
}

impl Module {
    /// Parses and decodes PTX text and places its globals and constants in device memory.
    pub fn load(
        _ptx: &str,
        _memory: &Arc<DeviceMemory>,
        _config: &DeviceConfig,
    ) -> Result<Module, LoadError> {
        Err(LoadError {
            line: 0,
            text: String::new(),
            message: "the PTX front end is not there yet".into(),
        })
    }

    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }

    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }

    /// Address and size of a module-scope `.global` or `.const` variable.
    pub fn global(&self, name: &str) -> Option<(u64, usize)> {
        self.globals.get(name).copied()
    }
}
