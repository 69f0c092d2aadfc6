//! Loaded modules and their kernels: what the driver's `cuModule*` and `cuFunc*` calls see.

use crate::buffer::Buffer;
use crate::config::DeviceConfig;
use crate::decode::ir::Program;
use crate::decode::{self, Symbols};
use crate::heap::{HEAP_BYTES, Heap};
use crate::memory::{AllocationKind, DeviceMemory};
use crate::ptx;
use crate::ptx::ast::{self, Immediate, Init, Param, Statement, Variable};
use crate::ptx::error::{LoadError, error};
use crate::ptx::types::{Space, Type};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// `.maxntid` product; `None` if not declared.
    pub max_threads: Option<u32>,
    /// `.reqntid`; missing dimensions are 1.
    pub required_block: Option<[u32; 3]>,
    pub min_blocks_per_sm: Option<u32>,
    /// `.maxnreg`
    pub max_registers: Option<u32>,
    pub(crate) program: Program,
    pub(crate) constants: Buffer,
    pub(crate) heap: Option<Arc<Heap>>,
}

/// A loaded module. Dropping it frees its globals.
#[derive(Debug)]
pub struct Module {
    kernels: HashMap<String, Arc<Kernel>>,
    globals: HashMap<String, (u64, usize)>,
    placed: Vec<u64>,
    memory: Arc<DeviceMemory>,
}

impl Drop for Module {
    fn drop(&mut self) {
        for &address in &self.placed {
            // A failure means that the program freed a global itself, which that call reported.
            let _ = self.memory.free(address);
        }
    }
}

impl Module {
    /// Parses and decodes PTX text and places its globals and constants in device memory.
    pub fn load(
        text: &str,
        memory: &Arc<DeviceMemory>,
        config: &DeviceConfig,
    ) -> Result<Module, LoadError> {
        let tree = ptx::parse(text)?;
        let device = config.capability.0 * 10 + config.capability.1;
        if let Some(sm) = specific(&tree.target).filter(|&sm| sm != device) {
            let text_of =
                format!("code for sm_{sm}a runs there only, and this device is sm_{device}");
            return Err(error(text, 0, text_of));
        }
        let mut module = Module {
            kernels: HashMap::new(),
            globals: HashMap::new(),
            placed: Vec::new(),
            memory: memory.clone(),
        };
        let mut symbols = Symbols {
            source: text,
            kept: text.into(),
            globals: HashMap::new(),
            shared: HashMap::new(),
            functions: HashMap::new(),
            addresses: Vec::new(),
            allocates: text.contains("alloca"),
            version: tree.version,
            specific: specific(&tree.target),
            files: tree.files.iter().map(|(n, name)| (*n, (*name).to_string())).collect(),
        };
        let mut variables: Vec<&Variable> = tree.variables.iter().collect();
        for f in &tree.functions {
            f.body.iter().for_each(|body| static_variables(body, &mut variables));
            // A declaration may come before or after its definition.
            if !f.entry && (f.body.is_some() || !symbols.functions.contains_key(f.name)) {
                symbols.functions.insert(f.name, f);
            }
        }
        for &(alias, name) in &tree.aliases {
            let Some(&f) = symbols.functions.get(name) else {
                return Err(error(text, 0, format!("`{name}` of an alias is not defined")));
            };
            symbols.functions.insert(alias, f);
        }
        symbols.addresses = function_addresses(&tree, &variables, &symbols);
        for v in &variables {
            let fail = |message: String| error(text, v.line, message);
            if v.space == Space::Shared {
                symbols.shared.insert(v.name, (*v).clone());
                continue;
            }
            if v.external {
                return Err(fail(format!("`{}` is defined in no module", v.name)));
            }
            let size = v
                .size
                .filter(|&n| n > 0)
                .ok_or_else(|| fail(format!("`{}` has no size", v.name)))?;
            let address =
                memory.alloc(size, AllocationKind::Module).map_err(|e| fail(e.to_string()))?;
            module.placed.push(address);
            module.globals.insert(v.name.to_string(), (address, size as usize));
            if symbols.globals.insert(v.name, address).is_some() {
                return Err(fail(format!("`{}` is declared twice", v.name)));
            }
        }
        for v in variables.iter().filter(|v| v.space != Space::Shared) {
            let bytes = initial_bytes(v, &symbols)?;
            memory
                .copy_from_host(symbols.globals[v.name], &bytes)
                .and_then(|()| {
                    memory.mark_initialised(symbols.globals[v.name], v.size.unwrap_or(0))
                })
                .map_err(|e| error(text, v.line, e.to_string()))?;
        }
        let heap = match symbols.functions.get("malloc") {
            Some(f) if f.body.is_none() => {
                let base = memory
                    .alloc(HEAP_BYTES, AllocationKind::Module)
                    .map_err(|e| error(text, 0, e.to_string()))?;
                module.placed.push(base);
                Some(Arc::new(Heap::new(base)))
            }
            _ => None,
        };
        for f in tree.functions.iter().filter(|f| f.entry && f.body.is_some()) {
            let kernel = kernel(&symbols, f, heap.clone())?;
            module.kernels.insert(f.name.to_string(), Arc::new(kernel));
        }
        Ok(module)
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

/// The architecture that `.target` names with a letter suffix: `sm_90a` code runs only there, and may use features that
/// others do not have.
fn specific(target: &[&str]) -> Option<u32> {
    let name = target.iter().find_map(|t| t.strip_prefix("sm_"))?;
    name.strip_suffix('a')?.parse().ok()
}

fn kernel<'a>(
    symbols: &Symbols<'a>,
    f: &'a ast::Function<'a>,
    heap: Option<Arc<Heap>>,
) -> Result<Kernel, LoadError> {
    let program = decode::kernel(symbols, f)?;
    let mut params = Vec::new();
    let mut offset = 0;
    for param in &f.params {
        if let Param::Memory(v) = param
            && let Some((at, end)) = decode::place(v, offset)
        {
            params.push(ParamDecl {
                name: v.name.to_string(),
                offset: at,
                size: end - at,
                align: v.align,
            });
            offset = end;
        }
    }
    let mut constants = Buffer::new(program.const_bytes as usize);
    for (c, at) in program.consts.iter().zip(program.const_offsets()) {
        constants.broadcast(at, c.value, c.wide);
    }
    Ok(Kernel {
        name: f.name.to_string(),
        params,
        param_bytes: offset,
        static_shared: program.static_shared,
        local_bytes: program.local_bytes,
        registers: (program.pressure + 8).min(255),
        max_threads: f.max_threads.map(|[x, y, z]| x.saturating_mul(y).saturating_mul(z)),
        required_block: f.required_block,
        min_blocks_per_sm: f.min_blocks_per_sm,
        max_registers: f.max_registers,
        program,
        constants,
        heap,
    })
}

/// `.global` and `.const` variables declared inside a function.
fn static_variables<'a>(body: &'a [Statement<'a>], out: &mut Vec<&'a Variable<'a>>) {
    for s in body {
        match s {
            Statement::Variable(v) if matches!(v.space, Space::Global | Space::Const) => {
                out.push(v)
            }
            Statement::Block(inner) => static_variables(inner, out),
            _ => {}
        }
    }
}

/// Where the numbers that represent functions begin: neither the device nor the host has memory there.
const FUNCTIONS: u64 = 0x3c00_0000_0000;

/// A number for each function whose address an initialiser or a `mov` takes. No two modules share one, so that a
/// pointer into another module never calls anything by accident.
fn function_addresses<'a>(
    tree: &ast::SyntaxTree<'a>,
    variables: &[&Variable<'a>],
    symbols: &Symbols<'a>,
) -> Vec<(&'a str, u64)> {
    static NEXT: AtomicU64 = AtomicU64::new(FUNCTIONS);
    let mut names = BTreeSet::new();
    for v in variables {
        names.extend(v.init.iter().filter_map(|init| match *init {
            Init::Address { name, .. } => Some(name),
            _ => None,
        }));
    }
    for f in &tree.functions {
        f.body.iter().for_each(|body| moved_names(body, &mut names));
    }
    // Two names of one function share one address.
    let mut taken: Vec<(&str, u64)> = Vec::new();
    for name in names {
        let Some(&f) = symbols.functions.get(name) else {
            continue;
        };
        let same = |(other, _): &&(&str, u64)| std::ptr::eq(symbols.functions[other], f);
        let address = match taken.iter().find(same) {
            Some(&(_, address)) => address,
            None => NEXT.fetch_add(16, Relaxed),
        };
        taken.push((name, address));
    }
    taken
}

fn moved_names<'a>(body: &[Statement<'a>], out: &mut BTreeSet<&'a str>) {
    for s in body {
        match s {
            Statement::Instruction(i) if i.opcode.starts_with("mov") => {
                out.extend(i.operands.get(1).and_then(|op| match op {
                    ast::Operand::Name(name) => Some(name),
                    _ => None,
                }));
            }
            Statement::Block(inner) => moved_names(inner, out),
            _ => {}
        }
    }
}

/// Zeros between initial values are stored; trailing zeros are not.
const MAX_PADDING: usize = 1 << 26;

fn initial_bytes(v: &Variable, symbols: &Symbols) -> Result<Vec<u8>, LoadError> {
    let fail = |message: String| error(symbols.source, v.line, message);
    let size = v.size.unwrap_or(0) as usize;
    let mut bytes = Vec::new();
    let element = v.ty.bytes() as usize;
    for init in &v.init {
        let value = match *init {
            Init::PadTo(end) => {
                let end = (end as usize).min(size);
                if bytes.len() < end {
                    if end > bytes.len() + MAX_PADDING {
                        return Err(fail(format!(
                            "`{}` has too many unnamed initial values",
                            v.name
                        )));
                    }
                    bytes.resize(end, 0);
                }
                continue;
            }
            Init::Value(Immediate::Int(n)) if v.ty.is_float() && v.ty.bits() >= 32 => match v.ty {
                Type::F32 => u64::from((n as i64 as f32).to_bits()),
                _ => (n as i64 as f64).to_bits(),
            },
            Init::Value(Immediate::Int(n)) => n,
            Init::Value(Immediate::Float(bits, from)) => match (from, v.ty) {
                (Type::F32, Type::F32 | Type::B32) | (Type::F64, Type::F64 | Type::B64) => bits,
                (Type::F64, Type::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
                (Type::F32, Type::F64) => f64::from(f32::from_bits(bits as u32)).to_bits(),
                _ => {
                    return Err(fail(format!(
                        "an initial value of `{}` does not fit its type",
                        v.name
                    )));
                }
            },
            Init::Address { name, addend, mask } => {
                let function = symbols.addresses.iter().find(|(f, _)| *f == name);
                let place = symbols.globals.get(name);
                let Some(address) = place.or(function.map(|(_, address)| address)) else {
                    return Err(fail(format!(
                        "the address of `{name}` cannot be an initial value"
                    )));
                };
                let address = address.wrapping_add_signed(addend);
                match mask {
                    None => address,
                    Some(0) => 0,
                    Some(mask) => (address & mask) >> mask.trailing_zeros(),
                }
            }
        };
        bytes.extend_from_slice(&value.to_le_bytes()[..element.min(8)]);
        if bytes.len() > size {
            return Err(fail(format!("`{}` has more initial values than room", v.name)));
        }
    }
    // Anything not named is zero, like fresh memory.
    Ok(bytes)
}
