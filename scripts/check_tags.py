#!/usr/bin/env python3
"""Compares a tagger that `bitfit merge` wrote with `bitfit` itself: the tags of JSON lines with tokens and tags, and their mean
loss. The run must have `--precision f32`.

    bitfit merge --delta RUN --output MERGED
    bitfit predict --delta RUN --input rows.jsonl --output-format jsonl > predicted.jsonl
    bitfit eval --delta RUN --data rows.jsonl --output eval.json
    python3 scripts/check_tags.py MERGED rows.jsonl predicted.jsonl eval.json

Texts must not be longer than the model allows. Exits with 1 if a tag differs, or if the loss differs by more than 1e-5 of its value.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def main(folder, rows, predicted, evaluated):
    model, report = AutoModelForTokenClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(what):
            sys.exit(f"{folder}: {what}: {', '.join(map(str, sorted(report[what])))}")
    byte_level = model.config.model_type == "roberta"
    tokenizer = AutoTokenizer.from_pretrained(folder, **({"add_prefix_space": True} if byte_level else {}))
    model.eval()
    names, ids = model.config.id2label, model.config.label2id
    loss, words, differ = 0.0, 0, 0
    for row, ours in zip(lines(rows), lines(predicted), strict=True):
        batch = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        logits = model(**batch).logits[0].double()
        of = batch.word_ids()
        for word, tag in enumerate(row["tags"]):
            if word in of:
                at = logits[of.index(word)]
                loss -= float(at.log_softmax(-1)[ids[tag]])
                words += 1
                differ += names[int(at.argmax())] != ours["tags"][word]
    loss /= words
    own = json.loads(Path(evaluated).read_text())["loss"]
    print(f"{words} words: {differ} tags differ; loss {loss:.9f}, bitfit's {own:.9f}")
    return 0 if differ == 0 and abs(loss - own) <= 1e-5 * own else 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
