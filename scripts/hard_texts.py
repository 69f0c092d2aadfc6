"""Two thousand lines that trip tokenizers, from a seed: 32 scripts, emoji, control characters, kinds of space, stacked marks,
letters with unusual case, special tokens within a text, and very long words.

checkpoints.py writes them to tests/fixtures/checkpoints/texts.jsonl, one JSON string per line.
"""
import random

COUNT = 2000

# First and last letter of a script, as code points.
SCRIPTS = {
    "latin": (0x61, 0x7A), "latin-accents": (0xC0, 0x17F), "latin-b": (0x180, 0x24F), "latin-more": (0x1E00, 0x1EFF),
    "greek": (0x386, 0x3CE), "greek-accents": (0x1F00, 0x1FFC), "cyrillic": (0x400, 0x45F), "armenian": (0x531, 0x586),
    "hebrew": (0x5D0, 0x5EA), "arabic": (0x620, 0x652), "syriac": (0x710, 0x74A), "thaana": (0x780, 0x7B0),
    "devanagari": (0x904, 0x94D), "bengali": (0x985, 0x9CD), "gurmukhi": (0xA05, 0xA4D), "gujarati": (0xA85, 0xACD),
    "oriya": (0xB05, 0xB4D), "tamil": (0xB85, 0xBCD), "telugu": (0xC05, 0xC4D), "kannada": (0xC85, 0xCCD),
    "malayalam": (0xD05, 0xD4D), "sinhala": (0xD85, 0xDDF), "thai": (0xE01, 0xE4E), "lao": (0xE81, 0xEC4),
    "tibetan": (0xF40, 0xF84), "myanmar": (0x1000, 0x103E), "georgian": (0x10A0, 0x10FF), "hangul": (0xAC00, 0xD7A3),
    "jamo": (0x1100, 0x11FF), "ethiopic": (0x1200, 0x137C), "cherokee": (0x13A0, 0x13F4), "khmer": (0x1780, 0x17D3),
    "mongolian": (0x1820, 0x18A8), "hiragana": (0x3041, 0x3096), "katakana": (0x30A1, 0x30FF), "han": (0x4E00, 0x9FFF),
    "han-b": (0x20000, 0x2A6D0), "fullwidth": (0xFF01, 0xFF9F), "gothic": (0x10330, 0x1034A), "math": (0x1D400, 0x1D7FF),
}
WORDS = (
    "the film is good and Was Not what GOOD The a an it I we in on of naïve Café Ærø straße İstanbul ΣΊΣΥΦΟΣ ﬁne e\u0301te "
    "don't can't it's U.S.A. 3.14 1,250 2024-11-29 x² ½ № ™ http://a.b/c?d=e#f user@host.org C++ #tag @you a_b --no"
).split()
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "☺", "🏳️‍🌈", "1️⃣", "🧑🏿‍🚀", "🙂🙂🙂", "✓", "→", "∑", "♪"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u200b", "\u3000", "\u2028", "\u0085", "\u1680", "\u200d", "\u2060", "\ufeff"]
CONTROLS = ["\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\x80", "\x9f", "\u00ad", "\u200e", "\u202e", "\ufffd", "\ue000", "\U000e0041", "\u0378", "\U0010ffff"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0345", "\u20dd", "\u05b0", "\u093c", "\u3099", "\ufe0f"]
ODD_CASES = ["ß", "ẞ", "İ", "ı", "ǅ", "ς", "Σ", "ﬀ", "ŉ", "ᾳ", "\u212a", "\u212b", "Ⅷ", "ⓐ", "Ꭰ", "ა", "Ა"]
SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "<s>", "</s>", "<mask>", "<unk>", "<pad>", "▁", "##ing", "<s>NOTUSED", "<new>"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["…", "—", "«", "»", "“", "”", "。", "、", "¿", "·", "„", "!!!", "...", "?!"]


def letters(draw, script, count):
    first, last = SCRIPTS[script]
    return "".join(chr(draw.randint(first, last)) for _ in range(count))


def word(draw):
    kind = draw.random()
    if kind < 0.42:
        return draw.choice(WORDS)
    if kind < 0.80:
        text = letters(draw, draw.choice(list(SCRIPTS)), draw.randint(1, 7))
        return text.upper() if draw.random() < 0.15 else text
    return draw.choice(draw.choice([EMOJI, CONTROLS, ODD_CASES, SPECIALS, PUNCTUATION, PUNCTUATION]))


def line(draw):
    out = []
    for _ in range(draw.choice([1, 2, 3, 4, 5, 6, 8, 11])):
        out.append(word(draw))
        if draw.random() < 0.12:
            out.append(draw.choice(MARKS) * draw.randint(1, 3))
        if draw.random() < 0.85:
            out.append(" " if draw.random() < 0.75 else draw.choice(SPACES))
    return "".join(out)


def lines():
    """The lines, the same on every run."""
    draw = random.Random(20241129)
    out = ["", " ", "\n", "\u200b", "a", "A", "the", " the", "the ", "GOOD FILM", "good film", "\t\tthe\tfilm\n"]
    for script in SCRIPTS:
        out.append(f"{letters(draw, script, 5)} {letters(draw, script, 3)}, {letters(draw, script, 8)}.")
    for length in (99, 100, 101, 150, 400):
        out += ["x" * length, letters(draw, "cyrillic", length), letters(draw, "han", length // 4) + "a" * length]
    out += [special + joint + special + joint + "a" for special in SPECIALS for joint in ("", " ")]
    while len(out) < COUNT:
        out.append(line(draw))
    return out
