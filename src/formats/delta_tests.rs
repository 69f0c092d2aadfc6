//! Deltas read back, and every way in which one can be invalid.

use super::*;

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn example() -> Delta {
    let mut settings =
        TrainConfig::with_defaults("some/model".into(), Some("a.tsv".into()), "out".into());
    settings.text_column = Some("a \"b\"".into());
    Delta {
        info: DeltaInfo {
            base_sha256: hash('a'),
            model_type: "bert".into(),
            task: Task::Classification,
            outputs: 2,
            labels: vec!["neg, or not".into(), "pos\u{1f600}".into()],
            pooling: Pooling::Cls,
            method: Method::Bitfit,
            biases: BiasSelection::parse("query@1,pooler").unwrap(),
            settings,
            base_files: Some(Fingerprint::default().with("tokenizer.text", "101:0 A:0 102:0")),
            max_length: Some(128),
            columns: Some(Columns {
                text: "text".into(),
                text_pair: Some("text_pair".into()),
                label: Some("label".into()),
            }),
            data: Some(DataHashes { train: hash('c'), dev: None }),
            no_answer: None,
            tool_version: "0.1.0".into(),
        },
        tensors: BTreeMap::from([
            ("classifier.weight".into(), Tensor { shape: vec![2, 3], data: vec![0.5; 6] }),
            ("classifier.bias".into(), Tensor::vector(vec![1.0, -0.0])),
        ]),
        places: BTreeMap::new(),
    }
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    vec![("classifier.bias".into(), vec![2]), ("classifier.weight".into(), vec![2, 3])]
}

/// Reads the example after a change to its metadata.
fn with_metadata(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<Delta, DeltaError> {
    let mut container = example().to_container().unwrap();
    change(&mut container.metadata);
    Delta::from_container(container)
}

fn with(key: &'static str, value: &str) -> String {
    with_metadata(|metadata| {
        metadata.insert(key.into(), value.into());
    })
    .unwrap_err()
    .to_string()
}

#[test]
fn a_delta_round_trips_through_its_file_and_is_written_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    example().write(&one).unwrap();
    example().write(&two).unwrap();
    assert_eq!(Delta::read(&one).unwrap(), example());
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
}

#[test]
fn the_base_is_checked_before_any_shape() {
    let error = example().check(&hash('b'), &[]).unwrap_err();
    assert!(matches!(&error, DeltaError::OtherBase { .. }));
    assert!(error.to_string().contains("some/model"), "{error}");
    assert!(example().check(&hash('a'), &shapes()).is_ok());
}

#[test]
fn every_tensor_must_be_expected_present_and_of_its_shape() {
    let check =
        |expected: &[(String, Vec<usize>)]| example().check(&hash('a'), expected).unwrap_err();
    let mut more = shapes();
    more.push(("bert.pooler.dense.bias".into(), vec![3]));
    assert!(
        matches!(check(&more), DeltaError::MissingTensor(name) if name == "bert.pooler.dense.bias")
    );
    assert!(
        matches!(check(&shapes()[..1]), DeltaError::UnexpectedTensor(name) if name == "classifier.weight")
    );
    let mut other = shapes();
    other[1].1 = vec![3, 2];
    let error = check(&other).to_string();
    assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
}

#[test]
fn every_key_of_the_metadata_is_needed() {
    let keys: Vec<String> = example().to_container().unwrap().metadata.into_keys().collect();
    let may_lack = [COLUMNS, BASE_FILES, MAX_LENGTH, DATA];
    for key in keys.into_iter().filter(|key| !may_lack.contains(&key.as_str())) {
        let error = with_metadata(|metadata| {
            metadata.remove(&key);
        })
        .unwrap_err();
        match error {
            DeltaError::NotADelta => assert_eq!(key, "format"),
            DeltaError::MissingMetadata(missing) => assert_eq!(key, missing),
            other => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn a_delta_of_an_earlier_program_says_nothing_of_columns_base_files_and_length() {
    let delta = with_metadata(|metadata| {
        for key in [COLUMNS, BASE_FILES, MAX_LENGTH] {
            metadata.remove(key);
        }
    });
    let info = delta.unwrap().info;
    assert_eq!((info.columns, info.base_files, info.max_length), (None, None, None));
}

#[test]
fn wrong_metadata_is_named() {
    assert!(with("format", "pt").contains("not a delta"));
    assert!(with("format_version", "2").contains("update bitfit"));
    assert!(with("format_version", "0").contains("begin at 1"));
    assert!(with("format_version", "x").contains("wrong `format_version`"));
    assert!(with("base_sha256", "abc").contains("64 hexadecimal digits"));
    assert!(with("base_files", "[]").contains("wrong `base_files`"));
    assert!(with("max_length", "0").contains("wrong `max_length`"));
    assert!(with("columns", "{}").contains("wrong `columns`"));
    assert!(with("task", "ranking").contains("wrong `task`"));
    assert!(with("pooling", "auto").contains("cls or mean"));
    assert!(with("labels", "[\"one\"]").contains("2 or more names"));
    assert!(with("labels", "neg").contains("wrong `labels`"));
    assert!(with("task", "regression").contains("regression has no names"));
    assert!(with("biases", "qurey").contains("did you mean `query`?"));
    assert!(with("biases", "none").contains("`head`"));
    assert!(with("method", "head").contains("`none`"));
    assert!(with("method", "full").contains("`bitfit` or `head`"));
    let settings = with("settings", "model = 3");
    assert!(settings.contains("wrong `settings`") && !settings.contains('\n'), "{settings}");
}

#[test]
fn a_models_weights_are_not_taken_for_a_delta() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = BTreeMap::from([("w".to_string(), Tensor::vector(vec![1.0]))]);
    let weights = Container { metadata: BTreeMap::new(), tensors, ..Container::default() };
    std::fs::write(&path, weights.to_bytes().unwrap()).unwrap();
    let line = one_line(&Delta::read(&path).unwrap_err());
    assert!(line.contains("model.safetensors") && line.contains("a model's weights"), "{line}");
}

#[test]
fn a_whole_model_says_what_it_was_trained_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let write = |metadata| {
        let container = Container { metadata, ..Container::default() };
        std::fs::write(&path, container.to_bytes().unwrap()).unwrap();
        DeltaInfo::of_model(&path).map_err(|error| one_line(&error))
    };
    let mut info = example().info;
    let delta = write(info.model_metadata().unwrap()).unwrap_err();
    assert!(delta.contains("`full`"), "{delta}");
    info.method = Method::Full;
    info.biases = BiasSelection::all();
    assert_eq!(write(info.model_metadata().unwrap()).unwrap(), info);
    let other = write(BTreeMap::new()).unwrap_err();
    assert!(
        other.contains("model.safetensors") && other.contains("a merged model, or bitfit"),
        "{other}"
    );
}

#[test]
fn a_cut_file_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bias.safetensors");
    let bytes = example().to_container().unwrap().to_bytes().unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let line = one_line(&Delta::read(&path).unwrap_err());
    assert!(line.contains("bias.safetensors") && line.contains("truncated"), "{line}");
    let missing = one_line(&Delta::read(&folder.path().join("none")).unwrap_err());
    assert!(missing.contains("none") && missing.contains("No such file"), "{missing}");
}

#[test]
fn regression_has_one_output_and_no_classes() {
    let mut delta = example();
    delta.info.task = Task::Regression;
    delta.info.labels.clear();
    delta.info.outputs = 1;
    let wrong = Delta::from_container(delta.to_container().unwrap());
    assert!(matches!(wrong, Err(DeltaError::WrongShape { .. })), "a head of two outputs");
    delta.tensors.insert("classifier.bias".into(), Tensor::vector(vec![1.0]));
    assert!(Delta::from_container(delta.to_container().unwrap()).is_ok());
}
