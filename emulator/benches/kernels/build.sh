#!/bin/sh
# Compiles each source to PTX next to it. Needs nvcc 13.0 on PATH.
set -e
cd "$(dirname "$0")"
for source in *.cu; do
    nvcc -ptx -arch=compute_80 -lineinfo "$source" -o "${source%.cu}.ptx"
done
# Keep source names, without the directories of whoever ran this.
sed -i -E 's#(\.file[^"]*")[^"]*/#\1#' ./*.ptx
