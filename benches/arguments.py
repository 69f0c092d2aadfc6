"""The arguments that the benches of the program share: their own, and those of the `bitfit train` that they time."""
import argparse


def parser(doc):
    """For a bench of this program on a model and a table of texts."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--bitfit", required=True, help="the program")
    made.add_argument("--model", required=True, help="Hugging Face folder")
    made.add_argument("--train", required=True, help="tsv with a header")
    return made


def precision(made):
    """Adds the one precision that a bench without PyTorch takes."""
    made.add_argument("--precision", choices=("f32", "bf16"), default="f32")


def train(args, output, *more, train=None):
    """Command words of a run on the CPU without dropout, at a rate that no bench depends on."""
    words = ["train", "--model", args.model, "--train", train or args.train, "--output", output, "--dropout", 0, "--device", "cpu",
             "--precision", args.precision, "--lr", "1e-4", *more]
    return [args.bitfit, *map(str, words)]
