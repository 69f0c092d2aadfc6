//! Both forms of Sentence Transformers' configuration, and what must not be mistaken for one of the two ways to pool.

use super::*;
use std::fs;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn of_pooling(config: &str) -> Result<Makers> {
    Makers::of(folder(&[(POOLING, config)]).path())
}

const TRANSFORMER: &str = r#"{"path": "", "type": "sentence_transformers.models.Transformer"}"#;

fn modules(behind: &[(&str, &str)]) -> String {
    let mut all = vec![TRANSFORMER.to_owned()];
    all.extend(
        behind.iter().map(|(path, class)| format!(r#"{{"path": "{path}", "type": "{class}"}}"#)),
    );
    format!("[{}]", all.join(","))
}

const POOL: &str = "sentence_transformers.models.Pooling";
/// As 6.x names it.
const NEW_POOL: &str = "sentence_transformers.sentence_transformer.modules.pooling.Pooling";

#[test]
fn both_forms_of_the_pooling_file_are_read() {
    for (config, kind) in [
        (r#"{"pooling_mode_mean_tokens": true}"#, PoolKind::Mean),
        (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, PoolKind::Cls),
        (r#"{"pooling_mode": "mean"}"#, PoolKind::Mean),
        (r#"{"pooling_mode": "cls"}"#, PoolKind::Cls),
        (r#"{"pooling_mode": ["mean"]}"#, PoolKind::Mean),
        (r#"{"pooling_mode": ["cls"]}"#, PoolKind::Cls),
        // The name takes precedence over the booleans.
        (r#"{"pooling_mode": "cls", "pooling_mode_mean_tokens": true}"#, PoolKind::Cls),
        // The default is the mean.
        (r#"{"word_embedding_dimension": 64}"#, PoolKind::Mean),
    ] {
        let makers = of_pooling(config).unwrap();
        let besides = Vec::new();
        assert_eq!(makers, Makers::Pool { kind, besides }, "{config}");
    }
}

#[test]
fn other_ways_to_pool_are_named_and_never_taken_for_the_makers() {
    for (config, named) in [
        (r#"{"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": false}"#, "max"),
        (
            r#"{"pooling_mode_mean_sqrt_len_tokens": true, "pooling_mode_mean_tokens": false}"#,
            "mean_sqrt_len_tokens",
        ),
        (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#, "cls + mean"),
        (r#"{"pooling_mode": "weightedmean"}"#, "weightedmean"),
        // Versions of Sentence Transformers differ in how they read this.
        (r#"{"pooling_mode_mean_tokens": false}"#, "off every kind"),
        (r#"{"pooling_mode": "lasttoken"}"#, "lasttoken"),
        (r#"{"pooling_mode": ["mean", "max"]}"#, "mean + max"),
    ] {
        let makers = of_pooling(config).unwrap();
        let error = makers.kind().unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("--pooling"), "{config}: {error}");
    }
    for (config, named) in [
        (r#"{"pooling_mode": "median"}"#, "median"),
        (r#"{"pooling_mode": []}"#, "empty"),
        (r#"{"pooling_mode": 1}"#, "1"),
        (r#"{"pooling_mode_mean_tokens": "yes"}"#, "pooling_mode_mean_tokens"),
        ("[1]", "object"),
        ("{", "JSON"),
    ] {
        let error = format!("{:#}", of_pooling(config).unwrap_err());
        assert!(error.contains(named) && error.contains("config.json"), "{config}: {error}");
    }
}

#[test]
fn a_pooling_file_that_leaves_out_the_mean_is_read_as_today_and_that_is_said() {
    let makers = of_pooling(r#"{"pooling_mode_cls_token": true}"#).unwrap();
    let Makers::Pool { kind, besides } = makers else { panic!("{makers:?}") };
    assert_eq!(kind, PoolKind::Cls);
    assert!(besides[0].contains("pooling_mode_mean_tokens"));
}

#[test]
fn modules_json_says_where_the_pooling_is() {
    let mean = r#"{"pooling_mode": "mean"}"#;
    let cls = r#"{"pooling_mode": "cls"}"#;
    for class in [POOL, NEW_POOL] {
        let list = modules(&[("7_Pool", class)]);
        let folder = folder(&[(MODULES, &list), ("7_Pool/config.json", mean), (POOLING, cls)]);
        let makers = Makers::of(folder.path()).unwrap();
        assert_eq!(makers.kind().unwrap(), PoolKind::Mean);
    }
    // A pooling file that no module names is ignored.
    let folder = folder(&[(MODULES, &modules(&[])), (POOLING, mean)]);
    assert_eq!(Makers::of(folder.path()).unwrap(), Makers::Unsaid);
}

#[test]
fn modules_that_change_what_is_pooled_are_refused_by_name() {
    for (behind, named) in [
        (vec![("1_Pooling", POOL), ("2_Dense", "sentence_transformers.models.Dense")], "Dense"),
        (
            vec![("1_Pooling", POOL), ("2_LayerNorm", "sentence_transformers.models.LayerNorm")],
            "LayerNorm",
        ),
        (
            vec![("1_WeightedLayerPooling", "sentence_transformers.models.WeightedLayerPooling")],
            "WeightedLayerPooling",
        ),
        (vec![("1_Pooling", "own_code.Pooling")], "Pooling"),
        (vec![("1_Pooling", POOL), ("2_Pooling", POOL)], "Pooling"),
        (vec![("1_Pooling", POOL)], "is missing"),
    ] {
        let folder = folder(&[(MODULES, &modules(&behind))]);
        let makers = Makers::of(folder.path()).unwrap();
        let error = makers.kind().unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(MODULES), "{named}: {error}");
    }
    let list = r#"[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]"#;
    let makers = Makers::of(folder(&[(MODULES, list)]).path()).unwrap();
    assert!(makers.kind().unwrap_err().to_string().contains("0_Transformer"));
    let list = modules(&[("../1_Pooling", POOL)]);
    let error = Makers::of(folder(&[(MODULES, &list)]).path()).unwrap_err();
    assert!(format!("{error:#}").contains("outside the folder"));
}

#[test]
fn what_the_makers_do_besides_is_said() {
    let list =
        modules(&[("1_Pooling", POOL), ("2_Normalize", "sentence_transformers.models.Normalize")]);
    let folder = folder(&[
        (MODULES, &list),
        (POOLING, r#"{"pooling_mode": "mean"}"#),
        (SENTENCE_PROMPTS, r#"{"prompts": {"query": "query: "}, "default_prompt_name": "query"}"#),
    ]);
    let Makers::Pool { besides, .. } = Makers::of(folder.path()).unwrap() else { panic!() };
    assert!(besides[0].contains("normalizes") && besides[1].contains(r#""query: ""#));
}

#[test]
fn the_sentence_encoders_limit_counts_before_the_tokenizers() {
    let bert = SENTENCE_CONFIGS[0];
    let both = [
        (bert, r#"{"max_seq_length": 128, "do_lower_case": true}"#),
        (TOKENIZER_CONFIG, r#"{"model_max_length": 512}"#),
    ];
    let longest = |files: &[(&str, &str)]| {
        let said = LongestText::of(folder(files).path()).unwrap();
        said.map(|said| (said.tokens, said.said_by))
    };
    let (tokens, said_by) = longest(&both).unwrap();
    assert_eq!(tokens, 128);
    assert!(said_by.contains(bert));
    assert_eq!(longest(&both[1..]).unwrap().0, 512);
    assert_eq!(longest(&[]), None);
    // No limit, as tokenizers write it.
    let huge = r#"{"model_max_length": 1000000000000000019884624838656}"#;
    assert_eq!(longest(&[(TOKENIZER_CONFIG, huge)]), None);
    assert_eq!(longest(&[(bert, r#"{"max_seq_length": null}"#)]), None);
    for broken in ["0", "-1", "\"many\"", "1.5"] {
        let config = format!(r#"{{"max_seq_length": {broken}}}"#);
        let error = LongestText::of(folder(&[(bert, &config)]).path()).unwrap_err();
        assert!(format!("{error:#}").contains("max_seq_length"), "{error:#}");
    }
    assert!(TextSettings::of(folder(&both).path()).unwrap().lower_case);
}
