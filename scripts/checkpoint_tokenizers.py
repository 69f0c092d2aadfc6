"""The tokenizers of tests/fixtures/checkpoints: three small vocabularies, and configurations that use them in different ways.

A configuration is a base folder and what differs from it: whole files, or keys of tokenizer.json.
"""
import io
import json
from collections import Counter

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from hard_texts import lines

BERT_CLASS = {"tokenizer_class": "BertTokenizer"}
ROBERTA_CLASS = {"tokenizer_class": "RobertaTokenizer"}
XLM_CLASS = {"tokenizer_class": "XLMRobertaTokenizer"}
CAMEMBERT_CLASS = {"tokenizer_class": "CamembertTokenizer"}


def normalizer(**change):
    return {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True, **change}


def byte_level(space):
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": True}


CASED = {"normalizer": normalizer(lowercase=False)}
NEW = {"content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
OWN = {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}

# name: (base, model_type, tokenizer_config.json or None, keys of tokenizer.json, files to take instead of tokenizer.json)
CONFIGURATIONS = {
    "bert-uncased": ("bert", "bert", {**BERT_CLASS, "do_lower_case": True}, {}, None),
    "bert-cased-by-config": ("bert", "bert", {**BERT_CLASS, "do_lower_case": False}, {}, None),
    "bert-uncased-by-config": ("bert", "bert", {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}, CASED, None),
    "bert-uncased-by-default": ("bert", "bert", BERT_CLASS, CASED, None),
    "bert-without-config": ("bert", "bert", None, CASED, None),
    "bert-keeps-accents": ("bert", "bert", {**BERT_CLASS, "do_lower_case": True, "strip_accents": False}, {}, None),
    "bert-cased-strips-accents": ("bert", "bert", {**BERT_CLASS, "do_lower_case": False, "strip_accents": True}, {}, None),
    "bert-joins-chinese": ("bert", "bert", {**BERT_CLASS, "tokenize_chinese_chars": False}, {}, None),
    "bert-vocab-txt-cased": ("bert", "bert", {**BERT_CLASS, "do_lower_case": False}, {}, "vocab.txt"),
    "bert-as-written": ("bert", "bert", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}, OWN, None),
    "bert-own-normalizer": ("bert", "bert", BERT_CLASS, OWN, None),
    "bert-splits-specials": ("bert", "bert", {**BERT_CLASS, "split_special_tokens": True}, {}, None),
    "bert-without-types": ("bert", "bert", {**BERT_CLASS, "model_input_names": ["input_ids", "attention_mask"]}, {}, None),
    "bert-distilbert-class": ("bert", "bert", {"tokenizer_class": "DistilBertTokenizer"}, {}, None),
    "bert-added-token": ("bert", "bert", {**BERT_CLASS, "added_tokens_decoder": "new"}, {}, None),
    "roberta": ("roberta", "roberta", ROBERTA_CLASS, {}, None),
    "roberta-prefix-space": ("roberta", "roberta", {**ROBERTA_CLASS, "add_prefix_space": True}, {}, None),
    "roberta-no-space-by-config": ("roberta", "roberta", {**ROBERTA_CLASS, "add_prefix_space": False},
                                   {"pre_tokenizer": byte_level(True)}, None),
    "roberta-without-config": ("roberta", "roberta", None, {"pre_tokenizer": byte_level(True)}, None),
    "roberta-vocab-json": ("roberta", "roberta", {**ROBERTA_CLASS, "add_prefix_space": True}, {}, "vocab.json"),
    "roberta-as-written": ("roberta", "roberta", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"},
                           {"pre_tokenizer": byte_level(True)}, None),
    "xlm-roberta": ("xlm-roberta", "xlm-roberta", XLM_CLASS, {}, None),
    "xlm-roberta-no-space": ("xlm-roberta", "xlm-roberta", {**XLM_CLASS, "add_prefix_space": False}, {}, None),
    "xlm-roberta-converted": ("xlm-roberta", "xlm-roberta", XLM_CLASS, "converted", None),
    "bert-with-xlm-roberta": ("xlm-roberta", "bert", {"tokenizer_class": "XLMRobertaTokenizerFast"}, {}, None),
    "camembert": ("camembert", "camembert", CAMEMBERT_CLASS, {}, None),
}

# Some of SentencePiece's own foldings, few enough for a small table.
FOLDINGS = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u2003": " ", "ﬁ": "fi", "ﬀ": "ff", "½": "1/2",
            "²": "2", "№": "No", "…": "...", "™": "TM", "\u200b": "", "\ufeff": "", "\u00ad": "", "e\u0301": "é",
            "\u212b": "Å", "\u212a": "K"} | {chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}


def dump(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def bert(folder, texts):
    """The commonest characters in both cases, their ## forms, and the pieces that save the most letters."""
    plain, folded = normalizers.BertNormalizer(lowercase=False), normalizers.BertNormalizer(lowercase=True)
    split = pre_tokenizers.BertPreTokenizer()
    characters, pieces = Counter(), Counter()
    for text in texts:
        for form in (plain, folded):
            for word, _ in split.pre_tokenize_str(form.normalize_str(text)):
                characters.update(word)
                for start in range(min(len(word), 12)):
                    for end in range(start + 2, min(len(word), 12) + 1):
                        pieces[("##" if start else "") + word[start:end]] += end - start - 1
    ranked = lambda counts, n: [key for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]]
    kept = sorted(ranked(characters, 700))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + kept + ["##" + c for c in kept]
    vocabulary += ranked(pieces, 500)
    tok = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer, tok.decoder = folded, split, decoders.WordPiece()
    tok.add_special_tokens(vocabulary[:5])
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    dump(folder / "tokenizer.json", json.loads(tok.to_str()))


def roberta(folder, texts):
    tok = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    dump(folder / "tokenizer.json", json.loads(tok.to_str()))


def pieces(texts):
    """A Unigram model trained by SentencePiece: its pieces with their scores, and the table of its foldings."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    rules = "".join(
        f"{' '.join(f'{ord(c):X}' for c in src)}\t{' '.join(f'{ord(c):X}' for c in dst)}\n"
        for src, dst in sorted(FOLDINGS.items()))
    table = file_of(rules)
    counted = Counter(c for t in texts for c in t if c.isprintable()).most_common()
    kept = {c for c, _ in sorted(counted, key=lambda item: (-item[1], item[0]))[:700]} | {" "}
    texts = ["".join(c for c in t if c in kept).strip() for t in texts]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in texts if t]), model_writer=out, vocab_size=1100,
        model_type="unigram", normalization_rule_tsv=table, num_threads=1, character_coverage=1.0,
        bos_id=1, eos_id=2, unk_id=0, minloglevel=2)
    proto = pb.ModelProto()
    proto.ParseFromString(out.getvalue())
    return [(p.piece, p.score) for p in proto.pieces], proto.normalizer_spec.precompiled_charsmap


def file_of(rules):
    import tempfile

    file = tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False, encoding="utf-8")
    with file:
        file.write(rules)
    return file.name


def unigram(folder, vocabulary, unk_id, charsmap):
    tok = Tokenizer(models.Unigram(vocabulary, unk_id=unk_id, byte_fallback=False))
    tok.normalizer = normalizers.Precompiled(charsmap)
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tok.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    ids = {t: i for i, (t, _) in enumerate(vocabulary)}
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])])
    value = json.loads(tok.to_str())
    value["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in value["model"]["vocab"]]
    dump(folder / "tokenizer.json", value)


def write_bases(root):
    texts = lines()[::2]
    made, charsmap = pieces(texts)
    builders = {
        "bert": lambda f: bert(f, texts),
        "roberta": lambda f: roberta(f, texts),
        "xlm-roberta": lambda f: unigram(
            f, [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + made[3:] + [("<mask>", 0.0)], 3, charsmap),
        "camembert": lambda f: unigram(
            f, [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
            + made[1:] + [("<mask>", 0.0)], 3, charsmap),
    }
    for name, build in builders.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        build(folder)


def described(root, name):
    """A configuration with everything spelled out, as configurations.json has it."""
    base, model_type, config, change, instead = CONFIGURATIONS[name]
    written = json.loads((root / base / "tokenizer.json").read_text(encoding="utf-8"))
    if change == "converted":
        # As transformers 4 converts a SentencePiece model.
        change = {
            "normalizer": {"type": "Sequence", "normalizers": [
                written["normalizer"], {"type": "Strip", "strip_left": False, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
            "pre_tokenizer": METASPACE,
        }
    if config and config.get("added_tokens_decoder") == "new":
        listed = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in written["added_tokens"]}
        listed[str(len(written["model"]["vocab"]))] = NEW
        config = {**config, "added_tokens_decoder": listed}
    return {"name": name, "base": base, "model_type": model_type, "tokenizer_config": config, "tokenizer": change,
            "instead": instead}


def lay_out(root, entry, folder):
    """Writes the tokenizer files of a configuration."""
    written = json.loads((root / entry["base"] / "tokenizer.json").read_text(encoding="utf-8"))
    written.update(entry["tokenizer"])
    model = written["model"]
    if entry["instead"] == "vocab.txt":
        names = sorted(model["vocab"], key=model["vocab"].get)
        (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in names), encoding="utf-8")
    elif entry["instead"] == "vocab.json":
        dump(folder / "vocab.json", model["vocab"])
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{m}\n" for m in merges), encoding="utf-8")
    else:
        dump(folder / "tokenizer.json", written)
    if entry["tokenizer_config"] is not None:
        dump(folder / "tokenizer_config.json", entry["tokenizer_config"])


def size(root, entry):
    """The number of rows that the model's embedding table needs."""
    written = json.loads((root / entry["base"] / "tokenizer.json").read_text(encoding="utf-8"))
    return len(written["model"]["vocab"]) + 4
