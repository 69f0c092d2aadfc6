//! The driver's state: one device, and the tables of everything that a handle can name.
//!
//! One mutex guards the tables. It is never held while a kernel, a copy or a host function runs, so other threads can
//! allocate and enqueue meanwhile; see [`super::queue`].

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::config::DeviceConfig;
use crate::memory::DeviceMemory;

use super::error::{CudaResult, Error};
use super::objects::{
    Capture, Context, DriverAllocation, Event, Exec, Graph, LoadedFunction, LoadedModule, Pool,
    Primary, Stream,
};
use super::options::Options;
use super::per_thread::default_is_per_thread;
use super::types::{DevicePtr, Handle};

/// Everything the driver knows.
pub struct Driver {
    pub config: DeviceConfig,
    pub options: Options,
    pub memory: Arc<DeviceMemory>,
    pub started: Instant,
    state: Mutex<State>,
    /// Held by the thread that executes queued work.
    pub engine: Mutex<()>,
}

static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();

/// The driver, once `cuInit` has run.
pub fn driver() -> CudaResult<&'static Driver> {
    match DRIVER.get() {
        Some(Ok(driver)) => Ok(driver),
        Some(Err(_)) => Err(Error::INVALID_VALUE),
        None => Err(Error::NOT_INITIALIZED),
    }
}

/// Creates the driver from the environment, the first time. Returns whether this was the first.
pub fn make() -> (bool, &'static Result<Driver, String>) {
    let first = DRIVER.get().is_none();
    let made = DRIVER.get_or_init(|| {
        let config = DeviceConfig::from_env()?;
        let options = Options::from_env()?;
        let memory = Arc::new(DeviceMemory::new(config.total_memory));
        Ok(Driver {
            config,
            options,
            memory,
            started: Instant::now(),
            state: Mutex::default(),
            engine: Mutex::default(),
        })
    });
    (first, made)
}

impl Driver {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state, for functions that need nothing else.
pub fn state() -> CudaResult<MutexGuard<'static, State>> {
    Ok(driver()?.state())
}

#[derive(Default)]
pub struct State {
    next_handle: usize,
    /// Incremented by every enqueued operation, over all streams: the order of the program's calls.
    pub sequence: u64,
    pub contexts: HashMap<Handle, Context>,
    pub primary: Primary,
    pub streams: HashMap<Handle, Stream>,
    pub events: HashMap<Handle, Event>,
    pub modules: HashMap<Handle, LoadedModule>,
    pub libraries: HashMap<Handle, Handle>,
    pub functions: HashMap<Handle, LoadedFunction>,
    pub links: HashMap<Handle, Vec<u8>>,
    pub graphs: HashMap<Handle, Graph>,
    /// Which graph a node belongs to, and its place there.
    pub nodes: HashMap<Handle, (Handle, usize)>,
    pub execs: HashMap<Handle, Exec>,
    pub captures: HashMap<Handle, Capture>,
    pub pools: HashMap<Handle, Pool>,
    pub allocations: BTreeMap<DevicePtr, DriverAllocation>,
    pub default_pool: Option<Handle>,
    pub current_pool: Option<Handle>,
    /// Bytes that pools' [`DriverAllocation`]s hold, and their maximum so far.
    pub pool_used: u64,
    pub pool_high: u64,
}

thread_local! {
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread's stack of contexts.
pub fn with_stack<T>(body: impl FnOnce(&mut Vec<Handle>) -> T) -> T {
    CURRENT.with_borrow_mut(body)
}

impl State {
    /// A handle that has never been given out before.
    pub fn handle(&mut self) -> Handle {
        self.next_handle += 1;
        Handle(0xE000_0000 + 16 * self.next_handle)
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The calling thread's current context, whatever its health.
    pub fn current_handle(&self) -> CudaResult<Handle> {
        let handle = with_stack(|stack| stack.last().copied()).unwrap_or_default();
        if handle.is_null() {
            return Err(Error::INVALID_CONTEXT);
        }
        if !self.contexts.contains_key(&handle) {
            return Err(Error::CONTEXT_IS_DESTROYED);
        }
        Ok(handle)
    }

    /// The current context, or its sticky error.
    pub fn current(&self) -> CudaResult<Handle> {
        let handle = self.current_handle()?;
        self.check(handle)?;
        Ok(handle)
    }

    /// The sticky error of a context, if it has one.
    pub fn check(&self, context: Handle) -> CudaResult {
        match self.contexts.get(&context).ok_or(Error::INVALID_CONTEXT)?.sticky {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub fn new_context(&mut self, flags: c_uint) -> Handle {
        let context = self.handle();
        let legacy = self.new_stream(context, 0, 0, true);
        let id = context.0 as u64;
        self.contexts.insert(
            context,
            Context {
                flags,
                id,
                sticky: None,
                limits: BTreeMap::from([
                    (0, 1024),
                    (1, 1 << 20),
                    (2, 8 << 20),
                    (3, 2),
                    (4, 2048),
                    (5, 64),
                    (6, 0),
                ]),
                cache_config: 0,
                shared_config: 1,
                legacy,
                per_thread: HashMap::new(),
                peers: HashSet::new(),
            },
        );
        context
    }

    pub fn new_stream(
        &mut self,
        context: Handle,
        flags: c_uint,
        priority: c_int,
        is_legacy: bool,
    ) -> Handle {
        let stream = self.handle();
        self.streams.insert(
            stream,
            Stream {
                context,
                id: stream.0 as u64,
                flags,
                priority,
                is_legacy,
                destroyed: false,
                queue: VecDeque::new(),
                capture: None,
            },
        );
        stream
    }

    /// The stream that a handle of the API means: 0 and `CU_STREAM_LEGACY` are the context's legacy default stream,
    /// `CU_STREAM_PER_THREAD` the calling thread's own.
    pub fn stream(&mut self, stream: Handle) -> CudaResult<Handle> {
        let stream = match stream {
            Handle::NULL if default_is_per_thread() => Handle::PER_THREAD,
            other => other,
        };
        if let Handle::NULL | Handle::LEGACY = stream {
            let context = self.current()?;
            return Ok(self.contexts[&context].legacy);
        }
        if stream == Handle::PER_THREAD {
            let context = self.current()?;
            let thread = std::thread::current().id();
            if let Some(known) = self.contexts[&context].per_thread.get(&thread) {
                return Ok(*known);
            }
            let made = self.new_stream(context, 0, 0, false);
            if let Some(context) = self.contexts.get_mut(&context) {
                context.per_thread.insert(thread, made);
            }
            return Ok(made);
        }
        match self.streams.get(&stream) {
            Some(found) if !found.destroyed => {
                self.check(found.context)?;
                Ok(stream)
            }
            _ => Err(Error::INVALID_HANDLE),
        }
    }

    pub fn event(&mut self, event: Handle) -> CudaResult<&mut Event> {
        self.events.get_mut(&event).ok_or(Error::INVALID_HANDLE)
    }

    pub fn function(&mut self, function: Handle) -> CudaResult<&mut LoadedFunction> {
        self.functions.get_mut(&function).ok_or(Error::INVALID_HANDLE)
    }

    /// The allocation that holds `address`.
    pub fn allocation(&self, address: DevicePtr) -> Option<(DevicePtr, DriverAllocation)> {
        let (base, allocation) = self.allocations.range(..=address).next_back()?;
        let inside = address - base < allocation.size.max(1) as u64;
        inside.then_some((*base, *allocation))
    }
}

/// Refuses a device ordinal other than 0: there is one device.
pub fn check_device(device: c_int) -> CudaResult {
    driver()?;
    if device == 0 { Ok(()) } else { Err(Error::INVALID_DEVICE) }
}
