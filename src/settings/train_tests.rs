use super::*;

fn valid() -> TrainConfig {
    let mut config = TrainConfig::with_defaults("model".into(), Some("a.tsv".into()), "out".into());
    config.dev = Some(DevSource::Fraction(0.1));
    config
}

/// The message for `valid()` after `change`.
fn problem(change: impl FnOnce(&mut TrainConfig)) -> String {
    let mut config = valid();
    change(&mut config);
    config.validate().unwrap_err().to_string()
}

#[test]
fn a_recipe_of_bitfits_authors_has_no_rate_for_what_they_did_not_train() {
    let task = TaskChoice::all().find(|(name, _)| *name == "cola").unwrap().0.parse().unwrap();
    for method in [Method::Ia3, Method::Lora, Method::Full] {
        assert_eq!(TrainConfig::usual_lr(method, task), method.facts().lr);
    }
    let recipe = TrainConfig::usual_lr(Method::Bitfit, task);
    assert_eq!(TrainConfig::usual_lr(Method::Head, task), recipe);
}

#[test]
fn defaults_are_valid_with_and_without_rows_to_evaluate_on() {
    assert_eq!(valid().validate(), Ok(()));
    let mut without = valid();
    without.dev = None;
    assert_eq!(without.validate(), Ok(()));
}

#[test]
fn numbers_out_of_range_are_named_with_what_is_allowed() {
    assert_eq!(problem(|c| c.lr = Rate::Is(0.0)), "--lr must be above 0, got 0");
    assert_eq!(problem(|c| c.lr = Rate::Is(-1e30)), "--lr must be above 0, got -1e30");
    assert_eq!(problem(|c| c.lr = Rate::Is(f64::NAN)), "--lr must be a finite number, got NaN");
    assert!(
        problem(|c| c.betas[1] = 1.0).starts_with("--betas must be two numbers from 0 to below 1")
    );
    assert!(problem(|c| c.eps = 0.0).starts_with("--eps "));
    assert!(problem(|c| c.weight_decay = -0.1).starts_with("--weight-decay "));
    assert!(problem(|c| c.clip_norm = f64::INFINITY).starts_with("--clip-norm "));
    assert!(problem(|c| c.warmup = Warmup::Fraction(1.5)).starts_with("--warmup "));
    assert_eq!(problem(|c| c.dropout = Some(1.0)), "--dropout must be from 0 to below 1, got 1");
    assert!(problem(|c| c.dev = Some(DevSource::Fraction(1.0))).starts_with("--dev-fraction "));
    assert_eq!(problem(|c| c.length = Length::Epochs(0)), "--epochs must be 1 or more, got 0");
    assert!(problem(|c| c.length = Length::Steps(0)).starts_with("--steps "));
    assert!(problem(|c| c.batch_size = 0).starts_with("--batch-size "));
    assert!(problem(|c| c.max_length = Some(2)).starts_with("--max-length must be 3 or more"));
    assert!(problem(|c| c.seed = u64::MAX).starts_with("--seed "));
    for minutes in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(problem(|c| c.save_minutes = Some(minutes)).starts_with("--save-minutes "));
    }
}

/// The optimizer computes in f32, and a settings file has 63 bits for a count.
#[test]
fn numbers_are_checked_in_the_type_in_which_they_are_used() {
    let single = "be a number that single precision has, got ";
    assert!(problem(|c| c.eps = 1e-320).contains(&format!("--eps must {single}")));
    for lr in [1e-46, 1e-320, 1e39] {
        assert!(problem(|c| c.lr = Rate::Is(lr)).contains(&format!("--lr must {single}")), "{lr}");
    }
    assert!(problem(|c| c.weight_decay = 1e-60).contains("--weight-decay must"));
    assert!(problem(|c| c.clip_norm = 1e60).contains("--clip-norm must"));
    assert!(problem(|c| c.betas[0] = 1e-50).contains("--betas must"));
    let below = "must be below 1 in single precision, got 0.999999999";
    assert!(problem(|c| c.betas[1] = 0.999_999_999).contains(below));
    assert!(problem(|c| c.dropout = Some(0.999_999_999)).contains(below));
    assert!(problem(|c| c.dropout = Some(1e-50)).contains("--dropout must"));
    for huge in [1 << 63, u64::MAX] {
        let said = format!("must be below 2^63, got {huge}");
        assert!(problem(|c| c.length = Length::Epochs(huge)).contains(&said));
        assert!(problem(|c| c.length = Length::Steps(huge)).contains(&said));
        assert!(problem(|c| c.batch_size = huge as usize).contains(&said));
        assert!(problem(|c| c.batch_tokens = Some(huge as usize)).contains(&said));
        assert!(problem(|c| c.grad_accumulation = huge as usize).contains(&said));
        assert!(problem(|c| c.save_steps = Some(huge)).contains(&said));
        assert!(problem(|c| c.max_length = Some(huge as usize)).contains(&said));
        assert!(problem(|c| c.warmup = Warmup::Steps(huge)).contains(&said));
        assert!(
            problem(|c| c.threads = Some(huge as usize))
                .contains("--threads must be from 1 to 1024")
        );
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    assert!(
        problem(|c| c.metric = Some(Metric::Pearson))
            .contains("does not fit --task classification")
    );
    assert!(problem(|c| c.biases = BiasSelection::none()).contains("--method head"));
    let head_with_biases = problem(|c| {
        c.method = Method::Head;
        c.biases = BiasSelection::parse("query").unwrap();
    });
    assert!(head_with_biases.contains("leave one of them out"), "{head_with_biases}");
    let no_pooler = problem(|c| {
        c.pooling = Pooling::Mean;
        c.pooler = PoolerInit::Reinit;
    });
    assert!(no_pooler.starts_with("--pooler "), "{no_pooler}");
    let nothing_to_evaluate = problem(|c| {
        c.dev = None;
        c.patience = Some(2);
    });
    assert!(nothing_to_evaluate.contains("--dev FILE"), "{nothing_to_evaluate}");
}

#[cfg(unix)]
#[test]
fn a_path_that_cannot_be_written_down_is_named_with_its_option() {
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;
    let odd = || PathBuf::from(std::ffi::OsString::from_vec(b"da\xffta".to_vec()));
    let said = problem(|c| c.train = Some(odd()));
    assert!(said.starts_with("--train is \"da\\xFFta\", which is not UTF-8"), "{said}");
    assert!(problem(|c| c.output = odd()).starts_with("--output is "));
    assert!(problem(|c| c.dev = Some(DevSource::File(odd()))).starts_with("--dev is "));
    assert!(problem(|c| c.init_head = Some(odd())).starts_with("--init-head is "));
    let weights = Some(Weighting::File(odd()));
    assert!(problem(|c| c.class_weights = weights).starts_with("--class-weights is "));
}

#[test]
fn the_written_form_reads_back_equal() {
    let mut full = valid();
    full.init_head = Some("head.safetensors".into());
    full.biases = BiasSelection::parse("query@1..2,pooler").unwrap();
    full.dev = Some(DevSource::File("dev \"1\".tsv".into()));
    full.length = Length::Steps(100);
    full.warmup = Warmup::Fraction(1.0);
    full.text_column = Some("sentence".into());
    full.dropout = Some(0.1);
    full.batch_tokens = Some(4096);
    full.seed = i64::MAX as u64;
    let mut bare = valid();
    bare.dev = None;
    bare.warmup = Warmup::Steps(1);
    bare.lr = Rate::Is(0.1 + 0.2);
    for config in [full, bare, valid()] {
        let text = config.to_toml().unwrap();
        assert_eq!(TrainConfig::from_toml(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn a_recorded_setting_out_of_range_is_refused() {
    let text = valid().to_toml().unwrap().replace("lr = 0.001", "lr = -1.0");
    let error = TrainConfig::from_toml(&text).unwrap_err();
    assert!(crate::error::one_line(&error).contains("--lr must be above 0"));
}

#[test]
fn settings_of_earlier_versions_name_a_measure_without_rows_for_it() {
    let config = TrainConfig { dev: None, ..valid() };
    let text = format!("metric = \"accuracy\"\n{}", config.to_toml().unwrap());
    assert_eq!(TrainConfig::from_toml(&text).unwrap(), config);
}
