#!/usr/bin/env python3
"""Kills commands at random moments, fills the disk under them, and checks what is left.

    cargo build --release
    python3 scripts/kills.py [--kills 300] [--full 30] [--seed 1] [--bitfit target/release/bitfit]

Each command is run undisturbed once. Then it is killed (SIGKILL) repeatedly, each time at a new random moment, and resumed or run
again until it ends. Its files must then equal those of the undisturbed run byte for byte (except speeds and times in logs), with no
other files next to them. On a disk that fills up (a small tmpfs, which only root can mount; otherwise a limit on file sizes) it must
exit with 1 and one line, leave no partial file, and succeed once there is room. Needs only the standard library. Prints a table, and
exits with 1 if anything went wrong.
"""
import argparse
import hashlib
import http.server
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests/fixtures/parity/bert"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# What differs between two equal runs: how long they took, and what else the process had in memory.
TIMES = {"tokens_per_s", "seconds", "seconds_per_step", "training_seconds", "peak_rss"}
failures = []


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves the model as a hub does, slowly enough to be killed halfway."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path
        if path.startswith("/api/models/org/tiny/revision/"):
            files = sorted(p.name for p in MODEL.iterdir())
            body = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}).encode()
            return self.send(200, body, {})
        file = MODEL / path.rsplit("/", 1)[-1]
        if not file.is_file():
            return self.send(404, b"", {})
        body = file.read_bytes()
        heads = {"ETag": '"%s"' % hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest(), "X-Repo-Commit": COMMIT}
        asked = self.headers.get("Range")
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            start, end = int(start), min(int(end or len(body) - 1), len(body) - 1)
            heads["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            return self.send(206, body[start : end + 1], heads)
        return self.send(200, body, heads)

    def send(self, status, body, heads):
        self.send_response(status)
        for name, value in {**heads, "Content-Length": len(body), "Connection": "close"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.close_connection = True
        try:
            for at in range(0, len(body), 8192):
                self.wfile.write(body[at : at + 8192])
                time.sleep(0.002)
        except OSError:
            pass  # Killed.


def rows(count, seed):
    words = random.Random(seed)
    lines = ["text\tlabel"]
    for i in range(count):
        text = " ".join(words.choice("abcdefgh") for _ in range(words.randint(2, 9)))
        lines.append(f"{text}\t{'xy'[i % 2]}")
    return "\n".join(lines) + "\n"


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def content(path):
    """A file's content, without what differs between two equal runs."""
    if path.is_symlink():
        return "-> " + os.readlink(path)
    if path.name == "checkpoint.safetensors":
        # Its metadata contain times, and its checksum covers them.
        data = path.read_bytes()
        return data[8 + int.from_bytes(data[:8], "little") :]
    if path.name in ("metrics.jsonl", "sweep.jsonl"):
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "result.json":
        return without_times(json.loads(path.read_text()))
    if path.name == "sweep.md" or path.suffix == ".log":
        # These contain times, and a message per resumption: check only that they exist.
        return "there"
    return path.read_bytes()


def tree(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            found[str(path.relative_to(folder))] = content(path)
    return found


class Case:
    """A command that writes all its files to `out` in the folder that it runs in."""

    def __init__(self, name, args, resume=None, env=None, into_out=False):
        """`resume`: the file in `out` that --resume continues from; `into_out`: the command expects `out` to exist."""
        self.name, self.args, self.resume, self.env, self.into_out = name, args, resume, env or {}, into_out
        self.whole, self.takes = None, 0.0
        self.killed = self.again = 0

    def start(self, program, folder, args, **more):
        env = {**os.environ, **self.env}
        if "HF_HOME" in env:
            env["HF_HOME"] = str(folder / "out")
        return subprocess.Popen(
            [program, *args], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more
        )

    def folder(self, folder):
        (folder / "out" if self.into_out else folder).mkdir(parents=True)
        return folder

    def next_args(self, folder):
        """The arguments that resume, or start again if there is nothing to resume."""
        if self.resume and (folder / "out" / self.resume).exists():
            return [*self.args, "--resume"]
        return self.args


def fail(case, what, *more):
    failures.append(f"{case.name}: {what}")
    print(f"WRONG: {case.name}: {what}", *more, file=sys.stderr)


def difference(case, folder):
    there = tree(folder / "out")
    if there == case.whole:
        return None
    names = sorted(set(there) | set(case.whole))
    return ", ".join(n for n in names if there.get(n) != case.whole.get(n))


def run_whole(program, case, root):
    folder = case.folder(root / f"whole-{case.name}")
    began = time.monotonic()
    process = case.start(program, folder, case.args)
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{case.name} fails undisturbed: {said}")
    case.takes = time.monotonic() - began
    case.whole = tree(folder / "out")
    shutil.rmtree(folder)


def children_of(folder):
    """Processes that still run in this folder."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(proc / "cwd") == str(folder) and ") Z " not in (proc / "stat").read_text():
                found.append(proc.name)
        except OSError:
            pass
    return found


def kill_until_done(program, case, root, draw, kills):
    """Kills the case `kills` times in all."""
    round_ = 0
    while case.killed < kills:
        folder = case.folder(root / f"{case.name}-{round_}")
        round_ += 1
        while True:
            process = case.start(program, folder, case.next_args(folder))
            try:
                # Some runs are killed more than once: a resumed one may be killed as well.
                patience = draw.uniform(0, 1.1 * case.takes) if case.killed < kills and draw.random() < 0.75 else None
                _, said = process.communicate(timeout=patience)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                case.killed += 1
                until = time.monotonic() + 10
                while children_of(folder):
                    if time.monotonic() > until:
                        fail(case, f"processes still run after a kill: {children_of(folder)}")
                        break
                    time.sleep(0.01)
        case.again += 1
        # If the kill came after the last byte was written, but before the process ended, everything is there already.
        done_before = process.returncode != 0 and "holds" in said and not difference(case, folder)
        if process.returncode != 0 and not done_before:
            fail(case, f"exits with {process.returncode} after kills: {said.strip()[-300:]}")
        elif wrong := difference(case, folder):
            fail(case, f"after kills these differ from the undisturbed run's: {wrong}", folder)
            continue
        shutil.rmtree(folder)


class Disk:
    """A folder with limited room."""

    def __init__(self, folder):
        self.folder = folder
        self.mounted = False

    def limit(self, size):
        """Limits the folder to this size. Returns what the process must do first to limit itself if that is not possible."""
        self.folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder], capture_output=True
        )
        self.mounted = done.returncode == 0
        if self.mounted:
            return None

        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        return limited

    def free(self):
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,size=1G", self.folder], check=True)

    def remove(self):
        if self.mounted:
            subprocess.run(["umount", self.folder], check=True)
        shutil.rmtree(self.folder)


def fill(program, case, root, size):
    """One command on a disk of this size; returns whether the disk was too small."""
    disk = Disk(root / f"{case.name}-full")
    prepare = disk.limit(size)
    folder = disk.folder
    try:
        if case.into_out:
            (folder / "out").mkdir()
        process = case.start(program, folder, case.args, preexec_fn=prepare)
        _, said = process.communicate()
        full = process.returncode != 0
        if full:
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            known = "No space left" in said or "no storage space" in said.lower() or "too large" in said
            if process.returncode != 1 or len(errors) != 1 or not known or "panicked" in said:
                fail(case, f"on a disk of {size} bytes it exits with {process.returncode}: {said.strip()[-300:]}")
            for name, data in tree_if_readable(folder / "out").items():
                whole = case.whole.get(name)
                # A log grows line by line, and a partial download waits to be continued; everything else must have its full size,
                # whichever step it is from.
                if name.endswith((".tmp", ".lock")) and ".locks/" not in name:
                    fail(case, f"on a disk of {size} bytes it leaves {name}")
                elif name.endswith(".safetensors") and whole is not None and len(data) != len(whole):
                    fail(case, f"on a disk of {size} bytes {name} is truncated")
        disk.free()
        if full:
            again = case.start(program, folder, case.next_args(folder))
            _, said = again.communicate()
            if again.returncode != 0:
                fail(case, f"does not continue after a disk of {size} bytes: {said.strip()[-300:]}")
                return full
        if wrong := difference(case, folder):
            fail(case, f"after a disk of {size} bytes these differ: {wrong}")
        return full
    finally:
        disk.remove()


def tree_if_readable(folder):
    try:
        return tree(folder) if folder.exists() else {}
    except (ValueError, json.JSONDecodeError) as error:
        failures.append(f"a log has a truncated line: {error}")
        return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bitfit", default=ROOT / "target/release/bitfit", type=Path)
    parser.add_argument("--kills", default=300, type=int)
    parser.add_argument("--full", default=30, type=int, help="number of disk sizes")
    parser.add_argument("--seed", default=1, type=int)
    args = parser.parse_args()
    program = str(args.bitfit.resolve())
    draw = random.Random(args.seed)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="bitfit-kills.") as name:
        root = Path(name)
        (root / "train.tsv").write_text(rows(160, 1))
        (root / "grid.toml").write_text("[grid]\nlr = [1e-3, 1e-2]\nmethod = ['bitfit', 'head', 'full']\n")
        (root / "many.tsv").write_text(rows(20000, 2))
        common = ["--device", "cpu", "--threads", "1", "--quiet"]
        data = ["--model", str(MODEL), "--train", "../train.tsv", "--dev-fraction", "0.2", "--batch-size", "4"]
        often = ["--epochs", "4", "--dropout", "0.1", "--lr", "1e-3", "--eval-steps", "15", "--save-steps", "7"]
        train = ["train", *data, *often, *common, "--output", "out"]
        run = root / "run"
        made = [program, *train[:-1], str(run)]
        subprocess.run(made, cwd=Case("base", []).folder(root / "base"), check=True, stdout=subprocess.DEVNULL)
        hub = {"HF_HOME": "", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": ""}
        predict = ["predict", "--delta", str(run), *common]
        cases = [
            Case("train-bitfit", train, "settings.toml"),
            Case("train-head", [*train, "--method", "head"], "settings.toml"),
            Case("train-full", [*train, "--method", "full"], "settings.toml"),
            Case("compare", ["compare", *data, *often, *common, "--output", "out"], "."),
            Case("sweep", ["sweep", "--grid", "../grid.toml", *data, *often[:4], *often[6:], *common, "--output", "out"], "."),
            Case("merge", ["merge", "--delta", str(run), "--quiet", "--output", "out"]),
            Case("export", ["export", "--delta", str(run), "--quiet", "--peft", "out"]),
            Case("predict", [*predict, "--input", "../many.tsv", "--output", "out/p.tsv"], into_out=True),
            Case("download", ["inspect", "--model", "org/tiny"], env=hub, into_out=True),
        ]
        print(f"{'case':14} {'whole, s':>9} {'kills':>6} {'ended':>6} {'disks':>6} {'full':>6}")
        for i, case in enumerate(cases):
            run_whole(program, case, root)
            kills = args.kills * (i + 1) // len(cases) - args.kills * i // len(cases)
            kill_until_done(program, case, root, draw, kills)
            disks = args.full * (i + 1) // len(cases) - args.full * i // len(cases)
            most = sum(len(v) for v in case.whole.values() if isinstance(v, (bytes, str))) + 65536
            # From nothing to more than enough.
            full = sum(fill(program, case, root, 4096 * draw.randint(1, most // 4096 + 1)) for _ in range(disks))
            print(f"{case.name:14} {case.takes:9.2f} {case.killed:6} {case.again:6} {disks:6} {full:6}", flush=True)
    if failures:
        print(*failures, sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
