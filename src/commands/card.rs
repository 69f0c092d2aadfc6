//! The model card of a merged model or an adapter: only what the delta and its run's `result.json` say. An existing
//! card is kept unless the user asks to replace it.

use super::say;
use crate::files::{only_files, sha256_file, write_bytes_atomic};
use crate::formats::card::{ModelCard, fenced, quoted_name};
use crate::formats::delta::DeltaInfo;
use crate::formats::model_files::{CARD, HEAD, read_json};
use crate::hub::HubName;
use crate::settings::benchmark::NamedTask;
use crate::settings::choice::{Pooling, WeightStorage};
use crate::settings::metric::Metric;
use crate::settings::task::Task;
use crate::settings::train::without_place;
use crate::tasks::evaluation::key_of;
use crate::train::output::RESULT_FILE;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What the card describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CardForm {
    Model,
    Adapter,
}

/// A delta that was written in another form.
pub struct CardOf<'a> {
    pub written: CardForm,
    /// The delta's file.
    pub delta: &'a Path,
    pub info: &'a DeltaInfo,
    /// What the user called its base.
    pub model: Option<&'a str>,
}

/// # Errors
/// The card is to be replaced, but is not a file.
pub fn can_be_written(folder: &Path, replace: bool) -> Result<()> {
    if replace { only_files(folder, &[CARD]) } else { Ok(()) }
}

/// A name for a delta's base that others can use: its name on a hub if known, otherwise `./NAME`.
pub fn name_of_base(info: &DeltaInfo, asked: Option<&str>) -> String {
    let recorded = without_place(&info.settings.model);
    let name = match asked {
        Some(asked) if !on_hub(&recorded) => without_place(asked),
        _ => recorded,
    };
    match on_hub(&name) {
        true => name,
        // An earlier version recorded the path too.
        false => format!("./{}", name.rsplit(['/', '\\']).next().unwrap_or_default()),
    }
}

fn on_hub(name: &str) -> bool {
    name.parse::<HubName>().is_ok()
}

impl CardOf<'_> {
    /// # Errors
    /// The file cannot be written, or one that supplies values cannot be read.
    pub fn write(&self, folder: &Path, replace: bool, quiet: bool) -> Result<()> {
        let (path, text) = (folder.join(CARD), self.card()?.to_string());
        if !replace && path.symlink_metadata().is_ok() {
            if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                say(
                    quiet,
                    format_args!(
                        "{}: this file exists and was kept; --replace-card replaces it with the model card",
                        path.display()
                    ),
                );
            }
            return Ok(());
        }
        write_bytes_atomic(&path, text.as_bytes())
    }

    fn card(&self) -> Result<ModelCard> {
        let info = self.info;
        let base = name_of_base(info, self.model);
        let evaluations = self.evaluations()?;
        let title =
            format!("{} for {}", base.rsplit('/').next().unwrap_or(&base), info.settings.task);
        let mut parts = vec![("", self.summary(&base))];
        if !info.labels.is_empty() {
            let labels = serde_json::to_string(&info.labels)?;
            let text = format!("In the order of the outputs:\n\n{}", fenced("json", &labels));
            parts.push(("Labels", text));
        }
        if let Some(table) = table(&evaluations) {
            parts.push(("Results", table));
        }
        parts.push(("Use", self.usage(&base)));
        // A delta made from an adapter has no run behind it.
        if info.data.is_some() {
            parts.push(("Training", fenced("toml", &info.settings.to_toml()?)));
        }
        let metadata = self.metadata(&base, &title, &evaluations);
        Ok(ModelCard { metadata, title, parts })
    }

    /// The dev rows' evaluations of the kept values, each with the name of its part; empty if the run is unknown.
    fn evaluations(&self) -> Result<Vec<(&'static str, Map<String, Value>)>> {
        let result = read_json(&self.delta.with_file_name(RESULT_FILE)).ok().flatten();
        let result = result.unwrap_or_default();
        // From another run, or from a delta that has changed since.
        if result["sha256"].as_str() != Some(&sha256_file(self.delta)?) {
            return Ok(Vec::new());
        }
        let dev = self.info.settings.task.named().map_or(&[][..], |task| task.dev);
        let names: Vec<&'static str> = match dev {
            [] => vec![""],
            parts => parts.iter().map(|part| part.name).collect(),
        };
        let found = |(place, name): (usize, &&'static str)| {
            let evaluation = result["best"][key_of("eval", place, name)].as_object()?;
            Some((*name, evaluation.clone()))
        };
        Ok(names.iter().enumerate().filter_map(found).collect())
    }

    fn summary(&self, base: &str) -> String {
        let info = self.info;
        let what = match self.written {
            CardForm::Model => "A model",
            CardForm::Adapter => "An adapter (PEFT's type BEFT)",
        };
        let mut text = format!(
            "{what}, made by bitfit {} from {} (weights with sha256 `{}`). Method: {}; the head is for {}. See \
             [BitFit](https://arxiv.org/abs/2106.10199).",
            info.tool_version,
            quoted_name(base),
            info.base_sha256,
            info.method.with_biases(&info.biases),
            info.task,
        );
        if let Some(tokens) = info.max_length {
            text += &format!(" Texts were cut to {tokens} tokens.");
        }
        let stored = info.settings.weights;
        text += &match (self.written, stored) {
            (_, WeightStorage::F32) => String::new(),
            (CardForm::Model, _) => {
                format!(
                    " Matrices are as the run had them, rounded to {stored}, and stored as f32."
                )
            }
            (CardForm::Adapter, _) => format!(" The run had the base's matrices in {stored}."),
        };
        text
    }

    /// Python that loads it.
    fn usage(&self, base: &str) -> String {
        let info = self.info;
        let class = match info.pooling {
            Pooling::Mean => "AutoModel".to_owned(),
            _ => format!("AutoModel{}", info.task.facts().class),
        };
        let outputs = match (info.pooling, info.task) {
            (Pooling::Mean, _) | (_, Task::QuestionAnswering | Task::MaskedLm) => String::new(),
            _ => format!(", num_labels={}", info.outputs),
        };
        let base = json!(base);
        // The base's tokenizer may allow more.
        let limit = info.max_length.map_or(String::new(), |n| format!(", model_max_length={n}"));
        let mut code = match self.written {
            CardForm::Adapter => format!(
                "from peft import PeftModel\nfrom transformers import {class}, AutoTokenizer\n\n\
                 base = {class}.from_pretrained({base}{outputs})\n\
                 model = PeftModel.from_pretrained(base, \"THIS_FOLDER\").eval()\n\
                 tokenizer = AutoTokenizer.from_pretrained({base}{limit})\n"
            ),
            CardForm::Model => format!(
                "from transformers import {class}, AutoTokenizer\n\n\
                 model = {class}.from_pretrained(\"THIS_FOLDER\").eval()\n\
                 tokenizer = AutoTokenizer.from_pretrained(\"THIS_FOLDER\")\n"
            ),
        };
        if info.pooling == Pooling::Mean {
            code += &format!(
                "\nfrom safetensors.torch import load_file\n\
                 head = load_file(\"THIS_FOLDER/{HEAD}\")\n\
                 batch = tokenizer([\"a text\"], padding=True, truncation=True, return_tensors=\"pt\")\n\
                 mask = batch[\"attention_mask\"].unsqueeze(-1)\n\
                 mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)\n\
                 logits = mean @ head[\"classifier.weight\"].T + head[\"classifier.bias\"]\n"
            );
        }
        fenced("python", &code)
    }

    fn metadata(
        &self,
        base: &str,
        title: &str,
        evaluations: &[(&'static str, Map<String, Value>)],
    ) -> Vec<(&'static str, Value)> {
        let info = self.info;
        let mean = info.pooling == Pooling::Mean;
        let pipeline = match info.task {
            _ if mean => "feature-extraction",
            Task::Classification | Task::MultiLabel | Task::Regression => "text-classification",
            Task::TokenClassification => "token-classification",
            Task::QuestionAnswering => "question-answering",
            Task::MaskedLm => "fill-mask",
        };
        let (library, relation) = match self.written {
            CardForm::Adapter => ("peft", "adapter"),
            CardForm::Model if mean => ("sentence-transformers", "finetune"),
            CardForm::Model => ("transformers", "finetune"),
        };
        let mut metadata = Vec::new();
        if on_hub(base) {
            let repository = base.split('@').next().unwrap_or(base);
            metadata.push(("base_model", json!(repository)));
            metadata.push(("base_model_relation", json!(relation)));
        }
        let dataset = self.dataset();
        if let Some((repository, _)) = dataset {
            metadata.push(("datasets", json!([repository])));
        }
        metadata.push(("library_name", json!(library)));
        let reached = |(_, found): &(&str, Map<String, Value>)| scores(found).collect::<Vec<_>>();
        let mut names: Vec<_> = evaluations
            .iter()
            .flat_map(reached)
            .filter_map(|(metric, _)| name_on_hub(metric))
            .collect();
        names.dedup();
        if !names.is_empty() {
            metadata.push(("metrics", json!(names)));
        }
        if let Some((repository, named)) = dataset {
            let results = evaluations.iter().enumerate().map(|(place, (_, found))| {
                let metrics = scores(found).filter_map(|(metric, value)| {
                    let named = name_on_hub(metric)?;
                    // As in the table. With more digits a small one is written with an exponent, which YAML takes for
                    // text.
                    let value = (value * 1e4).round() / 1e4;
                    Some(json!({ "type": named, "name": metric.key(), "value": value }))
                });
                json!({
                    "task": { "type": pipeline },
                    "dataset": {
                        "type": repository, "name": named.title, "config": named.name,
                        "split": named.dev.get(place).map(|part| part.split),
                    },
                    "metrics": metrics.collect::<Vec<_>>(),
                })
            });
            let results: Vec<Value> = results.collect();
            if !results.is_empty() {
                metadata.push(("model-index", json!([{ "name": title, "results": results }])));
            }
        }
        metadata.push(("pipeline_tag", json!(pipeline)));
        metadata.push(("tags", json!(["bitfit"])));
        metadata
    }

    /// The dataset on the hub, if the rows came from there.
    fn dataset(&self) -> Option<(&'static str, &'static NamedTask)> {
        let settings = &self.info.settings;
        let named = settings.task.named()?;
        let from_hub =
            settings.train.is_none() && settings.data.is_none() && settings.dev.is_none();
        from_hub.then(|| (named.suite.repository(), named))
    }
}

/// The measures that an evaluation has.
fn scores(evaluation: &Map<String, Value>) -> impl Iterator<Item = (Metric, f64)> + '_ {
    let all = Metric::ALL.into_iter();
    all.filter_map(|metric| Some((metric, evaluation.get(metric.key())?.as_f64()?)))
}

/// The results for people.
fn table(evaluations: &[(&'static str, Map<String, Value>)]) -> Option<String> {
    let mut text = String::from(
        "Development rows, best evaluation:\n\n| rows | measure | value |\n|---|---|---:|\n",
    );
    for (part, evaluation) in evaluations {
        let part = if part.is_empty() { "all" } else { *part };
        for (metric, value) in scores(evaluation) {
            text += &format!("| {part} | {metric} | {value:.4} |\n");
        }
    }
    (!evaluations.is_empty()).then_some(text)
}

/// The hub's name for a measure, if it has one.
fn name_on_hub(metric: Metric) -> Option<&'static str> {
    Some(match metric {
        Metric::Accuracy => "accuracy",
        Metric::F1 | Metric::MacroF1 | Metric::MicroF1 | Metric::EntityF1 => "f1",
        Metric::Matthews => "matthews_correlation",
        Metric::Pearson => "pearsonr",
        Metric::Spearman => "spearmanr",
        Metric::Precision => "precision",
        Metric::Recall => "recall",
        Metric::ExactMatch => "exact_match",
        Metric::Perplexity => "perplexity",
        Metric::HasAnswerF1 | Metric::HasAnswerExact | Metric::NoAnswerExact | Metric::Loss => {
            return None;
        }
    })
}
