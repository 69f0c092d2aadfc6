#!/bin/sh
# Makes the PTX beside each source, with nvcc of the 13.0 line on PATH.
set -e
cd "$(dirname "$0")"
for source in *.cu; do
    nvcc -ptx -arch=compute_80 -lineinfo "$source" -o "${source%.cu}.ptx"
done
# Source names without the directories of whoever ran this.
sed -i -E 's#(\.file[^"]*")[^"]*/#\1#' ./*.ptx
