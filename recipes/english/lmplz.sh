#!/bin/sh
# Builds lmplz, the program of KenLM that counts n-grams, from the source package on PyPI:
#     recipes/english/lmplz.sh FOLDER        puts lmplz into FOLDER (one that is on your PATH)
# Needs a C++ compiler, cmake and Boost; on Debian:
#     apt-get install g++ cmake zlib1g-dev libbz2-dev liblzma-dev libboost-program-options-dev \
#         libboost-system-dev libboost-thread-dev libboost-test-dev
set -eu
[ $# -eq 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --no-deps --no-binary kenlm -d "$work" kenlm==0.3.0
tar -xf "$work"/kenlm-0.3.0.tar.gz -C "$work"
cmake -S "$work/kenlm-0.3.0" -B "$work/build" -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/build" --target lmplz
cp "$work/build/bin/lmplz" "$1/"
echo "$1/lmplz"
