"""Arguments that the benches of the program share: their own, and those of the `bitfit train` they time."""
import argparse


def parser(doc):
    """A parser for a bench of this program on a model and a table of texts."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--bitfit", required=True, help="the program")
    made.add_argument("--model", required=True, help="Hugging Face folder")
    made.add_argument("--train", required=True, help="tsv with a header")
    return made


def precision(made):
    """Adds the option for a single precision, for benches without PyTorch."""
    made.add_argument("--precision", choices=("f32", "bf16"), default="f32")


def train(args, output, *more, train=None):
    """The command line of a run on the CPU without dropout. The rate is fixed: no bench depends on it."""
    words = ["train", "--model", args.model, "--train", train or args.train, "--output", output, "--dropout", 0, "--device", "cpu",
             "--precision", args.precision, "--lr", "1e-4", *more]
    return [args.bitfit, *map(str, words)]
