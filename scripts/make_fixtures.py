#!/usr/bin/env python3
"""Writes tests/fixtures/parity: small random encoders and what PyTorch computes with them.

    python3 scripts/make_fixtures.py                       # all four small models
    python3 scripts/make_fixtures.py --only roberta
    python3 scripts/make_fixtures.py --tokens              # only the heads on tokens
    python3 scripts/make_fixtures.py --minilm DIR --out tests/fixtures/parity/minilm_expected.safetensors

The committed files were made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0 and
numpy 2.4.6 on x86-64, with one thread; versions.json next to them records this. Setup:
    pip install -r scripts/requirements.txt
tests/fixtures/parity/README.md describes the layout of every file.
"""
import argparse
import json
import platform
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy
import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoTokenizer

import reference_model as ref
from fixture_models import SPECS, build_checkpoint, write_json
from fixture_texts import ROWS, TOKENIZER_ONLY

ROOT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "parity"
MAX_LENGTH = 60
TRUNCATED = 16
STEPS = 10
SAMPLE = 7

# The ten-step runs: batch_0 is plain, batch_1 has everything switched on.
VARIANTS = [
    {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.0, "clip_norm": 0.0,
     "schedule": "constant", "warmup_steps": 0, "steps": STEPS},
    {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.01, "clip_norm": 1.0,
     "schedule": "linear", "warmup_steps": 2, "steps": STEPS},
]


# ---------------------------------------------------------------- batches

def choose_rows(lengths):
    """Two lists of row numbers: one long text among several short ones, and texts of medium length. Both mix pairs and single
    texts."""
    order = sorted(range(len(ROWS)), key=lambda row: (lengths[row], row))
    longest = order[-1]
    pairs = [row for row in order if ROWS[row][1] is not None and row != longest]
    singles = [row for row in order if ROWS[row][1] is None and row != longest]
    first = [singles[0], pairs[0], longest, singles[1], pairs[1], singles[2]]
    middling = lambda rows: [row for row in rows if 9 <= lengths[row] <= 34 and row not in first]
    second = [row for both in zip(middling(pairs)[-3:], middling(singles)[-2:] + middling(singles)[:1]) for row in both]
    return [first, second]


def row_label(spec, row):
    """A class number or a score. Any fixed rule will do."""
    if spec["task"] == "regression":
        return round(((row * 7) % 11 - 5) * 0.6, 1)
    return (row * 5 + row // 3) % len(spec["classes"])


def forward(model, spec, inputs, labels):
    """Model outputs as a dict: loss, logits [B, C], pooled [B, h], hidden (list of [B, S, h])."""
    taken = {}
    hook = None
    if spec["pooling"] == "cls":
        base = getattr(model, model.base_model_prefix)
        last = base.pooler if base.pooler is not None else model.classifier.dense
        act = (lambda out: out) if base.pooler is not None else torch.tanh
        hook = last.register_forward_hook(lambda _m, _i, out: taken.__setitem__("pooled", act(out)))
    out = model(**inputs, output_hidden_states=True)
    if hook:
        hook.remove()
    if spec["pooling"] == "mean":
        taken["pooled"] = out.pooled
    elif base.pooler is None:
        # RoBERTa's head runs `dense` on every row it gets: here only the first token.
        assert taken["pooled"].dim() == 2
    labels = labels.to(out.logits.dtype) if spec["task"] == "regression" else labels
    loss = ref.loss_of(out.logits, labels, spec["task"])
    return {"loss": loss, "logits": out.logits, "pooled": taken["pooled"], "hidden": out.hidden_states}


def packed(values, mask):
    """[B, S, h] -> [T, h]: the real tokens, one sequence after another."""
    return values[mask.bool()].detach()


def gradients_of(names, loss):
    """A copy of the gradient of each named parameter."""
    loss.backward()
    return {name: p.grad.detach().clone() for name, p in names.items()}


def gradients(model, spec, inputs, labels, method="bitfit"):
    out = forward(model, spec, inputs, labels)
    grads = gradients_of(ref.trainables(model, method), out["loss"])
    model.zero_grad()
    return out, grads


def train(names, loss, variant):
    """The rates, losses and gradient norms of a run whose steps minimise `loss()`, and the named parameters after it."""
    optimizer = ref.Optimizer(
        names.values(), variant["lr"], variant["steps"], variant["schedule"], variant["warmup_steps"],
        variant["clip_norm"], tuple(variant["betas"]), variant["eps"], variant["weight_decay"],
    )
    rates, losses, norms = [], [], []
    for _ in range(variant["steps"]):
        value = loss()
        value.backward()
        rate, norm = optimizer.step()
        rates.append(rate)
        losses.append(float(value.detach()))
        norms.append(norm)
    return rates, losses, norms, {name: p.detach().clone() for name, p in names.items()}


def ten_steps(model, spec, inputs, labels, variant, method="bitfit"):
    """A run on one batch."""
    names = ref.trainables(model, method)
    return train(names, lambda: forward(model, spec, inputs, labels)["loss"], variant)


def relative(value, exact):
    """||value - exact|| / ||exact||, in f64."""
    exact = exact.double()
    return float((value.double() - exact).norm() / exact.norm())


def check_loaded(model, folder):
    """Fails if transformers gave any encoder parameter a fresh random value instead of the file's."""
    stored = {}
    for file in folder.glob("model*.safetensors"):
        with safetensors.safe_open(file, "pt") as weights:
            for key in weights.keys():
                modern = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
                stored[ref.PREFIX.sub("", modern)] = weights.get_tensor(key)
    for key, value in model.named_parameters():
        if not key.startswith("classifier."):
            assert torch.equal(value, stored[ref.PREFIX.sub("", key)]), f"{key} differs from the file"


def write_batch(name, spec, folder, index, rows, tokenizer):
    """Writes one batch_N.safetensors and returns its entry in fixture.json."""
    outputs = len(spec["classes"]) if spec["classes"] else 1

    def fresh():
        model = ref.load(folder, outputs, spec["pooling"], dropout=0.0).eval()
        with safetensors.safe_open(folder / "head.safetensors", "pt") as head:
            missing = model.load_state_dict({k: head.get_tensor(k) for k in head.keys()}, strict=False)
        assert not missing.unexpected_keys
        check_loaded(model, folder)
        return model

    encodings = [ref.encode(tokenizer, *ROWS[row], max_length=MAX_LENGTH) for row in rows]
    inputs = ref.collate(encodings, tokenizer.pad_token_id)
    labels = torch.tensor([row_label(spec, row) for row in rows])
    mask = inputs["attention_mask"]
    lengths = [len(ids) for ids, _ in encodings]
    offset = 2 if name == "roberta" else 0

    out, grads = gradients(fresh(), spec, inputs, labels)
    exact, exact_grads = gradients(fresh().double(), spec, inputs, labels)
    variant = VARIANTS[index]
    rates, losses, norms, after = ten_steps(fresh(), spec, inputs, labels, variant)
    exact_after = ten_steps(fresh().double(), spec, inputs, labels, variant)[3]
    before = {key: value.detach().clone() for key, value in ref.trainables(fresh()).items()}

    kind = torch.float32 if spec["task"] == "regression" else torch.int32
    tensors = {
        "ids": flat([ids for ids, _ in encodings]),
        "type_ids": flat([kinds for _, kinds in encodings]),
        "positions": flat([range(offset, offset + n) for n in lengths]),
        "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(lengths)), dtype=torch.int32),
        "rows": torch.tensor(rows, dtype=torch.int32),
        "labels": labels.to(kind),
        "pooled": out["pooled"].detach(),
        "logits": out["logits"].detach(),
        "loss": out["loss"].detach().reshape(1),
        "train.lr": torch.tensor(rates),
        "train.losses": torch.tensor(losses),
        "train.grad_norms": torch.tensor(norms),
    }
    for layer, hidden in enumerate(out["hidden"]):
        tensors[f"hidden.{layer}"] = packed(hidden, mask)
    for key, value in grads.items():
        tensors[f"grad.{key}"] = value
        tensors[f"after10.{key}"] = after[key]
    file = f"batch_{index}.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / file)

    # The gradient of key biases is exactly zero, because softmax ignores a shift that all keys share. What f32 leaves there is
    # noise, and is reported separately.
    key_bias = lambda key: (ref.bias_kind(key) or ("",))[0] == "key"
    largest = max(float(g.abs().max()) for g in grads.values())
    others = [key for key in grads if not key_bias(key)]
    error = {
        "hidden": max(relative(packed(a, mask), packed(b, mask)) for a, b in zip(out["hidden"], exact["hidden"])),
        "logits": relative(out["logits"].detach(), exact["logits"].detach()),
        "grad": max(relative(grads[k], exact_grads[k]) for k in others),
        "grad_worst": max(others, key=lambda k: relative(grads[k], exact_grads[k])),
        "key_bias_over_largest": max(float(grads[k].abs().max()) for k in grads if key_bias(k)) / largest,
        "after10": max(relative(after[k], exact_after[k]) for k in others),
        "after10_change": max(relative(after[k] - before[k], exact_after[k] - before[k]) for k in others),
        "after10_key_bias": max(relative(after[k], exact_after[k]) for k in grads if key_bias(k)),
    }
    full = write_full(spec, folder, index, fresh, inputs, labels)
    return {"file": file, "rows": rows, "lengths": lengths, "train": variant, "pytorch_f32_error": error,
            "full_f32_error": full}


def sampled(value):
    """Every SAMPLE-th element in row-major order. No width is a multiple of SAMPLE, so all rows and columns are covered."""
    return value.flatten()[::SAMPLE].contiguous()


def write_full(spec, folder, index, fresh, inputs, labels):
    """Writes full_N.safetensors: the same batch with every parameter trained. Returns PyTorch's own f32 error."""
    variant = VARIANTS[index]
    _, grads = gradients(fresh(), spec, inputs, labels, "full")
    _, exact_grads = gradients(fresh().double(), spec, inputs, labels, "full")
    rates, losses, norms, after = ten_steps(fresh(), spec, inputs, labels, variant, "full")
    exact_after = ten_steps(fresh().double(), spec, inputs, labels, variant, "full")[3]
    tensors = {"train.lr": torch.tensor(rates), "train.losses": torch.tensor(losses),
               "train.grad_norms": torch.tensor(norms)}
    for key, value in grads.items():
        tensors[f"grad.{key}"] = sampled(value)
        tensors[f"after10.{key}"] = sampled(after[key])
    save_file(tensors, folder / f"full_{index}.safetensors")
    others = [key for key in grads if (ref.bias_kind(key) or ("",))[0] != "key"]
    return {
        "grad": max(relative(grads[k], exact_grads[k]) for k in others),
        "after10": max(relative(after[k], exact_after[k]) for k in others),
    }


def flat(lists):
    return torch.tensor([value for one in lists for value in one], dtype=torch.int32)


def write_texts(spec, folder, tokenizer):
    """Writes texts.tsv, and tokenization.json with the ids of every row, whole and truncated."""
    lines = ["text\ttext_pair\tlabel"]
    for row, (text, pair) in enumerate(ROWS):
        label = row_label(spec, row)
        lines.append(f"{text}\t{pair or ''}\t{spec['classes'][label] if spec['classes'] else label}")
    (folder / "texts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    cases = []
    for row, (text, pair) in enumerate(ROWS + TOKENIZER_ONLY):
        ids, kinds = ref.encode(tokenizer, text, pair)
        ids_16, kinds_16 = ref.encode(tokenizer, text, pair, max_length=TRUNCATED)
        cases.append({
            "row": row if row < len(ROWS) else None, "text": text, "text_pair": pair,
            "ids": ids, "type_ids": kinds, "ids_16": ids_16, "type_ids_16": kinds_16,
        })
    body = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (folder / "tokenization.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")


def write_model(name):
    spec = SPECS[name]
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build_checkpoint(name, spec, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    write_texts(spec, folder, tokenizer)
    lengths = [len(ref.encode(tokenizer, *row, max_length=MAX_LENGTH)[0]) for row in ROWS]
    batches = [
        write_batch(name, spec, folder, index, rows, tokenizer)
        for index, rows in enumerate(choose_rows(lengths))
    ]
    write_json(folder / "fixture.json", {
        "task": spec["task"], "pooling": spec["pooling"], "classes": spec["classes"],
        "max_length": MAX_LENGTH, "batches": batches,
    })
    for batch in batches:
        print(name, batch["file"], "lengths", batch["lengths"], json.dumps(batch["pytorch_f32_error"]),
              "full", json.dumps(batch["full_f32_error"]))


# ---------------------------------------------------------------- a head on each token

TAGS = 3
IGNORED = -100
# The class weights in the loss of tokens_0 and tokens_1; None for no weights.
TAG_WEIGHTS = [None, [0.5, 2.0, 1.25]]


def write_tokens(name):
    """Writes tokens_0 and tokens_1.safetensors: the batches of the model with a head on each token. Special tokens and every
    third other token have no label."""
    folder = ROOT / name
    spec = SPECS[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [len(ref.encode(tokenizer, *row, max_length=MAX_LENGTH)[0]) for row in ROWS]
    for index, rows in enumerate(choose_rows(lengths)):
        encodings = [ref.encode(tokenizer, *ROWS[row], max_length=MAX_LENGTH) for row in rows]
        inputs = ref.collate(encodings, tokenizer.pad_token_id)
        mask = inputs["attention_mask"].bool()
        labels = torch.full(mask.shape, IGNORED)
        special = set(tokenizer.all_special_ids)
        for b, (ids, _) in enumerate(encodings):
            for t, token in enumerate(ids):
                if token not in special and t % 3 != 2:
                    labels[b, t] = (5 * t + 2 * b + t // 4) % TAGS
        config = ref.AutoConfig.from_pretrained(folder)
        draw = torch.Generator().manual_seed(spec["seed"] + 200)
        head = {"classifier.weight": torch.randn((TAGS, config.hidden_size), generator=draw) * 0.2,
                "classifier.bias": torch.randn((TAGS,), generator=draw) * 0.1}
        weights = TAG_WEIGHTS[index]

        def fresh():
            model = ref.load(folder, TAGS, "each", dropout=0.0).eval()
            with torch.no_grad():
                model.classifier.weight.copy_(head["classifier.weight"])
                model.classifier.bias.copy_(head["classifier.bias"])
            check_loaded(model, folder)
            return model

        def loss_of(model):
            logits = model(**inputs).logits
            weight = torch.tensor(weights, dtype=logits.dtype) if weights else None
            return logits, torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), weight=weight, ignore_index=IGNORED)

        model = fresh()
        names = ref.trainables(model)
        logits, loss = loss_of(model)
        loss.backward()
        grads = {key: p.grad.detach().clone() for key, p in names.items()}
        model, variant = fresh(), VARIANTS[index]
        names = ref.trainables(model)
        optimizer = ref.Optimizer(
            names.values(), variant["lr"], variant["steps"], variant["schedule"], variant["warmup_steps"],
            variant["clip_norm"], tuple(variant["betas"]), variant["eps"], variant["weight_decay"],
        )
        rates, losses, norms = [], [], []
        for _ in range(variant["steps"]):
            step_loss = loss_of(model)[1]
            step_loss.backward()
            rate, norm = optimizer.step()
            rates.append(rate)
            losses.append(float(step_loss.detach()))
            norms.append(norm)
        sizes = [len(ids) for ids, _ in encodings]
        offset = 2 if name == "roberta" else 0
        tensors = {
            "ids": flat([ids for ids, _ in encodings]),
            "type_ids": flat([kinds for _, kinds in encodings]),
            "positions": flat([range(offset, offset + n) for n in sizes]),
            "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(sizes)), dtype=torch.int32),
            "labels": labels[mask].to(torch.int32),
            "logits": packed(logits, mask),
            "loss": loss.detach().reshape(1),
            "train.lr": torch.tensor(rates),
            "train.losses": torch.tensor(losses),
            "train.grad_norms": torch.tensor(norms),
        }
        tensors.update({f"head.{key}": value for key, value in head.items()})
        for key, value in grads.items():
            tensors[f"grad.{key}"] = value
            tensors[f"after10.{key}"] = names[key].detach().clone()
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"tokens_{index}.safetensors")
        print(name, f"tokens_{index}", "labels", int((labels != IGNORED).sum()), "of", int(mask.sum()), float(loss.detach()))


# Words as in tagged corpora: one sentence per line, with spaces between words.
SENTENCES = [
    "The harbour was quiet again .",
    "John 's film is n't in Saint-Denis , they say ...",
    "( They ) met \" friends \" at 7.30 p.m. !",
    "naïve Zürich CAFÉ cafe\u0301 İstanbul",
    "a 😀 train 😀😀 tickets",
    "北京 is in 中国",
    "x \u200b y",
    "u.s.a. #tag @name http://example.org/a?b=c 10,000 50%",
    "morning",
]


def write_words(name):
    """Writes words.json: the ids that transformers makes of a list of words, and the position of each word's first id."""
    # RoBERTa's tokenizer accepts a list of words only with this.
    options = {"add_prefix_space": True} if name == "roberta" else {}
    tokenizer = AutoTokenizer.from_pretrained(ROOT / name, **options)
    cases = []
    for sentence in SENTENCES:
        words = sentence.split(" ")
        out = tokenizer(words, is_split_into_words=True)
        of = out.word_ids()
        first = [of.index(word) if word in of else None for word in range(len(words))]
        cases.append({"words": words, "ids": out["input_ids"], "first": first})
    body = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (ROOT / name / "words.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")


# ---------------------------------------------------------------- MiniLM

def write_minilm(folder, out_file):
    """Writes the expected values of one batch on the real encoder: cls pooling, two classes, a seeded head."""
    rows = [1, 2, 6, 11, 14, 16, 18, 23]
    spec = {"pooling": "cls", "task": "classification", "classes": ["0", "1"]}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encodings = [ref.encode(tokenizer, *ROWS[row], max_length=32) for row in rows]
    inputs = ref.collate(encodings, tokenizer.pad_token_id)
    labels = torch.tensor([row_label(spec, row) for row in rows])
    draw = torch.Generator().manual_seed(21)

    def fresh():
        model = ref.load(folder, 2, "cls", dropout=0.0).eval()
        with torch.no_grad():
            model.classifier.weight.copy_(head["classifier.weight"])
            model.classifier.bias.copy_(head["classifier.bias"])
        return model

    head = {"classifier.weight": torch.randn((2, 384), generator=draw) * 0.1, "classifier.bias": torch.zeros(2)}
    out, grads = gradients(fresh(), spec, inputs, labels)
    exact, exact_grads = gradients(fresh().double(), spec, inputs, labels)
    lengths = [len(ids) for ids, _ in encodings]
    last = packed(out["hidden"][-1], inputs["attention_mask"])
    mean = (out["hidden"][-1] * inputs["attention_mask"].unsqueeze(-1)).sum(1) / torch.tensor(lengths).unsqueeze(-1)
    tensors = {
        "ids": flat([ids for ids, _ in encodings]),
        "type_ids": flat([kinds for _, kinds in encodings]),
        "positions": flat([range(n) for n in lengths]),
        "cu_seqlens": torch.tensor([0] + list(numpy.cumsum(lengths)), dtype=torch.int32),
        "rows": torch.tensor(rows, dtype=torch.int32),
        "labels": labels.to(torch.int32),
        f"hidden.{len(out['hidden']) - 1}": last,
        "pooled": out["pooled"].detach(),
        "pooled_mean": mean.detach(),
        "logits": out["logits"].detach(),
        "loss": out["loss"].detach().reshape(1),
    }
    tensors.update({f"head.{key}": value for key, value in head.items()})
    tensors.update({f"grad.{key}": value for key, value in grads.items()})
    save_file({k: v.contiguous() for k, v in tensors.items()}, out_file)
    others = [key for key in grads if not key.endswith("key.bias")]
    report = {
        "lengths": lengths, "loss": float(out["loss"].detach()),
        "hidden": relative(last, packed(exact["hidden"][-1], inputs["attention_mask"])),
        "logits": relative(out["logits"].detach(), exact["logits"].detach()),
        "grad": max(relative(grads[k], exact_grads[k]) for k in others),
        "key_bias_over_largest": max(float(grads[k].abs().max()) for k in grads if k.endswith("key.bias"))
        / max(float(g.abs().max()) for g in grads.values()),
    }
    write_json(Path(out_file).with_suffix(".json"), {"pytorch_f32_error": report})
    print("minilm", json.dumps(report))


# ---------------------------------------------------------------- main

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SPECS), help="one small model instead of all")
    parser.add_argument("--tokens", action="store_true", help="write only the files of a head on each token")
    parser.add_argument("--minilm", metavar="DIR", help="the real encoder's folder, to write its expected values")
    parser.add_argument("--out", metavar="FILE", help="with --minilm: the file to write")
    args = parser.parse_args()
    if bool(args.minilm) != bool(args.out):
        parser.error("--minilm and --out must be given together")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.minilm:
        return write_minilm(args.minilm, args.out)
    chosen = [args.only] if args.only else list(SPECS)
    if not args.tokens:
        for name in chosen:
            write_model(name)
    for name in [name for name in chosen if name in ("bert", "roberta")]:
        write_tokens(name)
        write_words(name)
    if args.tokens:
        return
    write_json(ROOT / "versions.json", {
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "safetensors": safetensors.__version__, "numpy": numpy.__version__,
    })
    total = sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file())
    print(f"{ROOT}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
