#!/usr/bin/env bash
# Builds the release twice, in two clones with their own build caches, and compares.
# TARGETS limits the targets; the default is one of each operating system.
set -euo pipefail
cd "$(dirname "$0")/.."
export TARGETS=${TARGETS:-linux/amd64 darwin/arm64 windows/amd64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for n in one another-name; do
  git clone -q . "$work/$n"
  (cd "$work/$n" && GOCACHE="$work/cache-$n" scripts/release.sh >/dev/null)
done
diff "$work/one/dist/SHA256SUMS" "$work/another-name/dist/SHA256SUMS" || { echo "release-check: two builds of one commit differ"; exit 1; }
cat "$work/one/dist/SHA256SUMS"
echo "release-check: the same bytes twice"
