#!/usr/bin/env python3
"""Writes tests/fixtures/measures.json: the measures that scikit-learn and SciPy compute for random and for odd predictions.

Needs scikit-learn and scipy. Run it only to change the fixture.
"""

import json
import pathlib
import warnings

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/measures.json"


def classification(name, classes, gold, predicted):
    gold, predicted = list(map(int, gold)), list(map(int, predicted))
    ids = list(range(classes))
    each = precision_recall_fscore_support(gold, predicted, labels=ids, zero_division=0)
    mean = lambda kind: [
        float(x)
        for x in precision_recall_fscore_support(gold, predicted, average=kind, zero_division=0)[:3]
    ]
    return {
        "name": name,
        "classes": classes,
        "gold": gold,
        "predicted": predicted,
        "accuracy": float(accuracy_score(gold, predicted)),
        "matthews": float(matthews_corrcoef(gold, predicted)),
        # GLUE's F1 is that of class 1.
        "f1_positive": float(f1_score(gold, predicted, zero_division=0)) if classes == 2 else None,
        "precision": [float(x) for x in each[0]],
        "recall": [float(x) for x in each[1]],
        "f1": [float(x) for x in each[2]],
        "rows": [int(x) for x in each[3]],
        "macro": mean("macro"),
        "micro": mean("micro"),
        "confusion": confusion_matrix(gold, predicted, labels=ids).tolist(),
    }


def regression(name, gold, predicted):
    # The program's values are f32.
    gold = np.asarray(gold, dtype=np.float32).astype(float)
    predicted = np.asarray(predicted, dtype=np.float32).astype(float)
    number = lambda x: None if np.isnan(x) else float(x)
    return {
        "name": name,
        "gold": gold.tolist(),
        "predicted": predicted.tolist(),
        # Null if it is undefined.
        "pearson": number(pearsonr(gold, predicted).statistic),
        "spearman": number(spearmanr(gold, predicted).statistic),
    }


def main():
    warnings.simplefilter("ignore")
    draw = np.random.default_rng(14)
    classes, numbers = [], []
    for count in (2, 2, 3, 5, 9):
        gold = draw.integers(0, count, 60)
        predicted = np.where(draw.random(60) < 0.6, gold, draw.integers(0, count, 60))
        classes.append(classification(f"{count} classes", count, gold, predicted))
    skewed = (draw.random(80) < 0.07).astype(int)
    classes += [
        classification("a rare class", 2, skewed, (draw.random(80) < 0.1).astype(int)),
        classification("a rare class never predicted", 2, skewed, np.zeros(80)),
        classification("one class predicted of three", 3, draw.integers(0, 3, 30), np.full(30, 2)),
        classification("one class given", 2, np.zeros(9), draw.integers(0, 2, 9)),
        classification("one class given and predicted", 2, np.ones(5), np.ones(5)),
        classification("a class that is nowhere", 4, [0, 1, 3, 1], [0, 3, 3, 1]),
        classification("a class that is only predicted", 3, [0, 0, 1, 1], [0, 2, 1, 2]),
        classification("all wrong", 2, [0, 1, 0, 1], [1, 0, 1, 0]),
        classification("all right", 3, [0, 1, 2], [0, 1, 2]),
        classification("a single row", 2, [1], [1]),
    ]
    for spread in (0.1, 1.0, 10.0):
        gold = draw.uniform(0, 5, 50)
        numbers.append(regression(f"noise of {spread}", gold, gold + draw.normal(0, spread, 50)))
    gold = np.round(draw.uniform(0, 5, 70) * 2) / 2
    numbers += [
        regression("many ties", gold, np.round(gold + draw.normal(0, 1, 70))),
        regression("ties on one side", gold, gold + draw.normal(0, 1, 70)),
        regression("opposite", [1, 2, 3, 4], [4, 3, 2, 1]),
        regression("a rising curve", [0, 1, 2, 3, 4, 5], [0, 1, 8, 27, 64, 125]),
        regression("a large mean", draw.uniform(0, 1, 20) + 4096, draw.uniform(0, 1, 20) - 4096),
        regression("constant predictions", [1, 2, 3], [2, 2, 2]),
        regression("constant labels", [2, 2, 2], [1, 2, 3]),
        regression("two rows", [1, 2], [0.5, 0.25]),
    ]
    OUT.write_text(json.dumps({"classification": classes, "regression": numbers}) + "\n")


if __name__ == "__main__":
    main()
