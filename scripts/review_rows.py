"""Rows of the movie reviews, for scripts that compare programs on them: single reviews, or every two neighbours as a pair."""
import random
from pathlib import Path


def shuffled_rows(path, pairs):
    """(text, second text or None, label) for each row of a tsv with the columns text and label, always in the same random order. A
    pair has the label of its first text. Quotes are ordinary characters."""
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    columns = lines[0].split("\t")
    text, label = columns.index("text"), columns.index("label")
    cells = [line.split("\t") for line in lines[1:] if line]
    if pairs:
        rows = [(a[text], b[text], a[label]) for a, b in zip(cells[::2], cells[1::2])]
    else:
        rows = [(row[text], None, row[label]) for row in cells]
    random.Random(0).shuffle(rows)
    return rows


def write_rows(path, rows):
    """Writes the rows as a tsv."""
    head = "text\tlabel" if rows[0][1] is None else "text\ttext_pair\tlabel"
    Path(path).write_text("\n".join([head, *("\t".join(filter(None, row)) for row in rows)]) + "\n")
