#!/usr/bin/env python3
"""BitFit in PyTorch, to compare with the `bitfit` program on the same model, file, head and order of rows
(`bitfit train --weights f32 --precision f32`).

    # step by step against bitfit: same head, rows in the file's order
    python3 scripts/torch_reference.py --model .cache/models/minilm --train train.tsv \\
        --pooling cls --init-head head.safetensors --no-shuffle --dropout 0 --steps 30
    # a whole run
    python3 scripts/torch_reference.py --model .cache/models/minilm --train train.tsv --dev dev.tsv \\
        --epochs 3 --batch-size 32 --warmup 0.06 --dropout 0
    # only write a head file for both
    python3 scripts/torch_reference.py --model .cache/models/minilm --write-head head.safetensors --seed 7 --labels 2

Prints JSON lines: {"step", "epoch", "loss", "lr", "grad_norm", "tokens", "seconds"} for every step (loss: mean over the batch
before the update; grad_norm: before clipping), {"step", "epoch", "eval": {...}} after every epoch, and {"summary": {...}} at
the end. Batches are consecutive rows (of the file with --no-shuffle, otherwise of a seeded permutation), padded to their longest
text; a smaller last batch is used, too. Classes are numbered in sorted order, integers in numerical order. Schedule and optimizer
are those of reference_model.py.

Needs torch, transformers, safetensors and scikit-learn; see requirements.txt.
"""
import argparse
import json
import math
import re
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer

import reference_model as ref


def read_tsv(path, text, pair, label):
    """(texts, pairs or None each, labels as written). Quotes are ordinary characters."""
    lines = Path(path).read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    header = lines[0].split("\t")
    for column in (text, label):
        if column not in header:
            raise SystemExit(f"{path} has no column '{column}'; it has {', '.join(header)}")
    rows = [line.split("\t") for line in lines[1:] if line]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise SystemExit(f"{path}, line {number}: {len(row)} fields, the header has {len(header)}")
    pick = lambda column: [row[header.index(column)] for row in rows]
    pairs = [value or None for value in pick(pair)] if pair in header else [None] * len(rows)
    return pick(text), pairs, pick(label)


def class_names(labels):
    """The distinct labels, in numerical order if all are integers, otherwise in lexical order."""
    distinct = sorted(set(labels))
    return sorted(distinct, key=int) if all(re.fullmatch(r"-?\d+", v) for v in distinct) else distinct


class Data:
    """A tokenized file. Labels become class numbers or floats."""

    def __init__(self, path, args, tokenizer, classes):
        texts, pairs, labels = read_tsv(path, args.text_column, args.text_pair_column, args.label_column)
        self.encodings = [ref.encode(tokenizer, *row, max_length=args.max_length) for row in zip(texts, pairs)]
        if args.task == "regression":
            self.labels, self.classes = torch.tensor([float(v) for v in labels]), None
        else:
            self.classes = classes or class_names(labels)
            unseen = sorted(set(labels) - set(self.classes))
            if unseen:
                raise SystemExit(f"{path}: label '{unseen[0]}' is not in the training file")
            self.labels = torch.tensor([self.classes.index(v) for v in labels])

    def batch(self, rows, pad_id):
        inputs = ref.collate([self.encodings[row] for row in rows], pad_id)
        return inputs, self.labels[torch.tensor(rows)]


def metrics(task, logits, labels):
    if task == "regression":
        from scipy.stats import pearsonr, spearmanr

        guess = logits.squeeze(-1).numpy()
        return {"pearson": float(pearsonr(guess, labels)[0]), "spearman": float(spearmanr(guess, labels)[0])}
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    guess = logits.argmax(-1)
    return {
        "accuracy": float(accuracy_score(labels, guess)),
        "macro_f1": float(f1_score(labels, guess, average="macro")),
        "matthews": float(matthews_corrcoef(labels, guess)),
    }


@torch.no_grad()
def evaluate(model, data, args, pad_id):
    model.eval()
    logits = []
    order = sorted(range(len(data.encodings)), key=lambda row: len(data.encodings[row][0]))
    for start in range(0, len(order), args.batch_size):
        inputs, _ = data.batch(order[start : start + args.batch_size], pad_id)
        logits.append(model(**inputs).logits)
    model.train()
    logits = torch.cat(logits)
    labels = data.labels[torch.tensor(order)]
    loss = float(ref.loss_of(logits, labels, args.task))
    return {"loss": loss, **metrics(args.task, logits, labels)}


def set_head(model, args):
    """Loads --init-head, or draws N(0, 0.02) weights and zero biases from --seed; writes --write-head."""
    head = {name: p for name, p in model.named_parameters() if name.startswith("classifier.")}
    if args.init_head:
        given = load_file(args.init_head)
        if set(given) != set(head) or any(given[name].shape != head[name].shape for name in head):
            want = ", ".join(f"{name} {list(p.shape)}" for name, p in head.items())
            raise SystemExit(f"{args.init_head}: expected exactly {want}")
    else:
        draw = torch.Generator().manual_seed(args.seed)
        given = {
            name: torch.randn(p.shape, generator=draw) * 0.02 if p.dim() == 2 else torch.zeros(p.shape)
            for name, p in head.items()
        }
    with torch.no_grad():
        for name, p in head.items():
            p.copy_(given[name])
    if args.write_head:
        save_file(given, args.write_head, metadata={"format": "pt"})


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="Hugging Face folder")
    p.add_argument("--train", help="tsv with a header")
    p.add_argument("--dev", help="tsv with a header")
    p.add_argument("--task", choices=["classification", "regression"], default="classification")
    p.add_argument("--labels", type=int, help="number of classes, only for --write-head without --train")
    p.add_argument("--text-column", default="text")
    p.add_argument("--text-pair-column", default="text_pair")
    p.add_argument("--label-column", default="label")
    p.add_argument("--method", choices=["bitfit", "head", "full"], default="bitfit")
    p.add_argument("--biases", default="all", help="all, or names as for bitfit, e.g. query,intermediate@4..6")
    p.add_argument("--pooling", choices=["cls", "mean"], default="cls")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--betas", type=float, nargs=2, default=[0.9, 0.999])
    p.add_argument("--eps", type=float, default=1e-6)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--schedule", choices=["constant", "linear"], default="linear")
    p.add_argument("--warmup", default="0", help="a number of steps (100), or a fraction of all steps (0.06), rounded up")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--steps", type=int, help="stop after this many steps; the schedule ends there, too")
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--clip-norm", type=float, default=1.0, help="0 is off")
    p.add_argument("--max-length", type=int, help="default: the most that the model has positions for")
    p.add_argument("--dropout", type=float, help="default: the model config's")
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--no-shuffle", action="store_true")
    p.add_argument("--init-head", metavar="FILE")
    p.add_argument("--write-head", metavar="FILE")
    p.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    p.add_argument("--save", metavar="FILE", help="write the trained tensors to this safetensors file")
    p.add_argument("--threads", type=int, default=2)
    args = p.parse_args()
    if not args.train and not args.write_head:
        p.error("give --train, or --write-head")
    if not args.train and args.task == "classification" and not args.labels:
        p.error("--write-head without --train needs --labels")
    return args


def say(**fields):
    print(json.dumps(fields), flush=True)


def train(model, data, dev, args, pad_id):
    """The training loop. Returns (names of what trained, seconds of each step)."""
    count = len(data.encodings)
    per_epoch = -(-count // args.batch_size)
    total = args.steps or args.epochs * per_epoch
    warmup = int(args.warmup) if args.warmup.isdigit() else math.ceil(float(args.warmup) * total)
    chosen = ref.trainables(model, args.method, args.biases)
    optimizer = ref.Optimizer(chosen.values(), args.lr, total, args.schedule, warmup, args.clip_norm,
                              tuple(args.betas), args.eps, args.weight_decay)
    shuffler = numpy.random.default_rng(args.seed)
    model.train()
    seconds, step, epoch = [], 0, 0
    while step < total:
        order = list(range(count)) if args.no_shuffle else shuffler.permutation(count).tolist()
        for start in range(0, count, args.batch_size):
            if step == total:
                break
            began = time.perf_counter()
            inputs, labels = data.batch(order[start : start + args.batch_size], pad_id)
            loss = ref.loss_of(model(**inputs).logits, labels, args.task)
            loss.backward()
            rate, norm = optimizer.step()
            seconds.append(time.perf_counter() - began)
            step += 1
            tokens = int(inputs["attention_mask"].sum())
            say(step=step, epoch=epoch, loss=float(loss.detach()), lr=rate, grad_norm=norm, tokens=tokens,
                seconds=round(seconds[-1], 4))
        epoch += 1
        if dev:
            say(step=step, epoch=epoch, eval=evaluate(model, dev, args, pad_id))
    return chosen, seconds


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)  # dropout
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    args.max_length = ref.longest(AutoConfig.from_pretrained(args.model), args.max_length)
    data = Data(args.train, args, tokenizer, None) if args.train else None
    outputs = 1 if args.task == "regression" else (len(data.classes) if data else args.labels)
    model = ref.load(args.model, outputs, args.pooling, args.dropout, args.attention)
    set_head(model, args)
    if not data:
        return
    dev = Data(args.dev, args, tokenizer, data.classes) if args.dev else None
    began = time.perf_counter()
    chosen, seconds = train(model, data, dev, args, tokenizer.pad_token_id)
    if args.save:
        save_file({name: p.detach().contiguous() for name, p in chosen.items()}, args.save)
    settled = seconds[3:] or seconds  # the first steps include allocation and starting threads
    say(summary={
        "rows": len(data.encodings), "trainable": sum(p.numel() for p in chosen.values()),
        "steps": len(seconds), "mean_seconds_per_step": round(sum(settled) / len(settled), 4),
        "median_seconds_per_step": round(float(numpy.median(settled)), 4),
        "train_seconds": round(sum(seconds), 1), "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threads": args.threads, "torch": torch.__version__,
    })


if __name__ == "__main__":
    main()
