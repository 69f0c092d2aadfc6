//! Compiles `kernels/*.cu` and embeds the images, so that the binary needs no CUDA toolkit at run time.
//!
//! Each file is compiled once for f16 and once for bf16: to PTX, which the driver of any GPU of compute capability 8.0 or
//! higher can compile, and in release builds also to a cubin per architecture, which starts at once. Files named
//! `hopper_…` use features that only compute capability 9.0 has, and are built only for it.
//!
//! | variable | meaning |
//! |---|---|
//! | `NVCC`, `CUDA_HOME`, `CUDA_PATH` | where the compiler is; else `PATH`, `/usr/local/cuda`, `.cache/cuda` (`scripts/fetch-cuda`) |
//! | `BITFIT_CUDA_ARCHS` | cubins to build, e.g. `80,90`; `90a`: only those of `hopper_…`; empty: only PTX; `off`: no kernels |
//! | `BITFIT_REQUIRE_CUDA=1` | a missing compiler, and a kernel that spills registers or whose products wait, are errors, not warnings |
//! | `BITFIT_SHIP_KERNELS` | a folder to write the PTX to, like `kernels/ptx` in the source package |

use flate2::Compression;
use flate2::write::ZlibEncoder;
use shipped::Shipped;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

#[path = "kernels/layouts.rs"]
mod layouts;
#[path = "kernels/shipped.rs"]
mod shipped;

/// PTX is made for the oldest architecture that has everything the kernels use.
const PTX_ARCH: &str = "80";
/// Files with this prefix are built only for this architecture: "a" stands for instructions that no later one has.
const HOPPER_UNITS: &str = "hopper_";
const HOPPER_ARCH: &str = "90a";
/// A100; A10 and RTX 30; RTX 40 and L4; H100; B200; RTX 50.
const RELEASE_ARCHS: &[&str] = &["80", "86", "89", "90", "100", "120"];
const VARIABLES: &[&str] = &[
    "NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "PATH",
    "BITFIT_CUDA_ARCHS",
    "BITFIT_REQUIRE_CUDA",
    "BITFIT_SHIP_KERNELS",
];
/// Half types: their names in files and in the generated table, and the macro that selects each.
const HALVES: &[(&str, &str, &str)] =
    &[("f16", "HalfType::F16", "-DBITFIT_F16"), ("bf16", "HalfType::Bf16", "-DBITFIT_BF16")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=src/backend/cuda/structs.rs");
    println!("cargo:rerun-if-changed=src/backend/cuda/numbers.rs");
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Err(message) = build() {
        println!("cargo:error={message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let (units, headers) = sources(&root.join("kernels"))?;
    for path in units.iter().chain(&headers) {
        println!("cargo:rerun-if-changed={}", path.display());
    }

    let archs = architectures();
    let Some(archs) = archs else {
        println!("cargo:warning=BITFIT_CUDA_ARCHS=off: the binary will have only the CPU backend");
        return write_table(&out, &[], None);
    };
    let made_from: Vec<PathBuf> = units.iter().chain(&headers).cloned().collect();
    let sources = shipped::sources_hash(&made_from)?;
    let Some(nvcc) = find_nvcc(&root) else {
        if let Some(shipped) = shipped::read(&root.join("kernels/ptx"), sources) {
            return embed_shipped(&out, &shipped);
        }
        let hint = "no CUDA compiler: the binary will have only the CPU backend \
                    (scripts/fetch-cuda gets one, or set CUDA_HOME to CUDA 12.8 or later)";
        if cuda_required() {
            return Err(format!("BITFIT_REQUIRE_CUDA=1, but {hint}"));
        }
        println!("cargo:warning={hint}");
        return write_table(&out, &[], None);
    };

    // If there was no compiler, scripts/fetch-cuda touches this file after installing one.
    println!("cargo:rerun-if-changed={}", nvcc.display());
    let version = Command::new(&nvcc)
        .arg("--version")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", nvcc.display()))?;
    // For the test that compares the kernels' declarations with the host's.
    println!("cargo:rustc-env=BITFIT_NVCC={}", nvcc.display());
    let cache = cache_folder(&out);
    fs::create_dir_all(&cache).map_err(|e| format!("cannot create {}: {e}", cache.display()))?;

    let mirrored = layouts::mirrored();
    let mut unheld: Vec<&str> = mirrored.iter().map(|m| m.name).collect();
    let mut base = DefaultHasher::new();
    version.stdout.hash(&mut base);
    for header in &headers {
        layouts::hash_source(header, &mirrored, &mut unheld, &mut base)?;
    }
    let layouts = layouts::write_header(&mirrored, &cache)?;
    let mut jobs = Vec::new();
    for unit in &units {
        let mut hash = base.clone();
        layouts::hash_source(unit, &mirrored, &mut unheld, &mut hash)?;
        for half in HALVES {
            let targets = archs.iter().filter_map(|arch| cubin(unit, arch));
            for target in [Target::Ptx].into_iter().chain(targets) {
                jobs.push(Job::new(&nvcc, unit, half, target, &layouts, &hash, &cache));
            }
        }
    }
    if !unheld.is_empty() {
        return Err(format!(
            "nothing in kernels/ says MIRRORED({}): write it after the structure or the numbers that structs.rs or \
             numbers.rs in src/backend/cuda declares, too",
            unheld.join("), MIRRORED(")
        ));
    }
    compile(&jobs)?;
    let version = String::from_utf8_lossy(&version.stdout);
    let toolkit = release(&version);
    if let Some(folder) = env::var_os("BITFIT_SHIP_KERNELS").filter(|folder| !folder.is_empty()) {
        let ptx = jobs.iter().filter(|job| job.arch.is_none());
        let ptx: Vec<_> =
            ptx.map(|job| (job.unit.as_str(), job.suffix, job.output.as_path())).collect();
        shipped::write(Path::new(&folder), &ptx, toolkit.unwrap_or("unknown"), sources)?;
    }
    let images: Vec<_> = jobs.iter().map(|job| job.packed(&out)).collect::<Result<_, _>>()?;
    write_table(&out, &images, toolkit)
}

/// The table of images compiled elsewhere, from the same sources.
fn embed_shipped(out: &Path, shipped: &Shipped) -> Result<(), String> {
    let image = |(unit, suffix, packed): &(String, String, PathBuf)| {
        println!("cargo:rerun-if-changed={}", packed.display());
        let half = HALVES.iter().find(|(name, ..)| name == suffix);
        let half = half.ok_or_else(|| format!("{}: no type of half", packed.display()))?.1;
        Ok(Image { unit: unit.clone(), half, arch: None, packed: packed.clone() })
    };
    let images: Vec<_> = shipped.images.iter().map(image).collect::<Result<_, String>>()?;
    write_table(out, &images, Some(&shipped.toolkit))
}

/// `13.0` from the output of `nvcc --version`.
fn release(version: &str) -> Option<&str> {
    let (_, rest) = version.split_once("release ")?;
    rest.split([',', '\n']).next().map(str::trim)
}

/// The `.cu` files and the `.cuh` files, each sorted.
fn sources(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), String> {
    let entries =
        fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    let with = |extension: &str| {
        paths.iter().filter(|p| p.extension().is_some_and(|e| e == extension)).cloned().collect()
    };
    Ok((with("cu"), with("cuh")))
}

/// Architectures to make cubins for; `None` switches the kernels off.
fn architectures() -> Option<Vec<String>> {
    match env::var("BITFIT_CUDA_ARCHS") {
        Ok(list) if list.trim() == "off" => None,
        Ok(list) => Some(
            list.split(',')
                .map(|a| a.trim().trim_start_matches("sm_").to_owned())
                .filter(|a| !a.is_empty())
                .collect(),
        ),
        Err(_) if env::var("PROFILE").is_ok_and(|p| p == "release") => {
            Some(RELEASE_ARCHS.iter().map(|&a| a.to_owned()).collect())
        }
        Err(_) => Some(Vec::new()),
    }
}

fn find_nvcc(root: &Path) -> Option<PathBuf> {
    let executable = if cfg!(windows) { "nvcc.exe" } else { "nvcc" };
    let variable = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut candidates: Vec<PathBuf> = Vec::new();
    candidates.extend(variable("NVCC"));
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        candidates.extend(variable(name).map(|home| home.join("bin").join(executable)));
    }
    if let Some(path) = env::var_os("PATH") {
        candidates.extend(env::split_paths(&path).map(|folder| folder.join(executable)));
    }
    candidates.push(Path::new("/usr/local/cuda/bin").join(executable));
    candidates.push(root.join(".cache/cuda/nvidia/cu13/bin").join(executable));
    candidates.into_iter().find(|path| path.is_file())
}

fn for_hopper(unit: &Path) -> bool {
    unit.file_name().is_some_and(|name| name.to_string_lossy().starts_with(HOPPER_UNITS))
}

/// What a file is compiled to for an architecture.
fn cubin(unit: &Path, arch: &str) -> Option<Target> {
    match for_hopper(unit) {
        true => matches!(arch, "90" | HOPPER_ARCH).then(|| Target::Cubin(HOPPER_ARCH.into())),
        false => (arch != HOPPER_ARCH).then(|| Target::Cubin(arch.to_owned())),
    }
}

/// All profiles and targets share the compiled kernels in `target/cuda-kernels`, or in the build script's own folder if the
/// layout is different.
fn cache_folder(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|a| a.file_name().is_some_and(|name| name == "build"))
        .and_then(|build| build.parent()?.parent())
        // With `cargo build --target`, the profile's folder is in one named after the target.
        .and_then(|folder| match folder.file_name() == env::var_os("TARGET").as_deref() {
            true => folder.parent(),
            false => Some(folder),
        })
        .map_or_else(|| out.to_owned(), |target| target.join("cuda-kernels"))
}

#[derive(Clone)]
enum Target {
    Ptx,
    Cubin(String),
}

/// One run of nvcc.
struct Job {
    nvcc: PathBuf,
    arguments: Vec<String>,
    /// Named after a hash of all inputs, so an existing file is up to date.
    output: PathBuf,
    /// For messages.
    name: String,
    unit: String,
    /// In file names.
    suffix: &'static str,
    half: &'static str,
    arch: Option<String>,
}

/// A line of the table.
struct Image {
    unit: String,
    half: &'static str,
    arch: Option<String>,
    /// A file in zlib's format.
    packed: PathBuf,
}

impl Job {
    fn new(
        nvcc: &Path,
        unit: &Path,
        half: &(&'static str, &'static str, &str),
        target: Target,
        layouts: &Path,
        content: &DefaultHasher,
        cache: &Path,
    ) -> Self {
        let stem = unit.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (suffix, half, define) = *half;
        let mut arguments: Vec<String> =
            ["-std=c++17", "-O3", "-lineinfo", "--threads=1", define].map(String::from).into();
        let (label, extension, arch) = match target {
            Target::Ptx => {
                let arch = if for_hopper(unit) { HOPPER_ARCH } else { PTX_ARCH };
                arguments.extend(["-ptx".into(), format!("-arch=compute_{arch}")]);
                ("ptx".to_owned(), "ptx", None)
            }
            Target::Cubin(arch) => {
                arguments.extend(["-cubin".into(), format!("-arch=sm_{arch}")]);
                // The table of registers and spills that `check_log` reads.
                arguments.push("-Xptxas=-v".into());
                (format!("sm_{arch}"), "cubin", Some(arch))
            }
        };
        let mut hash = content.clone();
        arguments.hash(&mut hash);
        let output =
            cache.join(format!("{stem}-{suffix}-{label}-{:016x}.{extension}", hash.finish()));
        arguments.extend(["-include".into(), layouts.display().to_string()]);
        arguments.push(unit.display().to_string());
        Self {
            nvcc: nvcc.to_owned(),
            arguments,
            output,
            name: format!("{stem}.cu ({suffix}, {label})"),
            unit: stem,
            suffix,
            half,
            arch,
        }
    }

    /// The output, compressed: six architectures are 150 MB.
    fn packed(&self, out: &Path) -> Result<Image, String> {
        let packed = out.join(self.output.file_name().unwrap_or_default());
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(&read(&self.output)?)
            .and_then(|()| fs::write(&packed, encoder.finish()?))
            .map_err(|e| format!("cannot write {}: {e}", packed.display()))?;
        Ok(Image { unit: self.unit.clone(), half: self.half, arch: self.arch.clone(), packed })
    }

    fn run(&self) -> Result<(), String> {
        let log = self.output.with_extension("log");
        if !(self.output.is_file() && log.is_file()) {
            // Another build may be writing the same file: each writes its own and renames it into place.
            let fresh = self.output.with_extension(format!("{}.tmp", std::process::id()));
            let run = Command::new(&self.nvcc)
                .args(&self.arguments)
                .arg("-o")
                .arg(&fresh)
                .output()
                .map_err(|e| format!("cannot run {}: {e}", self.nvcc.display()))?;
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            if !run.status.success() {
                return Err(format!("nvcc failed on {}:\n{said}", self.name)
                    .replace('\n', "\ncargo:error="));
            }
            fs::write(&log, &said).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
            fs::rename(&fresh, &self.output)
                .map_err(|e| format!("cannot write {}: {e}", self.output.display()))?;
        }
        self.check_log(&fs::read_to_string(&log).unwrap_or_default())
    }

    /// Passes on the compiler's warnings, and what would undo the gain of a kernel: registers that spill to memory, and
    /// notes C75xx, mere information to the compiler, that products of a warpgroup wait for each other. Compilers differ
    /// in this, so a user's build continues.
    fn check_log(&self, log: &str) -> Result<(), String> {
        let mut kernel = "";
        let mut slow = Vec::new();
        for line in log.lines() {
            if let Some((_, rest)) = line.split_once("Function properties for ") {
                kernel = rest.trim();
            } else if line.contains("bytes spill stores") && !line.contains(" 0 bytes spill stores")
            {
                slow.push(format!("{kernel}: {}", line.trim()));
            } else if line.contains("(C75") {
                slow.push(line.trim().to_owned());
            } else if line.contains("warning") {
                println!("cargo:warning={}: {}", self.name, line.trim());
            }
        }
        if slow.is_empty() {
            return Ok(());
        }
        let message = format!("{} is slower than it should be: {}", self.name, slow.join("; "));
        if cuda_required() {
            return Err(message);
        }
        println!("cargo:warning={message}");
        Ok(())
    }
}

fn cuda_required() -> bool {
    env::var("BITFIT_REQUIRE_CUDA").is_ok_and(|v| v == "1")
}

fn compile(jobs: &[Job]) -> Result<(), String> {
    let workers = env::var("NUM_JOBS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
        .min(jobs.len());
    let queue = Mutex::new(jobs.iter().collect::<VecDeque<_>>());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(job) = next() {
                        job.run()?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err("a compiler thread panicked".into()))
        })
    })
}

/// Writes the table that `src/backend/cuda/images.rs` includes.
fn write_table(out: &Path, images: &[Image], toolkit: Option<&str>) -> Result<(), String> {
    let mut table = format!("pub const TOOLKIT: Option<&str> = {toolkit:?};\n");
    table += "pub static IMAGES: &[Image] = &[\n";
    for Image { unit, half, arch, packed } in images {
        let arch = match arch {
            // "100a" and the like run only on that architecture; a device reports the digits.
            Some(arch) => format!("Some({})", arch.trim_end_matches(char::is_alphabetic)),
            None => "None".into(),
        };
        table += &format!(
            "    Image {{ unit: {unit:?}, half: {half}, arch: {arch}, packed: include_bytes!({:?}) }},\n",
            packed.display().to_string(),
        );
    }
    table += "];\n";
    let path = out.join("cuda_images.rs");
    fs::write(&path, table).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
