#!/usr/bin/env bash
# Line coverage of the rooms whose code decides about safety, and whether each is at the target.
#
#   scripts/coverage.sh [--target PERCENT] [--files]
#
# Runs the tests of the engine and the store, the fuzz corpora, the stories, the regressions and two hundred simulator seeds
# under coverage instrumentation, in a target directory of its own, and prints covered lines by room: gate, membership, store,
# codec. Exit code 1 if one of them is under the target (default 95). With --files, every file of these rooms.
# Needs cargo-llvm-cov (`cargo install cargo-llvm-cov --locked`, `rustup component add llvm-tools`).
set -euo pipefail
cd "$(dirname "$0")/.."

target=95 files=
while [ $# -gt 0 ]; do
  case "$1" in
    --target) target=$2; shift 2 ;;
    --files) files=1; shift ;;
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "unknown option $1; --help tells" >&2; exit 64 ;;
  esac
done

export CARGO_TARGET_DIR=target/coverage
cargo llvm-cov clean --workspace
cover=(cargo llvm-cov --locked --release --no-report)
"${cover[@]}" -p anabranch-engine -p anabranch-store >&2
"${cover[@]}" -p anabranch-tests --test corpora --test stories --test seeds >&2
"${cover[@]}" run -p anabranch-tests --bin sim -- --seeds 0..200 --twice-every 0 >&2

# Columns of the report: file, regions, missed, cover, functions, missed, executed, lines, missed, cover, ..
cargo llvm-cov report --release --summary-only | awk -v target="$target" -v files="$files" '
  function room(file) {
    if (file ~ /engine\/src\/gate/) return "gate"
    if (file ~ /engine\/src\/space/) return "membership"
    if (file ~ /core\/store\/src|^store\/src/) return "store"
    if (file ~ /engine\/src\/(wire|run|frontier|feed|storage|id|document\/record)/) return "codec"
    return ""
  }
  $1 ~ /\.rs$/ && room($1) != "" && $1 !~ /tests\.rs$|reference\.rs$|conformance\.rs$|backend\// {
    lines[room($1)] += $8; missed[room($1)] += $9
    if (files) printf "  %-60s %6d lines, %5d missed, %6.2f %%\n", $1, $8, $9, 100 * ($8 - $9) / ($8 ? $8 : 1)
  }
  END {
    split("gate membership store codec", rooms)
    for (i = 1; i <= 4; i++) {
      name = rooms[i]
      if (!lines[name]) { printf "coverage: %s has no lines in the report\n", name; under = 1; continue }
      percent = 100 * (lines[name] - missed[name]) / lines[name]
      printf "coverage: %-11s %6d lines, %5d missed, %6.2f %%\n", name, lines[name], missed[name], percent
      if (percent < target) under = 1
    }
    exit under
  }'
