#!/usr/bin/env python3
"""Writes masked_*.safetensors into tests/fixtures/parity/bert-mlm and roberta: what PyTorch computes with the checkpoint's own
head on masked words (`BertForMaskedLM`, `RobertaForMaskedLM`) on the small encoders that make_fixtures.py makes.

    python3 scripts/fixture_masked.py

bert-mlm has its head in the checkpoint. roberta's is drawn here and saved as masked_head.safetensors.
tests/fixtures/parity/README.md describes the layout.
"""
import json

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

import make_fixtures as made
import reference_model as ref
from fixture_texts import ROWS

# Rows of texts.tsv, used as single texts.
BATCHES = [[2, 4, 9, 11], [13, 15, 18]]
SEED = 44
HEADS = ("cls.predictions.", "lm_head.")


def write_head(folder, config):
    """RoBERTa's head without the decoder's matrix, which is the word table."""
    draw = torch.Generator().manual_seed(SEED)
    h = config.hidden_size
    head = {"lm_head.dense.weight": torch.randn((h, h), generator=draw) * 1.2 / h ** 0.5,
            "lm_head.dense.bias": torch.randn((h,), generator=draw) * 0.15,
            "lm_head.layer_norm.weight": 1.0 + torch.randn((h,), generator=draw) * 0.2,
            "lm_head.layer_norm.bias": torch.randn((h,), generator=draw) * 0.15,
            "lm_head.bias": torch.randn((config.vocab_size,), generator=draw) * 0.15}
    save_file(head, folder / "masked_head.safetensors", metadata={"format": "pt"})


def fresh(name, folder):
    config = AutoConfig.from_pretrained(folder)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = AutoModelForMaskedLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    if name == "roberta":
        missing = model.load_state_dict(load_file(folder / "masked_head.safetensors"), strict=False)
        assert not missing.unexpected_keys
    words = model.get_output_embeddings()
    assert words.weight is model.get_input_embeddings().weight, "the decoder is tied"
    return model


def trainables(model):
    """The biases that the loss reaches, including the head's."""
    chosen = {}
    for name, parameter in model.named_parameters():
        trains = ref.bias_kind(name) is not None or (name.startswith(HEADS) and name.endswith(".bias"))
        parameter.requires_grad_(trains)
        if trains:
            chosen[name.replace("decoder.bias", "bias")] = parameter
    return chosen


def forward(model, inputs, labels):
    out = model(**inputs, output_hidden_states=True)
    loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), labels.flatten(), ignore_index=made.IGNORED)
    return {"loss": loss, "logits": out.logits, "hidden": out.hidden_states}


def gradients(model, inputs, labels):
    names = trainables(model)
    out = forward(model, inputs, labels)
    return out, made.gradients_of(names, out["loss"])


def ten_steps(model, inputs, labels, variant):
    return made.train(trainables(model), lambda: forward(model, inputs, labels)["loss"], variant)


def masked(tokenizer, encodings):
    """Ids and labels: every fifth token that is not special is masked, replaced by another word, or left as it is. The last text
    has no label."""
    special = set(tokenizer.all_special_ids)
    ids, labels = [], []
    for b, (tokens, _) in enumerate(encodings):
        tokens, known = list(tokens), [made.IGNORED] * len(tokens)
        for t, token in enumerate(list(tokens)):
            if token in special or (t + 2 * b) % 5 != 1 or b == len(encodings) - 1:
                continue
            known[t] = token
            if t % 3 != 2:
                tokens[t] = tokenizer.mask_token_id if t % 3 == 0 else 20 + (7 * t + b) % 100
        ids.append(tokens)
        labels.append(known)
    return ids, labels


def write_batch(name, folder, tokenizer, index):
    encodings = [ref.encode(tokenizer, ROWS[row][0], None, max_length=made.MAX_LENGTH) for row in BATCHES[index]]
    ids, known = masked(tokenizer, encodings)
    lengths = [len(tokens) for tokens in ids]
    kinds = [kinds for _, kinds in encodings]
    inputs = ref.collate(list(zip(ids, kinds)), tokenizer.pad_token_id)
    labels = torch.full(inputs["input_ids"].shape, made.IGNORED)
    for b, row in enumerate(known):
        labels[b, :len(row)] = torch.tensor(row)
    mask = inputs["attention_mask"]
    there = labels != made.IGNORED
    offset = 2 if name == "roberta" else 0
    out, grads = gradients(fresh(name, folder), inputs, labels)
    exact, exact_grads = gradients(fresh(name, folder).double(), inputs, labels)
    rates, losses, norms, after = ten_steps(fresh(name, folder), inputs, labels, made.VARIANTS[index])
    tensors = {
        "ids": made.flat(ids),
        "type_ids": made.flat(kinds),
        "positions": made.flat([range(offset, offset + n) for n in lengths]),
        "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(lengths)), dtype=torch.int32),
        "rows": torch.tensor(BATCHES[index], dtype=torch.int32),
        "labels": made.flat(known),
        "logits": out["logits"][there].detach(),
        "loss": out["loss"].detach().reshape(1),
        "train.lr": torch.tensor(rates),
        "train.losses": torch.tensor(losses),
        "train.grad_norms": torch.tensor(norms),
    }
    for layer, hidden in enumerate(out["hidden"]):
        tensors[f"hidden.{layer}"] = made.packed(hidden, mask)
    for key, value in grads.items():
        tensors[f"grad.{key}"] = value
        tensors[f"after10.{key}"] = after[key]
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"masked_{index}.safetensors")
    others = [key for key in grads if not key.endswith("key.bias")]
    error = {
        "logits": made.relative(out["logits"][there].detach(), exact["logits"][there].detach()),
        "grad": max(made.relative(grads[k], exact_grads[k]) for k in others),
    }
    return {"file": f"masked_{index}.safetensors", "lengths": lengths, "labelled": int(there.sum()),
            "pytorch_f32_error": error}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("bert-mlm", "roberta"):
        folder = made.ROOT / name
        if name == "roberta":
            write_head(folder, AutoConfig.from_pretrained(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for index in range(len(BATCHES)):
            print(name, json.dumps(write_batch(name, folder, tokenizer, index)))


if __name__ == "__main__":
    main()
