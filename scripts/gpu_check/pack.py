"""Packs everything that a GPU machine without Rust needs to run gpu-check into one file."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from .plan import BENCHES, TESTS

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
# The size limit of a pack for one architecture without a model.
MOST_BYTES = 48_000_000


def built(arguments, environment):
    """What cargo built: executables by target kind and name."""
    out = subprocess.run(["cargo", *arguments, "--message-format=json"], cwd=ROOT, check=True, env=environment,
                         stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in out.splitlines()]
    return {(m["target"]["kind"][0], m["target"]["name"]): Path(m["executable"])
            for m in messages if m.get("executable")}


def scripts_into(folder):
    """Copies gpu-check and everything it needs from the other scripts."""
    for name in ["gpu-check", "shaped_model.py", "torch_speed.py", "movie-reviews.toml"]:
        shutil.copy2(SCRIPTS / name, folder / name)
    shutil.copytree(SCRIPTS / "gpu_check", folder / "gpu_check", ignore=shutil.ignore_patterns("__pycache__"))


def pack(args):
    """Builds everything with machine code for these architectures, and packs it with the scripts and fixtures."""
    # Program, tests and benches get the same settings: what is tested is what is measured and shipped. A missing kernel, or one
    # that spills registers, fails the build.
    environment = dict(os.environ, BITFIT_CUDA_ARCHS=args.archs, BITFIT_REQUIRE_CUDA="1")
    folder = Path(tempfile.mkdtemp()) / "gpu-check"
    folder.mkdir()

    def take(executable, name):
        shutil.copy2(executable, folder / name)
        if shutil.which("strip"):
            subprocess.run(["strip", folder / name], check=True)

    tests = built(["test", "-p", "bitfit", "--test", "ops", "--test", "cuda", "--no-run"], environment)
    for name in TESTS:
        take(tests["test", name], name)
    if any(arch.strip().removeprefix("sm_") in ("90", "90a") for arch in args.archs.split(",")):
        singles = built(["test", "-p", "emulator", "--test", "hopper", "--no-run"], environment)
        take(singles["test", "hopper"], "instructions")
    if args.emulator:
        take(tests["test", "ops"].parent / "libemulator.so", "libemulator.so")
    optimised = [] if args.debug else ["--release"]
    take(built(["build", "-p", "bitfit", *optimised], environment)["bin", "bitfit"], "bitfit")
    said = subprocess.run([folder / "bitfit", "doctor"], stdout=subprocess.PIPE, text=True).stdout
    for arch in args.archs.split(","):
        if f"sm_{arch.strip().removeprefix('sm_')}" not in said:
            sys.exit(f"gpu-check: the program has no machine code for {arch}:\n{said}")
    for name in [] if args.debug else BENCHES:
        made = built(["bench", "-p", "bitfit", "--bench", name, "--no-run"], environment)
        take(made["bench", name], f"bench-{name}")
    shutil.copytree(ROOT / "tests/fixtures/parity", folder / "tests/fixtures/parity")
    if args.minilm:
        shutil.copytree(ROOT / ".cache/models/minilm", folder / "minilm")
        shutil.copy2(ROOT / ".cache/data/movie-reviews.tsv", folder / "movie-reviews.tsv")
    scripts_into(folder)
    # The compressor's window spans all five programs, so the kernels they share are stored once.
    with tarfile.open(args.file, "w:xz", preset=9) as archive:
        archive.add(folder, "gpu-check")
    shutil.rmtree(folder.parent)
    size = args.file.stat().st_size
    print(f"{args.file}: {size / 1e6:.1f} MB")
    if "," not in args.archs and not (args.minilm or args.emulator or args.debug) and size > MOST_BYTES:
        sys.exit(f"gpu-check: a pack for one architecture is limited to {MOST_BYTES / 1e6:.0f} MB")
