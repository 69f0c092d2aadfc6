#!/usr/bin/env python3
"""Compares the Python module with the program: the logits of a transformers model with a delta applied against `bitfit predict`, a
delta taken back from the model, and what the module refuses.

    PYTHONPATH=python python3 scripts/check_python.py --bitfit target/release/bitfit

Takes seconds, with the fixtures' small BERT and RoBERTa. Needs torch, transformers and safetensors.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import bitfit

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/parity"
TEXTS = ["the land is green and the sea is blue", "a sea of land", "blue land, green sea!", "the the the"]
PROGRAM = None


def run(*options):
    done = subprocess.run([PROGRAM, *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


class OnTransformers(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.rows = self.folder / "rows.tsv"
        self.rows.write_text("text\tlabel\n" + "".join(f"{text}\t{'ab'[n % 2]}\n" for n, text in enumerate(TEXTS)))

    def train(self, family, *options):
        output = self.folder / "run"
        shutil.rmtree(output, ignore_errors=True)
        run("train", "--model", FIXTURES / family, "--train", self.rows, "--output", output, "--steps", 3, "--lr", "1e-2", "--batch-size",
            2, "--dropout", 0, "--device", "cpu", "--precision", "f32", "--weights", "f32", "--quiet", *options)
        return output

    def model(self, family, labels=2):
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(FIXTURES / family, num_labels=labels, ignore_mismatched_sizes=True).eval()

    def predicted(self, delta):
        lines = run("predict", "--delta", delta, "--input", self.rows, "--output-format", "jsonl", "--device", "cpu", "--precision",
                    "f32", "--model", self.base).splitlines()
        return torch.tensor([json.loads(line)["logits"] for line in lines])

    @torch.no_grad()
    def logits(self, model, family):
        tokenizer = AutoTokenizer.from_pretrained(FIXTURES / family)
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])

    def test_logits_are_the_programs_and_the_base_comes_back(self):
        for family in ("bert", "roberta"):
            for method in ("bitfit", "head", "layernorm"):
                with self.subTest(family=family, method=method):
                    self.base = FIXTURES / family
                    delta = bitfit.read(self.train(family, "--pooling", "cls", "--method", method))
                    model = self.model(family)
                    before = self.logits(model, family)
                    with delta.on(model):
                        here = self.logits(model, family)
                    self.assertTrue(torch.equal(self.logits(model, family), before))
                    self.assertFalse(torch.allclose(here, before, atol=1e-3))
                    worst = (here - self.predicted(self.folder / "run")).abs().max().item()
                    self.assertLess(worst, 1e-5)

    def test_what_a_model_was_trained_to_goes_back_into_a_delta(self):
        self.base = FIXTURES / "bert"
        run_folder = self.train("bert", "--pooling", "cls")
        delta = bitfit.read(run_folder)
        model = self.model("bert")
        delta.apply(model)
        for name, parameter in model.named_parameters():
            if name.endswith("query.bias") or name == "classifier.weight":
                parameter.data += 0.1
        bitfit.take(model, delta).write(run_folder)
        self.assertLess((self.logits(model, "bert") - self.predicted(run_folder)).abs().max().item(), 1e-5)

    def test_other_bases_shapes_heads_and_methods_are_refused_and_change_nothing(self):
        self.base = FIXTURES / "bert"
        delta = bitfit.read(self.train("bert", "--pooling", "cls"))
        model = self.model("bert")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with self.assertRaisesRegex(ValueError, "not those that the delta was trained on"):
            delta.apply(model, FIXTURES / "roberta")
        with self.assertRaisesRegex(ValueError, r"classifier.*\(2,\).*\(3,\)"):
            delta.apply(self.model("bert", labels=3))
        model.config._name_or_path = "somewhere/else"
        with self.assertRaisesRegex(ValueError, "give the base"):
            delta.apply(model)
        mean = bitfit.read(self.train("bert", "--pooling", "mean"))
        with self.assertRaisesRegex(ValueError, "on the mean of the tokens"):
            mean.apply(model, self.base)
        self.assertTrue(all(torch.equal(value, before[name]) for name, value in model.state_dict().items()))
        with self.assertRaisesRegex(ValueError, "method 'ia3'"):
            bitfit.read(self.train("bert", "--pooling", "cls", "--method", "ia3"))
        (self.folder / "no.safetensors").write_bytes(b"12345678")
        with self.assertRaisesRegex(ValueError, "no.safetensors"):
            bitfit.read(self.folder / "no.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bitfit", required=True)
    arguments, rest = parser.parse_known_args()
    PROGRAM = arguments.bitfit
    unittest.main(argv=["check_python.py", *rest])
