"""One run of gpu-check: commands with a time limit, results that reach the disk at once, and a report."""

import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from . import WrongUsage
from .plan import STAGES

HERE = Path(__file__).resolve().parent.parent
# A stage with less than this many seconds is not worth starting.
LEAST_SECONDS = 5
NO_TIME = "no time was left"


class Stop(Exception):
    """The stages after this would make no sense."""


class Interrupted(Stop):
    """A signal asked the run to end."""


def say(line):
    """Prints. The terminal of a rented machine may be gone, which must not end the run."""
    try:
        print(line, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def fresh_folder(asked):
    """The folder for a report, made if it does not exist: this one, or a default that no other run has used."""
    if asked is None:
        names = itertools.chain(["gpu-check-report"], (f"gpu-check-report-{n}" for n in itertools.count(2)))
        asked = next(path for path in map(Path, names) if not path.exists())
    elif asked.exists() and (not asked.is_dir() or any(asked.iterdir())):
        what = "is a folder with files in it" if asked.is_dir() else "is not a folder"
        raise WrongUsage(f"--report {asked}: this {what}; name a new folder")
    try:
        asked.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUsage(f"--report {asked}: {error.strerror}") from error
    return asked.resolve()


class Run:
    """Where things are, and what was found so far."""

    def __init__(self, args):
        self.args, self.here = args, HERE
        self.end = time.monotonic() + 60 * args.minutes
        self.bitfit = (args.bitfit or HERE / "bitfit").resolve()
        self.fixtures = (args.fixtures or HERE / "tests/fixtures/parity").resolve()
        library = (args.library or HERE / "libemulator.so").resolve()
        for option, path in [("--bitfit", self.bitfit), ("--fixtures", self.fixtures), ("--library", library)]:
            if not path.exists() and (option != "--library" or args.emulator):
                raise WrongUsage(f"there is no {path}: run this from a pack, or name another with {option}")
            if option == "--bitfit" and not (path.is_file() and os.access(path, os.X_OK)):
                raise WrongUsage(f"--bitfit {path}: this is not a program")
        self.folder = fresh_folder(args.report)
        self.work = self.folder / "work"
        self.work.mkdir()
        self.environment = dict(os.environ, BITFIT_TEST_CUDA="1", BITFIT_FIXTURES=str(self.fixtures),
                                BITFIT_BENCH_DEVICE="cuda")
        if args.emulator:
            driver = self.work / "driver"
            driver.mkdir()
            for name in ["libcuda.so", "libcuda.so.1"]:
                (driver / name).symlink_to(library)
            self.environment["LD_LIBRARY_PATH"] = str(driver)
        # What was left out, with the reason.
        self.results, self.left_out = [], {}
        # What runs now, and whether a signal has come.
        self.processes, self.interrupted = set(), False
        # What later stages need from earlier ones: the device's compute capability, and products by profile.
        self.capability, self.products = None, {}
        self.machine = {"machine": platform.platform(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.lines = open(self.folder / "results.jsonl", "x")

    def stage(self, name, work):
        """Runs a stage within its own limit and the time left for the run. Its results are kept however it ends."""
        left = self.end - time.monotonic()
        if left < LEAST_SECONDS:
            self.no_time(name)
            return
        self.name, self.until = name, time.monotonic() + min(STAGES[name][1] * self.args.slower, left)
        try:
            work(self)
        except Stop:
            raise
        except Exception:  # A fault in one stage must not affect the others.
            self.note("the stage itself", False, 0, output=traceback.format_exc())
        finally:
            self.report()

    def no_time(self, name):
        """Records that there was no time left for this."""
        self.left_out[name] = NO_TIME
        say(f"left {name}: {NO_TIME}")

    def interrupt(self, *_):
        """Kills what runs and lets nothing else start. This is a signal's handler: it must not wait, and where it raised
        something, a process that is just starting would be lost."""
        self.interrupted = True
        for process in list(self.processes):
            kill(process)

    def run(self, command, **environment):
        """Exit code, output and seconds; the code is 124 if the stage's time is up."""
        started = time.monotonic()
        if self.until <= started:
            return 124, "the stage's time is up", 0.0
        try:
            # A process group of its own, so that everything a tool starts can be killed with it.
            process = subprocess.Popen([str(c) for c in command], env={**self.environment, **environment}, cwd=self.work,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       text=True, errors="replace", start_new_session=True)
        except OSError as error:
            return 127, str(error), 0.0
        self.processes.add(process)
        if self.interrupted:
            kill(process)
        code = None
        try:
            said, _ = process.communicate(timeout=self.until - started)
        except subprocess.TimeoutExpired:
            kill(process)
            said, _ = process.communicate()
            code, said = 124, said + "\nthe stage's time is up"
        finally:
            self.processes.discard(process)
        if self.interrupted:
            code, said = 130, said + "\ninterrupted"
        return process.returncode if code is None else code, said, time.monotonic() - started

    def note(self, what, passed, seconds, figures=None, output="", details=None):
        """Records a result. `details` are the figures that are too many to show. Raises `Interrupted` if a signal has
        come."""
        result = {"stage": self.name, "what": what, "passed": bool(passed), "seconds": round(seconds, 2),
                  "figures": figures or {}, "output": "" if passed else output[-4000:], "details": details or {}}
        self.results.append(result)
        shown = ", ".join(f"{key} {value}" for key, value in (figures or {}).items())
        cause = "" if passed else " ".join(output.strip().splitlines()[-1:])[:200]
        say(f"{'ok  ' if passed else 'FAIL'} {self.name}: {what} ({seconds:.1f} s) {shown}{cause}")
        try:
            self.lines.write(json.dumps(result) + "\n")
            self.lines.flush()
            os.fsync(self.lines.fileno())
        except OSError as error:
            raise Stop(f"cannot write to {self.folder}: {error.strerror}") from error
        self.report()
        if self.interrupted:
            raise Interrupted("interrupted")

    def report(self):
        report = {**self.machine, "results": self.results, "left_out": self.left_out}
        for name, text in [("report.json", json.dumps(report, indent=1) + "\n"), ("report.md", markdown(report))]:
            # Renamed into place: the machine may disappear while the file is written.
            fresh = self.folder / f"{name}.fresh"
            try:
                fresh.write_text(text)
                fresh.replace(self.folder / name)
            except OSError as error:
                # results.jsonl has it all, and the next report may find room.
                fresh.unlink(missing_ok=True)
                say(f"cannot write {self.folder / name}: {error.strerror}")

    def close(self):
        """Writes the report and removes the models and data that were made for the run."""
        self.report()
        shutil.rmtree(self.work, ignore_errors=True)


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It has ended by itself.


def markdown(report):
    lines = ["# gpu-check", "", f"- machine: {report['machine']}", f"- device: {report.get('device')}",
             f"- time: {report['time']}", "", "| stage | what | result | seconds | figures |", "|---|---|---|---:|---|"]
    for r in report["results"]:
        figures = ", ".join(f"{key} {value}".strip() for key, value in r["figures"].items())
        lines.append(f"| {r['stage']} | {r['what']} | {'passed' if r['passed'] else 'FAILED'} | {r['seconds']} "
                     f"| {figures} |")
    lines += [""] + [f"Left out: {what}: {why}." for what, why in report["left_out"].items()]
    lines += ["", "```", report.get("doctor", "").rstrip(), "```"]
    for r in report["results"]:
        if not r["passed"]:
            lines += ["", f"## {r['stage']}: {r['what']}", "", "```", r["output"], "```"]
    return "\n".join(lines) + "\n"
