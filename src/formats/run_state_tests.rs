//! Checkpoints written, read back and damaged.

use super::*;
use crate::error::one_line;
use crate::settings::train::TrainConfig;
use proptest::prelude::*;

fn fingerprint() -> Fingerprint {
    let config = TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), "out".into());
    Fingerprint::of(&config).unwrap().with("base weights", "abc")
}

fn example() -> Checkpoint {
    Checkpoint {
        total: 10_000,
        step: 7,
        epoch: 1,
        batches_in_epoch: 3,
        tokens: u64::MAX,
        seconds: 0.1 + 0.2,
        evaluations_without_gain: 2,
        metrics_len: 1234,
        loss_scaling: Some(LossScaling { scale: 65_536.0, good_steps: 1_999 }),
        best: Some(Best { value: 0.1 + 0.2, step: 5, sha256: Some("0af3".into()) }),
    }
}

fn vectors() -> Vectors {
    Vectors {
        trainables: vec![1.0, -0.0, 1e-45],
        first_moment: vec![0.1, 0.2, f32::MIN_POSITIVE],
        second_moment: vec![0.0, 1e-30, 3.0],
    }
}

fn bits(vectors: &Vectors) -> Vec<u32> {
    let Vectors { trainables, first_moment, second_moment } = vectors;
    let all = trainables.iter().chain(first_moment).chain(second_moment);
    all.map(|value| value.to_bits()).collect()
}

fn save(checkpoint: &Checkpoint, vectors: &Vectors, path: &Path) -> Result<()> {
    checkpoint.save(path, &fingerprint(), vectors.trainables.len(), |slot, range| {
        let vector = match slot {
            Slot::Value => &vectors.trainables,
            Slot::Moment1 => &vectors.first_moment,
            Slot::Moment2 => &vectors.second_moment,
            Slot::Gradient => panic!("gradients are not kept"),
        };
        Ok(vector[range].to_vec())
    })
}

fn container() -> Container {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    save(&example(), &vectors(), &path).unwrap();
    Container::read(&path).unwrap()
}

fn with_metadata(key: &str, value: Option<&str>) -> String {
    let mut container = container();
    match value {
        Some(value) => container.metadata.insert(key.into(), value.into()),
        None => container.metadata.remove(key),
    };
    Checkpoint::from_container(container, &fingerprint(), 3).unwrap_err().to_string()
}

#[test]
fn a_checkpoint_round_trips_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    for checkpoint in [example(), Checkpoint { loss_scaling: None, best: None, ..example() }] {
        save(&checkpoint, &vectors(), &path).unwrap();
        let (loaded, read) = Checkpoint::load(&path, &fingerprint(), 3).unwrap();
        assert_eq!(loaded, checkpoint);
        assert_eq!(bits(&read), bits(&vectors()));
    }
}

#[test]
fn a_run_with_other_settings_is_told_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    save(&example(), &vectors(), &path).unwrap();
    let other = fingerprint().with("base weights", "def");
    let line = one_line(&Checkpoint::load(&path, &other, 3).unwrap_err());
    assert!(
        line.contains("base weights") && line.contains("abc") && line.contains("def"),
        "{line}"
    );
}

#[test]
fn a_checkpoint_of_another_size_is_refused() {
    let error = Checkpoint::from_container(container(), &fingerprint(), 4).unwrap_err();
    assert!(matches!(error, CheckpointError::WrongLength { found: 3, expected: 4, .. }));
    let mut container = container();
    container.tensors.remove("second_moment");
    let error = Checkpoint::from_container(container, &fingerprint(), 3).unwrap_err();
    assert!(matches!(error, CheckpointError::MissingTensor("second_moment")));
}

#[test]
fn damaged_metadata_is_named() {
    for version in ["1", "2"] {
        let said = with_metadata("format_version", Some(version));
        assert!(said.contains(&format!("its format has version {version}")), "{said}");
    }
    assert!(with_metadata("format_version", Some("1")).contains("version 1"));
    assert!(with_metadata("checksum", None).contains("`checksum`"));
    assert!(with_metadata("seconds", Some("inf")).contains("wrong `seconds`: `inf`"));
    assert!(with_metadata("step", None).contains("`step`"));
    assert!(with_metadata("epoch", Some("-1")).contains("wrong `epoch`: `-1`"));
    assert!(with_metadata("loss_scale", Some("x")).contains("wrong `loss_scale`: `x`"));
    assert!(with_metadata("loss_scale_good_steps", None).contains("`loss_scale_good_steps`"));
    assert!(with_metadata("best_bits", None).contains("`best_bits`"));
}

#[test]
fn a_changed_number_or_bit_is_noticed() {
    for (key, value) in [("step", "8"), ("best_step", "6"), ("tokens", "1"), ("new", "x")] {
        assert!(with_metadata(key, Some(value)).contains("checksum"), "{key}");
    }
    for (name, _) in VECTORS {
        for place in 0..3 {
            let mut damaged = container();
            let value = &mut damaged.tensors.get_mut(name).unwrap().data[place];
            *value = f32::from_bits(value.to_bits() ^ 1);
            let read = Checkpoint::from_container(damaged, &fingerprint(), 3);
            assert!(matches!(read, Err(CheckpointError::Damaged)), "{name} {place}");
        }
    }
}

#[test]
fn a_failed_save_keeps_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    save(&example(), &vectors(), &path).unwrap();
    let gone = folder.path().join("gone/checkpoint");
    assert!(save(&example(), &vectors(), &gone).is_err());
    let unread = example().save(&path, &fingerprint(), 3, |_, _| anyhow::bail!("no device"));
    assert!(unread.is_err());
    assert!(Checkpoint::load(&path, &fingerprint(), 3).is_ok());
}

proptest! {
    #[test]
    fn any_finite_state_survives(
        values in proptest::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..20),
        best in any::<u64>(), step in any::<u64>(),
    ) {
        let checkpoint = Checkpoint {
            total: 10_000,
            step,
            best: Some(Best { value: f64::from_bits(best), step, sha256: None }),
            ..Checkpoint::default()
        };
        let vectors = Vectors {
            trainables: values.clone(),
            first_moment: values.iter().rev().copied().collect(),
            second_moment: values.clone(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        save(&checkpoint, &vectors, &path).unwrap();
        let (loaded, read) = Checkpoint::load(&path, &fingerprint(), values.len()).unwrap();
        prop_assert_eq!(bits(&read), bits(&vectors));
        prop_assert_eq!(loaded.best.unwrap().value.to_bits(), best);
        prop_assert_eq!(loaded.step, step);
    }
}
