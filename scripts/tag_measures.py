#!/usr/bin/env python3
"""Writes tests/fixtures/tag_measures.json: precision, recall and F1 of entities by seqeval in its default mode, on edge cases
and random tags in IOB1, IOB2 and IOBES, well-formed and not.

    pip install seqeval==1.2.2 scikit-learn && python3 scripts/tag_measures.py
"""
import json
import random
import warnings
from pathlib import Path

from seqeval.metrics import f1_score, precision_score, recall_score

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tag_measures.json"
EDGES = [
    ([["O", "O"]], [["O", "O"]]),
    ([["O", "O"]], [["B-A", "I-A"]]),
    ([["B-A", "I-A"]], [["O", "O"]]),
    ([["B-A", "I-A"]], [["B-A", "I-A"]]),
    ([["B-A", "I-A"]], [["I-A", "I-A"]]),
    ([["B-A", "I-A"]], [["B-A", "I-B"]]),
    ([["B-A", "B-A"]], [["I-A", "B-A"]]),
    ([["B-A"], ["I-A"]], [["B-A"], ["B-A"]]),
    ([["B-A", "I-A", "E-A", "O", "S-B"]], [["B-A", "E-A", "E-A", "O", "B-B"]]),
    ([["S-A", "I-A", "E-A"]], [["S-A", "B-A", "E-A"]]),
    ([["E-A", "E-A", "I-A"]], [["E-A", "S-A", "E-A"]]),
    ([["B", "I", "O", "B"]], [["B", "I", "O", "O"]]),
    ([["B-a-b", "I-a-b", "I-a"]], [["B-a-b", "I-a-b", "I-a-b"]]),
    ([[], ["B-A"]], [[], ["B-A"]]),
]
SCHEMES = ["OBI", "OI", "OBIES"]


def sentence(draw, scheme, kinds, length):
    """Arbitrary tags. Most make no sense, like those of a model that has just started to train."""
    tags = []
    for _ in range(length):
        part = draw.choice(scheme)
        tags.append(part if part == "O" else f"{part}-{draw.choice(kinds)}")
    return tags


def near(draw, tags, scheme, kinds):
    """The same with some tags changed."""
    other = lambda: sentence(draw, scheme, kinds, 1)[0]
    return [other() if draw.random() < 0.25 else tag for tag in tags]


def main():
    warnings.simplefilter("ignore")
    draw = random.Random(7)
    pairs = list(EDGES)
    for case in range(60):
        scheme, kinds = SCHEMES[case % 3], ["A", "B", "C"][: 1 + case % 3]
        gold = [sentence(draw, scheme, kinds, draw.randrange(1, 12)) for _ in range(draw.randrange(1, 6))]
        pairs.append((gold, [near(draw, tags, scheme, kinds) for tags in gold]))
    cases = [
        {"gold": gold, "predicted": predicted, "precision": float(precision_score(gold, predicted, zero_division=0)),
         "recall": float(recall_score(gold, predicted, zero_division=0)),
         "f1": float(f1_score(gold, predicted, zero_division=0))}
        for gold, predicted in pairs
    ]
    body = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f"[\n{body}\n]\n", encoding="utf-8")
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
