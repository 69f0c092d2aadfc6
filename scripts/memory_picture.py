#!/usr/bin/env python3
"""Measures the peak memory of processes that run training steps of BERT-base, and draws docs/pictures/memory.svg.

    cargo build --release
    python3 scripts/memory_picture.py --bitfit target/release/bitfit

PyTorch runs one step of `saved_bytes.py`, `bitfit` two of `train`: 32 texts of 128 tokens, f32 arithmetic, no dropout, two
threads, a model of BERT-base's shape with random weights. The whole process counts, including its libraries and loading the
model. Prints one row per process. --figures FILE saves the figures as JSON, or draws from that file if it exists.

Needs torch and transformers; see requirements.txt.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
BATCH, LENGTH, STEPS, THREADS = 32, 128, 2, 2
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# Name, program, and its options.
ROWS = [
    ("PyTorch, full fine-tuning", "torch", ["full"]),
    ("PyTorch, biases", "torch", ["bitfit"]),
    ("bitfit, full fine-tuning", "bitfit", ["--method", "full"]),
    ("bitfit, biases", "bitfit", []),
    ("bitfit, biases, --saving recompute", "bitfit", ["--saving", "recompute"]),
    ("the same with --weights nf4", "bitfit", ["--saving", "recompute", "--weights", "nf4"]),
]


def make_model(folder):
    """A checkpoint of BERT-base's shape in which each word is one token, and a table of texts that fill the batches."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig.from_pretrained(ROOT / "scripts/shapes/bert-base")
    BertForSequenceClassification(config).bert.save_pretrained(folder / "model")
    words = [f"w{n}" for n in range(config.vocab_size - len(SPECIAL))]
    (folder / "model" / "vocab.txt").write_text("\n".join(SPECIAL + words) + "\n")
    rows = ["text\tlabel"]
    for row in range(BATCH * STEPS):
        text = " ".join(words[(row * 31 + n * 7) % len(words)] for n in range(LENGTH - 2))
        rows.append(f"{text}\t{'ab'[row % 2]}")
    (folder / "texts.tsv").write_text("\n".join(rows) + "\n")


def torch_peak(method):
    command = [sys.executable, ROOT / "scripts/saved_bytes.py", "--shape", "bert-base", "--methods", method, "--types", "f32"]
    command += ["--batch", str(BATCH), "--length", str(LENGTH), "--threads", str(THREADS)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["rss_peak_bytes"]


def bitfit_peak(program, folder, options):
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [program, "train", "--model", folder / "model", "--train", folder / "texts.tsv", "--output", run]
        command += ["--steps", STEPS, "--batch-size", BATCH, "--max-length", LENGTH, "--dropout", 0, "--threads", THREADS]
        command += ["--device", "cpu", "--precision", "f32", "--quiet", *options]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads((run / "result.json").read_text())["memory"]["peak_rss"]


def measured(program):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_model(folder)
        for name, kind, options in ROWS:
            peak = torch_peak(*options) if kind == "torch" else bitfit_peak(program, folder, options)
            print(f"{name:<40}{peak / 1e6:>8,.0f} MB", flush=True)
            yield {"name": name, "program": kind, "bytes": peak}


def picture(figures):
    """Draws bars with their numbers. PyTorch's are hatched, so that they can be told apart without colour."""
    left, width, bar, gap, top = 300, 480, 26, 12, 66
    most = max(figure["bytes"] for figure in figures)
    height = top + len(figures) * (bar + gap) + 28
    title = "Peak memory of the process in a training step of BERT-base"
    under = f"{BATCH} texts of {LENGTH} tokens, f32 arithmetic on a CPU, no dropout; libraries and loading included"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}" viewBox="0 0 900 {height}" '
        'font-family="sans-serif" font-size="15" fill="#222222" role="img">',
        f"<title>{title}</title>",
        '<defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="8" height="8" fill="#f2dccf"/><rect width="3" height="8" fill="#c2571a"/></pattern></defs>',
        f'<rect width="900" height="{height}" fill="#ffffff"/>',
        f'<text x="20" y="28" font-size="19">{title}</text>',
        f'<text x="20" y="49" font-size="13" fill="#555555">{under}</text>',
    ]
    for index, figure in enumerate(figures):
        y = top + index * (bar + gap)
        length = max(2, round(width * figure["bytes"] / most))
        fill, edge = ("url(#hatch)", "#c2571a") if figure["program"] == "torch" else ("#1b4f80", "#1b4f80")
        lines += [
            f'<text x="{left - 12}" y="{y + 18}" text-anchor="end">{escape(figure["name"])}</text>',
            f'<rect x="{left}" y="{y}" width="{length}" height="{bar}" fill="{fill}" stroke="{edge}"/>',
            f'<text x="{left + length + 10}" y="{y + 18}">{figure["bytes"] / 1e6:,.0f} MB</text>',
        ]
    bottom = top + len(figures) * (bar + gap) - gap + 6
    lines += [f'<line x1="{left}" y1="{top - 6}" x2="{left}" y2="{bottom}" stroke="#222222"/>', "</svg>"]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bitfit", default=ROOT / "target/release/bitfit", help="the program")
    p.add_argument("--figures", type=Path, help="JSON file of the figures: read if it exists, otherwise written")
    p.add_argument("--output", type=Path, default=ROOT / "docs/pictures/memory.svg")
    args = p.parse_args()
    if args.figures and args.figures.exists():
        figures = json.loads(args.figures.read_text())
    else:
        figures = list(measured(args.bitfit))
        if args.figures:
            args.figures.write_text(json.dumps(figures, indent=1) + "\n")
    args.output.write_text(picture(figures))


if __name__ == "__main__":
    main()
