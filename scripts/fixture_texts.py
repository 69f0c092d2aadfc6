"""Texts for the parity fixtures: those that the small tokenizers are trained on, and the rows of texts.tsv.

They are separate so that make_fixtures.py contains only computation. All sentences were written for this repository.
"""

# (text, text_pair or None). Lengths range from one word to more than any fixture's limit. Some rows contain what trips
# tokenizers: accents, capitals, digits, runs of punctuation, quotes, CJK, an emoji.
ROWS = [
    ("I", None),
    ("ok", None),
    ("no", "yes"),
    ("good film", None),
    ("so bad", "I left"),
    ("fine.", None),
    ("the sun is out", None),
    ("a cat", "a dog"),
    ("what a film!", None),
    ("we can go", "we can not go"),
    ("it rains again and the road is wet", None),
    ("the boat is in the harbour", "the harbour is empty"),
    ("she reads a book on the train home", None),
    ("Two men carry a table up the stairs", "the men are sitting down"),
    ("the soup was cold and the bread was old", None),
    ("nobody asked for a second part", "there is a second part"),
    ("Café au lait, naïve plans and a déjà vu", None),
    ("He paid 1,250 for 3 tickets (row 7)", None),
    ('they said "never" and then went in', "they went in"),
    ("wait... what?! no-one told me -- ever", None),
    ("the word 映画 means film", "film is a word"),
    ("thanks \U0001f600 see you soon", None),
    ("UPPER CASE AND lower case", "MiXeD cAsE"),
    (
        "the film starts slowly, with a long look at the harbour in the morning rain, and then, when you "
        "have stopped hoping for it, the story finds its feet, the two friends meet again on the old "
        "bridge, and the last half hour is as good as anything that this director has made",
        None,
    ),
    (
        "a woman in a red coat is waiting for the night train while her brother buys two tickets and a "
        "newspaper at the small window near the stairs",
        "someone buys tickets at the station, and somebody else is waiting for a train that may not come "
        "before the morning",
    ),
]

# Corner cases of the tokenizers, never trained on.
TOKENIZER_ONLY = [
    ("", None),
    ("   ", None),
    ("left only", ""),
    ("  two   spaces\u00a0and a hard one ", None),
    ("a [SEP] b [MASK] d </s> e", None),
    ("Ω unknown ж letters ✓", None),
    ("tab\tinside and a line\nbreak", None),
    ("e\u0301 combining accent, \u0130 dotted capital", None),
    ("averyveryverylongwordwithoutanyspacesinsideitatallwhichtheoriginalwordpiecerulesgiveupon" * 2, None),
]

_EXTRA = """
the story is slow but the actors are good and the end is worth the wait
I did not like the music, and the jokes were older than the theatre
two friends travel north in winter and find that the bridge is closed
a child is playing with a ball in the garden behind the house
the second part is longer than the first and says less
she never asked why the train was late, she only looked at the rain
there is a table, a lamp and a letter that nobody has opened
what the director has made of this old book is a small wonder
they were told to wait at the station, and they waited until the morning
he reads the newspaper, pays for the coffee and goes home again
the harbour is empty, the boats are out and the wind is rising
good food, bad service, and a long walk back in the dark
""".strip().splitlines()


def corpus():
    """Every sentence that the tokenizers are trained on."""
    out = list(_EXTRA)
    for text, pair in ROWS:
        out.append(text)
        if pair:
            out.append(pair)
    return out
