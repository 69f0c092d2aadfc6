"""One run of gpu-check: commands with a time limit, results that reach the disk at once, and a report."""

import json
import os
import platform
import shutil
import signal
import subprocess
import time
import traceback
from pathlib import Path

from .plan import STAGES

HERE = Path(__file__).resolve().parent.parent


class Stop(Exception):
    """The stages after this would make no sense."""


class Run:
    """Where things are, and what was found so far."""

    def __init__(self, args):
        self.args, self.here = args, HERE
        self.end = time.monotonic() + 60 * args.minutes
        self.folder = args.report.resolve()
        self.work = self.folder / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.bitfit = (args.bitfit or HERE / "bitfit").resolve()
        self.fixtures = (args.fixtures or HERE / "tests/fixtures/parity").resolve()
        self.environment = dict(os.environ, BITFIT_TEST_CUDA="1", BITFIT_FIXTURES=str(self.fixtures),
                                BITFIT_BENCH_DEVICE="cuda")
        if args.emulator:
            library = self.work / "driver"
            library.mkdir()
            for name in ["libcuda.so", "libcuda.so.1"]:
                (library / name).symlink_to((args.library or HERE / "libemulator.so").resolve())
            self.environment["LD_LIBRARY_PATH"] = str(library)
        self.results, self.left_out = [], {}
        # What later stages need from earlier ones: the device's compute capability, and products by profile.
        self.capability, self.products = None, {}
        self.machine = {"machine": platform.platform(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.lines = open(self.folder / "results.jsonl", "w")

    def stage(self, name, work):
        """Runs a stage within its own limit and the time left for the run. Its results are kept however it ends."""
        left = self.end - time.monotonic()
        if left < 5:
            self.left_out[name] = "no time was left"
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
        code = None
        try:
            said, _ = process.communicate(timeout=self.until - started)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            code, said = 124, said + "\nthe stage's time is up"
        return process.returncode if code is None else code, said, time.monotonic() - started

    def note(self, what, passed, seconds, figures=None, output="", details=None):
        """Records a result. `details` are the figures that are too many to show."""
        result = {"stage": self.name, "what": what, "passed": bool(passed), "seconds": round(seconds, 2),
                  "figures": figures or {}, "output": "" if passed else output[-4000:], "details": details or {}}
        self.results.append(result)
        self.lines.write(json.dumps(result) + "\n")
        self.lines.flush()
        os.fsync(self.lines.fileno())
        shown = ", ".join(f"{key} {value}" for key, value in (figures or {}).items())
        print(f"{'ok  ' if passed else 'FAIL'} {self.name}: {what} ({seconds:.1f} s) {shown}", flush=True)

    def report(self):
        report = {**self.machine, "results": self.results, "left_out": self.left_out}
        for name, text in [("report.json", json.dumps(report, indent=1) + "\n"), ("report.md", markdown(report))]:
            # Renamed into place: the machine may disappear while the file is written.
            fresh = self.folder / f"{name}.fresh"
            fresh.write_text(text)
            fresh.replace(self.folder / name)


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
