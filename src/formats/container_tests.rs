use super::*;
use crate::processor_time::ProcessorTime;
use proptest::prelude::*;

fn example() -> Container {
    let metadata = [("b", "2"), ("a", "\"quoted\"\nline")];
    Container {
        metadata: metadata.map(|(key, value)| (key.to_string(), value.to_string())).into(),
        tensors: BTreeMap::from([
            (
                "w".to_string(),
                Tensor {
                    shape: vec![2, 3],
                    data: vec![1.0, -0.0, 3.5, f32::MIN_POSITIVE / 2.0, 5.0, f32::MAX],
                },
            ),
            ("empty".to_string(), Tensor::vector(vec![])),
            ("b".to_string(), Tensor::vector(vec![0.1])),
        ]),
        places: BTreeMap::from([
            ("a places".to_string(), vec![0, 7, i32::MAX as u32]),
            ("no places".to_string(), vec![]),
        ]),
    }
}

/// A file with this header and this many zero bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn error(bytes: &[u8]) -> ContainerError {
    Container::from_bytes(bytes).unwrap_err()
}

#[test]
fn content_round_trips_bit_for_bit() {
    let read = Container::from_bytes(&example().to_bytes().unwrap()).unwrap();
    assert_eq!(read, example());
    // `==` treats -0.0 and 0.0 as equal.
    assert!(read.tensors["w"].data[1].is_sign_negative());
    let bare = Container::default();
    assert_eq!(Container::from_bytes(&bare.to_bytes().unwrap()).unwrap(), bare);
}

#[test]
fn equal_content_is_equal_bytes_and_aligned() {
    let bytes = example().to_bytes().unwrap();
    for _ in 0..8 {
        assert_eq!(example().to_bytes().unwrap(), bytes);
    }
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
}

#[test]
fn the_crate_reads_what_is_written() {
    let bytes = example().to_bytes().unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["a"], "\"quoted\"\nline");
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("w").unwrap().shape(), [2, 3]);
}

#[test]
fn writing_piece_by_piece_gives_the_same_bytes() {
    let long = PIECE + 3;
    let mut container = example();
    container.tensors.insert("long".into(), Tensor::vector((0..long).map(|i| i as f32).collect()));
    let tensors: Vec<_> = container.tensors.iter().collect();
    let shapes: Vec<_> =
        tensors.iter().map(|(name, t)| ((*name).clone(), t.shape.clone())).collect();
    let mut out = Vec::new();
    let read = |i: usize, range: Range<usize>| Ok(tensors[i].1.data[range].to_vec());
    write(&mut out, &container.metadata, &shapes, &container.places, read).unwrap();
    assert!(out == container.to_bytes().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, &out).unwrap();
    assert_eq!(read_metadata(&path).unwrap(), container.metadata);
    std::fs::write(&path, &out[..20]).unwrap();
    assert!(matches!(read_metadata(&path), Err(ContainerError::HeaderPastEnd { .. })));
}

#[test]
fn a_file_without_metadata_is_read() {
    let bytes = file(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    let read = Container::from_bytes(&bytes).unwrap();
    assert_eq!(read.tensors["x"].data, [0.0, 0.0]);
    assert!(read.metadata.is_empty());
}

#[test]
fn hostile_headers_each_get_their_own_error() {
    use ContainerError as E;
    assert!(matches!(error(b"abc"), E::TooShort(3)));
    assert!(matches!(error(&u64::MAX.to_le_bytes()), E::HeaderTooLarge(u64::MAX)));
    assert!(matches!(error(&file("{}", 0)[..9]), E::HeaderPastEnd { claimed: 2, present: 1 }));
    let mut not_utf8 = file("{}", 0);
    not_utf8[8] = 0xff;
    assert!(matches!(error(&not_utf8), E::HeaderNotUtf8));
    assert!(matches!(error(&file("[]", 0)), E::HeaderNotJson(_)));
    assert!(matches!(error(&file(r#"{"x":1}"#, 0)), E::HeaderNotJson(_)));
    assert!(matches!(error(&file(&"[".repeat(100_000), 0)), E::HeaderNotJson(_)));
    let wrong_type = r#"{"__metadata__":{"a":1}}"#;
    assert!(matches!(error(&file(wrong_type, 0)), E::HeaderNotJson(_)));
}

#[test]
fn repeated_keys_are_refused() {
    use ContainerError as E;
    let tensor = r#""x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    assert!(
        matches!(error(&file(&format!("{{{tensor},{tensor}}}"), 4)), E::DuplicateTensor(name) if name == "x")
    );
    let key = r#"{"__metadata__":{"a":"1","a":"2"}}"#;
    assert!(matches!(error(&file(key, 0)), E::DuplicateMetadata(name) if name == "a"));
    let twice = r#"{"__metadata__":{"a":"1"},"__metadata__":{"b":"2"}}"#;
    assert!(matches!(error(&file(twice, 0)), E::DuplicateMetadata(name) if name == "__metadata__"));
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    use ContainerError as E;
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":{first}}},"y":{{"dtype":"F32","shape":[2],"data_offsets":{second}}}}}"#
        )
    };
    assert!(Container::from_bytes(&file(&two("[0,8]", "[8,16]"), 16)).is_ok());
    assert!(
        matches!(error(&file(&two("[0,8]", "[4,12]"), 12)), E::BadOffsets(name) if name == "y")
    );
    assert!(matches!(error(&file(&two("[0,8]", "[12,20]"), 20)), E::BadOffsets(_)));
    assert!(matches!(error(&file(&two("[0,8]", "[8,4]"), 16)), E::BadOffsets(_)));
    assert!(matches!(error(&file(&two("[0,8]", "[8,12]"), 12)), E::BadSize));
    assert!(matches!(error(&file(&two("[0,8]", "[8,16]"), 15)), E::BadEnd));
    assert!(matches!(error(&file(&two("[0,8]", "[8,16]"), 17)), E::BadEnd));
    let huge = r#"{"x":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}}"#;
    assert!(matches!(error(&file(huge, 8)), E::SizeOverflow));
    let half = r#"{"x":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#;
    assert!(
        matches!(error(&file(half, 8)), E::WrongDtype { tensor, dtype: Dtype::F16 } if tensor == "x")
    );
}

#[test]
fn values_that_are_not_finite_are_named_with_their_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut container = example();
        container.tensors.get_mut("w").unwrap().data[4] = bad;
        let message = error(&container.to_bytes().unwrap()).to_string();
        assert!(message.contains("`w`") && message.contains("at place 4"), "{message}");
    }
}

/// Sparse files of 14 GiB: if they were read, they would take as much memory.
#[test]
fn a_file_longer_than_its_header_says_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let honest = example().to_bytes().unwrap();
    std::fs::write(&path, &honest).unwrap();
    assert_eq!(Container::read(&path).unwrap(), example());
    for begin in [&[][..], &honest, &file("{}", 0), &u64::MAX.to_le_bytes()] {
        std::fs::write(&path, begin).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(14 << 30).unwrap();
        let begun = ProcessorTime::begin();
        assert!(Container::read(&path).is_err());
        assert!(begun.taken().as_millis() < 500, "{:?}", begun.taken());
    }
    #[cfg(unix)]
    assert!(Container::read(Path::new("/dev/zero")).is_err());
}

#[test]
fn a_file_that_is_missing_or_a_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Container::read(folder.path()), Err(ContainerError::Io(_))));
    assert!(matches!(Container::read(&folder.path().join("none")), Err(ContainerError::Io(_))));
}

proptest! {
    #[test]
    fn no_damage_to_a_file_makes_reading_panic(place in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
        let mut bytes = example().to_bytes().unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        let _ = Container::from_bytes(&bytes);
        bytes.truncate(cut);
        let _ = Container::from_bytes(&bytes);
    }
}
