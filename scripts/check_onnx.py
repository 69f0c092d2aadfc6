#!/usr/bin/env python3
"""Compares a merged model that optimum exported to ONNX with `bitfit predict`. Needs onnxruntime, safetensors, and optimum's
transformers and torch.

    bitfit merge --delta RUN --output MERGED
    optimum-cli export onnx --model MERGED --task text-classification ONNX      # mean pooling: --task feature-extraction
    bitfit predict --delta RUN --precision f32 --input rows.tsv --output-format jsonl > predictions.jsonl
    python3 scripts/check_onnx.py ONNX rows.tsv predictions.jsonl               # mean pooling: --head MERGED/head.safetensors

Prints the largest difference between logits, and exits with 1 if it is above --tolerance.
"""
import argparse
from pathlib import Path

import onnxruntime
import torch
from safetensors.numpy import load_file
from transformers import AutoTokenizer

import check_merge


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("onnx")
    p.add_argument("tsv")
    p.add_argument("predictions")
    p.add_argument("--head", metavar="FILE")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    header, rows = check_merge.table(args.tsv)
    texts = [row[header.index("text")] for row in rows]
    session = onnxruntime.InferenceSession(str(Path(args.onnx) / "model.onnx"))
    batch = AutoTokenizer.from_pretrained(args.onnx)(texts, padding=True, truncation=True, return_tensors="np")
    logits = session.run(None, {i.name: batch[i.name] for i in session.get_inputs()})[0]
    if args.head:
        head, mask = load_file(args.head), batch["attention_mask"][..., None]
        logits = (logits * mask).sum(1) / mask.sum(1) @ head["classifier.weight"].T + head["classifier.bias"]
    check_merge.compare(torch.from_numpy(logits), args.predictions, args.tolerance)


if __name__ == "__main__":
    main()
