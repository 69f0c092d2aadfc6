"""What gpu-check measures, and how long each stage may take. A machine is rented for twelve minutes, and all stages together
leave two of them to spare. One of compute capability 9.0 is rented for five more."""

# Stage: its purpose and its time limit in seconds. The stages run in this order.
STAGES = {
    "there": ("what the machine and the program report about the device", 15),
    "steps": ("six steps of a small model in bf16 and f16 compared with the CPU; if both fail, the run ends here", 40),
    "tests": ("the operation suite and whole-model training on the device's own driver, several at a time; one of them "
              "on PTX that the driver compiles", 100),
    "throughput": ("steps of random models of real shapes: BERT-base, BERT-large, MiniLM, mean pooling, dropout 0 and "
                   "0.1", 80),
    "profile": ("the time of each operation in such steps, with a picture of the device's rooflines", 60),
    "tiles": ("every product with every tile size, as the table for tiles.tsv", 50),
    "hopper": ("only on compute capability 9.0: single instructions compared with the emulator bit by bit, each product "
               "with its portable kernel, and other ways to feed and launch products with the default", 300),
    "pytorch": ("the same products, attention, steps and copies in PyTorch, if it is installed with CUDA", 45),
    "ncu": ("Nsight Compute on one launch of each large kernel, if it is installed", 55),
    "reviews": ("MiniLM on movie reviews end to end, if it is packed", 35),
    "few-bits": ("throughput with matrices in 8 and 4 bits", 30),
    "sanitizer": ("compute-sanitizer's memcheck, then racecheck, on one test each, if it is installed", 60),
    "benches": ("criterion: single operations, a step", 25),
}
RENTED_MINUTES, SPARE_MINUTES = 12, 2
MINUTES = RENTED_MINUTES - SPARE_MINUTES
HOPPER = "9.0"

# Shape, sequences, tokens per sequence, and options of `train` or `profile`. The models have a dropout of 0.1.
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
# The settings of BITFIT_HOPPER to measure, one at a time; the models whose products and step are timed with each, the most
# valuable first; and the most seconds for all of them.
VARIATIONS = ["stages=5", "stages=4", "stages=3", "maps=plain", "launches=ordered"]
VARIED = [("BERT-base", 32, 128, ""), ("MiniLM", 32, 128, "")]
VARIED_SECONDS = 60
# The shape of every case on the emulator.
SMALL = ("tiny", 4, 32)

# The tile sizes, in the order of `profile`'s JSON.
TILES = ["large", "medium", "small", "96", "192", "256"]
# One kernel of each kind that takes long. Which tile a product uses depends on the device.
TILE = f"_({'|'.join(TILES)})"
PRODUCT = "(hopper_)?gemm_"
LARGE_KERNELS = [PRODUCT + "bias" + TILE, PRODUCT + "activation" + TILE, PRODUCT + "back" + TILE,
                 PRODUCT + "back_slope" + TILE, PRODUCT + "back_add" + TILE, "attention_forward_64", "attention_backward_short_64", "norm_forward_3",
                 "norm_backward_3"]

# Test binaries, and the prefixes of those of their tests that need a device.
TESTS = {"ops": ("cuda::", "far::", "hopper::"), "cuda": ("",)}
ON_PTX = ("cuda", "recorded::recorded_steps_give_the_bits_of_issued_ones")
# The emulator's own tests that expect no fault, by name: each covers one instruction or a few.
INSTRUCTIONS = ["products::", "copies::boxes_are_loaded_with_every_swizzle_and_zeros_outside",
                "copies::boxes_of_one_to_five_dimensions", "copies::a_ragged_tensor", "copies::boxes_are_stored_and_clipped",
                "copies::plain_ranges_both_ways", "copies::maps_in_global_memory",
                "mbarriers::a_phase_ends_when_arrivals_and_bytes_have_come",
                "mbarriers::bytes_may_come_before_they_are_expected", "mbarriers::parities_through_three_phases"]
# On the emulator one test is enough, because `cargo test` runs all of them there.
TESTS_ON_EMULATOR = [("ops", "cuda::the_optimizer_follows_the_definition")]
SANITIZED = [("memcheck", "ops", "cuda::larger_tiles_agree_with_the_oracle_in_every_product"),
             ("racecheck", "cuda", "repeats::training_repeats_and_resumes_to_the_bit_in_any_order_of_warps")]
BENCHES = ["ops", "step"]


def shown():
    """The plan as a table, with its total."""
    width = max(map(len, STAGES))
    lines = [f"{name:{width}}  {seconds:4} s  {what}" for name, (what, seconds) in STAGES.items()]
    more = STAGES["hopper"][1]
    together = sum(seconds for _, seconds in STAGES.values()) - more
    return "\n".join(lines + [f"{'together':{width}}  {together:4} s  of {60 * RENTED_MINUTES} s, at least "
                              f"{60 * SPARE_MINUTES} s of them to spare; {more} s more on compute capability {HOPPER}"])
