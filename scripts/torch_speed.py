#!/usr/bin/env python3
"""What PyTorch reaches on this GPU at the shapes of a BERT-base step: the other side of gpu-check's throughput.

Prints a line of JSON per figure: bf16 products, fused attention forward and backward, a copy. Exit code 3 where there is
no PyTorch or no GPU for it.
"""

import json
import sys

try:
    import torch
except ImportError:
    print("PyTorch is not installed")
    sys.exit(3)
if not torch.cuda.is_available():
    print("PyTorch sees no GPU")
    sys.exit(3)


def seconds(work, times=20):
    """Of one call, by the device's own clock."""
    for _ in range(3):
        work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / times


def say(what, amount, unit, work):
    took = seconds(work)
    print(json.dumps({"what": what, "us": round(took * 1e6, 1), "rate": f"{amount / took / 1e12:.2f} {unit}"}), flush=True)


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


for rows in [4096]:
    for n, k in [(2304, 768), (768, 768), (3072, 768), (768, 3072)]:
        x, w = random(rows, k), random(n, k)
        say(f"product {rows}x{n}x{k}", 2 * rows * n * k, "TFLOP/s", lambda: x @ w.T)
for sequences, length in [(32, 128), (8, 512)]:
    q, k, v = (random(sequences, 12, length, 64).requires_grad_() for _ in range(3))
    dout = random(sequences, 12, length, 64)
    attend = torch.nn.functional.scaled_dot_product_attention
    forward = 4 * sequences * 12 * length * length * 64
    say(f"attention forward {sequences}x{length}", forward, "TFLOP/s", lambda: attend(q, k, v))
    out = attend(q, k, v)
    say(f"attention backward {sequences}x{length}", forward * 5 / 2, "TFLOP/s",
        lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
source = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
target = torch.empty_like(source)
say("copy of 1 GiB, read and written", 2 * source.numel(), "TB/s", lambda: target.copy_(source))
