"""Writes the four small models of the parity fixtures: configs, random weights and tokenizers.

make_fixtures.py computes with what this module writes. Each model represents a kind of folder that a user may have: a
classifier, a bare encoder, a pre-training checkpoint in shards, a RoBERTa without tokenizer.json.
"""
import json
from collections import Counter

import tokenizers
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel
from transformers import RobertaConfig, RobertaForSequenceClassification

from fixture_texts import corpus

# One entry per model. `classes` are in the order of the label ids, which is also alphabetical.
SPECS = {
    "bert": {
        "seed": 11, "pooling": "cls", "task": "classification", "classes": ["negative", "neutral", "positive"],
        "config": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
                       hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2),
    },
    "bert-mean": {
        "seed": 12, "pooling": "mean", "task": "regression", "classes": None,
        "config": dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=80,
                       hidden_act="gelu_new", layer_norm_eps=1e-7, type_vocab_size=2),
    },
    "bert-mlm": {
        "seed": 13, "pooling": "cls", "task": "classification", "classes": ["0", "1"],
        "config": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                       hidden_act="relu", layer_norm_eps=1e-12, type_vocab_size=2),
    },
    "roberta": {
        "seed": 14, "pooling": "cls", "task": "classification", "classes": ["no", "yes"],
        "config": dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=96,
                       hidden_act="gelu", layer_norm_eps=1e-5, type_vocab_size=1, pad_token_id=1,
                       bos_token_id=0, eos_token_id=2),
    },
}


def write_json(path, value, indent=1):
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- tokenizers

def wordpiece_vocabulary(tok, size, alphabet):
    """Special tokens, the commonest characters, their `##` forms, then the pieces that save the most letters. The library's own
    trainer is not used because it orders ties differently from run to run, which would change every id."""
    letters, inner, pieces = Counter(), Counter(), Counter()
    for sentence in corpus():
        words = tok.pre_tokenizer.pre_tokenize_str(tok.normalizer.normalize_str(sentence))
        for word, _ in words:
            letters.update(word)
            inner.update(word[1:])
            for start in range(len(word)):
                for end in range(start + 2, len(word) + 1):
                    pieces[("##" if start else "") + word[start:end]] += end - start - 1
    ranked = lambda counts: [key for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept = ranked(letters)[:alphabet]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(kept)
    vocabulary += sorted("##" + c for c in inner if c in kept)
    return vocabulary + ranked(pieces)[: size - len(vocabulary)]


def make_wordpiece(folder, lowercase, style):
    """A WordPiece tokenizer of 150 tokens. style: `json` writes tokenizer.json, `vocab` only vocab.txt, `baked` a tokenizer.json
    with truncation and padding switched on inside, as some sentence encoders have it."""
    tok = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    vocabulary = wordpiece_vocabulary(tok, 150, 45)
    tok.model = tokenizers.models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]")
    tok.add_special_tokens(vocabulary[:5])
    tok.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tok.decoder = tokenizers.decoders.WordPiece()
    if style == "baked":
        tok.enable_truncation(24)
        tok.enable_padding(length=24, pad_id=0, pad_token="[PAD]")
    if style == "vocab":
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    else:
        tok.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase, "model_max_length": 64}
    write_json(folder / "tokenizer_config.json", settings)
    return len(vocabulary)


def train_bpe(folder):
    """A byte-level BPE like RoBERTa's: vocab.json and merges.txt, no tokenizer.json."""
    tok = tokenizers.Tokenizer(tokenizers.models.BPE())
    tok.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    tok.train_from_iterator(corpus(), trainer)
    inner = json.loads(tok.to_str())["model"]
    write_json(folder / "vocab.json", inner["vocab"], indent=None)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in inner["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{m}\n" for m in merges), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "model_max_length": 64})
    return tok.get_vocab_size()


# ---------------------------------------------------------------- checkpoints

def lively(model, seed):
    """Fills every parameter from one seeded stream. The spread of the matrices makes attention uneven and takes activations out
    of their linear range; LayerNorm gammas are around 1, and no bias is zero."""
    draw = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=draw)
        if "LayerNorm.weight" in name:
            value = 1.0 + 0.2 * noise
        elif "embeddings" in name and p.dim() == 2:
            value = 0.4 * noise
        elif p.dim() == 2:
            value = noise * (1.2 / p.shape[1] ** 0.5)
        else:
            value = 0.15 * noise
        with torch.no_grad():
            p.copy_(value)


def build_checkpoint(name, spec, folder):
    """Writes config, weights, tokenizer and head.safetensors of one model."""
    if name == "roberta":
        size = train_bpe(folder) + 4  # rows beyond the tokenizer's last id, as in padded vocabularies
    else:
        style = {"bert": "json", "bert-mean": "vocab", "bert-mlm": "baked"}[name]
        size = make_wordpiece(folder, lowercase=name != "bert-mean", style=style)
    classes = spec["classes"]
    positions = 66 if name == "roberta" else 64
    common = dict(spec["config"], vocab_size=size, max_position_embeddings=positions, initializer_range=0.02)
    if name in ("bert", "roberta"):
        common.update(id2label=dict(enumerate(classes)), label2id={c: i for i, c in enumerate(classes)})
    config = (RobertaConfig if name == "roberta" else BertConfig)(**common)
    kind = {"bert": BertForSequenceClassification, "bert-mean": BertModel, "bert-mlm": BertForPreTraining,
            "roberta": RobertaForSequenceClassification}[name]
    config.architectures = [kind.__name__]
    model = kind(config)
    lively(model, spec["seed"])
    weights = {key: value.clone() for key, value in model.state_dict().items()}

    head = {key: value for key, value in weights.items() if key.startswith("classifier.")}
    if not head:
        outputs = len(classes) if classes else 1
        draw = torch.Generator().manual_seed(spec["seed"] + 100)
        head = {
            "classifier.weight": torch.randn((outputs, config.hidden_size), generator=draw) * 0.2,
            "classifier.bias": torch.randn((outputs,), generator=draw) * 0.1,
        }
    save_file(head, folder / "head.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)

    if name == "bert-mean":
        # Older sentence encoders have this integer buffer in the file.
        weights["embeddings.position_ids"] = torch.arange(config.max_position_embeddings).unsqueeze(0)
    if name == "bert-mlm":
        # As in the published bert-base-uncased, the tied decoder is not stored, and LayerNorm has the names of the first BERT port.
        for key in [k for k in weights if k.startswith("cls.predictions.decoder.")]:
            del weights[key]
        weights = {old_layernorm(key): value for key, value in weights.items()}
        write_shards(weights, folder)
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def old_layernorm(key):
    return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def write_shards(weights, folder):
    """Writes two shards of about the same size, and their index."""
    names = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    keys = sorted(weights)
    total = sum(value.numel() * 4 for value in weights.values())
    shards, seen, where = ({}, {}), 0, {}
    for key in keys:
        shard = 0 if seen < total / 2 else 1
        shards[shard][key] = weights[key]
        where[key] = names[shard]
        seen += weights[key].numel() * 4
    for shard, file in zip(shards, names):
        save_file(shard, folder / file, metadata={"format": "pt"})
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
