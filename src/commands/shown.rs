//! Which probabilities are written with an answer: all, those of selected classes, or none.

use super::no_use;
use crate::cli::PredictArgs;
use crate::error::{UsageError, suggestion};
use crate::settings::task::{Reads, Task};
use crate::tasks::targets::Targets;
use crate::words::list;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The classes whose probabilities are written; `None` for all, as the task has them.
pub struct Shown(Option<Vec<usize>>);

impl Shown {
    /// # Errors
    /// A class that the task does not have; selected classes for a task that gives texts none.
    pub fn of(args: &PredictArgs, task: Task, targets: &Targets) -> Result<Self, UsageError> {
        let facts = task.facts();
        let without = !facts.named || facts.reads != Reads::Texts;
        no_use(without && !args.class.is_empty(), "--class", task)?;
        no_use(without && args.no_probabilities, "--no-probabilities", task)?;
        if args.no_probabilities {
            return Ok(Self(Some(Vec::new())));
        }
        let (Some(classes), false) = (targets.named(), args.class.is_empty()) else {
            return Ok(Self(None));
        };
        let place = |name: &String| match classes.id(name) {
            Some(id) => Ok(id as usize),
            None => {
                let names = classes.names();
                let near = suggestion(name, names.iter().map(String::as_str));
                let all = list(names);
                Err(UsageError::new(format!(
                    "--class {name:?}: no such class{near}; the classes are {all}"
                )))
            }
        };
        let mut places = args.class.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        places.retain(|&place| seen.insert(place));
        Ok(Self(Some(places)))
    }

    /// For an answer followed by the probabilities of all classes.
    pub fn fields(&self, mut fields: Vec<String>) -> Vec<String> {
        let Some(places) = &self.0 else { return fields };
        let chosen: Vec<String> = places.iter().map(|&place| fields[1 + place].clone()).collect();
        fields.truncate(1);
        fields.into_iter().chain(chosen).collect()
    }

    /// The same as JSON. Logits are a list, so they are for all classes or absent.
    pub fn record(&self, mut record: Value, names: &[String]) -> Value {
        if let (Some(places), Some(object)) = (&self.0, record.as_object_mut()) {
            object.remove("logits");
            let all = object.remove("probabilities");
            let of = |&place: &usize| {
                let name = &names[place];
                Some((name.clone(), all.as_ref()?.get(name)?.clone()))
            };
            let chosen: Map<String, Value> = places.iter().filter_map(of).collect();
            if !places.is_empty() {
                object.insert("probabilities".to_owned(), chosen.into());
            }
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chosen_classes_stand_behind_the_answer_in_the_order_asked_for() {
        let fields = || ["b", "0.1", "0.7", "0.2"].map(str::to_owned).to_vec();
        let names = ["a", "b", "c"].map(str::to_owned);
        let probabilities = json!({"a": 0.1, "b": 0.7, "c": 0.2});
        let record = || json!({"label": "b", "probabilities": probabilities, "logits": [1, 2, 3]});
        for (shown, of_fields, of_record) in [
            (Shown(None), fields(), record()),
            (Shown(Some(vec![])), vec!["b".to_owned()], json!({"label": "b"})),
            (
                Shown(Some(vec![2, 0])),
                ["b", "0.2", "0.1"].map(str::to_owned).to_vec(),
                json!({"label": "b", "probabilities": {"a": 0.1, "c": 0.2}}),
            ),
        ] {
            assert_eq!(shown.fields(fields()), of_fields);
            assert_eq!(shown.record(record(), &names), of_record);
        }
    }
}
