"""Predicts how long a step should take on an H200, from what was counted on the emulator. The prediction was written down before
any measurement, so that a first run can prove it wrong. `scripts/count-kernels --capability 9.0 --predict` prints it.

The assumptions are the constants below, and nothing else. A product takes its waves of tiles; a wave takes as long as the operand
traffic from the L2 cache lets the tensor cores run (one block per multiprocessor; the last wave counts in full). Every other kernel
takes the longest of three times: for its instructions, for the bytes at its boundary, and for its tensor-core operations by
mma.sync. Instructions are those of the PTX; ptxas makes about as many of them."""

MULTIPROCESSORS = 132
# At this clock, 4,096 operations per clock and multiprocessor are the data sheet's 989 TFLOP/s.
CLOCK = 1.83e9
TENSOR = 4096
# Measured by others on an H800: bytes per clock from the L2 cache to all multiprocessors together, and the share of the tensor
# cores' rate that mma.sync reaches at most.
L2_BYTES = 4472
MMA_SYNC = 0.65
# Shared memory serves 128 bytes per clock: the operands once per wgmma, and what the copy engine writes.
SHARED_BYTES = 128
# The data sheet's 4.8 TB/s, and about the share of it that large copies reach.
DRAM = 4.8e12 * 0.85
# Warp instructions per clock and multiprocessor: four schedulers, and how often they find one ready.
ISSUE = 4 * 0.6
# The time between the end of a kernel in a graph and the start of the next one's work, and the time for a ring to fill and to
# store its last tile.
GAP = 1.5e-6
RING = 1.5e-6
ROWS, DEPTH = 128, 64
TILES = (96, 192, 256)


def cap(columns):
    """The share of the tensor cores' rate that a tile's operands allow, through the L2 cache and through shared memory."""
    step = ROWS * columns * DEPTH * 2 / TENSOR
    copied = (ROWS + columns) * DEPTH * 2
    # Each of two warpgroups reads its 64 rows of x and all of W.
    read = (ROWS + 2 * columns) * DEPTH * 2
    return min(1, L2_BYTES / MULTIPROCESSORS * step / copied, SHARED_BYTES * step / (read + copied))


def waves(rows, n, columns):
    tiles = -(-rows // ROWS) * -(-n // columns)
    return -(-tiles // MULTIPROCESSORS), tiles


def product(rows, n, k):
    """The fastest tile: its columns, the filled share of its waves, and its seconds."""
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
    """Seconds of all launches of a counted kernel that is not a product of the ring, and what limits it."""
    held = {"instructions": kernel["warp_instructions"] / (MULTIPROCESSORS * ISSUE * CLOCK),
            "bytes": (kernel["dram_read_bytes"] + kernel["dram_write_bytes"]) / DRAM,
            "tensor cores": kernel["mma_flops"] / (MULTIPROCESSORS * TENSOR * CLOCK * MMA_SYNC)}
    by = max(held, key=held.get)
    return held[by] + GAP * kernel["launches"], by


def predicted(name, hidden, layers, rows, layer, rest):
    """Markdown of a step by kernel, from the counters of a layer and of what happens once per step."""
    lines = [f"### {name} on an H200, predicted", "",
             "| kernel | tile | waves filled | limited by | launches per layer | µs per layer |", "|---|---|---:|---|---:|---:|"]
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
    lines += ["", f"One layer takes {1e6 * total:.0f} µs, everything once per step {1e6 * once:.0f} µs: {1e3 * step:.2f} ms per step, "
              f"{rows / step:,.0f} tokens/s. Counting only the linear layers, that is {100 * useful / step / peak:.0f} % of the "
              "tensor cores' peak."]
    return lines
