#!/usr/bin/env bash
# Ends what make demo left running. The reports stay.
set -euo pipefail
cd "$(dirname "$0")/.."
stopped=0
for name in gateway lab; do
  f=demo-out/$name.pid
  [ -s "$f" ] || continue
  pid=$(cat "$f")
  # Only a kidoban of ours: the number may have been given to another process.
  if [ "$(readlink "/proc/$pid/exe" 2>/dev/null || ps -o comm= -p "$pid" 2>/dev/null)" ] && ps -o args= -p "$pid" 2>/dev/null | grep -q 'kidoban \(lab serve\|gateway -c\)'; then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    stopped=$((stopped + 1))
  fi
  rm -f "$f"
done
echo "demo: stopped $stopped"
