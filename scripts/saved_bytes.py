#!/usr/bin/env python3
"""Measures what PyTorch keeps for backward, and the memory of its process, in one training step of BitFit and of full fine-tuning.

    python3 scripts/saved_bytes.py --model .cache/models/minilm --batch 32 --length 128
    python3 scripts/saved_bytes.py --shape bert-base --batch 8 --length 128 --types bf16 --methods bitfit

`bitfit plan` prints the same for bitfit. Prints a JSON line for each method and type:
  saved_bytes        storages that autograd holds between forward and backward, each counted once, without parameters
                     (torch.autograd.graph.saved_tensors_hooks)
  saved_per_token    the same divided by batch x length
  rss_loaded_bytes   the process's resident memory with the model loaded, before the step
  rss_peak_bytes     its peak after forward, backward and AdamW
Types: f32; bf16 (weights and activations); amp (f32 weights under autocast to bf16). Attention is PyTorch's fused one
(scaled_dot_product_attention). All sequences have the full length. Dropout is 0 by default. Every measurement has its own
process. Needs torch and transformers; see requirements.txt.
"""
import argparse
import contextlib
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

SHAPES = {
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "bert-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}


def resident():
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def load(args):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    import reference_model as ref

    if args.model:
        return ref.load(args.model, 2, args.pooling, args.dropout, attention="sdpa")
    config = BertConfig(
        **SHAPES[args.shape],
        num_labels=2,
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
        classifier_dropout=args.dropout,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config)


def measure(args):
    """One step of one method in one type."""
    import torch
    import transformers

    import reference_model as ref

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    method, kind = args.methods[0], args.types[0]
    model = load(args).train()
    if kind == "bf16":
        model = model.to(torch.bfloat16)
    trained = ref.trainables(model, method)
    optimizer = ref.Optimizer(trained.values(), lr=1e-3, total=1)
    vocab = model.config.vocab_size
    ids = torch.randint(1000, vocab, (args.batch, args.length), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    labels = torch.zeros(args.batch, dtype=torch.long)
    loaded = resident()

    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            # The address can be the key because no other storage can have it while autograd holds this one.
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    amp = torch.autocast("cpu", torch.bfloat16) if kind == "amp" else contextlib.nullcontext()
    with amp, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(**inputs).logits
    loss = ref.loss_of(logits.float(), labels, "classification")
    loss.backward()
    optimizer.step()
    saved = sum(storages.values())
    return {
        "model": args.model or args.shape,
        "method": method,
        "type": kind,
        "batch": args.batch,
        "length": args.length,
        "dropout": args.dropout,
        "saved_bytes": saved,
        "saved_per_token": saved / (args.batch * args.length),
        "rss_loaded_bytes": loaded,
        "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", help="Hugging Face folder; or --shape")
    p.add_argument("--shape", choices=SHAPES, help="a model of this size with random weights")
    p.add_argument("--methods", nargs="+", default=["bitfit", "full"], choices=["bitfit", "head", "full"])
    p.add_argument("--types", nargs="+", default=["f32", "bf16", "amp"], choices=["f32", "bf16", "amp"])
    p.add_argument("--pooling", choices=["cls", "mean"], default="mean", help="with --model")
    p.add_argument("--batch", type=int, default=32, help="sequences")
    p.add_argument("--length", type=int, default=128, help="tokens per sequence")
    p.add_argument("--dropout", type=float, default=0.0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if bool(args.model) == bool(args.shape):
        p.error("give --model or --shape")
    if args.here:
        return print(json.dumps(measure(args)), flush=True)
    given = [f"--{name}={getattr(args, name)}" for name in ("model", "shape") if getattr(args, name)]
    given += [f"--{name}={getattr(args, name)}" for name in ("pooling", "batch", "length", "dropout", "threads")]
    for method in args.methods:
        for kind in args.types:
            one = [sys.executable, __file__, *given, "--methods", method, "--types", kind, "--here"]
            subprocess.run(one, check=True)


if __name__ == "__main__":
    main()
