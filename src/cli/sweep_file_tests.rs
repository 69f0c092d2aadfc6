use super::*;
use crate::settings::rate::Rate;
use crate::settings::train::TrainConfig;

fn run(name: &str, lr: f64) -> SweepRun {
    let output = PathBuf::from("out").join(name);
    let mut config = TrainConfig::with_defaults("m".to_owned(), Some("a.tsv".into()), output);
    config.lr = Rate::Is(lr);
    let axes = BTreeMap::from([("lr".to_owned(), lr.to_string())]);
    SweepRun { name: name.to_owned(), variant: "v".to_owned(), axes, config }
}

fn parse(text: &str) -> Result<Vec<SweepRun>, Mistake> {
    let flags = TrainArgs::default();
    parse_toml(text, |table, lines| read(table, lines, Path::new("out"), &flags))
}

fn error(text: &str) -> String {
    let (line, problem) = parse(text).unwrap_err();
    format!("{line}: {problem}")
}

#[test]
fn what_all_runs_share_stands_at_the_top_once() {
    let runs = [run("a", 0.1), run("b", 0.2)];
    let text = to_text(&runs).unwrap();
    assert_eq!(text.matches("model = ").count(), 1, "{text}");
    assert_eq!(text.matches("\nlr = ").count(), 4, "{text}");
    assert!(!text.contains("out"), "{text}");
    assert_eq!(parse(&text).unwrap(), runs);
    let alone = [run("a", 0.1)];
    assert_eq!(parse(&to_text(&alone).unwrap()).unwrap(), alone);
}

#[test]
fn a_broken_list_is_refused_by_line() {
    let top = "model = \"m\"\ntrain = \"a\"\n";
    let cases = [
        ("", "1: it should list runs"),
        ("run = 1", "1: it should list runs"),
        ("run = [1]", "3: this should be a section"),
        ("[[run]]\nvariant = \"v\"", "3: this run has no `name`"),
        ("[[run]]\nname = \"../a\"", "3: `../a` cannot be a run's name"),
        ("[[run]]\nname = \"a\"", "3: the run `a` has no `variant`"),
        ("[[run]]\nname = \"a\"\nvariant = \"v\"", "3: the run `a` has no `axes`"),
        ("[[run]]\nname = \"a\"\nvariant = \"v\"\naxes = {lr = 1}", "3: the run `a` has no `axes`"),
        ("[[run]]\nname = \"a\"\nvariant = \"v\"\naxes = {}\nlr = 0", "3: the run `a`: --lr must"),
        ("[[run]]\nname = \"a\"\nvariant = \"v\"\naxes = {}\nlrr = 0", "7: unknown option `lrr`"),
        ("output = \"x\"", "3: `output` cannot be set here"),
    ];
    for (text, said) in cases {
        let found = error(&format!("{top}{text}"));
        assert!(found.starts_with(said), "{text:?}: {found}");
    }
    let twice = "[[run]]\nname = \"a\"\nvariant = \"v\"\naxes = {}\n".repeat(2);
    assert!(error(&format!("{top}{twice}")).starts_with("7: two runs are called `a`"));
}

#[test]
fn another_sweep_is_told_by_what_differs() {
    let differs = |a: &[SweepRun], b: &[SweepRun]| difference(a, b).unwrap();
    let (a, b) = (run("a", 0.1), run("b", 0.2));
    let both = [a.clone(), b.clone()];
    assert_eq!(differs(&both, &both), None);
    let gone = differs(&both, std::slice::from_ref(&a)).unwrap();
    assert!(gone.contains("runs that this one does not: \"b\""), "{gone}");
    let new = differs(std::slice::from_ref(&a), &both).unwrap();
    assert!(new.contains("lacks the runs \"b\""), "{new}");
    let order = differs(&both, &[b.clone(), a.clone()]).unwrap();
    assert!(order.contains("another order"), "{order}");
    let rate = differs(&both, &[run("a", 0.3), b.clone()]).unwrap();
    assert!(rate.contains("in the run `a` lr was 0.1 and is 0.3"), "{rate}");
    let row = SweepRun { variant: "w".to_owned(), ..a.clone() };
    assert!(differs(&both, &[row, b.clone()]).unwrap().contains("another variant"));
    // The folder may have moved, and threads do not affect results.
    let mut moved = both.clone();
    moved[0].config.output = "elsewhere/a".into();
    moved[0].config.threads = Some(3);
    assert_eq!(differs(&both, &moved), None);
}
