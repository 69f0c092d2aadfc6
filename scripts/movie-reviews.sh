#!/usr/bin/env bash
# The main example: trains MiniLM's biases on the polarity of movie reviews, and shows the result.
# Builds, fetches the model and the texts (90 MB, cached in .cache/), and trains. Options are passed on to `bitfit train`:
#   scripts/movie-reviews.sh --pooling cls --method head
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bin bitfit
# A wrong option is refused before anything is fetched: --help comes last, so that all others are read before it.
target/release/bitfit train "$@" --help > /dev/null
python3 scripts/fetch.py
if [[ " $* " != *" --output"* ]]; then
  set -- "$@" --output "runs/movie-reviews-$(date +%Y%m%d-%H%M%S)"
fi
exec target/release/bitfit train --config scripts/movie-reviews.toml "$@"
