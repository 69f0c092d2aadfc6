"""Makes models of a given shape with random weights, and text that fills their batches exactly, for counting and timing."""

import json
import random
import struct

# Name: hidden, heads, layers.
SHAPES = {"BERT-base": (768, 12, 12), "BERT-large": (1024, 16, 24), "MiniLM": (384, 12, 6),
          "tiny": (64, 2, 2)}
WORDS = 90


def tensors(hidden, layers, positions, vocabulary):
    """Names and shapes, as in Hugging Face checkpoints."""
    yield "embeddings.word_embeddings.weight", (vocabulary, hidden)
    yield "embeddings.position_embeddings.weight", (positions, hidden)
    yield "embeddings.token_type_embeddings.weight", (2, hidden)
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        dense = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden),
                 "attention.self.value": (hidden, hidden), "attention.output.dense": (hidden, hidden),
                 "intermediate.dense": (4 * hidden, hidden), "output.dense": (hidden, 4 * hidden)}
        for name, shape in dense.items():
            yield at + name + ".weight", shape
            yield at + name + ".bias", shape[:1]
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
    for norm in norms:
        yield norm + ".weight", (hidden,)
        yield norm + ".bias", (hidden,)
    yield "pooler.dense.weight", (hidden, hidden)
    yield "pooler.dense.bias", (hidden,)


def make_model(folder, hidden, heads, layers, positions, vocabulary=None):
    """Writes a model of this shape with random weights in 16 bits. Without a vocabulary (a list of tokens), every word of
    `make_data` is one token."""
    folder.mkdir(parents=True)
    vocabulary = vocabulary or ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{n}" for n in range(WORDS)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "config.json").write_text(json.dumps({
        "model_type": "bert", "hidden_size": hidden, "num_attention_heads": heads, "num_hidden_layers": layers,
        "intermediate_size": 4 * hidden, "max_position_embeddings": positions, "type_vocab_size": 2,
        "vocab_size": len(vocabulary), "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "pad_token_id": 0}))
    rng = random.Random(1)
    noise = struct.pack("<4096e", *(rng.gauss(0, 0.02) for _ in range(4096)))
    ones, zeros = struct.pack("<e", 1.0), struct.pack("<e", 0.0)
    header, at, parts = {}, 0, []
    for name, shape in tensors(hidden, layers, positions, len(vocabulary)):
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        if len(shape) == 2:
            data = (noise * (count // 4096 + 1))[:2 * count]
        else:
            data = (ones if "LayerNorm.weight" in name else zeros) * count
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + 2 * count]}
        at += 2 * count
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(parts)


def make_data(path, sequences, length):
    rng = random.Random(2)
    rows = [" ".join(f"w{rng.randrange(WORDS)}" for _ in range(length - 2)) for _ in range(sequences)]
    path.write_text("text\tlabel\n" + "".join(f"{row}\t{n % 2}\n" for n, row in enumerate(rows)))


if __name__ == "__main__":
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=Path, help="a vocab.txt, to get as many tokens per text as with its model")
    args = parser.parse_args()
    words = args.vocabulary and args.vocabulary.read_text(encoding="utf-8").splitlines()
    make_model(args.folder, *SHAPES[args.shape], 512, words)
