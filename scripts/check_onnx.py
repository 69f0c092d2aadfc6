#!/usr/bin/env python3
"""Holds a model that optimum made of a merged one to `bitfit` itself. Wants onnxruntime, transformers, numpy and safetensors.

    bitfit merge --delta RUN --output MERGED
    optimum-cli export onnx --model MERGED --task text-classification ONNX      # mean pooling: --task feature-extraction
    bitfit predict --delta RUN --precision f32 --input rows.tsv --output-format jsonl > predictions.jsonl
    python3 scripts/check_onnx.py ONNX rows.tsv predictions.jsonl               # mean pooling: --head MERGED/head.safetensors

Prints the largest difference of a logit, and exits 1 above --tolerance.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file
from transformers import AutoTokenizer


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("onnx")
    p.add_argument("tsv")
    p.add_argument("predictions")
    p.add_argument("--head", metavar="FILE")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    lines = Path(args.tsv).read_text(encoding="utf-8").splitlines()
    at = lines[0].split("\t").index("text")
    texts = [line.split("\t")[at] for line in lines[1:]]
    session = onnxruntime.InferenceSession(str(Path(args.onnx) / "model.onnx"))
    batch = AutoTokenizer.from_pretrained(args.onnx)(texts, padding=True, truncation=True, return_tensors="np")
    logits = session.run(None, {i.name: batch[i.name] for i in session.get_inputs()})[0]
    if args.head:
        head, mask = load_file(args.head), batch["attention_mask"][..., None]
        logits = (logits * mask).sum(1) / mask.sum(1) @ head["classifier.weight"].T + head["classifier.bias"]
    rows = [json.loads(line) for line in Path(args.predictions).read_text(encoding="utf-8").splitlines()]
    own = np.array([row["logits"] if "logits" in row else [row["value"]] for row in rows])
    worst = float(np.abs(own - logits).max())
    print(f"{len(texts)} rows, largest difference {worst:.3g}, largest logit {float(np.abs(own).max()):.3g}")
    # Written so that NaN fails.
    return 0 if worst <= args.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
