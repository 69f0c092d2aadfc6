//! Kernels shipped with the packaged source: what is written is read back, from the same sources and no others.

#[path = "../kernels/shipped.rs"]
mod shipped;

use flate2::read::ZlibDecoder;
use std::fs::{self, File};
use std::io::read_to_string;

const PTX: &str = ".version 8.8\n.visible .entry f()\n{\n\t.loc\t1 3 0\n\tret;\n}\n\t.file\t1 \"/home/someone/gemm.cu\"\n\
                   \t.section\t.debug_str\n\t{\n.b8 95,90\n\t}\n";

#[test]
fn what_is_shipped_is_read_by_the_same_sources_alone_and_names_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("gemm.cu"), "a\nb\n").unwrap();
    fs::write(at("gemm.ptx"), PTX).unwrap();
    let sources = shipped::sources_hash(&[at("gemm.cu")]).unwrap();
    let ptx = at("ptx");
    assert!(shipped::read(&ptx, sources).is_none());
    shipped::write(&ptx, &[("gemm", "bf16", &at("gemm.ptx"))], "13.0", sources).unwrap();
    let read = shipped::read(&ptx, sources).unwrap();
    assert_eq!(read.toolkit, "13.0");
    let [(unit, half, file)] = &read.images[..] else { panic!("{:?}", read.images) };
    assert_eq!((unit.as_str(), half.as_str()), ("gemm", "bf16"));
    let text = read_to_string(ZlibDecoder::new(File::open(file).unwrap())).unwrap();
    assert_eq!(text, ".version 8.8\n.visible .entry f()\n{\n\tret;\n}\n");

    // Different line endings are the same source, a different letter is not.
    fs::write(at("gemm.cu"), "a\r\nb\r\n").unwrap();
    assert_eq!(shipped::sources_hash(&[at("gemm.cu")]).unwrap(), sources);
    fs::write(at("gemm.cu"), "a\nc\n").unwrap();
    let other = shipped::sources_hash(&[at("gemm.cu")]).unwrap();
    assert!(shipped::read(&ptx, other).is_none());
    fs::remove_file(file).unwrap();
    assert!(shipped::read(&ptx, sources).is_none());
}
