#!/usr/bin/env python3
"""How far bias gradients in bf16 are from those in f32, tensor by tensor, on batches of real text.

    python3 scripts/gradient_errors.py --bitfit target/release/bitfit --model .cache/models/minilm \\
        --train .cache/data/movie-reviews.tsv

Each batch is one step of `bitfit train` in each precision, from the same state. The run's checkpoint has AdamW's first moment, which
is then (1 - beta1) times the gradient. An error is ||bf16 - f32|| / ||f32||. `--pairs` joins every two neighbouring rows into a pair.
`--torch` adds the same error for PyTorch's autocast in bf16, from a head of its own. Needs numpy and safetensors, and torch and
transformers with `--torch`; see requirements.txt.
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from review_rows import shuffled_rows, write_rows


def gradients(args, data, precision, folder):
    """{name of a trained tensor: its gradient}"""
    run = str(Path(folder) / precision)
    subprocess.run(
        [args.bitfit, "train", "--model", args.model, "--train", data, "--output", run, "--batch-size", str(args.batch_size),
         "--steps", "1", "--save-steps", "1", "--clip-norm", "0", "--dropout", "0", "--warmup", "0", "--no-shuffle", "--device", "cpu",
         "--precision", precision, "--seed", "1", "--quiet"],
        check=True, stdout=subprocess.DEVNULL)
    state, delta = load_file(f"{run}/checkpoint.safetensors"), load_file(f"{run}/bias.safetensors")
    moment, values = state["first_moment"], state["trainables"]
    found = {}
    for name, tensor in delta.items():
        tensor = tensor.ravel()
        starts = np.flatnonzero(values[: len(values) - len(tensor) + 1] == tensor[0])
        at = [s for s in starts if np.array_equal(values[s:s + len(tensor)], tensor)]
        if len(at) != 1:
            raise SystemExit(f"{name} occurs {len(at)} times among the trained values")
        found[name] = moment[at[0]:at[0] + len(tensor)].astype(np.float64)
    if sum(map(len, found.values())) != len(values):
        raise SystemExit("the delta does not have everything that was trained")
    return found


def torch_gradients(args):
    """The same in PyTorch: returns a function of rows, and of whether products are in bf16."""
    import torch
    from transformers import AutoTokenizer

    import reference_model as ref

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = ref.load(args.model, 2, "mean", dropout=0.0, attention="sdpa").train()
    trained = ref.trainables(model)

    def of(rows, autocast):
        inputs = ref.collate([ref.encode(tokenizer, *row[:2], max_length=None) for row in rows], tokenizer.pad_token_id)
        classes = sorted({row[2] for row in rows})
        labels = torch.tensor([classes.index(row[2]) for row in rows])
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(**inputs).logits
        ref.loss_of(logits.float(), labels, "classification").backward()
        found = {name: value.grad.double().numpy().ravel().copy() for name, value in trained.items() if value.grad is not None}
        model.zero_grad()
        return found
    return of


def error(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bitfit", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=8)
    args = parser.parse_args()
    rows = shuffled_rows(args.train, args.pairs)
    of_torch = torch_gradients(args) if args.torch else None
    together = {"all that trains": [], "all but the head": []}
    together |= {f"PyTorch's autocast, {what}": [] for what in list(together)} if of_torch else {}
    of_kind = {}
    for n in range(args.batches):
        batch = rows[n * args.batch_size:(n + 1) * args.batch_size]
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "rows.tsv"
            write_rows(data, batch)
            sides = {"": [gradients(args, str(data), precision, folder) for precision in ("bf16", "f32")]}
        if of_torch:
            sides["PyTorch's autocast, "] = [of_torch(batch, autocast) for autocast in (True, False)]
        for whose, (bf16, f32) in sides.items():
            for what, names in (("all that trains", list(f32)), ("all but the head", [n for n in f32 if not n.startswith("classifier.")])):
                together[whose + what].append(error(*(np.concatenate([side[name] for name in names]) for side in (bf16, f32))))
        bf16, f32 = sides[""]
        for name in bf16:
            # A key's bias adds the same to all scores of a row, which softmax does not see: its gradient is 0, or rounding.
            if ".key." not in name:
                kind = ".".join(part for part in name.split(".") if not part.isdigit())
                of_kind.setdefault(kind, []).append(error(bf16[name], f32[name]))
    percent = lambda values: " / ".join(f"{100 * f(values):.2f}" for f in (np.min, np.median, np.max))
    print(f"{args.batches} batches of {args.batch_size}; percent, min / median / max over batches and layers")
    for what, errors in (together | of_kind).items():
        print(f"{what:55} {percent(errors)}")


if __name__ == "__main__":
    main()
