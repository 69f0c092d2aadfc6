#!/usr/bin/env python3
"""Writes several_*.safetensors and numbers_*.safetensors into tests/fixtures/parity/bert and roberta: what PyTorch computes with
heads for several labels per text (`problem_type` `multi_label_classification`) and several numbers per text (`regression`), on
the small encoders and heads that make_fixtures.py makes.

    python3 scripts/fixture_values.py

tests/fixtures/parity/README.md describes the layout. The losses are those of transformers' own classes.
"""
import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import make_fixtures as made
import reference_model as ref
from fixture_models import SPECS
from fixture_texts import ROWS

KINDS = {"several": "multi_label_classification", "numbers": "regression"}


def label(kind, row, output):
    """Any fixed rule will do, as long as some rows have no label and some have all."""
    if kind == "several":
        return float((row * 5 + output * 3 + row // 4) % 7 < 4)
    return round(((row * 7 + output * 4) % 13 - 6) * 0.35, 2)


def fresh(folder, outputs, kind):
    model = ref.load(folder, outputs, "cls", dropout=0.0).eval()
    missing = model.load_state_dict(load_file(folder / "head.safetensors"), strict=False)
    assert not missing.unexpected_keys
    made.check_loaded(model, folder)
    model.config.problem_type = KINDS[kind]
    return model


def ten_steps(model, inputs, labels, variant):
    return made.train(ref.trainables(model), lambda: model(**inputs, labels=labels).loss, variant)


def write_batch(name, folder, tokenizer, kind, index, rows):
    outputs = len(SPECS[name]["classes"])
    encodings = [ref.encode(tokenizer, *ROWS[row], max_length=made.MAX_LENGTH) for row in rows]
    lengths = [len(ids) for ids, _ in encodings]
    inputs = ref.collate(encodings, tokenizer.pad_token_id)
    labels = torch.tensor([[label(kind, row, output) for output in range(outputs)] for row in rows])
    model = fresh(folder, outputs, kind)
    names = ref.trainables(model)
    out = model(**inputs, labels=labels)
    out.loss.backward()
    rates, losses, norms, after = ten_steps(fresh(folder, outputs, kind), inputs, labels, made.VARIANTS[index])
    offset = 2 if name == "roberta" else 0
    tensors = {
        "ids": made.flat([ids for ids, _ in encodings]),
        "type_ids": made.flat([kinds for _, kinds in encodings]),
        "positions": made.flat([range(offset, offset + n) for n in lengths]),
        "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(lengths)), dtype=torch.int32),
        "rows": torch.tensor(rows, dtype=torch.int32),
        "labels": labels,
        "logits": out.logits.detach(),
        "loss": out.loss.detach().reshape(1),
        "train.lr": torch.tensor(rates),
        "train.losses": torch.tensor(losses),
        "train.grad_norms": torch.tensor(norms),
    }
    for key, parameter in names.items():
        tensors[f"grad.{key}"] = parameter.grad.detach()
        tensors[f"after10.{key}"] = after[key]
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{kind}_{index}.safetensors")
    print(name, f"{kind}_{index}", "loss", float(out.loss.detach()), labels.tolist())


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("bert", "roberta"):
        folder = made.ROOT / name
        tokenizer = AutoTokenizer.from_pretrained(folder)
        lengths = [len(ref.encode(tokenizer, *row, max_length=made.MAX_LENGTH)[0]) for row in ROWS]
        for index, rows in enumerate(made.choose_rows(lengths)):
            for kind in KINDS:
                write_batch(name, folder, tokenizer, kind, index, rows)


if __name__ == "__main__":
    main()
