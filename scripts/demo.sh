#!/usr/bin/env bash
# The main job on real input: starts a weak MCP server on loopback, audits it,
# shows how an attacker gets in, and leaves the reports in demo-out/.
set -euo pipefail
cd "$(dirname "$0")/.."
k=bin/kidoban
out=demo-out
flaws=F1-a,F3-a,F4-1,F5-b,F7-2,E09-a,E12-a,E32-a
rm -rf "$out"
mkdir -p "$out"
export XDG_STATE_HOME="$PWD/$out/state"

echo "1. A weak MCP server on loopback (switches: $flaws)"
"$k" lab serve --flaws "$flaws" --upstream --addr 127.0.0.1:0 --json >"$out/lab.json" 2>"$out/lab.log" &
lab=$!
trap 'kill $lab 2>/dev/null || true; wait $lab 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q mcp_url "$out/lab.json" 2>/dev/null && break; sleep 0.1; done
[ -s "$out/lab.json" ] || { echo "demo: the lab did not start:"; cat "$out/lab.log"; exit 1; }
url=$(sed -n 's/.*"mcp_url":"\([^"]*\)".*/\1/p' "$out/lab.json")
echo "   it listens on $url"
echo
echo "2. kidoban audit $url --lab --active --thorough"
rc=0
"$k" audit "$url" --lab --active --thorough --html "$out/report.html" --json "$out/report.json" --sarif "$out/report.sarif" || rc=$?
[ "$rc" -le 1 ] || { echo "demo: the audit ended with code $rc"; exit "$rc"; }
echo
echo "3. The reports: $out/report.html  $out/report.json  $out/report.sarif"
