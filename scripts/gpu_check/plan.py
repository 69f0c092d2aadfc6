"""What gpu-check measures, and the time that each of its stages may take. A machine is rented for twelve minutes: all
stages together leave two of them."""

# Stage: what it is for, and its most seconds. They run in this order.
STAGES = {
    "there": ("what the machine and the program say of the device", 15),
    "steps": ("six steps of a small model in bf16 and f16 beside the CPU; without these the run ends here", 40),
    "tests": ("the operation suite and whole-model training on the device's own driver, several at a time; one of them "
              "on PTX that the driver compiles", 100),
    "throughput": ("steps of random models of real shapes: BERT-base, BERT-large, MiniLM, mean pooling, dropout 0 and "
                   "0.1", 80),
    "profile": ("the time of each operation in the same, with a picture of the device's roofs", 60),
    "tiles": ("every product with every tile size, as the table for tiles.tsv", 50),
    "pytorch": ("the same products, attention, steps and copies in PyTorch, where it is installed with CUDA", 45),
    "ncu": ("Nsight Compute on one launch of each large kernel, where it is installed", 55),
    "reviews": ("MiniLM on movie reviews end to end, where it is packed", 35),
    "few-bits": ("throughput with matrices in 8 and 4 bits", 30),
    "sanitizer": ("compute-sanitizer's memcheck, then racecheck, on a test each, where it is installed", 60),
    "benches": ("criterion: single operations, a step", 25),
}
RENTED_MINUTES, SPARE_MINUTES = 12, 2
MINUTES = RENTED_MINUTES - SPARE_MINUTES

# Shape, sequences, tokens of each, and options of `train` or `profile`. Models have a dropout of 0.1.
THROUGHPUT = [("BERT-base", 32, 128, ""), ("BERT-base", 32, 128, "--dropout 0"),
              ("BERT-large", 8, 512, ""), ("BERT-large", 8, 512, "--dropout 0"),
              ("MiniLM", 32, 128, ""), ("MiniLM", 32, 128, "--dropout 0"),
              ("BERT-base", 32, 128, "--pooling mean"), ("BERT-base", 32, 128, "--precision f16")]
PROFILED = [("BERT-base", 32, 128, ""), ("BERT-large", 8, 512, ""), ("MiniLM", 32, 128, ""),
            ("BERT-base", 32, 128, "--dropout 0"), ("BERT-base", 32, 128, "--pooling mean")]
# Products depend on rows, widths and how matrices are stored; `full` adds the gradients of matrices.
TILED = [("BERT-base", 32, 128, ""), ("BERT-large", 8, 512, ""), ("MiniLM", 32, 128, ""),
         ("BERT-base", 32, 128, "--weights int8"), ("BERT-base", 32, 128, "--weights nf4"),
         ("BERT-base", 32, 128, "--method full")]
FEW_BITS = [("BERT-base", 32, 128, "--weights int8"), ("BERT-base", 32, 128, "--weights nf4")]
# On the emulator every case has this shape.
SMALL = ("tiny", 4, 32)

# One kernel of each kind that takes long; which tile a product has depends on the device.
TILE = "_(large|medium|small)"
LARGE_KERNELS = ["gemm_bias" + TILE, "gemm_activation" + TILE, "gemm_back" + TILE, "gemm_back_slope" + TILE,
                 "gemm_back_add" + TILE, "attention_forward_64", "attention_backward_short_64", "norm_forward_3",
                 "norm_backward_3"]

# Test binaries: how the tests in them that need a device begin.
TESTS = {"ops": ("cuda::", "far::"), "cuda": ("",)}
ON_PTX = ("cuda", "recorded::recorded_steps_give_the_bits_of_issued_ones")
# On the emulator one of each binary: all of them are what `cargo test` runs there.
TESTS_ON_EMULATOR = [("ops", "cuda::the_optimizer_follows_the_definition")]
SANITIZED = [("memcheck", "ops", "cuda::larger_tiles_agree_with_the_oracle_in_every_product"),
             ("racecheck", "cuda", "repeats::training_repeats_and_resumes_to_the_bit_in_any_order_of_warps")]
BENCHES = ["ops", "step"]


def shown():
    """The plan as a table, and what it sums up to."""
    width = max(map(len, STAGES))
    lines = [f"{name:{width}}  {seconds:4} s  {what}" for name, (what, seconds) in STAGES.items()]
    together = sum(seconds for _, seconds in STAGES.values())
    return "\n".join(lines + [f"{'together':{width}}  {together:4} s  of {60 * RENTED_MINUTES} s, {60 * SPARE_MINUTES} s of "
                              "them to spare"])
