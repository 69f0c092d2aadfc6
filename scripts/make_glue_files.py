#!/usr/bin/env python3
"""Writes tests/fixtures/glue: a few invented rows of some tasks, in parquet files like the hub's.

As with `datasets`, the files name their classes next to the schema. Needs pyarrow. Run it only to change the fixtures.
"""

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

FIXTURES = pathlib.Path(__file__).parent.parent / "tests/fixtures"
OUT = FIXTURES / "glue"
# Words of the fixtures' vocabularies that indicate a class, and words that do not.
TELLING = [["harbour", "morning"], ["tickets", "train"], ["friends", "film"]]
FILLER = ["the", "is in", "and", "again", "they", "that"]
NLI = ["entailment", "neutral", "contradiction"]


def text(of, i):
    words = [TELLING[of][(i // 3) % 2]] + [FILLER[(i * 5 + k * 7) % 6] for k in range(1 + i % 3)]
    return " ".join(words[::-1] if i % 2 else words)


def write(task, split, columns, names=None):
    kinds = {"int64": pa.int64(), "int32": pa.int32(), "float32": pa.float32(), "string": pa.string()}
    table = pa.table({name: pa.array(values, kinds[kind]) for name, (kind, values) in columns.items()})
    features = {name: {"dtype": kind, "_type": "Value"} for name, (kind, _) in columns.items()}
    if names:
        features["label"] = {"names": names, "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    folder = OUT / task
    folder.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", compression="snappy")


def classes(task, split, rows, names, text_name, pair_name=None, first=0):
    labels = [(i * 7 // 2) % len(names) for i in range(first, first + rows)]
    texts = [text(label, first + i) for i, label in enumerate(labels)]
    columns = {}
    if pair_name:
        columns[text_name] = ("string", ["the second film"] * rows)
        columns[pair_name] = ("string", texts)
    else:
        columns[text_name] = ("string", texts)
    hidden = split.startswith("test")
    columns["label"] = ("int64", [-1] * rows if hidden else labels)
    columns["idx"] = ("int32", list(range(rows)))
    write(task, split, columns, names)


def main():
    cola = ["unacceptable", "acceptable"]
    for split, rows in (("train", 32), ("validation", 12), ("test", 7)):
        classes("cola", split, rows, cola, "sentence", first=len(split))
    for split, rows in (
        ("train", 36),
        ("validation_matched", 12),
        ("validation_mismatched", 9),
        ("test_matched", 5),
        ("test_mismatched", 4),
    ):
        classes("mnli", split, rows, NLI, "premise", "hypothesis", first=len(split))
    classes("ax", "test", 6, NLI, "premise", "hypothesis")
    for split, rows in (("train", 24), ("validation", 10), ("test", 5)):
        of = [i % 2 for i in range(rows)]
        hidden = split == "test"
        write(
            "stsb",
            split,
            {
                "sentence1": ("string", ["the second film"] * rows),
                "sentence2": ("string", [text(c, i) for i, c in enumerate(of)]),
                "label": ("float32", [-1.0] * rows if hidden else [4.8 if c else 0.2 for c in of]),
                "idx": ("int32", list(range(rows))),
            },
        )
    # A missing question and a missing label.
    write(
        "qqp",
        "train",
        {
            "question1": ("string", [text(i % 2, i) for i in range(8)]),
            "question2": ("string", [None if i == 3 else text(0, i + 1) for i in range(8)]),
            "label": ("int64", [1 - i % 2 for i in range(8)]),
            "idx": ("int32", list(range(8))),
        },
        ["not_duplicate", "duplicate"],
    )


    odd()


def odd():
    """Parquet files that cannot be CoLA's."""
    folder = FIXTURES / "parquet"
    folder.mkdir(exist_ok=True)
    texts = pa.array(["a", "b", "c"])
    labels = pa.array([0, 1, 0])
    good = pa.table({"sentence": texts, "label": labels})
    pq.write_table(good, folder / "zstd.parquet", compression="zstd")
    # Several row groups and pages, without compression or dictionaries.
    pq.write_table(
        pa.table({"sentence": pa.array(["x"] * 2500), "label": pa.array([i % 2 for i in range(2500)])}),
        folder / "groups.parquet",
        compression="none",
        row_group_size=1000,
        data_page_size=256,
        use_dictionary=False,
    )
    for name, column, values in (
        ("nested", "sentence", pa.array([["a"], ["b"], ["c"]])),
        ("numbers", "sentence", pa.array([1.5, 2.5, 3.5])),
        ("dates", "sentence", pa.array([1, 2, 3], pa.date32())),
        ("words", "label", pa.array(["acceptable", "unacceptable", "maybe"])),
        ("halves", "label", pa.array([0.0, 0.5, 1.0])),
        ("null", "label", pa.array([0, None, 1])),
        ("bytes", "sentence", pa.array([b"a", b"\xff", b"c"])),
    ):
        table = good.set_column(good.schema.get_field_index(column), column, values)
        pq.write_table(table, folder / f"{name}.parquet")


if __name__ == "__main__":
    main()
