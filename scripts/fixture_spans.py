#!/usr/bin/env python3
"""Writes spans_*.safetensors into tests/fixtures/parity/bert and roberta: what PyTorch computes for a head on spans
(`BertForQuestionAnswering`, `RobertaForQuestionAnswering`) on the small encoders that make_fixtures.py makes.

    python3 scripts/fixture_spans.py

tests/fixtures/parity/README.md describes the layout. transformers includes padding in the loss; here the logits of padding are left
out, because the Rust code pads nothing.
"""
import json

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer

import make_fixtures as made
import reference_model as ref
from fixture_models import write_json
from fixture_texts import ROWS

# Rows of texts.tsv that are pairs, each with the first and last token of its span: two at the sequence's first token, as for a
# text without an answer, one of a single token, and one that ends at the last token.
BATCHES = [[(2, 3, 3), (4, 0, 0), (9, 2, 6), (11, 1, 9)], [(13, 4, 8), (15, 7, 9), (18, 0, 0)]]
SEEDS = {"bert": 31, "roberta": 34}


def write_head(name, folder, hidden):
    draw = torch.Generator().manual_seed(SEEDS[name])
    head = {"qa_outputs.weight": torch.randn((2, hidden), generator=draw) * 0.2,
            "qa_outputs.bias": torch.randn((2,), generator=draw) * 0.1}
    save_file(head, folder / "spans_head.safetensors", metadata={"format": "pt"})


def fresh(folder):
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 2
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = AutoModelForQuestionAnswering.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    missing = model.load_state_dict(load_file(folder / "spans_head.safetensors"), strict=False)
    assert not missing.unexpected_keys
    return model


def trainables(model):
    """The biases that the loss reaches, and the head."""
    chosen = {}
    for name, parameter in model.named_parameters():
        trains = name.startswith("qa_outputs.") or ref.bias_kind(name) is not None
        parameter.requires_grad_(trains)
        if trains:
            chosen[name] = parameter
    return chosen


def forward(model, inputs, spans):
    out = model(**inputs, output_hidden_states=True)
    padding = inputs["attention_mask"] == 0
    both = [logits.masked_fill(padding, float("-inf")) for logits in (out.start_logits, out.end_logits)]
    losses = [torch.nn.functional.cross_entropy(logits, spans[:, i]) for i, logits in enumerate(both)]
    logits = torch.stack([out.start_logits, out.end_logits], dim=-1)
    return {"loss": sum(losses) / 2, "logits": logits, "hidden": out.hidden_states}


def gradients(model, inputs, spans):
    names = trainables(model)
    out = forward(model, inputs, spans)
    return out, made.gradients_of(names, out["loss"])


def ten_steps(model, inputs, spans, variant):
    return made.train(trainables(model), lambda: forward(model, inputs, spans)["loss"], variant)


def write_batch(name, folder, tokenizer, index):
    chosen = BATCHES[index]
    encodings = [ref.encode(tokenizer, *ROWS[row], max_length=made.MAX_LENGTH) for row, _, _ in chosen]
    lengths = [len(ids) for ids, _ in encodings]
    assert all(end < length for (_, _, end), length in zip(chosen, lengths)), lengths
    inputs = ref.collate(encodings, tokenizer.pad_token_id)
    spans = torch.tensor([[start, end] for _, start, end in chosen])
    mask = inputs["attention_mask"]
    offset = 2 if name == "roberta" else 0
    out, grads = gradients(fresh(folder), inputs, spans)
    exact, exact_grads = gradients(fresh(folder).double(), inputs, spans)
    rates, losses, norms, after = ten_steps(fresh(folder), inputs, spans, made.VARIANTS[index])
    tensors = {
        "ids": made.flat([ids for ids, _ in encodings]),
        "type_ids": made.flat([kinds for _, kinds in encodings]),
        "positions": made.flat([range(offset, offset + n) for n in lengths]),
        "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(lengths)), dtype=torch.int32),
        "rows": torch.tensor([row for row, _, _ in chosen], dtype=torch.int32),
        "labels": spans.to(torch.int32),
        "logits": made.packed(out["logits"], mask),
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
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"spans_{index}.safetensors")
    # A softmax over tokens ignores a shift that all of them share. So the biases of the head and of the last LayerNorm have no
    # gradient, just as the key's has none.
    last = f"layer.{len(out['hidden']) - 2}.output.LayerNorm.bias"
    zero = lambda key: key.endswith(("key.bias", "qa_outputs.bias", last))
    others = [key for key in grads if not zero(key)]
    error = {
        "logits": made.relative(made.packed(out["logits"], mask), made.packed(exact["logits"], mask)),
        "grad": max(made.relative(grads[k], exact_grads[k]) for k in others),
    }
    return {"file": f"spans_{index}.safetensors", "lengths": lengths, "pytorch_f32_error": error}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in SEEDS:
        folder = made.ROOT / name
        write_head(name, folder, AutoConfig.from_pretrained(folder).hidden_size)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        batches = [write_batch(name, folder, tokenizer, index) for index in range(len(BATCHES))]
        write_json(folder / "spans.json", {"batches": batches})
        for batch in batches:
            print(name, json.dumps(batch))


if __name__ == "__main__":
    main()
