#!/usr/bin/env python3
"""Training steps on a quiet machine and with one core kept busy by another program, alternating.

    python3 benches/busy_core.py --bitfit target/release/bitfit --model .cache/models/minilm \\
        --train .cache/data/movie-reviews.tsv --rounds 5

Other threads take over the work of a late one, so losing one of two cores should cost about half the speed. Prints tokens per
second and the ratio within a round: minimum, median and maximum. The other program spins on core 0 only.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import arguments

SPIN = "import os\nos.sched_setaffinity(0, {0})\nwhile True: pass"


@contextmanager
def busy():
    other = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def tokens_per_second(args):
    """Over all steps except the first."""
    with tempfile.TemporaryDirectory() as folder:
        command = arguments.train(args, folder + "/run", "--batch-size", 32, "--steps", args.steps + 1, "--quiet")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in open(folder + "/run/metrics.jsonl")]
    steps = [line for line in lines if "tokens_per_s" in line]
    counts = [b["tokens"] - a["tokens"] for a, b in zip(steps, steps[1:])]
    return sum(counts) / sum(count / line["tokens_per_s"] for count, line in zip(counts, steps[1:]))


def main():
    parser = arguments.parser(__doc__)
    arguments.precision(parser)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    quiet, disturbed = [], []
    for _ in range(args.rounds):
        quiet.append(tokens_per_second(args))
        with busy():
            disturbed.append(tokens_per_second(args))
    ratios = [b / a for a, b in zip(quiet, disturbed)]
    for name, values, digits in (("quiet, tokens/s", quiet, 0), ("one core busy, tokens/s", disturbed, 0), ("ratio", ratios, 2)):
        print(f"{name:24} {min(values):,.{digits}f} / {statistics.median(values):,.{digits}f} / {max(values):,.{digits}f}")
    print(f"{args.rounds} rounds of {args.steps} steps, {os.cpu_count()} cores; minimum / median / maximum")


if __name__ == "__main__":
    main()
