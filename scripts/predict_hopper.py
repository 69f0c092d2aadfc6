"""What a step should take on an H200, from what was counted on the emulator: written down before any was measured, so that a
first run on one can prove it wrong. `scripts/count-kernels --capability 9.0 --predict` prints it.

The assumptions are the constants below; nothing else enters. A product takes its waves of tiles, each as long as the operand
traffic from the L2 cache lets the tensor cores run (1 block per multiprocessor; the last wave counts whole). Every other
kernel takes the longest of three: its instructions, its bytes at the kernel's boundary, its tensor-core operations by
mma.sync. Instructions are PTX's, of which ptxas makes about as many."""

MULTIPROCESSORS = 132
# At which 4,096 operations per clock and multiprocessor are the 989 TFLOP/s of the data sheet.
CLOCK = 1.83e9
TENSOR = 4096
# Measured by others on an H800: bytes per clock of the L2 cache, of all multiprocessors together; and the most that
# mma.sync reaches of the tensor cores.
L2_BYTES = 4472
MMA_SYNC = 0.65
# Shared memory serves 128 bytes per clock: operands once per wgmma, and what the copy engine writes.
SHARED_BYTES = 128
# The data sheet's 4.8 TB/s, of which large copies reach about so much.
DRAM = 4.8e12 * 0.85
# Warp instructions per clock and multiprocessor: four schedulers that find one ready so often.
ISSUE = 4 * 0.6
# Between the end of a kernel in a graph and the beginning of the next one's work, and for a ring to fill and its last tile to
# be stored.
GAP = 1.5e-6
RING = 1.5e-6
ROWS, DEPTH = 128, 64
TILES = (96, 192, 256)


def cap(columns):
    """The share of the tensor cores' rate that a tile's operands allow: through the L2 cache, and through shared memory."""
    step = ROWS * columns * DEPTH * 2 / TENSOR
    copied = (ROWS + columns) * DEPTH * 2
    # Each of two warpgroups reads its 64 rows of x and all of W.
    read = (ROWS + 2 * columns) * DEPTH * 2
    return min(1, L2_BYTES / MULTIPROCESSORS * step / copied, SHARED_BYTES * step / (read + copied))


def waves(rows, n, columns):
    tiles = -(-rows // ROWS) * -(-n // columns)
    return -(-tiles // MULTIPROCESSORS), tiles


def product(rows, n, k):
    """Tile, share of the waves that is filled, and seconds, of the tile that takes the fewest."""
    def seconds(columns):
        return waves(rows, n, columns)[0] * 2 * ROWS * columns * k / (TENSOR * CLOCK * cap(columns))

    columns = min(TILES, key=lambda c: (seconds(c), -c))
    count, tiles = waves(rows, n, columns)
    return columns, tiles / (count * MULTIPROCESSORS), seconds(columns) + GAP + RING


def products(rows, hidden):
    """A layer's products: name, n, k."""
    return [("q, k and v", 3 * hidden, hidden), ("attention's output", hidden, hidden), ("intermediate", 4 * hidden, hidden),
            ("output", hidden, 4 * hidden), ("output, backward", 4 * hidden, hidden),
            ("intermediate, backward", hidden, 4 * hidden), ("attention's output, backward", hidden, hidden),
            ("q, k and v, backward", hidden, 3 * hidden)]


def other(kernel):
    """Seconds of all launches of a counted kernel that is no product of the ring, and what holds it."""
    held = {"instructions": kernel["warp_instructions"] / (MULTIPROCESSORS * ISSUE * CLOCK),
            "bytes": (kernel["dram_read_bytes"] + kernel["dram_write_bytes"]) / DRAM,
            "tensor cores": kernel["mma_flops"] / (MULTIPROCESSORS * TENSOR * CLOCK * MMA_SYNC)}
    by = max(held, key=held.get)
    return held[by] + GAP * kernel["launches"], by


def predicted(name, hidden, layers, rows, layer, rest):
    """Markdown: a step by kernel, of counters of a layer and of what is once a step."""
    lines = [f"### {name} on an H200, predicted", "",
             "| kernel | tile | waves filled | held by | launches of a layer | µs of a layer |", "|---|---|---:|---|---:|---:|"]
    total = 0
    for what, n, k in products(rows, hidden):
        columns, filled, seconds = product(rows, n, k)
        total += seconds
        lines.append(f"| product, {what}: n {n}, k {k} | 128 × {columns} | {100 * filled:.0f} % | operands, "
                     f"{100 * cap(columns):.0f} % of peak | 1 | {1e6 * seconds:.1f} |")
    for kernel, counts in sorted(layer.items(), key=lambda item: -other(item[1])[0]):
        if kernel.startswith("hopper_"):
            continue
        seconds, by = other(counts)
        total += seconds
        lines.append(f"| `{kernel}` | | | {by} | {counts['launches']} | {1e6 * seconds:.1f} |")
    once = sum(other(counts)[0] for counts in rest.values())
    step = layers * total + once
    useful = layers * (48 * rows * hidden * hidden)
    peak = MULTIPROCESSORS * TENSOR * CLOCK
    lines += ["", f"A layer {1e6 * total:.0f} µs, what is once a step {1e6 * once:.0f} µs: a step of {1e3 * step:.2f} ms, "
              f"{rows / step:,.0f} tokens/s; its linear layers alone are {100 * useful / step / peak:.0f} % of the tensor cores' "
              "peak."]
    return lines
