#!/usr/bin/env python3
"""Writes methods_*.safetensors into the folders of tests/fixtures/parity: what PyTorch, and PEFT if it has the method, compute
when something other than the checkpoint's biases trains.

    pip install peft
    python3 scripts/fixture_methods.py

tests/fixtures/parity/README.md describes the layout. Models, heads and batches are those of make_fixtures.py. The parameters that
a method adds start at drawn values here, not at their usual initial values, so that no gradient is zero and no factor is one.
"""
import json

import peft
import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file

import fixture_entries as entries
import make_fixtures as made
import reference_model as ref
from fixture_models import SPECS

STEPS = 20
# The seed of what both programs draw.
SEED = 0
LINEAR = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
HEAD = ["classifier"]


def fresh(name):
    """The model of make_fixtures.py with its head, without dropout."""
    spec, folder = SPECS[name], made.ROOT / name
    outputs = len(spec["classes"]) if spec["classes"] else 1
    model = ref.load(folder, outputs, spec["pooling"], dropout=0.0).eval()
    with safetensors.safe_open(folder / "head.safetensors", "pt") as head:
        missing = model.load_state_dict({k: head.get_tensor(k) for k in head.keys()}, strict=False)
    assert not missing.unexpected_keys
    return model


def layernorm(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("LayerNorm" in name or name.startswith("classifier."))
    return model


def added(model):
    """Removes the bias of every linear layer of the encoder; PEFT adds one."""
    linear = [key for key in LINEAR]
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") and any(name.endswith(f".{key}.bias") for key in LINEAR):
            parameter.data.zero_()
    return peft.get_peft_model(model, peft.BeftConfig(target_modules=linear, modules_to_save=HEAD))


def ia3(model):
    """Key, value and both output layers, PEFT's choice for BERT and RoBERTa."""
    output = ["output.dense"]
    return peft.get_peft_model(model, peft.IA3Config(
        target_modules=["key", "value", *output], feedforward_modules=output, modules_to_save=HEAD))


def lora(model):
    return peft.get_peft_model(model, peft.LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, modules_to_save=HEAD,
        target_modules=["query", "key", "value", "output.dense"]))


def random(model):
    return entries.WithEntries(model, entries.draw_random, SEED)


def rows(model):
    return entries.WithEntries(model, entries.draw_rows, SEED)


METHODS = {"layernorm": layernorm, "added-biases": added, "ia3": ia3, "lora": lora, "random": random, "rows": rows}


def plain(name):
    """A parameter's name without PEFT's additions."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    return name.replace(".default", "").replace(".base_layer.", ".").replace(".beft_bias", ".bias")


def trainables(model):
    if isinstance(model, entries.WithEntries):
        return model.trained()
    return {plain(name): p for name, p in model.named_parameters() if p.requires_grad}


def draw(chosen, seed):
    """Draws other initial values for what a method adds. Checkpoint and head keep theirs."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in chosen.items():
        if "LayerNorm" not in name and not name.startswith("classifier."):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def loss_of(model, inputs, labels, task):
    given = dict(inputs)
    logits = model(**given).logits
    return ref.loss_of(logits, labels.to(logits.dtype) if task == "regression" else labels, task)


def run(name, method, inputs, labels, variant):
    task = SPECS[name]["task"]
    # PEFT draws some initial values.
    torch.manual_seed(SPECS[name]["seed"])
    model = METHODS[method](fresh(name))
    chosen = trainables(model)
    draw(chosen, SPECS[name]["seed"] + 300)
    tensors = {f"init.{key}": p.detach().clone().flatten() for key, p in chosen.items()}
    loss_of(model, inputs, labels, task).backward()
    for key, places in getattr(model, "places", {}).items():
        tensors[f"places.{key}"] = places.int()
    tensors.update({f"grad.{key}": p.grad.detach().clone().flatten() for key, p in chosen.items()})
    for parameter in chosen.values():
        parameter.grad = None
    # At the rate of biases, matrices memorise a batch, and with a loss near zero only rounding would be compared.
    rate = variant["lr"] * (0.3 if method == "lora" else 1.0)
    optimizer = ref.Optimizer(
        chosen.values(), rate, STEPS, variant["schedule"], variant["warmup_steps"],
        variant["clip_norm"], tuple(variant["betas"]), variant["eps"], variant["weight_decay"])
    rates, losses, norms = [], [], []
    for _ in range(STEPS):
        loss = loss_of(model, inputs, labels, task)
        loss.backward()
        rate, norm = optimizer.step()
        rates.append(rate)
        losses.append(float(loss.detach()))
        norms.append(norm)
    tensors.update(lr=torch.tensor(rates), losses=torch.tensor(losses), grad_norms=torch.tensor(norms))
    print(name, method, len(chosen), "tensors", json.dumps(losses[:: STEPS - 1]))
    return {f"{method}.{key}": value.contiguous() for key, value in tensors.items()}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in SPECS:
        folder = made.ROOT / name
        tokenizer = ref.AutoConfig.from_pretrained(folder)
        for index, variant in enumerate(made.VARIANTS):
            batch = load_file(folder / f"batch_{index}.safetensors")
            bounds = batch["cu_seqlens"].tolist()
            rows = list(zip(bounds, bounds[1:]))
            encodings = [(batch["ids"][a:b].tolist(), batch["type_ids"][a:b].tolist()) for a, b in rows]
            inputs = ref.collate(encodings, tokenizer.pad_token_id)
            labels = batch["labels"]
            labels = labels.long() if SPECS[name]["task"] != "regression" else labels
            tensors = {}
            for method in METHODS:
                tensors.update(run(name, method, inputs, labels, variant))
            save_file(tensors, folder / f"methods_{index}.safetensors")


if __name__ == "__main__":
    main()
