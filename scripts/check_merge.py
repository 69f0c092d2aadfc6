#!/usr/bin/env python3
"""Loads a folder that `bitfit merge` wrote with transformers' AutoModelForSequenceClassification and writes the logits of a
tsv's rows, to compare with `bitfit predict` of a run with `--precision f32`.

    python3 scripts/check_merge.py MERGED_FOLDER rows.tsv > logits.tsv
    bitfit predict --delta RUN --input rows.tsv --output-format jsonl > predictions.jsonl
    python3 scripts/check_merge.py MERGED_FOLDER rows.tsv --against predictions.jsonl

Writes a header `logit_0 logit_1 … label` and one line per row; `label` is the largest logit's name in the config's id2label
(absent with one output). With --against, compares with the logits in those JSON lines instead, prints the largest difference,
and exits with 1 if it is above --tolerance. Fails if transformers reports a missing or unused weight.
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import reference_model as ref


def table(path):
    """(header, rows) of a tsv; quotes are ordinary characters."""
    lines = Path(path).read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n")
    return lines[0].split("\t"), [line.split("\t") for line in lines[1:] if line]


def load(folder):
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(what):
            sys.exit(f"{folder}: {what.replace('_', ' ')}: {', '.join(map(str, sorted(report[what])))}")
    return model.eval()


@torch.no_grad()
def logits_of(model, tokenizer, texts, pairs, max_length, batch_size):
    out = []
    for start in range(0, len(texts), batch_size):
        rows = range(start, min(start + batch_size, len(texts)))
        encodings = [ref.encode(tokenizer, texts[row], pairs[row], max_length) for row in rows]
        out.append(model(**ref.collate(encodings, tokenizer.pad_token_id)).logits)
    return torch.cat(out)


def compare(logits, path, tolerance):
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    other = torch.tensor([row["logits"] if "logits" in row else [row["value"]] for row in rows])
    if other.shape != logits.shape:
        sys.exit(f"{path} has logits of shape {list(other.shape)}, transformers computed {list(logits.shape)}")
    worst = float((other - logits).abs().max())
    print(f"{len(rows)} rows, largest difference {worst:.3g}, largest logit {float(logits.abs().max()):.3g}")
    # This way round, NaN fails.
    if not worst <= tolerance:
        sys.exit(f"the difference is above {tolerance}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("tsv")
    p.add_argument("--text-column", default="text")
    p.add_argument("--text-pair-column", default="text_pair")
    p.add_argument("--max-length", type=int, help="default: the most that the model has positions for")
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--against", metavar="FILE")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    header, rows = table(args.tsv)
    if args.text_column not in header:
        sys.exit(f"{args.tsv} has no column '{args.text_column}'; it has {', '.join(header)}")
    texts = [row[header.index(args.text_column)] for row in rows]
    pairs = [None] * len(rows)
    if args.text_pair_column in header:
        pairs = [row[header.index(args.text_pair_column)] or None for row in rows]
    model = load(args.folder)
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    length = ref.longest(model.config, args.max_length)
    logits = logits_of(model, tokenizer, texts, pairs, length, args.batch_size)
    if args.against:
        return compare(logits, args.against, args.tolerance)
    names = model.config.id2label if logits.shape[1] > 1 else None
    print("\t".join([f"logit_{c}" for c in range(logits.shape[1])] + (["label"] if names else [])))
    for row in logits:
        cells = [repr(float(value)) for value in row]
        print("\t".join(cells + ([names[int(row.argmax())]] if names else [])))


if __name__ == "__main__":
    main()
