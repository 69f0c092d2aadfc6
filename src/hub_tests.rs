use super::*;

fn hub(variables: &[(&str, &str)]) -> Hub {
    let get = |name: &str| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    };
    Hub::from_variables(get, Some("/home/x".into()), true).unwrap()
}

#[test]
fn names_have_an_owner_and_a_revision_at_most() {
    let name: HubName = "org/name@refs/pr/1".parse().unwrap();
    assert_eq!((name.repository.as_str(), name.revision.as_str()), ("org/name", "refs/pr/1"));
    assert_eq!("bert-base-uncased".parse::<HubName>().unwrap().revision, "main");
    assert_eq!(name.to_string(), "org/name@refs/pr/1");
    for wrong in [
        "./x",
        "../x",
        "/abs/x",
        "a/b/c",
        "a//b",
        "",
        "a/b@",
        "a/b@../../x",
        "a b",
        "~/x",
        "a\\b",
        "é/x",
    ] {
        let error = wrong.parse::<HubName>().expect_err(wrong).to_string();
        assert!(error.contains("existing folder"), "{error}");
    }
}

#[test]
fn a_folder_is_taken_and_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(resolve(path, true).unwrap(), folder.path());
    let file = folder.path().join("model.safetensors");
    fs::write(&file, "").unwrap();
    let error = resolve(file.to_str().unwrap(), true).unwrap_err();
    assert_eq!(crate::error::exit_code(&error), 2);
    assert!(error.to_string().contains("this is a file"));
}

#[test]
fn the_environment_decides_the_cache_in_the_known_order() {
    let cache = |variables: &[(&str, &str)]| hub(variables).cache;
    assert_eq!(cache(&[]), Path::new("/home/x/.cache/huggingface/hub"));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
    assert_eq!(cache(&[("HF_HUB_CACHE", "/k"), ("HF_HOME", "/h")]), Path::new("/k"));
    assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Path::new("/h/hub"));
    assert!(Hub::from_variables(|_| None, None, true).is_err());
}

#[test]
fn token_endpoint_and_offline_are_read() {
    let plain = hub(&[]);
    assert_eq!(
        (plain.endpoint.as_str(), plain.offline, plain.token),
        ("https://huggingface.co", false, None)
    );
    let set = hub(&[
        ("HF_ENDPOINT", "http://localhost:1/"),
        ("HF_TOKEN", " t "),
        ("HF_HUB_OFFLINE", "true"),
    ]);
    assert_eq!(
        (set.endpoint.as_str(), set.offline, set.token.as_deref()),
        ("http://localhost:1", true, Some("t"))
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "saved\n").unwrap();
    let home = folder.path().to_str().unwrap();
    assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("saved"));
    assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "t")]).token.as_deref(), Some("t"));
}

#[test]
fn an_index_cannot_name_a_file_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join(WEIGHTS_INDEX);
    fs::write(&index, r#"{"weight_map": {"a": "b.safetensors", "c": "b.safetensors"}}"#).unwrap();
    assert_eq!(shards(&index).unwrap().into_iter().collect::<Vec<_>>(), ["b.safetensors"]);
    for hostile in [r#"{"weight_map": {"a": "../x"}}"#, r#"{"weight_map": {}}"#, "{}", "no"] {
        fs::write(&index, hostile).unwrap();
        assert!(shards(&index).is_err(), "{hostile}");
    }
}
