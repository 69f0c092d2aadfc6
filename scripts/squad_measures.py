#!/usr/bin/env python3
"""Writes tests/fixtures/squad/measures.json: answers, and SQuAD 2.0's measures of them.

    python3 scripts/squad_measures.py
    python3 scripts/squad_measures.py --official FILE     # also compares every value with SQuAD's own script

Needs only Python. FILE is SQuAD's `evaluate-v2.0.py`, or any module with its `normalize_answer`, `compute_exact`, `compute_f1`
and `find_best_thresh` (transformers 4 had one, `data/metrics/squad_metrics.py`).
"""
import argparse
import collections
import json
import random
import re
import string
import types
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "squad" / "measures.json"
PUNCTUATION = set(string.punctuation)

WORDS = ["a", "an", "the", "The", "A", "cat", "Cat", "cats", "theatre", "an-other", "U.S.", "1,000", "1000", "naïve", "NAÏVE",
         "İ", "ß", "σ", "ΟΔΟΣ", "的", "中文", "a's", "the.", "—", "…", "¿", "“a”", "_the_", "e-mail", "😀", "x", "y"]
GAPS = [" ", " ", " ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u001f", "", "-", "/", "'"]
EDGES = [
    ("", []), ("", ["a"]), ("the", []), ("the", ["the"]), ("a", ["b", "the"]), ("x", []), ("x", ["", "x"]), (" ", ["."]),
    ("The Cat", ["cat"]), ("cat cat", ["cat"]), ("cat", ["cat cat", "cats"]), ("a-the-an", ["theatre"]), ("...", ["!"]),
    ("U.S.", ["us", "U S"]), ("the1", ["1"]), ("athe", ["the a"]), ("a\u0301 b", ["b"]), ("é the", ["É"]),
]


def normalised(text):
    text = "".join(c for c in text.lower() if c not in PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def measured(answer, right):
    """Exact match and F1 against the closest of the correct answers."""
    right = [text for text in right if normalised(text)] or [""]
    exact = max(int(normalised(answer) == normalised(text)) for text in right)
    return exact, max(f1(normalised(answer).split(), normalised(text).split()) for text in right)


def f1(said, wanted):
    if not said or not wanted:
        return float(said == wanted)
    common = sum((collections.Counter(said) & collections.Counter(wanted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def best(doubts):
    """The highest total worth, and the score up to which answers must be given to reach it; None if it is best to give none."""
    most = total = sum(not answered for _, _, answered in doubts)
    threshold = None
    for score, worth, answered in sorted(doubts):
        total += worth if answered else -1
        if total > most:
            most, threshold = total, score
    return most, threshold


def text(draw, longest):
    words = [draw.choice(WORDS) + draw.choice(GAPS) for _ in range(draw.randint(0, longest))]
    return "".join(words)


def cases():
    draw = random.Random(7)
    pairs = list(EDGES)
    for _ in range(300):
        answer = text(draw, 6)
        right = [text(draw, 6) for _ in range(draw.randint(0, 3))]
        if right and draw.random() < 0.5:
            # Almost correct.
            right[0] = draw.choice(["the ", "A ", "", "."]) + answer + draw.choice(["", "!", " cat"])
        pairs.append((answer, right))
    for answer, right in pairs:
        exact, f = measured(answer, right)
        yield {"answer": answer, "right": right, "normalised": normalised(answer), "exact": exact, "f1": f}


def thresholds():
    draw = random.Random(8)
    for i in range(40):
        # No two scores are equal, because SQuAD's script treats ties by their order.
        scores = draw.sample(range(-4000, 4000), draw.randint(1, 12))
        answered = lambda: draw.random() < (0.0 if i == 0 else 1.0 if i == 1 else 0.5)
        doubts = []
        for score in scores:
            has = answered()
            doubts.append((score / 64, draw.choice([0.0, 0.25, 0.5, 1.0]) if has else 0.0, has))
        most, threshold = best(doubts)
        yield {"doubts": [list(d) for d in doubts], "sum": most, "threshold": threshold}


def hold_against(path, answers, chosen):
    # transformers' module imports its package, which is not needed here.
    source = Path(path).read_text(encoding="utf-8")
    source = re.sub(r"^from \.\.\..*$|^logger = .*$", "", source, flags=re.M)
    official = types.ModuleType("official")
    exec(compile(source, str(path), "exec"), official.__dict__)
    for case in answers:
        right = [t for t in case["right"] if official.normalize_answer(t)] or [""]
        assert official.normalize_answer(case["answer"]) == case["normalised"], case
        assert max(official.compute_exact(t, case["answer"]) for t in right) == case["exact"], case
        assert max(official.compute_f1(t, case["answer"]) for t in right) == case["f1"], case
    for case in chosen:
        ids = range(len(case["doubts"]))
        score, worth, has = ({i: d[k] for i, d in zip(ids, case["doubts"])} for k in range(3))
        # Every question is answered; a question without an answer earns nothing for it.
        value, threshold = official.find_best_thresh({i: "x" for i in ids}, worth, score, has)[:2]
        assert abs(value - 100 * case["sum"] / len(ids)) < 1e-9, case
        assert threshold == (0.0 if case["threshold"] is None else case["threshold"]), case
    print(f"{path}: {len(answers)} answers and {len(chosen)} thresholds agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", metavar="FILE")
    args = parser.parse_args()
    answers, chosen = list(cases()), list(thresholds())
    if args.official:
        hold_against(args.official, answers, chosen)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = lambda cases: ",\n".join("  " + json.dumps(case, ensure_ascii=True) for case in cases)
    OUT.write_text(f'{{"answers": [\n{lines(answers)}\n], "thresholds": [\n{lines(chosen)}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
