"""The stages of gpu-check, one function each: what it runs, and what it records."""

import concurrent.futures
import json
import math
import re
import shutil
import statistics
import sys
import time

from shaped_model import SHAPES, make_data, make_model

from . import plan
from .run import Stop

CLOCKS = "clocks.sm,clocks.mem,temperature.gpu,power.draw"


def queried(run, fields):
    """What nvidia-smi reports about the device; nothing on the emulator."""
    if run.args.emulator:
        return ""
    code, said, _ = run.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"])
    return said.strip() if code == 0 else f"nvidia-smi: {said.strip()}"


def there(run):
    code, said, seconds = run.run([run.bitfit, "doctor"])
    run.machine["doctor"] = said
    found = re.search(r"^cuda:0 .*compute capability (\d+)\.(\d+)", said, re.M)
    figures = {}
    if found:
        # Machine code runs on its own major version, from its own minor version upwards.
        major, minor = map(int, found.groups())
        archs = [int(arch) for arch in re.findall(r"sm_(\d+)", said)]
        ours = any(arch // 10 == major and arch % 10 <= minor for arch in archs)
        figures = {"built in for it": "machine code" if ours else "only PTX, which the driver compiles"}
        run.capability = f"{major}.{minor}"
        if run.capability == plan.HOPPER:
            run.end += plan.STAGES["hopper"][1]
    run.note("doctor", code == 0 and found, seconds, figures, said)
    run.machine["device"] = "bitfit CUDA emulator (CPU)" if run.args.emulator else queried(
        run, "name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.mem,power.limit")


def train(run, name, *options, **environment):
    """One training run: exit code, output, seconds, and the metrics of its steps."""
    folder = run.work / name
    command = [run.bitfit, "train", "--output", folder, "--quiet", *options]
    code, out, seconds = run.run(command, **environment)
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    return code, out, seconds, lines


def toy(run):
    """Rows that a model learns in a few steps."""
    data = run.work / "toy.tsv"
    rows = [f"{'good fine great' if n % 2 else 'bad poor awful'} number {n}\t{'yes' if n % 2 else 'no'}"
            for n in range(40)]
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return data


def steps(run):
    common = ["--model", run.fixtures / "bert", "--train", toy(run), "--steps", "6", "--batch-size", "8", "--lr", "3e-3",
              "--dropout", "0"]
    losses = {}
    for case in ["cpu", "bf16", "f16", "bf16, PTX"]:
        where = ["--device", "cpu"] if case == "cpu" else ["--device", "cuda:0", "--precision", case.split(",")[0]]
        code_of = {"BITFIT_CUDA_CODE": "ptx"} if "PTX" in case else {}
        code, out, seconds, lines = train(run, f"small-{case.replace(', ', '-')}", *common, *where, **code_of)
        # JSON has no NaN: a loss that is not finite is null.
        losses[case] = [line["loss"] if line["loss"] is not None else math.nan for line in lines if "loss" in line]
        # In 16 bits the loss stays within a few hundredths of f32's while it is around 1; a NaN never does.
        close = len(losses[case]) == 6 and all(abs(a - b) < 0.05 for a, b in zip(losses["cpu"], losses[case]))
        shown = " ".join(f"{loss:.4f}" for loss in losses[case])
        run.note(f"six steps, {case}", code == 0 and close, seconds, {"losses": shown}, out)
        if case == "cpu" and not close:
            raise Stop("the CPU itself does not run six steps, so there is nothing to compare with")
        if "not finite" in out or not all(math.isfinite(loss) for loss in losses[case]):
            raise Stop(f"{case} gave losses that are not finite: {losses[case]}")
    if not any(r["passed"] for r in run.results if r["what"] in ["six steps, bf16", "six steps, f16"]):
        raise Stop("neither half type trains")


def tests(run):
    if not (run.here / "ops").exists():
        run.left_out["tests"] = "the test binaries are not packed"
        return
    jobs = [(*plan.ON_PTX, {"BITFIT_CUDA_CODE": "ptx"})]
    if run.args.emulator:
        jobs += [(*test, {}) for test in plan.TESTS_ON_EMULATOR]
    else:
        for binary, beginnings in plan.TESTS.items():
            code, out, seconds = run.run([run.here / binary, "--list"])
            found = [test for test in re.findall(r"^(\S+): test$", out, re.M)
                     if test.startswith(beginnings)]
            if code != 0 or not found:
                run.note(f"{binary} --list", False, seconds, output=out)
            jobs += [(binary, test, {}) for test in found]
    with concurrent.futures.ThreadPoolExecutor(run.args.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one_test, run, *job) for job in jobs]):
            name, *_, out, _ = result = done.result()
            if "skipped: " in out:
                run.left_out[name] = re.search("skipped: (.*)", out)[1]
            else:
                run.note(*result)


def one_test(run, binary, test, environment):
    code, out, seconds = run.run([run.here / binary, test, "--exact", "--nocapture"], **environment)
    # Name, largest relative error, and that error as a share of the bound.
    found = re.findall(r"^  (\S+)\s+(\d\.\d+e-?\d+) (\d+\.\d+)$", out, re.M)
    figures = {"quantities": len(found)} if found else {}
    if found:
        name, _, share = max(found, key=lambda line: float(line[2]))
        figures["closest to its bound"] = f"{name} ({float(share):.2f} of it)"
    passed = code == 0 and "1 passed" in out and (bool(found) or "agree" not in test)
    name = f"{binary} {test}{' on PTX' if environment else ''}"
    return name, passed, seconds, figures, out, {name: float(error) for name, error, _ in found}


def shape(run, name, sequences, length):
    """A folder with a model of this shape, and data for its batches."""
    folder = run.work / f"{name}-{sequences}x{length}"
    if not folder.exists():
        hidden, heads, layers = SHAPES[name]
        make_model(folder / "model", hidden, heads, layers, max(length, 16))
        make_data(folder / "data.tsv", sequences * 8, length)
    return folder


def cases(run, planned):
    """The planned cases; on the emulator each set of options once, at a small size."""
    if not run.args.emulator:
        return planned
    return [(*plan.SMALL, options) for options in dict.fromkeys(options for *_, options in planned)]


def speed(run, planned):
    count = 3 if run.args.emulator else 40
    for name, sequences, length, options in cases(run, planned):
        folder = shape(run, name, sequences, length)
        what = f"{name} {sequences}x{length} {options}".strip()
        code, out, seconds, lines = train(
            run, f"speed-{len(run.results)}", "--model", folder / "model", "--train", folder / "data.tsv", "--device",
            "cuda:0", "--batch-size", sequences, "--max-length", length, "--steps", count, *options.split())
        steady = [line["tokens_per_s"] for line in lines if "loss" in line][count // 2:]
        figures = {}
        if steady and not run.args.emulator:
            rate = statistics.median(steady)
            figures = {"tokens/s": round(rate), "ms per step": round(1e3 * sequences * length / rate, 3),
                       "clocks": queried(run, CLOCKS)}
        run.note(what, code == 0 and bool(steady), seconds, figures, out)


def throughput(run):
    speed(run, plan.THROUGHPUT[:2] if run.args.emulator else plan.THROUGHPUT)


def few_bits(run):
    speed(run, plan.FEW_BITS)


def profiled(run, case, *more, way="", repeat=10, **environment):
    """One run of `bitfit profile`: its name, exit code, output, seconds, the JSON it wrote, and the path of its files. `way`
    is added to the name."""
    name, sequences, length, options = case
    what = f"{name} {sequences}x{length} {options}".strip() + (f", {way}" if way else "")
    path = run.folder / f"{run.name}-{re.sub(r'[^A-Za-z0-9]+', '-', what)}"
    command = [run.bitfit, "profile", "--model", shape(run, name, sequences, length) / "model", "--device", "cuda:0",
               "--batch-size", sequences, "--max-length", length, "--repeat", 1 if run.args.emulator else repeat,
               "--json", f"{path}.json", *options.split()]
    code, out, seconds = run.run([*command, *(option.format(path=path) for option in more)], **environment)
    written = json.loads(path.with_name(path.name + ".json").read_text()) if code == 0 else {}
    return what, code, out, seconds, written, path


def profile(run):
    # Nothing is timed on the emulator, so nothing can be drawn.
    picture = [] if run.args.emulator else ["--picture", "{path}.svg"]
    planned = plan.PROFILED[:1] if run.args.emulator else plan.PROFILED
    for case in cases(run, planned):
        what, code, out, seconds, found, path = profiled(run, case, *picture)
        path.with_name(path.name + ".txt").write_text(out)
        figures = {"launches": sum(row["times"] for row in found.get("operations", []))}
        if found.get("seconds_per_step"):
            apart = sum(row["seconds_per_step"] for row in found["operations"])
            figures.update({"ms per step": round(1e3 * found["seconds_per_step"], 3),
                            "ms in its pieces": round(1e3 * apart, 3),
                            "TFLOP/s of a large product": round(found["product_flops_per_second"] / 1e12, 1),
                            "GB/s of a large copy": round(found["copy_bytes_per_second"] / 1e9)})
        run.note(what, code == 0 and bool(found.get("operations")), seconds, figures, out)


def tiles(run):
    """Leaves tiles.tsv: lines for src/backend/cuda/tiles.tsv."""
    about = [f"{run.machine['time']}, {run.machine.get('device')}", f"clocks now: {queried(run, CLOCKS)}"]
    table = "".join(f"# {line}\n" for line in about)
    measured = set()
    for case in cases(run, plan.TILED):
        what, code, out, seconds, found, path = profiled(run, case, "--tiles", "{path}.tsv")
        products = run.products[what] = found.get("tiles", [])
        figures = {"products": len(products)}
        if saved := re.search(r"^products of a step: (.*)$", out, re.M):
            figures["products of a step"] = saved[1]
        run.note(what, code == 0 and bool(products), seconds, figures, out)
        for line in path.with_name(path.name + ".tsv").read_text().splitlines() if code == 0 else []:
            # A shape that several models share is measured once.
            key = tuple(line.split("\t")[:5])
            if line.startswith("# not timed") or len(key) < 5 or key not in measured:
                table += line + "\n"
                measured.add(key)
        (run.folder / "tiles.tsv").write_text(table)


def hopper(run):
    if run.capability != plan.HOPPER:
        run.left_out["hopper"] = f"the device has compute capability {run.capability or 'unknown'}"
        return
    instructions(run)
    portable(run)
    variations(run)


def portable(run):
    """Times the portable products. The stage `tiles` has measured Hopper's own in every tile."""
    for case in cases(run, plan.TILED[:4]):
        what, code, out, seconds, found, _ = profiled(run, case, "--tiles", "{path}.tsv", way="portable",
                                                      BITFIT_KERNELS="portable")
        own = run.products.get(what.removesuffix(", portable"), [])
        faster = []
        for product in found.get("tiles", []):
            sizes = {key: product[key] for key in ["rows", "n", "k"]}
            twin = [p for p in own if p["kernel"] == f"hopper_{product['kernel']}" and sizes.items() <= p.items()]
            times = [min((t for t in p["microseconds"] if t), default=0) for p in [product, *twin]]
            if twin and all(times):
                faster.append(times[0] / times[1])
        figures = {"products": len(found.get("tiles", []))}
        if not own:
            run.left_out[f"{what} against its own products"] = "the stage tiles has not measured those"
        if faster and not run.args.emulator:
            figures["portable / own, smallest, median, largest"] = " ".join(
                f"{f:.2f}" for f in [min(faster), statistics.median(faster), max(faster)])
        run.note(what, code == 0 and bool(figures["products"]), seconds, figures, out)


def variations(run):
    """Times products and a recorded step with each setting of BITFIT_HOPPER, as ratios to the defaults, which are measured
    first, and again at the end to show the noise."""
    run.until = min(run.until, time.monotonic() + plan.VARIED_SECONDS * run.args.slower)
    longest = 0
    for case in cases(run, plan.VARIED):
        defaults = {}
        for way in ["defaults", *plan.VARIATIONS, "defaults again"]:
            if time.monotonic() + longest > run.until:
                run.no_time(f"{case[0]}, {way}")
                continue
            told = way if way in plan.VARIATIONS else ""
            what, code, out, seconds, found, _ = profiled(run, case, "--tiles", "{path}.tsv", way=way, repeat=20,
                                                          BITFIT_HOPPER=told)
            longest = max(longest, seconds)
            figures = {"products": len(found.get("tiles", []))}
            if found and defaults and not run.args.emulator:
                figures |= compared(found, defaults)
            if way == "defaults":
                defaults = found
            # The program names settings other than the defaults.
            device = found.get("device", "")
            as_told = f"BITFIT_HOPPER={told})" in device if told else "BITFIT_HOPPER" not in device
            run.note(what, code == 0 and as_told and figures["products"] > 0, seconds, figures, out)


def compared(found, defaults):
    """The ratios of one profile's times to another's: for the products of a step in each tile, and for a recorded step."""
    figures = {}
    for at, tile in enumerate(plan.TILES):
        times = [sum(p["times"] * (p["microseconds"][at] or 0) for p in profile["tiles"]) for profile in [found, defaults]]
        if all(times):
            figures[f"time / default's, tiles of {tile}"] = f"{times[0] / times[1]:.3f}"
    figures["time / default's, a step"] = f"{found['seconds_per_step'] / defaults['seconds_per_step']:.3f}"
    return figures


def instructions(run):
    """Runs the emulator's tests of single instructions on this device's driver."""
    binary = run.here / "instructions"
    if not binary.exists():
        run.left_out["instructions"] = "the tests are not packed"
        return
    for beginning in plan.INSTRUCTIONS:
        code, out, seconds = run.run([binary, beginning, "--test-threads", "1"], EMULATOR_TEST_CUDA="1")
        passed = re.search(r"(\d+) passed", out)
        run.note(beginning.strip(":"), code == 0 and passed and int(passed[1]) > 0, seconds, {}, out)


def pytorch(run):
    small = ["--small"] if run.args.emulator else []
    code, out, seconds = run.run([sys.executable, run.here / "torch_speed.py", *small])
    if code == 3:
        run.left_out["pytorch"] = out.strip()
        return
    figures = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    shown = {f["what"]: f["rate"] for f in figures}
    # If the time ran out, what was measured until then counts.
    run.note("products, attention, steps, copies", code in (0, 124) and figures, seconds, shown, out,
             {f["what"]: f for f in figures})


def ncu(run):
    tool = shutil.which("ncu")
    if run.args.emulator or not tool:
        run.left_out["ncu"] = "the emulator has its own counters" if run.args.emulator else "it is not on PATH"
        return
    folder = shape(run, "BERT-base", 32, 128)
    for kernel in plan.LARGE_KERNELS:
        name = re.sub(r"\(.*?\)\??", "", kernel).strip("_")
        code, out, seconds = run.run(
            [tool, "--kernel-name", f"regex:^{kernel}$", "--launch-skip", "2", "--launch-count", "1", "--set", "basic",
             "--section", "WarpStateStats", run.bitfit, "train", "--output", run.work / f"ncu-{name}", "--quiet", "--model",
             folder / "model", "--train", folder / "data.tsv", "--device", "cuda:0", "--batch-size", "32", "--max-length",
             "128", "--steps", "1", "--pooling", "mean"])
        (run.folder / f"ncu-{name}.txt").write_text(out)
        took = re.search(r"Duration\s+(\S+)\s+([\d.,]+)", out)
        figures = {"duration": f"{took[2]} {took[1]}"} if took else {}
        run.note(name, code == 0 and bool(took), seconds, figures, out)
        if "ERR_NVGPUCTRPERM" in out:
            run.left_out["ncu"] = "this machine does not permit reading its performance counters"
            return


def reviews(run):
    settings = run.here / "movie-reviews.toml"
    if run.args.emulator:
        model, data, more = run.fixtures / "bert", toy(run), ["--steps", "4", "--max-length", "16"]
    elif (run.here / "minilm").exists():
        model, data, more = run.here / "minilm", run.here / "movie-reviews.tsv", []
    else:
        run.left_out["reviews"] = "not packed (--minilm)"
        return
    code, out, seconds, lines = train(run, "movie-reviews", "--config", settings, "--model", model, "--train", data,
                                      "--device", "cuda:0", *more)
    accuracy = max((line["eval"]["accuracy"] for line in lines if "eval" in line), default=-1)
    # README.md shows what the CPU reaches. A model with random values, as on the emulator, learns nothing.
    enough = accuracy > 0.8 or (run.args.emulator and accuracy >= 0)
    run.note("MiniLM on movie reviews", code == 0 and enough, seconds, {"accuracy": accuracy}, out)


def sanitizer(run):
    tool = shutil.which("compute-sanitizer")
    if run.args.emulator or not tool:
        run.left_out["sanitizer"] = "the emulator has its own checks" if run.args.emulator else "it is not on PATH"
        return
    until = run.until
    for left, (name, binary, test) in zip(range(len(plan.SANITIZED), 0, -1), plan.SANITIZED):
        # A slow one must leave the others their share of the time.
        run.until = min(until, time.monotonic() + (until - time.monotonic()) / left)
        code, out, seconds = run.run([tool, "--tool", name, "--error-exitcode", "9", run.here / binary, test, "--exact"])
        summary = re.findall(r"ERROR SUMMARY.*", out)
        run.note(f"{name} {test}", code == 0, seconds, {"": summary[-1]} if summary else {}, out)


def benches(run):
    packed = [name for name in plan.BENCHES if (run.here / f"bench-{name}").exists()]
    if not packed:
        run.left_out["benches"] = "they are not packed"
        return
    small = run.args.emulator
    model = shape(run, *(plan.SMALL if small else ("BERT-base", 32, 128))) / "model"
    # On the emulator only the smallest of each, once, because times mean nothing there.
    short = ["--warm-up-time", "0.1", "--measurement-time", "0.2", "--sample-size", "10"]
    for name in packed:
        options = ["--test", {"ops": "minilm/head", "step": "16x25"}[name]] if small else short
        code, out, seconds = run.run([run.here / f"bench-{name}", "--bench", *options], BITFIT_BENCH_MODEL=str(model),
                                     CRITERION_HOME=str(run.work / "criterion"))
        times = dict(re.findall(r"^(\S.*?)\s+time:\s+\[\S+ \S+ (\S+ \S+) ", out, re.M))
        done = times or (small and "Success" in out)
        run.note(name, code == 0 and done, seconds, {"measurements": len(times)}, out, times)


FUNCTIONS = {"there": there, "steps": steps, "tests": tests, "throughput": throughput, "profile": profile, "tiles": tiles,
             "hopper": hopper, "pytorch": pytorch, "ncu": ncu, "reviews": reviews, "few-bits": few_bits, "sanitizer": sanitizer,
             "benches": benches}
