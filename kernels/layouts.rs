//! Holds the kernels' argument structures to the host's: of the declarations in structs.rs the build script makes
//! assertions for the CUDA compiler, which then refuses a field that is swapped, renamed, missing or of another type.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::offset_of;
use std::path::{Path, PathBuf};

/// A structure that host and kernels share, as it lies in Rust.
pub struct Structure {
    pub name: &'static str,
    size: usize,
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    kind: &'static str,
    offset: usize,
    size: usize,
}

// What the declarations name besides their own structures and numbers: layout is all that matters here.
type Address = u64;
type Format = u32;

macro_rules! structures {
    ($($(#[$_:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {
        $(
            #[allow(dead_code, reason = "only its layout is looked at")]
            #[repr(C)]
            struct $name {
                $($field: $kind,)*
            }
        )*

        pub fn structures() -> Vec<Structure> {
            vec![$(Structure {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: vec![$(Field {
                    name: stringify!($field),
                    kind: stringify!($kind),
                    offset: offset_of!($name, $field),
                    size: size_of::<$kind>(),
                },)*],
            },)*]
        }
    };
}

include!("../src/backend/cuda/structs.rs");

impl Structure {
    /// What holds its namesake in CUDA to it, as the definition of a macro.
    fn layout(&self) -> String {
        let Self { name, size, fields } = self;
        let differs =
            |what: &str| format!("\"{what} is not what src/backend/cuda/structs.rs has\"");
        let mut text = format!("#define MIRRORED_{name}");
        for Field { name: field, kind, offset, size } in fields {
            text += &format!(
                " static_assert(offsetof({name}, {field}) == {offset} && sizeof({name}::{field}) == {size}, {});",
                differs(&format!("{name}::{field}"))
            );
            let same = match *kind {
                "u32" | "Format" => "std::is_same_v<decltype(@), uint32_t>",
                "u64" => "std::is_same_v<decltype(@), uint64_t>",
                "f32" => "std::is_same_v<decltype(@), float>",
                "Address" => "std::is_pointer_v<decltype(@)>",
                // Of structures and arrays the size says enough: structures are compared themselves.
                _ => continue,
            };
            text += &format!(
                " static_assert({}, {});",
                same.replace('@', &format!("{name}::{field}")),
                differs(&format!("the type of {name}::{field}"))
            );
        }
        text + &format!(
            " static_assert(sizeof({name}) == {size}, {})\n",
            differs(&format!("the size of {name}"))
        )
    }
}

/// Writes the header that defines `MIRRORED`, named after its content, as it is shared like the kernels.
pub fn write_header(structures: &[Structure], cache: &Path) -> Result<PathBuf, String> {
    let mut text = String::from(
        "#pragma once\n#include <stddef.h>\n#include <stdint.h>\n#include <type_traits>\n\
         #define MIRRORED(name) MIRRORED_##name\n",
    );
    text.extend(structures.iter().map(Structure::layout));
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let path = cache.join(format!("layouts-{:016x}.h", hash.finish()));
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// Hashes a source file with the layouts it is held to, and takes these from `unheld`. A layout that changes compiles
/// again what it concerns, not everything.
pub fn hash_source(
    path: &Path,
    structures: &[Structure],
    unheld: &mut Vec<&str>,
    hash: &mut DefaultHasher,
) -> Result<(), String> {
    let source = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    source.hash(hash);
    let source = String::from_utf8_lossy(&source);
    for structure in structures {
        if source.contains(&format!("\nMIRRORED({});", structure.name)) {
            structure.layout().hash(hash);
            unheld.retain(|name| *name != structure.name);
        }
    }
    Ok(())
}
