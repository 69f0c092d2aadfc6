#!/usr/bin/env python3
"""Training steps of `bitfit` and of PyTorch on the same CPU, alternating.

    python3 benches/beside_torch.py --bitfit target/release/bitfit --model .cache/models/minilm \\
        --train .cache/data/movie-reviews.tsv --rounds 5 --steps 20

In each round, every side runs some steps in turn: `bitfit` in bf16 and f32, PyTorch in f32 and in bf16 autocast. All of them
train all biases and the head with dropout 0, on batches of the same rows. PyTorch pads, so its batches hold texts of similar
length (sorted, cut, and taken in random order), its fastest setup; `bitfit` packs, and takes rows as they come. Padding is not
counted. Prints the minimum, median and maximum over the rounds, in tokens per second and per second of processor time. The
latter says more if something else is running. `--pairs` joins every two neighbouring rows into a pair.

Needs torch, transformers and safetensors; see scripts/requirements.txt.
"""
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import torch
from transformers import AutoTokenizer

import arguments
import reference_model as ref
from review_rows import shuffled_rows, write_rows


class Torch:
    """Steps of PyTorch, grouped by length."""

    def __init__(self, args, rows):
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        self.model = ref.load(args.model, 2, "mean", dropout=0.0, attention="sdpa").train()
        trained = ref.trainables(self.model)
        self.optimizer = torch.optim.AdamW(trained.values(), lr=1e-4)
        encodings = sorted((ref.encode(tokenizer, *row[:2], max_length=args.max_length) for row in rows), key=lambda e: len(e[0]))
        size = args.batch_size
        self.batches = [encodings[n:n + size] for n in range(0, len(encodings) - size + 1, size)]
        random.Random(1).shuffle(self.batches)
        self.pad, self.next = tokenizer.pad_token_id, 0

    def steps(self, count, autocast):
        """(real tokens, seconds, seconds of processor time)"""
        tokens, wall, cpu = 0, time.perf_counter(), time.process_time()
        for _ in range(count):
            batch = self.batches[self.next % len(self.batches)]
            self.next += 1
            inputs = ref.collate(batch, self.pad)
            labels = torch.arange(len(batch)) % 2
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = self.model(**inputs).logits
            loss = ref.loss_of(logits.float(), labels, "classification")
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            tokens += int(inputs["attention_mask"].sum())
        return tokens, time.perf_counter() - wall, time.process_time() - cpu


def bitfit(args, data, steps, precision):
    """As Torch.steps, plus peak memory. The start-up cost of a run, measured by a run of one step, is not counted."""
    def run(steps):
        with tempfile.TemporaryDirectory() as folder:
            command = [args.bitfit, "train", "--model", args.model, "--train", data, "--output", folder + "/run",
                       "--batch-size", str(args.batch_size), "--steps", str(steps), "--dropout", "0", "--device", "cpu",
                       "--precision", precision, "--pooling", "mean", "--threads", str(args.threads), "--quiet", "--lr", "1e-4"]
            if args.max_length:
                command += ["--max-length", str(args.max_length)]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            lines = [json.loads(line) for line in open(folder + "/run/metrics.jsonl")]
            memory = json.load(open(folder + "/run/result.json"))["memory"]["peak_rss"]
        steps = [line for line in lines if "tokens_per_s" in line]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return steps, cpu, memory
    first, start, _ = run(1)
    lines, cpu, memory = run(steps + 1)
    counts = [b["tokens"] - a["tokens"] for a, b in zip(lines, lines[1:])]
    wall = sum(count / line["tokens_per_s"] for count, line in zip(counts, lines[1:]))
    return sum(counts), wall, max(cpu - start, 1e-9), memory


def main():
    parser = arguments.parser(__doc__)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precisions", nargs="+", choices=("bf16", "f32"), default=["bf16", "f32"],
                        help="give only f32 on a processor without bf16 dot products")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = shuffled_rows(args.train, args.pairs)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.tsv"
        write_rows(data, rows)
        peer = Torch(args, rows)
        sides = {}
        for precision in args.precisions:
            autocast = precision == "bf16"
            peer.steps(3, autocast)
            sides[f"bitfit {precision}"] = lambda precision=precision: bitfit(args, str(data), args.steps, precision)
            sides[f"PyTorch {precision}"] = lambda autocast=autocast: peer.steps(args.steps, autocast)
        found = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, side in sides.items():
                found[name].append(side())
    three = lambda values: f"{min(values):,.2f} / {statistics.median(values):,.2f} / {max(values):,.2f}"
    rates = {name: ([r[0] / r[1] for r in all], [r[0] / r[2] for r in all]) for name, all in found.items()}
    print(f"{args.rounds} rounds of {args.steps} steps, batches of {args.batch_size}, {args.threads} threads; min / median / max")
    for name, (wall, cpu) in rates.items():
        print(f"{name:13} tokens/s {three(wall):34} tokens per processor second {three(cpu)}")
    for a, b in (("bitfit bf16", "PyTorch bf16"), ("bitfit bf16", "PyTorch f32"), ("bitfit f32", "PyTorch f32")):
        if a not in rates or b not in rates:
            continue
        ratios = [[x / y for x, y in zip(rates[a][i], rates[b][i])] for i in range(2)]
        print(f"{a} over {b}: {three(ratios[0])}; by processor time {three(ratios[1])}")
    print("peak resident set, bytes: " + ", ".join(f"{name} {max(r[3] for r in found[name]):,}" for name in sides if name.startswith("bitfit")))
    print(f"PyTorch (both in one process, with its libraries) {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024:,}")


if __name__ == "__main__":
    main()
