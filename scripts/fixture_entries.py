"""The controls `random` and `rows` in PyTorch: which values of the encoder train, drawn from a seed as bitfit draws them, and a
model that adds them to its frozen parameters.

Philox4x32-10 is implemented here a second time, so that the fixtures also check the draw.
"""
import torch
from torch import nn
from torch.func import functional_call

import reference_model as ref

RANDOM, ROWS = 9, 10
LOW = 0xFFFFFFFF
LAYER = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
         "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]


def philox(counter, key):
    c, (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & LOW, (p0 >> 32) ^ c[3] ^ k1, p0 & LOW]
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c


def words(seed, purpose):
    block = 0
    while True:
        yield from philox([block, purpose << 24, 0, 0], (seed & LOW, seed >> 32))
        block += 1


def below(stream, bound):
    """A number below `bound` by Lemire's method, without bias."""
    threshold = (-bound & LOW) % bound
    while True:
        product = next(stream) * bound
        if product & LOW >= threshold:
            return product >> 32


def tensors(model):
    """Names and parameters of the encoder without the pooler, in the order in which draws number them."""
    named = dict(model.named_parameters())
    prefix = next(name.split(".")[0] for name in named if "word_embeddings" in name) + "."
    tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    modules = [f"encoder.layer.{i}.{module}" for i in range(model.config.num_hidden_layers) for module in LAYER]
    names = [f"{module}.weight" for module in tables]
    for module in ["embeddings.LayerNorm", *modules]:
        names += [f"{module}.weight", f"{module}.bias"]
    return [(prefix + name, named[prefix + name]) for name in names]


def draw_random(named, count, seed):
    stream, bound, drawn = words(seed, RANDOM), sum(p.numel() for _, p in named), set()
    while len(drawn) < count:
        drawn.add(below(stream, bound))
    chosen, start = {}, 0
    for name, parameter in named:
        end = start + parameter.numel()
        chosen[name] = sorted(place - start for place in drawn if start <= place < end)
        start = end
    return chosen


def draw_rows(named, count, seed):
    matrices = [(name, p.shape) for name, p in named if ".layer." in name and p.dim() == 2]
    stream, bound = words(seed, ROWS), sum(sum(shape) for _, shape in matrices)
    chosen, total, seen = {name: set() for name, _ in matrices}, 0, set()
    while total < count:
        line = below(stream, bound)
        if line in seen:
            continue
        seen.add(line)
        for name, (rows, columns) in matrices:
            if line < rows + columns:
                break
            line -= rows + columns
        places = range(line * columns, (line + 1) * columns)
        if line >= rows:
            places = range(line - rows, rows * columns, columns)
        new = set(places) - chosen[name]
        if total and abs(total + len(new) - count) >= count - total:
            break
        total += len(new)
        chosen[name] |= new
    return {name: sorted(places) for name, places in chosen.items()}


class WithEntries(nn.Module):
    """A frozen encoder with values that are added to chosen places of its parameters; its head trains."""

    def __init__(self, model, draw, seed):
        super().__init__()
        chosen = ref.trainables(model)
        count = sum(p.numel() for name, p in chosen.items() if ref.bias_kind(name))
        drawn = draw(tensors(model), count, seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("classifier."))
        self.model = [model]
        self.places = {name: torch.tensor(places) for name, places in drawn.items() if places}
        self.values = {name: nn.Parameter(torch.zeros(len(places))) for name, places in self.places.items()}
        self.head = {name: p for name, p in model.named_parameters() if name.startswith("classifier.")}

    def trained(self):
        return {**{f"{name}.sparse_values": p for name, p in self.values.items()}, **self.head}

    def forward(self, **inputs):
        [model] = self.model
        named = dict(model.named_parameters())
        changed = {}
        for name, values in self.values.items():
            added = torch.zeros(named[name].numel()).index_put((self.places[name],), values)
            changed[name] = named[name] + added.view_as(named[name])
        return functional_call(model, changed, kwargs=inputs)
