#!/usr/bin/env python3
"""`bitfit predict` and transformers' pipeline on the same rows and the same model, alternating.

    python3 benches/predict_beside_torch.py --bitfit target/release/bitfit --model .cache/models/minilm \\
        --train .cache/data/movie-reviews.tsv --rows 10000 --rounds 5

The biases are trained for some steps under the checkpoint's pooler, so that `pipeline` can load the merged model. A short
trial on a tenth of the rows chooses the pipeline's batch size for each type. Its texts are sorted by length, in the trial and
in the rounds, because that saves padding and is its fastest setup; `bitfit` takes the rows as they come. In each round, every
side answers all rows, in turn. For `bitfit` the whole process is timed, from its start to the last answer; for the pipeline
only the calls, because its libraries take seconds to load. Prints the minimum, median and maximum over the rounds: texts per
second, texts per second of processor time (which says more if something else is running), and the ratios within a round. The
answers are compared.

Needs torch, transformers and safetensors; see scripts/requirements.txt.
"""
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import pipeline

import arguments

BATCHES = (1, 8, 16, 32, 64, 128)


def texts_of(path, count):
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    at = lines[0].split("\t").index("text")
    texts = [line.split("\t")[at] for line in lines[1:] if line]
    # If there are too few, they repeat from the start.
    return (texts * (count // len(texts) + 1))[:count]


class Pipeline:
    def __init__(self, folder, dtype, sample):
        self.pipe = pipeline("text-classification", model=str(folder), dtype=dtype, device="cpu", top_k=None)
        self.time(sample[:BATCHES[-1]], BATCHES[-1])
        speeds = {size: len(sample) / self.time(sample, size)[1] for size in BATCHES}
        self.size = max(speeds, key=speeds.get)
        print(f"  {dtype}: " + ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items()) + f"; takes {self.size}")

    def time(self, texts, size=None):
        """(seconds, seconds of processor time, answers in the order of the texts)"""
        wall, cpu = time.perf_counter(), time.process_time()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with torch.inference_mode():
            found = self.pipe([texts[i] for i in order], batch_size=size or self.size, truncation=True)
        answers = [None] * len(texts)
        for i, scores in zip(order, found):
            answers[i] = {score["label"]: score["score"] for score in scores}
        return time.perf_counter() - wall, time.process_time() - cpu, answers


def bitfit(args, delta, rows, precision):
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [args.bitfit, "predict", "--delta", str(delta), "--input", str(rows), "--output-format", "jsonl", "--quiet",
               "--device", "cpu", "--threads", str(args.threads), "--precision", precision]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, [json.loads(line)["probabilities"] for line in out.splitlines()]


def far(one, other):
    """The largest difference between two probabilities."""
    return max(abs(a[label] - b[label]) for a, b in zip(one, other) for label in a)


def main():
    parser = arguments.parser(__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = texts_of(args.train, args.rows)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        delta, merged, rows = folder / "run", folder / "merged", folder / "rows.tsv"
        subprocess.run([args.bitfit, "train", "--model", args.model, "--train", args.train, "--output", str(delta), "--steps",
                        "60", "--pooling", "cls", "--quiet", "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([args.bitfit, "merge", "--delta", str(delta), "--output", str(merged), "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        rows.write_text("\n".join(["text", *texts]) + "\n", encoding="utf-8")
        print("texts per second of processor time of the pipeline by batch size, on a tenth of the rows")
        peers = {"f32": Pipeline(merged, torch.float32, texts[:len(texts) // 10]),
                 "bf16": Pipeline(merged, torch.bfloat16, texts[:len(texts) // 10])}
        sides = {}
        for precision in ("bf16", "f32"):
            sides[f"bitfit {precision}"] = lambda p=precision: bitfit(args, delta, rows, p)
            sides[f"pipeline {precision}"] = lambda p=precision: peers[p].time(texts)
        seconds = {name: [] for name in sides}
        answers = {}
        for _ in range(args.rounds):
            for name, side in sides.items():
                wall, cpu, answers[name] = side()
                seconds[name].append((wall, cpu))
    three = lambda values: f"{min(values):,.2f} / {statistics.median(values):,.2f} / {max(values):,.2f}"
    print(f"{args.rounds} rounds of {len(texts):,} texts, {args.threads} threads; texts per second, min / median / max")
    for name, all in seconds.items():
        wall, cpu = [three([len(texts) / took[i] for took in all]) for i in range(2)]
        print(f"{name:14} {wall:34} per processor second {cpu}")
    for a, b in (("bitfit bf16", "pipeline bf16"), ("bitfit bf16", "pipeline f32"), ("bitfit f32", "pipeline f32")):
        wall, cpu = [three([y[i] / x[i] for x, y in zip(seconds[a], seconds[b])]) for i in range(2)]
        print(f"{a} over {b}: {wall}; by processor time {cpu}; "
              f"probabilities at most {far(answers[a], answers[b]):.1e} apart")


if __name__ == "__main__":
    main()
