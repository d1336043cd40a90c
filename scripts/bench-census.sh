#!/usr/bin/env bash
# Measures the census against the simulator on this machine and prints one line
# a size, then the raw rate of curl over the same servers.
# usage: scripts/bench-census.sh [sizes...]   (default 1000 10000)
set -eu
cd "$(dirname "$0")/.."
bin=${KIDOBAN:-bin/kidoban}
[ $# -gt 0 ] || set -- 1000 10000
for n in "$@"; do
  "$bin" census selftest --n "$n" --seed 7
done
dir=$(mktemp -d); trap 'kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
"$bin" lab population --n 1000 --seed 7 --targets "$dir/targets" --json >"$dir/line" &
pid=$!
until [ -s "$dir/line" ]; do sleep 0.1; done
# The ill-behaved would make curl wait, as they do the census: three seconds each.
sed -n 's/^\(http.*\)$/url = "\1"\noutput = \/dev\/null/p' "$dir/targets" >"$dir/config"
start=$(date +%s%N)
curl --silent --parallel --parallel-max 96 --max-time 3 --config "$dir/config" >/dev/null 2>&1 || true
ms=$(( ($(date +%s%N) - start) / 1000000 ))
count=$(grep -c ^http "$dir/targets")
echo "curl, one plain GET each: $count requests in $ms ms, $((count * 1000 / ms)) a second"
