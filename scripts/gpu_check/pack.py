"""Packs everything that a GPU machine without Rust needs to run gpu-check into one file."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from . import WrongUsage
from .plan import BENCHES, TESTS

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
# The size limit of a pack for one architecture without a model.
MOST_BYTES = 48_000_000
# The kernels need compute capability 8.0.
OLDEST_ARCH = 80
# What --minilm packs: MiniLM and the movie reviews, as scripts/fetch.py leaves them.
MINILM, REVIEWS = ROOT / ".cache/models/minilm", ROOT / ".cache/data/movie-reviews.tsv"


def built(arguments, environment):
    """What cargo built: executables by target kind and name."""
    command = ["cargo", *arguments, "--message-format=json"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        sys.exit(f"gpu-check: cargo: {error.strerror}")
    if done.returncode != 0:
        sys.exit(f"gpu-check: this failed, for the reasons above: {' '.join(command[:-1])}")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return {(m["target"]["kind"][0], m["target"]["name"]): Path(m["executable"])
            for m in messages if m.get("executable")}


def scripts_into(folder):
    """Copies gpu-check and everything it needs from the other scripts."""
    for name in ["gpu-check", "shaped_model.py", "torch_speed.py", "movie-reviews.toml"]:
        shutil.copy2(SCRIPTS / name, folder / name)
    shutil.copytree(SCRIPTS / "gpu_check", folder / "gpu_check", ignore=shutil.ignore_patterns("__pycache__"))


def architectures(listed):
    """`80,sm_90` as ["80", "90"]."""
    archs = [arch.strip().removeprefix("sm_") for arch in listed.split(",")]
    for arch in archs:
        if not re.fullmatch(r"[0-9]{2,3}", arch) or int(arch) < OLDEST_ARCH:
            raise WrongUsage(f"--archs {listed}: `{arch}` is not a compute capability without its dot, {OLDEST_ARCH} or later, "
                             "such as 90; 90 includes the kernels for 90a")
    return archs


def checked(args):
    """The architectures. Everything that could be wrong is found before builds that take long."""
    archs = architectures(args.archs)
    if args.file.is_dir():
        raise WrongUsage(f"{args.file}: this is a folder; name a file in it")
    folder = args.file.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise WrongUsage(f"{args.file}: {'cannot write to' if folder.is_dir() else 'there is no'} folder {folder}")
    for path in [MINILM, REVIEWS] if args.minilm else []:
        if not path.exists():
            raise WrongUsage(f"--minilm: there is no {path}; scripts/fetch.py gets it")
    return archs


def pack(args):
    """Builds everything with machine code for these architectures, and packs it with the scripts and fixtures."""
    archs = checked(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "gpu-check"
        folder.mkdir()
        collect(folder, archs, args)
        # Renamed into place: an interrupted run leaves no half of a pack.
        fresh = args.file.with_name(args.file.name + ".fresh")
        try:
            # The compressor's window spans all five programs, so the kernels they share are stored once.
            with tarfile.open(fresh, "w:xz", preset=9) as archive:
                archive.add(folder, "gpu-check")
            fresh.replace(args.file)
        finally:
            fresh.unlink(missing_ok=True)
    size = args.file.stat().st_size
    print(f"{args.file}: {size / 1e6:.1f} MB")
    if len(archs) == 1 and not (args.minilm or args.emulator or args.debug) and size > MOST_BYTES:
        sys.exit(f"gpu-check: a pack for one architecture is limited to {MOST_BYTES / 1e6:.0f} MB")


def collect(folder, archs, args):
    """Builds, and copies what is packed into this folder."""
    # Program, tests and benches get the same settings: what is tested is what is measured and shipped. A missing kernel, or one
    # that spills registers, fails the build.
    environment = dict(os.environ, BITFIT_CUDA_ARCHS=",".join(archs), BITFIT_REQUIRE_CUDA="1")

    def take(executable, name):
        shutil.copy2(executable, folder / name)
        if shutil.which("strip"):
            subprocess.run(["strip", folder / name], check=True)

    tests = built(["test", "-p", "bitfit", "--test", "ops", "--test", "cuda", "--no-run"], environment)
    for name in TESTS:
        take(tests["test", name], name)
    if "90" in archs:
        singles = built(["test", "-p", "emulator", "--test", "hopper", "--no-run"], environment)
        take(singles["test", "hopper"], "instructions")
    if args.emulator:
        take(tests["test", "ops"].parent / "libemulator.so", "libemulator.so")
    optimised = [] if args.debug else ["--release"]
    take(built(["build", "-p", "bitfit", *optimised], environment)["bin", "bitfit"], "bitfit")
    said = subprocess.run([folder / "bitfit", "doctor"], stdout=subprocess.PIPE, text=True).stdout
    for arch in archs:
        if f"sm_{arch}" not in said:
            sys.exit(f"gpu-check: the program has no machine code for {arch}:\n{said}")
    for name in [] if args.debug else BENCHES:
        made = built(["bench", "-p", "bitfit", "--bench", name, "--no-run"], environment)
        take(made["bench", name], f"bench-{name}")
    shutil.copytree(ROOT / "tests/fixtures/parity", folder / "tests/fixtures/parity")
    if args.minilm:
        shutil.copytree(MINILM, folder / "minilm")
        shutil.copy2(REVIEWS, folder / "movie-reviews.tsv")
    scripts_into(folder)
