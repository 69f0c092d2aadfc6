#!/usr/bin/env python3
"""Writes tests/fixtures/peft: adapters that PEFT saves for the models of tests/fixtures/parity, and the logits of the model with
each of them.

    pip install peft
    python3 scripts/fixture_peft.py

The values that an adapter would train are drawn here instead, so that none of them keeps its initial value. `expected.json` has the
versions and, for each adapter whose base and task `bitfit import` can read, its logits on the rows of its model's texts.tsv.
"""
import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

import check_merge
import reference_model as ref

ROOT = Path(__file__).resolve().parent.parent / "tests/fixtures"
OUT = ROOT / "peft"
LINEAR = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
SEQUENCES, TOKENS = AutoModelForSequenceClassification, AutoModelForTokenClassification


def beft(task="SEQ_CLS", targets=(*LINEAR, "pooler.dense"), saved=("LayerNorm",)):
    return peft.BeftConfig(task_type=task, target_modules=list(targets), modules_to_save=list(saved) or None)


def lora(**more):
    return peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "output.dense"], **more)


# Name: model, class, configuration, and which of its parameters are drawn (the others stay).
ADAPTERS = {
    "beft": ("bert", SEQUENCES, beft(), ("beft_bias", "LayerNorm.modules_to_save.default.bias", "classifier")),
    "beft-some": ("bert", SEQUENCES, beft(targets=["encoder.layer.1.attention.self.query", "intermediate.dense"], saved=()),
                  ("beft_bias", "classifier")),
    "beft-gains": ("bert", SEQUENCES, beft(), ("beft_bias", "LayerNorm.modules_to_save", "classifier")),
    "beft-roberta": ("roberta", SEQUENCES, beft(targets=LINEAR), ("beft_bias", "LayerNorm.modules_to_save.default.bias",
                                                                  "classifier")),
    "beft-tokens": ("bert", TOKENS, beft("TOKEN_CLS", LINEAR), ("beft_bias", "classifier")),
    "lora-biases": ("bert", SEQUENCES, lora(bias="all"), (".bias",)),
    "lora": ("bert", SEQUENCES, lora(), ("lora_B", "classifier")),
    "ln-tuning": ("bert", SEQUENCES, peft.LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"]),
                  ("ln_tuning_layers", "classifier")),
    "ia3": ("bert", SEQUENCES, peft.IA3Config(task_type="SEQ_CLS"), ("ia3_l", "classifier")),
}


def made(name):
    folder, kind, config, drawn = ADAPTERS[name]
    base = ROOT / "parity" / folder
    torch.manual_seed(7)
    model = peft.get_peft_model(kind.from_pretrained(base, dtype=torch.float32), config).eval()
    generator = torch.Generator().manual_seed(11)
    for key, parameter in model.named_parameters():
        # PEFT's copies of the base, for a disabled adapter, stay.
        if "original_module" not in key and any(part in key for part in drawn) and "position" not in key:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model, base


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    expected = {"versions": {library.__name__: library.__version__ for library in (peft, transformers)}}
    for name in ADAPTERS:
        model, base = made(name)
        # Without this machine's path.
        model.peft_config["default"].base_model_name_or_path = f"tests/fixtures/parity/{base.name}"
        model.save_pretrained(OUT / name, save_embedding_layers=False)
        (OUT / name / "README.md").unlink(missing_ok=True)
        if ADAPTERS[name][1] is SEQUENCES:
            header, rows = check_merge.table(base / "texts.tsv")
            texts, pairs = [row[0] for row in rows], [row[1] or None for row in rows]
            length = ref.longest(model.config, None)
            tokenizer = AutoTokenizer.from_pretrained(base)
            logits = check_merge.logits_of(model, tokenizer, texts, pairs, length, 8)
            expected[name] = {"model": base.name, "logits": [[float(x) for x in row] for row in logits]}
        print(name, sum(file.stat().st_size for file in (OUT / name).iterdir()), "bytes")
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
