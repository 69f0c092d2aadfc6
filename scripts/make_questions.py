#!/usr/bin/env python3
"""Makes questions about real text: movie reviews with invented facts among them, and questions that they do and do not answer.

    python3 scripts/fetch.py
    python3 scripts/make_questions.py FOLDER

Writes train.json and dev.json in SQuAD 2.0's format, train-1.1.json and dev-1.1.json with only the answerable questions, and
dev.jsonl. Some contexts are longer than a window, some have CRLF between reviews, and some have emoji, accents and combining marks
before the answers. Train and dev share no review and no name.
"""
import json
import random
import sys
import unicodedata
from pathlib import Path

REVIEWS = Path(__file__).resolve().parent.parent / ".cache" / "data" / "movie-reviews.tsv"
FIRST = ["Anna", "José", "Mira", "Søren", "Nkechi", "Paul", "Ingrid", "Tomás", "Yuki", "Clara", "Omar", "Lena", "Ravi", "Eva"]
LAST = ["Keller", "Núñez", "Okafor", "Lindqvist", "Tanaka", "Marsh", "Varga", "Duarte", "Holm", "Rossi", "Petrov", "Quinn"]
PLACES = ["the north of Finland", "Lisbon", "a harbour near Genoa", "Tromsø", "the hills above Quito", "Dakar", "old Cairo",
          "a small town in Ohio", "Kraków", "the Azores", "Nairobi", "an island off Crete"]
SAID = {
    "who": (["Who directed the film?", "Who is the director?"],
            ["The film was directed by {}.", "Directed by {}, it opened last week.", "{} directed it."]),
    "where": (["Where was the film shot?", "In which place was it filmed?"],
              ["It was shot in {}.", "They filmed it in {}.", "Every scene was filmed in {}, in winter."]),
    "long": (["How long does the film run?", "How many minutes is it?"],
             ["It runs {}.", "At {} it is too long.", "The cut that I saw was {} long."]),
}


def value(draw, kind, half):
    """A fact of this kind. Each half of the data has its own facts."""
    of = lambda names: draw.choice(names[half::2])
    if kind == "who":
        return f"{of(FIRST)} {of(LAST)}"
    return of(PLACES) if kind == "where" else f"{2 * draw.randint(40, 95) + half} minutes"


def paragraph(draw, reviews, number, half):
    parts = draw.sample(reviews, draw.choice([2, 3, 4, 5, 6, 7, 8, 40]))
    told = {kind: value(draw, kind, half) for kind in SAID if draw.random() < 0.6}
    for kind, fact in told.items():
        parts.insert(draw.randrange(len(parts) + 1), draw.choice(SAID[kind][1]).format(fact))
    text = draw.choice(["", "", "🎬 👩🏽‍🚀 ", "Voilà — "]) + draw.choice([" ", " ", "\r\n"]).join(parts)
    if draw.random() < 0.2:
        text, told = unicodedata.normalize("NFD", text), {k: unicodedata.normalize("NFD", v) for k, v in told.items()}
    asked = []
    for kind, (questions, _) in SAID.items():
        answers = []
        if kind in told:
            fact = told[kind]
            answers = [{"text": fact, "answer_start": text.index(fact)}]
            last = fact.split(" ")[-1] if kind == "who" else fact.split(" ")[0]
            answers.append({"text": last, "answer_start": text.index(fact) + fact.index(last)})
        asked.append({"id": f"{number}-{kind}", "question": draw.choice(questions), "answers": answers,
                      "is_impossible": not answers})
    return {"context": text, "qas": asked}


def write(path, version, paragraphs):
    file = {"version": version, "data": [{"title": "films", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")


def answered(paragraphs):
    for one in paragraphs:
        qas = [{k: v for k, v in asked.items() if k != "is_impossible"} for asked in one["qas"] if asked["answers"]]
        if qas:
            yield {"context": one["context"], "qas": qas}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    rows = REVIEWS.read_text(encoding="utf-8").splitlines()[1:]
    reviews = [row.split("\t")[0] for row in rows]
    for half, (name, count) in enumerate([("train", 400), ("dev", 100)]):
        all_of = [paragraph(draw, reviews[half::2], f"{name}{i}", half) for i in range(count)]
        write(folder / f"{name}.json", "v2.0", all_of)
        write(folder / f"{name}-1.1.json", "1.1", list(answered(all_of)))
    with open(folder / "dev.jsonl", "w", encoding="utf-8") as out:
        for one in all_of:
            for asked in one["qas"]:
                line = {"id": asked["id"], "question": asked["question"], "context": one["context"], "answers": asked["answers"]}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
