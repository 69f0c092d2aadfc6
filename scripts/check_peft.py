#!/usr/bin/env python3
"""Loads an adapter that `bitfit export` wrote with PEFT, and compares it with `bitfit` itself and with the merged model.

    bitfit export --delta RUN --peft ADAPTER
    bitfit merge --delta RUN --output MERGED
    bitfit predict --delta RUN --weights f32 --precision f32 --input rows.tsv --output-format jsonl > predictions.jsonl
    python3 scripts/check_peft.py BASE ADAPTER rows.tsv --merged MERGED --against predictions.jsonl

Prints the largest differences between the logits with the adapter and those of `bitfit`, of the merged model, and of the model that
`merge_and_unload` makes; and between the logits with the adapter disabled and those of the base. Exits with 1 if a difference is above
--tolerance, or if disabling the adapter does not give exactly the base's logits. `--merged` needs a run with `--weights f32`. Fails if
PEFT warns of missing tensors.
"""
import argparse
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peft
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import check_merge
import reference_model as ref


class OnMean(nn.Module):
    """An encoder with a separate head on the mean of its last hidden states."""

    def __init__(self, encoder, folder):
        super().__init__()
        self.encoder, self.head = encoder, load_file(Path(folder) / "head.safetensors")

    def forward(self, attention_mask, **inputs):
        out = self.encoder(attention_mask=attention_mask, **inputs)
        mask = attention_mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1)
        out.logits = mean @ self.head["classifier.weight"].T + self.head["classifier.bias"]
        return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("base")
    p.add_argument("adapter")
    p.add_argument("tsv")
    p.add_argument("--merged", metavar="FOLDER")
    p.add_argument("--against", metavar="FILE")
    p.add_argument("--tolerance", type=float, default=1e-5)
    args = p.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # This warning is all that PEFT does if an adapter lacks a tensor.
    warnings.filterwarnings("error", message=".*missing adapter keys.*")
    header, rows = check_merge.table(args.tsv)
    texts = [row[header.index("text")] for row in rows]
    pairs = [row[header.index("text_pair")] or None if "text_pair" in header else None for row in rows]
    mean = (Path(args.adapter) / "head.safetensors").exists()
    with safe_open(Path(args.adapter) / "adapter_model.safetensors", "pt") as file:
        metadata = file.metadata()
        head = [key for key in file.keys() if key.endswith(("classifier.bias", "classifier.out_proj.bias"))]
        outputs = None if mean else file.get_tensor(head[0]).shape[0]
    tokenizer = AutoTokenizer.from_pretrained(args.base)

    def load(folder, head_folder):
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        if mean:
            return OnMean(AutoModel.from_pretrained(folder, **options), head_folder).eval()
        more = {} if folder == args.merged else {"num_labels": outputs, "ignore_mismatched_sizes": True}
        return AutoModelForSequenceClassification.from_pretrained(folder, **more, **options).eval()

    config = transformers.AutoConfig.from_pretrained(args.base)
    length = min(ref.longest(config, None), int(metadata.get("max_length", 1 << 30)))

    def logits(model):
        return check_merge.logits_of(model, tokenizer, texts, pairs, length, 16)

    model = load(args.base, args.adapter)
    plain = logits(model)
    if mean:
        model.encoder = peft.PeftModel.from_pretrained(model.encoder, args.adapter).eval()
        adapter = model.encoder
    else:
        model = adapter = peft.PeftModel.from_pretrained(model, args.adapter).eval()
    tuned = logits(model)
    with adapter.disable_adapter():
        off = logits(model)
    found = {"disabled": float((off - plain).abs().max()), "moved by": float((tuned - plain).abs().max())}
    if args.merged:
        found["merged"] = float((logits(load(args.merged, args.merged)) - tuned).abs().max())
    if args.against:
        lines = [json.loads(line) for line in Path(args.against).read_text(encoding="utf-8").splitlines()]
        own = torch.tensor([line["logits"] if "logits" in line else [line["value"]] for line in lines])
        found["bitfit"] = float((own - tuned).abs().max())
    if mean:
        model.encoder = adapter.merge_and_unload()
    else:
        model = adapter.merge_and_unload()
    found["merge_and_unload"] = float((logits(model) - tuned).abs().max())
    print(f"peft {peft.__version__}, {len(rows)} rows, largest logit {float(tuned.abs().max()):.3g}")
    print(*(f"{what}: {value:.3g}" for what, value in found.items()), sep="\n")
    if not (found["disabled"] == 0.0 and found["moved by"] > 0.0):
        sys.exit("with the adapter disabled the model is not its base, or the adapter does nothing")
    # This way round, NaN fails.
    if not all(found[what] <= args.tolerance for what in ("merged", "bitfit", "merge_and_unload") if what in found):
        sys.exit(f"a difference is above {args.tolerance}")


if __name__ == "__main__":
    main()
