//! Checks the kernels' declarations against the host's: from structs.rs and numbers.rs the build script makes
//! assertions for the CUDA compiler, which then refuses a field that is swapped, renamed, missing or of another type,
//! and a number that differs.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::offset_of;
use std::path::{Path, PathBuf};

/// A structure or a group of numbers that host and kernels share.
pub struct Mirrored {
    pub name: &'static str,
    /// Assertions that check its CUDA namesake, without the last semicolon.
    assertions: String,
}

/// A structure's layout in Rust.
struct Structure {
    name: &'static str,
    size: usize,
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    kind: &'static str,
    offset: usize,
    size: usize,
}

// Types the declarations name besides their own structures and numbers: only layout matters here.
type Address = u64;
type Format = u32;

#[allow(dead_code, reason = "only its layout is looked at")]
#[repr(C, align(64))]
struct TensorMap([u64; 16]);

macro_rules! structures {
    ($($(#[$_:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {
        $(
            #[allow(dead_code, reason = "only its layout is looked at")]
            #[repr(C)]
            struct $name {
                $($field: $kind,)*
            }
        )*

        fn structures() -> Vec<Structure> {
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

macro_rules! numbers {
    ($($(#[$_:meta])* $group:ident: $kind:ty { $($name:ident = $value:literal,)* })*) => {
        fn numbers() -> Vec<Mirrored> {
            vec![$(Mirrored {
                name: stringify!($group),
                assertions: equal(&[$((stringify!($name), $value),)*]),
            },)*]
        }
    };
}

include!("../src/backend/cuda/structs.rs");
include!("../src/backend/cuda/numbers.rs");

/// Everything that is shared.
pub fn mirrored() -> Vec<Mirrored> {
    let structures = structures()
        .into_iter()
        .map(|structure| Mirrored { name: structure.name, assertions: structure.assertions() });
    structures.chain(numbers()).collect()
}

/// Asserts that numbers equal those in Rust.
fn equal(numbers: &[(&str, u64)]) -> String {
    let assertions: Vec<_> = numbers
        .iter()
        .map(|(name, value)| {
            let name = in_cuda(name);
            format!(
                "static_assert({name} == {value}, \"{name} is {value} in src/backend/cuda/numbers.rs\")"
            )
        })
        .collect();
    assertions.join("; ")
}

/// `TILE_ROWS` is `kTileRows` there.
fn in_cuda(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_owned() + &rest.to_lowercase()
    });
    std::iter::once("k".to_owned()).chain(words).collect()
}

impl Structure {
    fn assertions(&self) -> String {
        let Self { name, size, fields } = self;
        let differs =
            |what: &str| format!("\"{what} is not what src/backend/cuda/structs.rs has\"");
        let mut text = String::new();
        for Field { name: field, kind, offset, size } in fields {
            text += &format!(
                "static_assert(offsetof({name}, {field}) == {offset} && sizeof({name}::{field}) == {size}, {}); ",
                differs(&format!("{name}::{field}"))
            );
            let same = match *kind {
                "u32" | "Format" => "std::is_same_v<decltype(@), uint32_t>",
                "u64" => "std::is_same_v<decltype(@), uint64_t>",
                "f32" => "std::is_same_v<decltype(@), float>",
                "Address" => "std::is_pointer_v<decltype(@)>",
                // For structures and arrays the size is enough: structures are compared themselves.
                _ => continue,
            };
            text += &format!(
                "static_assert({}, {}); ",
                same.replace('@', &format!("{name}::{field}")),
                differs(&format!("the type of {name}::{field}"))
            );
        }
        text + &format!(
            "static_assert(sizeof({name}) == {size}, {})",
            differs(&format!("the size of {name}"))
        )
    }
}

/// The header that defines `MIRRORED`.
pub fn header(mirrored: &[Mirrored]) -> String {
    let mut text = String::from(
        "#pragma once\n#include <stddef.h>\n#include <stdint.h>\n#include <type_traits>\n\
         #define MIRRORED(name) MIRRORED_##name\n",
    );
    for Mirrored { name, assertions } in mirrored {
        text += &format!("#define MIRRORED_{name} {assertions}\n");
    }
    text
}

/// Writes the header, named after its content because it is shared like the kernels.
pub fn write_header(mirrored: &[Mirrored], cache: &Path) -> Result<PathBuf, String> {
    let text = header(mirrored);
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let path = cache.join(format!("layouts-{:016x}.h", hash.finish()));
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// Hashes a source file together with the assertions on it, and removes these from `unheld`. A changed declaration
/// recompiles only what it concerns.
pub fn hash_source(
    path: &Path,
    mirrored: &[Mirrored],
    unheld: &mut Vec<&str>,
    hash: &mut DefaultHasher,
) -> Result<(), String> {
    let source = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    source.hash(hash);
    let source = String::from_utf8_lossy(&source);
    for Mirrored { name, assertions } in mirrored {
        if source.contains(&format!("\nMIRRORED({name});")) {
            assertions.hash(hash);
            unheld.retain(|unheld| unheld != name);
        }
    }
    Ok(())
}
