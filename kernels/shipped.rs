//! PTX shipped with the packaged source: without a CUDA compiler, `cargo install` still makes a program with kernels.
//! The build script writes it to `BITFIT_SHIP_KERNELS`, and reads it if it finds no compiler.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const INDEX: &str = "INDEX";

/// What a folder holds, and which toolkit made it.
pub struct Shipped {
    pub toolkit: String,
    /// The name of the kernel's file, its half type, and the file that holds it in zlib's format.
    pub images: Vec<(String, String, PathBuf)>,
}

/// A hash of these files' names and contents, independent of the compiler that builds this script (FNV-1a).
pub fn sources_hash(files: &[PathBuf]) -> Result<u64, String> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        // A checkout may have other line endings.
        let content = content.into_iter().filter(|&byte| byte != b'\r');
        for byte in name.into_bytes().into_iter().chain([0]).chain(content).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// Recreates the folder, the index last.
pub fn write(
    folder: &Path,
    images: &[(&str, &str, &Path)],
    toolkit: &str,
    sources: u64,
) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot write {}: {e}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)?;
    let mut index = format!("toolkit {toolkit}\nsources {sources:016x}\n");
    for (unit, half, ptx) in images {
        let text =
            fs::read_to_string(ptx).map_err(|e| format!("cannot read {}: {e}", ptx.display()))?;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder
            .write_all(without_lines(&text).as_bytes())
            .and_then(|()| {
                fs::write(folder.join(format!("{unit}-{half}.ptx.z")), encoder.finish()?)
            })
            .map_err(failed)?;
        index += &format!("{unit} {half}\n");
    }
    fs::write(folder.join(INDEX), index).map_err(failed)
}

/// The folder, if it exists and was made from the same sources.
pub fn read(folder: &Path, sources: u64) -> Option<Shipped> {
    let index = fs::read_to_string(folder.join(INDEX)).ok()?;
    let mut lines = index.lines().map(|line| line.split_once(' '));
    let Some(Some(("toolkit", toolkit))) = lines.next() else { return None };
    let Some(Some(("sources", made_from))) = lines.next() else { return None };
    if made_from != format!("{sources:016x}") {
        return None;
    }
    let image = |line: Option<(&str, &str)>| {
        let (unit, half) = line?;
        let file = folder.join(format!("{unit}-{half}.ptx.z"));
        file.is_file().then(|| (unit.to_owned(), half.to_owned(), file))
    };
    Some(Shipped { toolkit: toolkit.to_owned(), images: lines.map(image).collect::<Option<_>>()? })
}

/// PTX without references to source lines: they name folders of the machine that made it.
fn without_lines(ptx: &str) -> String {
    let end = ptx.find("\t.section").unwrap_or(ptx.len());
    let kept = ptx[..end].lines().filter(|line| {
        let line = line.trim_start();
        ![".loc", ".file", "//"].iter().any(|start| line.starts_with(start))
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}
