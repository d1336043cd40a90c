#!/usr/bin/env bash
# Measures the census against the simulator on this machine: one row a size, and
# then, over one population, the census beside curl sending as many requests.
# usage: scripts/bench-census.sh [sizes...]   (default 1000 10000; 100000 takes six minutes)
set -eu
cd "$(dirname "$0")/.."
bin=${KIDOBAN:-bin/kidoban}
[ $# -gt 0 ] || set -- 1000 10000
beside=${BESIDE:-4000}
field() { sed -n "s/.*\"$1\":\([^,}]*\).*/\1/p" "$2"; }
dir=$(mktemp -d); pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi; rm -rf "$dir"' EXIT

echo "| servers | seconds | servers/s | of them 99 % in | requests a server | processor ms a server | highest MB | MB at each tenth | differ from the truth |"
echo "|---:|---:|---:|---:|---:|---:|---:|---|---:|"
for n in "$@"; do
  "$bin" census selftest --n "$n" --seed 7 --json >"$dir/row"
  printf '| %d | %.1f | %.0f | %.1f s | %.1f | %.2f | %.0f | %s | %d |\n' "$n" "$(field seconds "$dir/row")" "$(field servers_per_second "$dir/row")" \
    "$(field seconds_to_99_percent "$dir/row")" "$(field requests_per_server "$dir/row")" "$(field cpu_ms_per_server "$dir/row")" "$(field rss_mb "$dir/row")" \
    "$(sed -n 's/.*"rss_mb_at_each_tenth":\[\([^]]*\)\].*/\1/p' "$dir/row" | tr ',' ' ')" "$(field mismatches "$dir/row")"
done

"$bin" lab population --n "$beside" --seed 7 --targets "$dir/targets" --opt-out "$dir/out" --json >"$dir/line" &
pid=$!
until [ -s "$dir/line" ]; do sleep 0.1; done
"$bin" census run "$dir/targets" --lab --interval 0s --timeout 3s --workers 96 --opt-out "$dir/out" --dir "$dir/census" --json >"$dir/run" 2>/dev/null
requests=$(field requests "$dir/run"); seconds=$(field seconds "$dir/run")
awk -v r="$requests" -v s="$seconds" -v n="$beside" 'BEGIN { printf "\ncensus, %d servers of one population: %d requests in %.1f s, %.0f requests and %.0f servers a second\n", n, r, s, r/s, n/s }'

# The same eight requests to each server, three seconds each at most, as many at
# once, and nothing done with the answers.
rpc='{"jsonrpc":"2.0","id":1,"method":"%s","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}'
grep '^http.*[a-z0-9/]$' "$dir/targets" | grep -v '#' | head -n "$beside" | awk -v rpc="$rpc" '
  function ask(url) { printf "url = \"%s\"\noutput = /dev/null\nmax-time = 3\nsilent\n", url }
  function post(url, method,   body) { ask(url); body = sprintf(rpc, method); gsub(/"/, "\\\"", body)
    printf "data = \"%s\"\nheader = \"Content-Type: application/json\"\nheader = \"Accept: application/json, text/event-stream\"\nnext\n", body }
  function get(url) { ask(url); print "next" }
  { origin = $0; sub(/[^\/]*\/\/[^\/]*/, "&\n", origin); split(origin, p, "\n"); o = p[1]
    get(o "/robots.txt"); post($0, "server/discover"); post($0, "initialize"); post($0, "tools/list")
    get(o "/.well-known/oauth-protected-resource" p[2]); get(o "/.well-known/oauth-authorization-server"); get(o "/.well-known/openid-configuration"); post(o "/no-such-path", "no/such") }' >"$dir/config"
start=$(date +%s%N)
curl --silent --parallel --parallel-max 96 --config "$dir/config" >/dev/null 2>&1 || true
awk -v ns="$(($(date +%s%N) - start))" -v r="$((8 * beside))" -v n="$beside" 'BEGIN { s = ns / 1e9; printf "curl, the same servers: %d requests in %.1f s, %.0f requests and %.0f servers a second\n", r, s, r/s, n/s }'
