#!/usr/bin/env python3
"""How long a user waits for the first training step, and for the answer to one text.

    python3 benches/latency.py --bitfit target/release/bitfit --model .cache/models/minilm \\
        --train .cache/data/movie-reviews.tsv --rounds 11

Times whole processes, from start to end, with the files in the system's cache: a run of one step on 32 rows with all threads,
and `predict` of one row on one thread. The time of a single further answer is the difference between 201 rows and 1 row, in
batches of one, divided by 200. Prints minimum, median and maximum in milliseconds.
"""
import itertools
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import arguments


def main():
    parser = arguments.parser(__doc__)
    arguments.precision(parser)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    run = lambda command: subprocess.run(command, check=True, capture_output=True)

    def milliseconds(command):
        start = time.perf_counter()
        run(command)
        return (time.perf_counter() - start) * 1e3

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lines = Path(args.train).read_text(encoding="utf-8").split("\n")
        rows = {}
        for count in (1, 32, 201):
            rows[count] = folder / f"{count}.tsv"
            rows[count].write_text("\n".join(lines[:count + 1]) + "\n")
        outputs = (folder / f"run-{n}" for n in itertools.count())
        delta = next(outputs)
        run(arguments.train(args, delta, "--steps", 1))
        predict = lambda count: [args.bitfit, "predict", "--delta", str(delta), "--input", str(rows[count]), "--threads", "1",
                                 "--batch-size", "1", "--device", "cpu", "--precision", args.precision]
        first, one, each = [], [], []
        for _ in range(args.rounds):
            first.append(milliseconds(arguments.train(args, next(outputs), "--steps", 1, "--batch-size", 32, train=rows[32])))
            one.append(milliseconds(predict(1)))
            each.append((milliseconds(predict(201)) - one[-1]) / 200)
    for name, values in (("to the end of a run of one step", first), ("predict, one text, whole process", one),
                         ("predict, each further text", each)):
        print(f"{name:34} {min(values):7.1f} / {statistics.median(values):7.1f} / {max(values):7.1f} ms")


if __name__ == "__main__":
    main()
