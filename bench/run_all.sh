#!/bin/sh
# All figures of docs/performance.md: bench/run_all.sh MANIFEST CORPUS OUTPUT_DIR
#
# Run it on a machine that does nothing else, with the Python that has asr (PYTHON=.venv/bin/python). Every
# part is a Markdown table, OUTPUT_DIR/*.md; machine.txt says of what machine and commit.
set -eu
[ $# -eq 3 ] || { echo "usage: $0 MANIFEST CORPUS OUTPUT_DIR" >&2; exit 2; }
manifest=$1 corpus=$2 output=$3
here=$(dirname "$0")
python=${PYTHON:-python3}
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
sample=$here/../tests/data/2803-161169-0006.flac
mkdir -p "$output"

{ git -C "$here" describe --always --dirty; lscpu; uptime; } > "$output/machine.txt"

# Start-up, and everything for one short recording.
"$python" -m asr bench --runs 10 "$sample" > "$output/sample.md"

# The recordings of the corpus as files.
"$python" - "$manifest" "$corpus" > "$output/files.txt" <<'EOF'
import sys
from asr.manifest import read_manifest
for utterance in read_manifest(sys.argv[1], corpus=sys.argv[2]):
    print(utterance.audio)
EOF
tr '\n' '\0' < "$output/files.txt" | xargs -0 "$python" -m asr bench --runs 3 > "$output/files.md"

# One recording of an hour, behind the sample, whose start-up is measured.
"$python" "$here/join.py" "$manifest" "$output/hour.flac" 3600 "$corpus"
"$python" -m asr bench --runs 3 "$sample" "$output/hour.flac" > "$output/hour.md"
rm "$output/hour.flac"

# Beside PocketSphinx.
"$python" "$here/compare.py" "$manifest" --corpus "$corpus" --limit 100 > "$output/compare.md"
