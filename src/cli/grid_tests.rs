use super::*;
use crate::settings::rate::Rate;

fn error(text: &str) -> String {
    let (line, problem) = Grid::parse(text).unwrap_err();
    format!("{line}: {problem}")
}

fn values(axis: &GridAxis) -> Vec<&str> {
    axis.values.iter().map(|value| value.given.text.as_str()).collect()
}

#[test]
fn a_grid_has_options_axes_and_variants_in_the_order_of_the_file() {
    let grid = Grid::parse(
        "model = \"m\"\n\n[grid]\nseed = [1, 2]\nlr = [3e-4,\n 1e-3]\n\n[[variant]]\nname = \"qi\"\n\
         biases = \"query,intermediate\"\n[[variant]]\nname = \"full\"\nlr = [1e-5]\nbetas = [[0.8, 0.99], [0.9, 0.999]]\n",
    )
    .unwrap();
    assert_eq!(grid.top.args.model.as_deref(), Some("m"));
    let options: Vec<_> = grid.axes.iter().map(|axis| (axis.option.as_str(), axis.line)).collect();
    assert_eq!(options, [("seed", 4), ("lr", 5)]);
    assert_eq!(values(&grid.axes[1]), ["3e-4", "1e-3"]);
    // The second is on a separate line.
    assert_eq!(grid.axes[1].values[1].line, 6);
    assert_eq!(grid.axes[1].values[1].given.args.lr, Some(Rate::Is(1e-3)));
    let [qi, full] = &grid.variants[..] else { panic!("{:?}", grid.variants) };
    assert_eq!((qi.name.as_str(), values(&qi.axes[0])), ("qi", vec!["query,intermediate"]));
    let methods: Vec<_> = full.axes.iter().map(|axis| axis.option.as_str()).collect();
    assert_eq!(methods, ["method", "lr", "betas"]);
    assert_eq!(full.axes[0].values[0].given.args.method, Some(Method::Full));
    assert_eq!(values(&full.axes[2]), ["0.8,0.99", "0.9,0.999"]);
}

#[test]
fn mistakes_have_their_line_and_a_way_out() {
    let cases = [
        ("lr = ", "1: not valid TOML"),
        ("modle = \"m\"", "1: unknown option `modle` (did you mean `model`?)"),
        ("[grids]\nlr = [1]", "1: unknown option `grids` (did you mean `grid`?)"),
        ("[grid]\n\nlrr = [1]", "3: unknown option `lrr`"),
        ("[grid]\nlr = 1", "2: `lr` should be a list of values, not of type integer"),
        ("[grid]\nlr = []", "2: `lr` has no value"),
        ("train = [\"a.tsv\", \"b.tsv\"]", "1: `train` takes one value, not a list"),
        ("[grid]\ndev = [[\"a.tsv\", \"b.tsv\"]]", "2: `dev` takes one value, not a list"),
        ("[grid]\nlr = [1e-3,\n0.001]", "3: `lr` has 0.001 twice"),
        ("[grid]\nlr = [1,\n\"fast\"]", "3: "),
        ("[grid]\nlr = [1, 2]\nlr = [3]", "3: not valid TOML"),
        ("[grid]\ntext_column = [\"a\"]\ntext-column = [\"b\"]", "3: `text-column` is set twice"),
        ("[grid]\nsteps = [1]\nepochs = [1]", "3: `epochs` and `steps` cannot be used together"),
        ("[grid]\nmodel = [\"a\", \"b\"]", "2: `model` must be the same for all runs"),
        ("[grid]\nlr = [{a = 1}]", "2: `lr` cannot be a table"),
        ("grid = 1", "1: `grid` is a section"),
        ("lr = 1\n[grid]\nlr = [1]", "3: `lr` has values here"),
        ("epochs = 1\n[grid]\nsteps = [1]", "3: `steps` has values here"),
        ("output = \"x\"", "1: the folder is not part of the grid"),
        ("config = \"x\"", "1: a grid cannot name another file"),
        ("[grid]\nresume = [true]", "2: a grid cannot set --resume"),
        ("[variant]\nname = \"a\"", "1: each variant is a section"),
        ("variant = [1]", "1: each variant is a section"),
        ("[[variant]]\nlr = 1", "1: this variant has no `name`"),
        ("[[variant]]\nnaem = \"a\"", "1: this variant has no `name` (is `naem` meant for it?)"),
        ("[[variant]]\nname = 3", "2: `name` is a text"),
        ("[[variant]]\nname = \"a b\"", "2: `a b` cannot be a run's name"),
        (
            "[[variant]]\nname = \"a\"\n[[variant]]\nname = \"a\"",
            "4: there is already a variant called `a`, on line 2",
        ),
        ("[[variant]]\nname = \"a\"\nbiases = \"qurey\"", "3: "),
        ("[[variant]]\nname = \"a\"\nthreads = 2", "3: `threads` must be the same"),
        (
            "[[variant]]\nname = \"full\"\nmethod = \"head\"",
            "3: this variant has the name of the method `full`",
        ),
        ("[[variant]]\nname = \"a\"\nlr = []", "3: `lr` has no value"),
    ];
    for (text, said) in cases {
        assert!(error(text).starts_with(said), "{text:?}: {}", error(text));
    }
    assert!(
        error("[[variant]]\nname = \"a\"\nbiases = \"qurey\"").contains("did you mean `query`?")
    );
    assert!(Grid::parse("[[variant]]\nname = \"full\"\nmethod = \"full\"").is_ok());
}

#[test]
fn no_text_makes_it_panic() {
    let pieces =
        ["[grid]\n", "[[variant]]\n", "name = ", "\"a\"", "lr = [", "1e-3", "]", "\n", "=", "é"];
    for a in 0..pieces.len() {
        for b in 0..pieces.len() {
            for c in 0..pieces.len() {
                let _ = Grid::parse(&[pieces[a], pieces[b], pieces[c], pieces[b]].concat());
            }
        }
    }
}
