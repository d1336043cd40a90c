#!/usr/bin/env bash
# Brings htmx from npm into console/assets/htmx, by version and hash. A binary that
# is built without it works; only the overview does not renew itself. Safe to run
# again; never fails the build, but for --must (a release is the same everywhere).
set -u
must=0; [ "${1:-}" = --must ] && must=1
cd "$(dirname "$0")/.."
version=4.0.1
dir=console/assets/htmx
sums="a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130  $dir/htmx.min.js
a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143  $dir/hx-csp.min.js"
ok() { sha256sum --check --status <<<"$sums" 2>/dev/null; }
ok && exit 0
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
if command -v npm >/dev/null 2>&1 && (cd "$tmp" && npm pack --silent "htmx.org@$version" >/dev/null 2>&1 && tar xzf ./*.tgz); then
  mkdir -p "$dir"
  cp "$tmp/package/dist/htmx.min.js" "$tmp/package/dist/ext/hx-csp.min.js" "$tmp/package/LICENSE" "$dir/"
  ok && exit 0
  rm -rf "$dir"
  echo "build: htmx $version from npm is not the one expected and is left out" >&2
  exit $must
fi
echo "build: htmx cannot be fetched from npm; the console is built without live updates" >&2
exit $must
