#!/usr/bin/env python3
"""Compares the answers of `bitfit predict` with what transformers computes from the merged folder.

    python3 scripts/check_answers.py --program target/release/bitfit --model tests/fixtures/parity/bert --train questions.json

Trains for a few steps, predicts, merges, and loads the folder as `AutoModelForQuestionAnswering`. Compares the best answer, and
the score of no answer relative to it, for each question whose text fits one window. Needs torch and transformers.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer


def questions(path):
    for article in json.loads(Path(path).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield asked["id"], asked["question"], paragraph["context"]


def best_answer(model, tokenizer, question, context, longest):
    """(text, score of no answer minus that of the best), or None if the text takes more than one window."""
    inputs = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    if len(offsets) > tokenizer.model_max_length:
        return None
    of_text = [i for i, part in enumerate(inputs.sequence_ids(0)) if part == 1]
    with torch.no_grad():
        out = model(**inputs)
    start, end = out.start_logits[0].double().tolist(), out.end_logits[0].double().tolist()
    pairs = [(start[i] + end[j], i, j) for i in of_text for j in of_text if i <= j < i + longest]
    score, i, j = max(pairs)
    return context[offsets[i][0] : offsets[j][1]], start[0] + end[0] - score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True, metavar="FILE", help="SQuAD's JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, merged = f"{folder}/run", f"{folder}/merged"
        bitfit = lambda *words: subprocess.run([args.program, *words], check=True, capture_output=True, text=True).stdout
        bitfit("train", "--task", "question-answering", "--model", args.model, "--train", args.train, "--output", run,
               "--steps", "5", "--lr", "1e-2", "--weights", "f32", "--precision", "f32", "--quiet")
        said = bitfit("predict", "--delta", run, "--input", args.train, "--output-format", "jsonl", "--quiet",
                      "--no-answer-threshold", "1e9")
        said = {line["id"]: line for line in map(json.loads, said.splitlines())}
        bitfit("merge", "--delta", run, "--output", merged, "--quiet")
        model, report = AutoModelForQuestionAnswering.from_pretrained(merged, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"], report
        tokenizer = AutoTokenizer.from_pretrained(merged)
        compared, worst = 0, 0.0
        for key, question, context in questions(args.train):
            best = best_answer(model.eval(), tokenizer, question, context, 30)
            if best:
                assert said[key]["answer"] == best[0], (key, said[key], best)
                worst = max(worst, abs(said[key]["null_score"] - best[1]))
                compared += 1
        assert compared and worst < 1e-4, (compared, worst)
        print(f"{type(model).__name__}: {compared} answers agree, scores differ by at most {worst:.1e}")


if __name__ == "__main__":
    main()
