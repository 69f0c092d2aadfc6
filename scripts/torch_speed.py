#!/usr/bin/env python3
"""Measures what PyTorch reaches on this GPU at the shapes of a step, to compare with gpu-check's throughput.

    torch_speed.py            bf16 products, fused attention in both directions, a copy, and BitFit's step, eager and compiled
    torch_speed.py --small    the same at a small size, on the CPU if there is no GPU, to test this script

Prints each figure as a line of JSON at once. A step is forward, backward of all biases and the head, clipping and AdamW. PyTorch
gets its fastest setup: sequences of one length, so that it computes no padding, queries, keys and values in one product, and
weights and biases in bf16. The exit code is 3 if there is no PyTorch or no GPU for it.
"""

import argparse
import json
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    print("PyTorch is not installed")
    sys.exit(3)

from shaped_model import SHAPES, WORDS

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--small", action="store_true")
small = arguments.parse_args().small
if not (small or torch.cuda.is_available()):
    print("PyTorch finds no GPU")
    sys.exit(3)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work, times=20):
    """Seconds of one call, by the device's own clock if it has one."""
    times = 1 if small else times
    for _ in range(times if times < 3 else 3):
        work()
    if device.type == "cpu":
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) / times
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / times


def say(what, amount, unit, work):
    took = seconds(work)
    scale = {"T": 1e12, "t": 1}[unit[0]]
    print(json.dumps({"what": what, "us": round(took * 1e6, 1), "rate": f"{amount / took / scale:.5g} {unit}"}), flush=True)


def random(*shape):
    return torch.randn(*shape, device=device, dtype=torch.bfloat16)


class Block(nn.Module):
    def __init__(self, hidden, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        self.attention_norm, self.output_norm = (nn.LayerNorm(hidden, eps=1e-12) for _ in range(2))

    def forward(self, x):
        sequences, length, hidden = x.shape
        q, k, v = self.qkv(x).view(sequences, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        attended = self.output(attended.transpose(1, 2).reshape(sequences, length, hidden))
        x = self.attention_norm(x + functional.dropout(attended, self.dropout))
        inner = self.down(functional.gelu(self.up(x)))
        return self.output_norm(x + functional.dropout(inner, self.dropout))


class Bert(nn.Module):
    def __init__(self, hidden, heads, layers, length, dropout):
        super().__init__()
        self.dropout = dropout
        self.words, self.positions = nn.Embedding(WORDS + 5, hidden), nn.Embedding(length, hidden)
        self.types, self.norm = nn.Embedding(2, hidden), nn.LayerNorm(hidden, eps=1e-12)
        self.blocks = nn.Sequential(*(Block(hidden, heads, dropout) for _ in range(layers)))
        self.pooler, self.classifier = nn.Linear(hidden, hidden), nn.Linear(hidden, 2)

    def forward(self, ids):
        x = self.words(ids) + self.positions.weight + self.types.weight[0]
        x = self.blocks(functional.dropout(self.norm(x), self.dropout))
        return self.classifier(functional.dropout(torch.tanh(self.pooler(x[:, 0])), self.dropout))


class Stepping:
    """BitFit steps of a model with random values."""

    def __init__(self, name, sequences, length, dropout):
        torch.manual_seed(1)
        with torch.device(device):
            self.model = Bert(*SHAPES[name], length, dropout).to(torch.bfloat16).train()
        for of, parameter in self.model.named_parameters():
            parameter.requires_grad_(of.endswith("bias") or of.startswith("classifier"))
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=device.type == "cuda")
        self.ids = torch.randint(WORDS, (sequences, length), device=device)
        self.labels = torch.arange(sequences, device=device) % 2
        self.forward = self.model

    def step(self):
        loss = functional.cross_entropy(self.forward(self.ids).float(), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


for rows, hidden in [(32, 64)] if small else [(4096, 768), (4096, 1024), (4096, 384)]:
    for n, k in [(3 * hidden, hidden), (hidden, hidden), (4 * hidden, hidden), (hidden, 4 * hidden), (hidden, 3 * hidden)]:
        x, w, back = random(rows, k), random(n, k), random(k, n)
        say(f"product {rows}x{n}x{k}", 2 * rows * n * k, "TFLOP/s", lambda: x @ w.T)
        say(f"product {rows}x{n}x{k}, backward", 2 * rows * n * k, "TFLOP/s", lambda: x @ back)
for sequences, length, heads in [(2, 32, 2)] if small else [(32, 128, 12), (8, 512, 16)]:
    q, k, v = (random(sequences, heads, length, 64).requires_grad_() for _ in range(3))
    dout = random(sequences, heads, length, 64)
    attend = functional.scaled_dot_product_attention
    forward = 4 * sequences * heads * length * length * 64
    say(f"attention forward {sequences}x{length}", forward, "TFLOP/s", lambda: attend(q, k, v))
    out = attend(q, k, v)
    say(f"attention backward {sequences}x{length}", forward * 5 / 2, "TFLOP/s",
        lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
source = torch.empty(1 << (20 if small else 30), device=device, dtype=torch.uint8)
target = torch.empty_like(source)
say("copy, read and written", 2 * source.numel(), "TB/s", lambda: target.copy_(source))
del source, target
# Compiling takes long, so it comes last: by then the other figures have been printed.
for compiled in [False, True]:
    for name, sequences, length, dropout in ([("tiny", 2, 32, 0.1)] if small else
                                             [("BERT-base", 32, 128, 0.1), ("BERT-base", 32, 128, 0.0),
                                              ("BERT-large", 8, 512, 0.1), ("MiniLM", 32, 128, 0.1)]):
        if compiled and small:
            break
        stepping = Stepping(name, sequences, length, dropout)
        if compiled:
            stepping.forward = torch.compile(stepping.model)
        what = f"BitFit step {name} {sequences}x{length}, dropout {dropout}" + (", compiled" if compiled else "")
        say(what, sequences * length, "tokens/s", stepping.step)
