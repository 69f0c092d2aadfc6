//! Silent failures from public reports about other programs, tried on this one: each is a misreading that a user would
//! never see.

use crate::common::*;
use std::fs;
use std::path::Path;

/// One training step on a small file, on the fixture `bert` or a changed copy of it.
fn step(folder: &Folder, model: &Path, file: &str, content: &str, more: &str) -> Finished {
    let data = folder.write(file, content);
    let output = folder.path("run");
    let _ = fs::remove_dir_all(&output);
    Finished::of(&mut bitfit(train_args(model, &data, &output, &format!("--steps 1 {more}"))))
}

fn edit_config(model: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = model.join("config.json");
    let mut config = json(&path);
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn layers_that_the_configuration_leaves_out_are_said_even_when_quiet() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let run = step(&folder, &model, "a.tsv", &toy_tsv(8, 2), "--quiet").success();
    assert!(!run.stderr.contains("layers"), "{}", run.stderr);
    edit_config(&model, |config| config["num_hidden_layers"] = 1.into());
    let run = step(&folder, &model, "a.tsv", &toy_tsv(8, 2), "--quiet").success();
    let said = "warning: the checkpoint has 2 layers, but its config.json asks for 1";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn a_checkpoint_inside_another_module_is_refused_with_the_name_that_it_has() {
    for outer in ["module.", "base_model.model."] {
        let folder = Folder::new();
        let model = folder.copy_of("bert");
        edit_tensors(&model.join("model.safetensors"), |tensors, _| {
            let old = std::mem::take(tensors);
            tensors
                .extend(old.into_iter().map(|(name, tensor)| (format!("{outer}{name}"), tensor)));
        });
        let has = format!("`{outer}bert.embeddings.word_embeddings.weight`");
        let run = step(&folder, &model, "a.tsv", &toy_tsv(8, 2), "");
        run.fails(
            1,
            &["no tensor `embeddings.word_embeddings.weight`", &has, "without its wrapper"],
        );
    }
}

#[test]
fn correlations_with_equal_labels_are_said_to_be_undefined_even_when_quiet() {
    let folder = Folder::new();
    let numbers = "text\tlabel\nthe film\t1\nthe train\t2\nthe sea\t0.5\n";
    let equal = folder.write("equal.tsv", "text\tlabel\nfilm\t1\nsea\t1\n");
    let said = "warning: every row to evaluate on has the same number for its label: pearson and spearman are \
                undefined";
    let options = format!("--quiet --task regression --dev {}", equal.display());
    let run = step(&folder, &fixture("bert"), "a.tsv", numbers, &options).success();
    assert!(run.stderr.contains(said), "{}", run.stderr);
    let mut eval = bitfit(["eval", "--quiet", "--delta"]);
    eval.arg(folder.path("run")).arg("--data").arg(&equal);
    let run = Finished::of(&mut eval).success();
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn a_class_without_a_row_to_evaluate_on_is_said_by_eval_too() {
    let folder = Folder::new();
    step(&folder, &fixture("bert"), "a.tsv", &toy_tsv(8, 2), "").success();
    let one = folder.write("one.tsv", "text\tlabel\nfilm\tsea\n");
    let mut eval = bitfit(["eval", "--quiet", "--delta"]);
    eval.arg(folder.path("run")).arg("--data").arg(&one);
    let run = Finished::of(&mut eval).success();
    let said = "warning: no row to evaluate on has the label \"land\"";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn rows_of_a_head_are_matched_to_classes_that_differ_in_case_alone() {
    let folder = Folder::new();
    let head = fixture("bert").join("model.safetensors");
    let data = "text\tlabel\na\tPositive\nb\tNEUTRAL\nc\tnegative\n";
    let options = format!("--init-head {}", head.display());
    let run = step(&folder, &fixture("bert"), "a.tsv", data, &options).success();
    assert!(run.stderr.contains("only in case"), "{}", run.stderr);
    assert!(!run.stderr.contains("in this order"), "{}", run.stderr);
}

#[test]
fn a_head_of_another_size_is_laid_to_the_task_and_not_to_the_configuration() {
    let folder = Folder::new();
    let head = fixture("bert").join("model.safetensors");
    let options = format!("--init-head {}", head.display());
    let run = step(&folder, &fixture("bert"), "a.tsv", &toy_tsv(8, 2), &options);
    let error = run.fails(1, &["`classifier.weight` has shape [3, 64]", "the task needs [2, 64]"]);
    assert!(!error.contains("config.json"), "{error}");
}

#[test]
fn csv_rows_over_several_lines_are_counted_where_a_quote_may_have_swallowed_them() {
    let folder = Folder::new();
    let model = fixture("bert");
    let said = "1 row goes over several lines, the first starting on line 2";
    let swallowed = "text,label\n\"open,a\nsecond,b\nthird,a\nclose\",b\nfifth,a\n";
    let run = step(&folder, &model, "a.csv", swallowed, "").success();
    assert!(run.stderr.contains(said), "{}", run.stderr);
    // The last row has none after it to count from.
    let run =
        step(&folder, &model, "a.csv", "text,label\n\"a\nb\",x\nc,y\n\"d\ne\",x\n", "").success();
    assert!(run.stderr.contains("2 rows go over several lines"), "{}", run.stderr);
    let run = step(&folder, &model, "a.csv", "text,label\na,x\nb,y\n", "").success();
    assert!(!run.stderr.contains("several lines"), "{}", run.stderr);
    let escaped = "{\"text\":\"a\\nb\",\"label\":1}\n{\"text\":\"c\",\"label\":2}\n";
    let run = step(&folder, &model, "a.jsonl", escaped, "").success();
    assert!(!run.stderr.contains("several lines"), "{}", run.stderr);
}

#[test]
fn files_of_another_kind_of_text_are_named_as_such() {
    let folder = Folder::new();
    let utf16 = |text: &str| -> String { text.chars().flat_map(|c| [c, '\0']).collect() };
    let cases: [(&str, String, &str); 6] = [
        ("a.csv", utf16("text,label\na,x\n"), ":1: the file is UTF-16"),
        ("a.jsonl", utf16("{\"text\":1}\n"), ":1: the file is UTF-16"),
        ("a.csv", "text,label\ra,x\rb,y\r".into(), ":1: the lines end in carriage returns only"),
        ("a.tsv", "text\tlabel\tid\ra\tx\t1\rb\ty\t2\r".into(), "carriage returns only"),
        ("a.csv", "a nice film,1\nbad,0\n".into(), "looks like an example"),
        ("a.tsv", "I have seen this film\tsea\nbad\tland\n".into(), "looks like an example"),
    ];
    for (file, content, says) in cases {
        let run = step(&folder, &fixture("bert"), file, &content, "");
        let error = run.fails(1, &[says]);
        assert!(!error.contains("did you mean"), "{error}");
    }
    let run =
        step(&folder, &fixture("bert"), "a.jsonl", "{\"text\":\"a\",\"label\":[\"x\"]}\n", "");
    run.fails(1, &[":1: the value of \"label\" is an array"]);
}

/// If every text gets the same answer, no correlation is defined, and the 0 that is given looks like a measured one.
#[test]
fn measures_of_equal_answers_are_said_to_be_undefined() {
    for (task, labels, undefined) in [
        ("classification", ["a", "b"], "matthews is undefined"),
        ("regression", ["1", "2"], "pearson and spearman are undefined"),
    ] {
        let folder = Folder::new();
        let rows = (0..8).map(|i| format!("{}\t{}\n", text_of(i % 3, i), labels[i % 2]));
        let data = folder.write("a.tsv", "text\tlabel\n".to_owned() + &rows.collect::<String>());
        let run = folder.path("run");
        let options = format!("--steps 1 --task {task} --dev {}", data.display());
        let said = train(&fixture("bert"), &data, &run, &options).stderr;
        assert!(!said.contains("gets the same answer"), "{said}");
        let delta = run.join("bias.safetensors");
        edit_tensors(&delta, |tensors, _| {
            tensors.get_mut("classifier.weight").unwrap().bytes.fill(0);
        });
        let mut eval = bitfit(["eval", "--quiet", "--delta"]);
        let eval = Finished::of(eval.arg(&run).arg("--data").arg(&data)).success();
        let says = format!("warning: every row gets the same answer: {undefined} and shown as 0");
        assert!(eval.stderr.contains(&says), "{}", eval.stderr);
        // In training, at the evaluation and at the end.
        let again = folder.path("again");
        let head = format!("{options} --lr 1e-30 --init-head {}", delta.display());
        let said = train(&fixture("bert"), &data, &again, &head).stderr;
        let doubt = format!("(every row gets the same answer: {undefined}");
        assert!(said.contains(&doubt), "{said}");
        assert!(said.contains("warning: in the last evaluation every row gets the same"), "{said}");
    }
}

#[test]
fn one_of_a_thing_is_not_several() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", "text\tlabel\nthe harbour is in the morning\ta\n\tb\n");
    let run = folder.path("run");
    let said = train(&fixture("bert"), &data, &run, "--steps 1 --warmup 9 --max-length 5").stderr;
    for says in ["1 text cut to 5 tokens", "1 text is empty", "9 steps but the run has 1 step:"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let data = folder.write("b.tsv", "text\tlabel\nthe harbour\t3\nfilm\t4\n");
    let options = "--steps 1 --task regression --dev-fraction 0.5";
    let said = train(&fixture("bert"), &data, &folder.path("b"), options).stderr;
    assert!(said.contains("the label is 3") && said.contains("the label is 4"), "{said}");
}

#[test]
fn rows_to_evaluate_on_that_are_trained_on_are_counted() {
    let folder = Folder::new();
    let same = folder.write("same.tsv", "text\tlabel\nthe film\ta\nthe sea\tb\n");
    let some = folder.write("some.tsv", "text\tlabel\nthe film\ta\nthe train\tb\n");
    let run = |dev: &Path, more: &str| {
        let options = format!("--dev {} {more}", dev.display());
        step(&folder, &fixture("bert"), "same.tsv", &fs::read_to_string(&same).unwrap(), &options)
            .success()
            .stderr
    };
    let said = run(&same, "--quiet");
    assert!(
        said.contains("warning: ")
            && said.contains("the text of every row to evaluate on is also trained on"),
        "{said}"
    );
    let said = run(&some, "");
    assert!(
        said.contains("1 of 2 rows to evaluate on have a text that is also trained on"),
        "{said}"
    );
}

#[test]
fn an_adapter_beside_the_weights_and_weights_of_another_type_are_named() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    fs::write(model.join("adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
    let run = step(&folder, &model, "a.tsv", &toy_tsv(8, 2), "--quiet").success();
    assert!(run.stderr.contains("has an adapter_config.json: "), "{}", run.stderr);
    edit_config(&model, |config| config["model_type"] = "roberta".into());
    let run = step(&folder, &model, "a.tsv", &toy_tsv(8, 2), "");
    let error = run.fails(1, &["models of another type", "`model_type`"]);
    assert!(!error.contains("DataParallel"), "{error}");
}

#[test]
fn advice_for_a_label_fits_what_is_wrong_with_it() {
    let folder = Folder::new();
    for (label, says, not) in [
        ("1,500", "no thousands separators", "--task classification"),
        ("inf", "remove the row or correct it", "divide"),
        ("-Infinity", "remove the row or correct it", "divide"),
        ("1e38", "divide all labels", "remove the row"),
    ] {
        let content = format!("text\tlabel\nfilm\t{label}\nsea\t1\n");
        let run = step(&folder, &fixture("bert"), "a.tsv", &content, "--task regression");
        let error = run.fails(1, &["a.tsv:2:", says]);
        assert!(!error.contains(not), "{error}");
    }
}

#[test]
fn the_folder_of_a_run_is_no_model_and_what_makes_one_is_said() {
    let folder = Folder::new();
    step(&folder, &fixture("bert"), "a.tsv", &toy_tsv(8, 2), "").success();
    let run = folder.path("run");
    let data = folder.path("a.tsv");
    let args = train_args(&run, &data, &folder.path("again"), "--steps 1");
    Finished::of(&mut bitfit(args))
        .fails(1, &["is a run's folder, not a model", "bitfit merge --delta"]);
}
