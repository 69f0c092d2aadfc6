#!/usr/bin/env python3
"""Time per token of a training step on the CPU, against length, batch size, threads and layers.

    python3 benches/time_per_token.py --bitfit target/release/bitfit --picture docs/pictures/cpu-time-per-token.svg

Trains models of MiniLM's width with random weights on rows that fill each batch exactly: all biases and the head, dropout 0.
One thing varies at a time; the others stay at length 128, batches of 32, one thread per processor and 6 layers. Each point is
the median of `--steps` steps, after two that are not counted. Points are measured in shuffled order, in `--rounds` rounds, and
the best round of each point counts, because other load only ever adds time. Prints a table and draws it. Needs matplotlib.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from shaped_model import make_data, make_model

HIDDEN, HEADS = 384, 12
LENGTHS = (16, 32, 64, 128, 256, 512)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
LAYERS = (1, 2, 4, 6, 12, 24)


def measure(args, folder, length, batch, threads, layers):
    """Median seconds per step."""
    model, data = folder / f"model-{layers}", folder / f"rows-{length}-{batch}.tsv"
    if not model.exists():
        make_model(model, HIDDEN, HEADS, layers, 512)
    if not data.exists():
        make_data(data, 2 * batch, length)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        subprocess.run([args.bitfit, "train", "--model", model, "--train", data, "--output", run + "/run", "--max-length",
                        str(length), "--batch-size", str(batch), "--steps", str(args.steps + 2), "--dropout", "0",
                        "--precision", args.precision, "--device", "cpu", "--threads", str(threads), "--quiet", "--lr", "1e-4"],
                       check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in open(run + "/run/metrics.jsonl")]
    rates = [line["tokens_per_s"] for line in lines if "tokens_per_s" in line][2:]
    return length * batch / statistics.median(rates)


def draw(path, series, title):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bitfit"
    from matplotlib import pyplot
    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), constrained_layout=True)
    for panel, (name, points) in zip(panels.flat, series.items()):
        xs, ys = [p[0] for p in points], [p[1] * 1e6 for p in points]
        panel.plot(xs, ys, "o-", color="black")
        panel.set_xlabel(name)
        panel.set_ylabel("µs per token")
        panel.set_ylim(bottom=0)
        if name != "threads":
            panel.set_xscale("log", base=2)
        panel.set_xticks(xs, [str(x) for x in xs])
        panel.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bitfit", required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    cores = os.cpu_count()
    base = {"tokens per row": 128, "rows per batch": 32, "threads": cores, "layers": 6}
    grid = {"tokens per row": LENGTHS, "rows per batch": BATCHES, "threads": sorted({1, cores, 2 * cores, 4 * cores}),
            "layers": LAYERS}
    points = sorted({tuple({**base, name: value}.values()) for name, values in grid.items() for value in values})
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        for round in range(args.rounds):
            random.Random(round).shuffle(points)
            for done, point in enumerate(points):
                print(f"\rround {round + 1}: {done}/{len(points)}", end="", file=sys.stderr)
                best[point] = min(best.get(point, float("inf")), measure(args, Path(folder), *point))
    print(file=sys.stderr)
    series = {}
    for name, values in grid.items():
        print(f"\n| {name} | ms per step | µs per token |\n|---:|---:|---:|")
        series[name] = []
        for value in values:
            point = tuple({**base, name: value}.values())
            seconds = best[point]
            series[name].append((value, seconds / (point[0] * point[1])))
            print(f"| {value} | {seconds * 1e3:,.1f} | {series[name][-1][1] * 1e6:,.2f} |")
    if args.picture:
        draw(args.picture, series, f"A training step of MiniLM's width, {args.precision}, {cores} cores")


if __name__ == "__main__":
    main()
