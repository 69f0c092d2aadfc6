"""BitFit in PyTorch: the model, the choice of trainable tensors, the optimizer and its schedule.

make_fixtures.py (values that the Rust tests must reproduce) and torch_reference.py (whole runs to compare with) share it, so
that both mean the same thing by "BitFit", "mean pooling" and "linear schedule".

Needs torch and transformers; make_fixtures.py names the versions.
"""
import re
import sys

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

# bitfit's name of a bias -> its name in Hugging Face checkpoints, after `encoder.layer.N.`.
LAYER_KINDS = {
    "query": "attention.self.query.bias",
    "key": "attention.self.key.bias",
    "value": "attention.self.value.bias",
    "attention-output": "attention.output.dense.bias",
    "attention-layernorm": "attention.output.LayerNorm.bias",
    "intermediate": "intermediate.dense.bias",
    "output": "output.dense.bias",
    "output-layernorm": "output.LayerNorm.bias",
}
OTHER_KINDS = {"embeddings-layernorm": "embeddings.LayerNorm.bias", "pooler": "pooler.dense.bias"}
PREFIX = re.compile(r"^(bert|roberta)\.")
LAYER = re.compile(r"^encoder\.layer\.(\d+)\.(.+)$")


class MeanPooled(nn.Module):
    """An encoder, the mean of its last hidden states over the real tokens, and one linear layer.

    Sentence encoders were trained for this; `transformers` has no such class. The encoder has its usual prefix (`bert` or
    `roberta`), so the names agree with a classifier's checkpoint.
    """

    def __init__(self, encoder, num_labels):
        super().__init__()
        self.config = encoder.config
        self.prefix = encoder.base_model_prefix
        setattr(self, self.prefix, encoder)
        self.classifier = nn.Linear(encoder.config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, token_type_ids=None, output_hidden_states=False):
        out = getattr(self, self.prefix)(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            output_hidden_states=output_hidden_states,
        )
        hidden = out.last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        out.pooled = (hidden * mask).sum(1) / mask.sum(1)
        out.logits = self.classifier(out.pooled)
        return out


def load(folder, num_labels, pooling, dropout=None, attention="eager"):
    """The model in a Hugging Face folder with a head of `num_labels` outputs, in f32.

    dropout: None keeps the config's; a number replaces hidden, attention and classifier dropout.
    """
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = num_labels
    if dropout is not None:
        config.hidden_dropout_prob = dropout
        config.attention_probs_dropout_prob = dropout
        config.classifier_dropout = dropout
    options = {"config": config, "dtype": torch.float32, "attn_implementation": attention}
    if pooling == "mean":
        encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False, **options)
        return MeanPooled(encoder, num_labels)
    kind = AutoModelForTokenClassification if pooling == "each" else AutoModelForSequenceClassification
    return kind.from_pretrained(
        folder, ignore_mismatched_sizes=True, **options
    )


def bias_kind(name):
    """(bitfit's name, layer or None) for a parameter's Hugging Face name; None if it is not a bias of the encoder."""
    bare = PREFIX.sub("", name)
    for kind, suffix in OTHER_KINDS.items():
        if bare == suffix:
            return kind, None
    layer = LAYER.match(bare)
    if layer:
        for kind, suffix in LAYER_KINDS.items():
            if layer.group(2) == suffix:
                return kind, int(layer.group(1))
    return None


def parse_biases(spec):
    """Parses `all` (None) or comma-separated names, each with an optional inclusive range of layers: `query`,
    `intermediate@4..6`, `output@2`, `key@3..`, `value@..1`. Returns [(name, first, last)]."""
    if spec == "all":
        return None
    wanted = []
    for part in spec.split(","):
        kind, at, layers = part.strip().partition("@")
        if kind not in LAYER_KINDS and kind not in OTHER_KINDS:
            known = ", ".join(list(LAYER_KINDS) + list(OTHER_KINDS))
            raise SystemExit(f"unknown bias name '{kind}'; known: all, {known}")
        first, dots, last = layers.partition("..")
        if at and not re.fullmatch(r"\d+(\.\.\d*)?|\.\.\d+", layers):
            raise SystemExit(f"'{part}': write a layer range as {kind}@4..6, {kind}@4, {kind}@4.. or {kind}@..6")
        if at and not dots:
            last = first
        wanted.append((kind, int(first or 0), int(last) if last else sys.maxsize))
    return wanted


def trainables(model, method="bitfit", biases="all"):
    """Freezes everything that does not train, and returns {name: parameter} of what does: biases in the model's order, then
    the head. `head` trains only the head, `full` everything that the loss reaches."""
    wanted = parse_biases(biases)
    chosen, head = {}, {}
    for name, parameter in model.named_parameters():
        kind = bias_kind(name)
        if name.startswith("classifier."):
            head[name] = parameter
        elif method == "full":
            chosen[name] = parameter
        elif method == "bitfit" and kind is not None:
            if wanted is None or any(
                kind[0] == want and (kind[1] is None or first <= kind[1] <= last)
                for want, first, last in wanted
            ):
                chosen[name] = parameter
        parameter.requires_grad_(name in chosen or name in head)
    chosen.update(head)
    return chosen


def loss_of(logits, labels, task):
    """The mean over the batch: cross-entropy for classes, squared error for numbers."""
    if task == "regression":
        return nn.functional.mse_loss(logits.squeeze(-1), labels)
    return nn.functional.cross_entropy(logits, labels)


def learning_rate(base, schedule, warmup, total, step):
    """The rate of update number `step` (from 0), by the rule of transformers' get_linear_schedule_with_warmup and
    get_constant_schedule_with_warmup: the first warm-up update has rate 0."""
    if step < warmup:
        return base * step / max(1, warmup)
    if schedule == "constant":
        return base
    return base * max(0.0, (total - step) / max(1, total - warmup))


class Optimizer:
    """torch.optim.AdamW over everything that trains, with weight decay on all of it, a schedule, and optional clipping of the
    global norm."""

    def __init__(self, parameters, lr, total, schedule="constant", warmup=0, clip=0.0, betas=(0.9, 0.999),
                 eps=1e-6, weight_decay=0.0):
        self.parameters = list(parameters)
        self.rule = (lr, schedule, warmup, total)
        self.clip = clip
        self.done = 0
        self.adamw = torch.optim.AdamW(
            self.parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=False
        )

    def step(self):
        """One update. Returns (rate, norm of the gradient before clipping)."""
        limit = self.clip if self.clip > 0 else float("inf")
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        rate = learning_rate(*self.rule, self.done)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad()
        self.done += 1
        return rate, float(norm)


def collate(encodings, pad_id):
    """Pads [(ids, type_ids)] to the longest; returns the keyword arguments of a model's forward."""
    longest = max(len(ids) for ids, _ in encodings)
    shape = (len(encodings), longest)
    ids = torch.full(shape, pad_id, dtype=torch.long)
    types = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, (tokens, kinds) in enumerate(encodings):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        types[row, : len(tokens)] = torch.tensor(kinds)
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def longest(config, asked=None):
    """The number of tokens for which the model has positions, or `asked` if that is less. RoBERTa's first position is
    pad_token_id + 1."""
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    room = config.max_position_embeddings - offset
    return min(room, asked) if asked else room


def encode(tokenizer, text, pair, max_length=None):
    """(ids, type_ids) of a text or a pair; type_ids are 0 if the tokenizer has none (RoBERTa)."""
    options = {"truncation": "longest_first", "max_length": max_length} if max_length else {}
    out = tokenizer(text, pair, **options) if pair is not None else tokenizer(text, **options)
    ids = out["input_ids"]
    return ids, out.get("token_type_ids") or [0] * len(ids)
