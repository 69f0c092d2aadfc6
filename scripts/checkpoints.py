#!/usr/bin/env python3
"""Compares how transformers, Sentence Transformers and bitfit read a checkpoint's own files.

    python3 scripts/checkpoints.py                    # writes tests/fixtures/checkpoints
    python3 scripts/checkpoints.py --check            # trains, predicts and merges with target/release/bitfit, loads the
                                                      # merged folders in both libraries, and compares

The fixtures are the defaults of the configuration classes, 2,000 hard lines, small tokenizers, and the configurations that use
them. For each configuration there is a digest of every line's ids and offsets (FNV-1a, 32 bits, over id, start and end of each
token as little-endian u32) and of the ids and types of 200 pairs, and a few lines in full. Tests compare bitfit with them without
Python. --check makes a small random model for each configuration, and fails if a difference is above --tolerance. Setup:
    pip install -r scripts/requirements.txt
"""
import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, CamembertConfig, RobertaConfig, XLMRobertaConfig

import checkpoint_tokenizers as tok
import reference_model as ref
from check_merge import load, logits_of
from hard_texts import lines

REPOSITORY = Path(__file__).resolve().parent.parent
ROOT = REPOSITORY / "tests" / "fixtures" / "checkpoints"
CONFIGS = {c.model_type: c for c in (BertConfig, RobertaConfig, XLMRobertaConfig, CamembertConfig)}
KEYS = """hidden_size num_hidden_layers num_attention_heads intermediate_size vocab_size max_position_embeddings
type_vocab_size layer_norm_eps hidden_act hidden_dropout_prob attention_probs_dropout_prob classifier_dropout pad_token_id
is_decoder add_cross_attention""".split()
PAIRS = 200
WHOLE = 12
MAX_LENGTH = 60


def defaults():
    """The defaults of each configuration class."""
    out = {}
    for model_type, kind in CONFIGS.items():
        made = kind()
        # transformers 5 has only absolute positions, and no key for them.
        out[model_type] = {key: getattr(made, key) for key in KEYS} | {"position_embedding_type": "absolute"}
    return out


def fnv(numbers):
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(numbers)}I", *numbers):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def model_config(entry, vocab_size, **more):
    kind = CONFIGS[entry["model_type"]]
    size = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=vocab_size)
    if entry["model_type"] == "bert":
        return kind(**size, max_position_embeddings=64, **more)
    return kind(**size, max_position_embeddings=66, type_vocab_size=1, **more)


def digests(entry, texts):
    """(digests of single lines, digests of pairs, the first lines in full)."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tok.lay_out(ROOT, entry, folder)
        model_config(entry, tok.size(ROOT, entry)).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    singles, whole = [], []
    for text in texts:
        out = tokenizer(text, return_offsets_mapping=True)
        numbers = [n for i, (start, end) in zip(out["input_ids"], out["offset_mapping"]) for n in (i, start, end)]
        singles.append(fnv(numbers))
        whole.append(out["input_ids"])
    pairs = []
    for first, second in zip(texts[:PAIRS], texts[1 : PAIRS + 1]):
        ids, types = ref.encode(tokenizer, first, second or None)
        pairs.append(fnv([n for pair in zip(ids, types) for n in pair]))
    return singles, pairs, {str(i): whole[i] for i in range(0, len(texts), len(texts) // WHOLE)}


def write():
    ROOT.mkdir(parents=True, exist_ok=True)
    (ROOT / "config_defaults.json").write_text(json.dumps(defaults(), indent=1) + "\n")
    texts = lines()
    (ROOT / "texts.jsonl").write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8")
    tok.write_bases(ROOT)
    entries, tensors = [], {}
    for name in tok.CONFIGURATIONS:
        entry = tok.described(ROOT, name)
        singles, pairs, whole = digests(entry, texts)
        tensors[f"{name}.texts"] = torch.tensor(singles, dtype=torch.int64).to(torch.uint32)
        tensors[f"{name}.pairs"] = torch.tensor(pairs, dtype=torch.int64).to(torch.uint32)
        entries.append(entry | {"vocab_size": tok.size(ROOT, entry), "ids": whole})
        print(name)
    save_file(tensors, ROOT / "digests.safetensors")
    body = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in entries)
    (ROOT / "configurations.json").write_text(f"[\n{body}\n]\n")
    total = sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file())
    print(f"{ROOT}: {total / 1e6:.2f} MB")


# ---------------------------------------------------------------- with bitfit

def bitfit(program, *args):
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bitfit {' '.join(map(str, args))}\n{done.stderr}")
    return done.stdout


def random_model(entry, folder, seed):
    """A complete model folder with random weights."""
    torch.manual_seed(seed)
    tok.lay_out(ROOT, entry, folder)
    config = model_config(entry, tok.size(ROOT, entry), num_labels=2, initializer_range=0.3)
    model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)


def trained(program, model, folder, pooling, texts, pairs):
    """Trains two steps, predicts on the texts, merges. Returns (logits, the merged folder)."""
    rows = [{"text": t, "text_pair": p or "", "label": ["no", "yes"][i % 2]} for i, (t, p) in enumerate(zip(texts, pairs))]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run, merged = folder / "run", folder / "merged"
    common = ["--threads", 1, "--quiet"]
    bitfit(program, "train", "--model", model, "--train", data, "--output", run, "--steps", 2, "--lr", "1e-2", "--pooling",
           pooling, "--weights", "f32", "--precision", "f32", "--max-length", MAX_LENGTH, *common)
    out = bitfit(program, "predict", "--delta", run, "--input", data, "--output-format", "jsonl", *common)
    logits = torch.tensor([json.loads(line)["logits"] for line in out.splitlines()])
    bitfit(program, "merge", "--delta", run, "--output", merged, "--quiet")
    return logits, merged


def check(program, tolerance):
    texts = [t for t in lines() if t.strip()][::9]
    pairs = [other if i % 3 == 0 else None for i, other in enumerate(texts[1:] + texts[:1])]
    worst = {}
    for name in tok.CONFIGURATIONS:
        entry = tok.described(ROOT, name)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "model").mkdir()
            random_model(entry, folder / "model", 7)
            logits, merged = trained(program, folder / "model", folder, "cls", texts, pairs)
            tokenizer = AutoTokenizer.from_pretrained(merged)
            theirs = logits_of(load(merged), tokenizer, texts, pairs, MAX_LENGTH, 64)
            worst[name] = far(logits, theirs)
    worst |= sentence_encoders(program, texts)
    print(f"{'configuration':40} difference  from text to text")
    for name, (difference, spread) in worst.items():
        print(f"{name:40} {difference:.2e}    {spread:.2e}")
    # This way round, NaN fails. Logits that hardly differ from text to text would hide wrong ids.
    bad = [name for name, (far, spread) in worst.items() if not far <= tolerance or not spread >= 100 * tolerance]
    if bad:
        sys.exit(f"above {tolerance}, or the logits hardly differ from text to text: {', '.join(bad)}")


def far(ours, theirs):
    """(the largest difference, the standard deviation over the texts)."""
    return float((ours - theirs).abs().max()), float(theirs.std(0).min())


def sentence_encoders(program, texts):
    """Mean-pooled merges in Sentence Transformers: its embeddings, passed through the head, must be the logits of predict. The
    bases are a plain encoder, sentence encoders, and one that lower-cases its texts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    # Sentence Transformers before version 6 strips texts itself.
    texts = [t.strip() for t in texts]
    worst = {}
    for name, kind in (("bert-uncased", "none"), ("bert-cased-by-config", "pooling"), ("xlm-roberta", "lower"),
                       ("roberta-prefix-space", "pooling")):
        entry = tok.described(ROOT, name)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "model").mkdir()
            random_model(entry, folder / "model", 8)
            base, pooling = folder / "model", "mean"
            if kind != "none":
                own = {"max_seq_length": 40, "do_lower_case": kind == "lower"}
                modules = [Transformer(str(base), **own), Pooling(32, "mean")]
                SentenceTransformer(modules=modules, device="cpu").save(str(folder / "sentence"))
                (folder / "sentence" / "sentence_bert_config.json").write_text(json.dumps(own))
                base, pooling = folder / "sentence", "auto"
            logits, merged = trained(program, base, folder, pooling, texts, [None] * len(texts))
            model = SentenceTransformer(str(merged), device="cpu")
            model.max_seq_length = MAX_LENGTH
            head = load_file(merged / "head.safetensors")
            embedded = torch.from_numpy(model.encode(texts, batch_size=64))
            theirs = embedded @ head["classifier.weight"].T + head["classifier.bias"]
            worst[f"{name}, mean ({kind})"] = far(logits, theirs)
    return worst


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    p.add_argument("--bitfit", default=REPOSITORY / "target/release/bitfit", help="the program, for --check")
    p.add_argument("--tolerance", type=float, default=1e-5)
    args = p.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.check:
        return check(args.bitfit, args.tolerance)
    write()


if __name__ == "__main__":
    main()
