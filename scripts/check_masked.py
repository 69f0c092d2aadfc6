#!/usr/bin/env python3
"""Compares a merged model with a head on masked words with transformers: the words and probabilities that `bitfit predict`
gives for masks in a text, with the logits of the folder loaded as AutoModelForMaskedLM.

    python3 scripts/check_masked.py --bitfit target/release/bitfit

Run it after `cargo build --release`. It trains the small encoders of the fixtures for a few steps, in f32.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "parity"
TEXTS = ["the harbour is in the morning", "they said that the train is in again", "friends and film, tickets and the harbour"]


def checkpoint(name, folder):
    shutil.copytree(FIXTURES / name, folder)
    head = folder / "masked_head.safetensors"
    if head.exists():
        whole = {**load_file(folder / "model.safetensors"), **load_file(head)}
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


def check(bitfit, name, folder):
    run = lambda *args: subprocess.run([bitfit, *map(str, args)], check=True, capture_output=True, text=True).stdout
    checkpoint(name, folder / "model")
    (folder / "a.txt").write_text("\n".join(TEXTS * 8) + "\n", encoding="utf-8")
    run("train", "--task", "masked-lm", "--model", folder / "model", "--train", folder / "a.txt", "--output", folder / "run",
        "--epochs", "4", "--lr", "1e-2", "--precision", "f32", "--weights", "int8", "--device", "cpu", "--quiet")
    run("merge", "--delta", folder / "run", "--output", folder / "merged")
    mask = AutoTokenizer.from_pretrained(folder / "merged").mask_token
    asked = [f"the {mask} is in the {mask}", "nothing is asked", f"{mask} and film"]
    (folder / "asked.txt").write_text("\n".join(asked) + "\n", encoding="utf-8")
    said = [json.loads(line) for line in run(
        "predict", "--delta", folder / "run", "--input", folder / "asked.txt", "--output-format", "jsonl", "--precision", "f32",
        "--device", "cpu").splitlines()]
    assert len(said) == len(asked), said
    model, loading = AutoModelForMaskedLM.from_pretrained(
        folder / "merged", dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    worst = 0.0
    for text, answer in zip(asked, said):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**inputs).logits[0].softmax(-1)
        places = [i for i, id in enumerate(inputs["input_ids"][0]) if id == tokenizer.mask_token_id]
        assert len(places) == len(answer["masks"]), (text, answer)
        for place, found in zip(places, answer["masks"]):
            assert text[found["start"]:found["end"]] == mask, (text, found)
            best = probabilities[place].topk(len(found["words"]))
            for value, id, word in zip(best.values, best.indices, found["words"]):
                assert tokenizer.decode([int(id)]).strip() == word["word"], (text, found)
                worst = max(worst, abs(float(value) - word["probability"]) / float(value))
    print(f"{name}: {type(model).__name__}, probabilities within {worst:.1e}")
    assert worst < 1e-4, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bitfit", default="target/release/bitfit")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("bert-mlm", "roberta"):
        with tempfile.TemporaryDirectory() as folder:
            check(str(Path(args.bitfit).resolve()), name, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
