#!/usr/bin/env bash
# The main example: trains MiniLM's biases on the polarity of movie reviews, and shows the result.
# Fetches the model and the texts (90 MB, cached in .cache/), builds and trains. Options are passed on to `bitfit train`:
#   scripts/movie-reviews.sh --pooling cls --method head
set -euo pipefail
cd "$(dirname "$0")/.."
python3 scripts/fetch.py
cargo build --release --bin bitfit
if [[ " $* " != *" --output"* ]]; then
  set -- "$@" --output "runs/movie-reviews-$(date +%Y%m%d-%H%M%S)"
fi
exec target/release/bitfit train --config scripts/movie-reviews.toml "$@"
