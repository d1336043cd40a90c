#!/usr/bin/env bash
# Builds every release archive into dist/, with checksums and a bill of materials.
# The same commit gives the same bytes on any machine with the same Go: paths are
# trimmed, times are the commit's, owners and order are fixed.
#   scripts/release.sh                       all targets
#   TARGETS="linux/amd64" scripts/release.sh some of them
set -euo pipefail
cd "$(dirname "$0")/.."
targets=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}
out=dist
version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' ./*.go)
[ -n "$version" ] || { echo "release: the version is not found" >&2; exit 1; }
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || { echo "release: commit first, a release is made of a commit" >&2; exit 1; }
scripts/htmx.sh --must
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export CGO_ENABLED=0 GOFLAGS=-trimpath GOAMD64=v1 GOARM64=v8.0 LC_ALL=C TZ=UTC
rm -rf "$out"
mkdir -p "$out"
keep=$(mktemp -d)
trap 'rm -rf "$keep"' EXIT
bins=()
for t in $targets; do
  os=${t%/*} arch=${t#*/}
  name=kidoban_${version}_${os}_${arch}
  dir=$(mktemp -d)
  bin=kidoban
  [ "$os" = windows ] && bin=kidoban.exe
  GOOS=$os GOARCH=$arch go build -ldflags="-s -w -buildid=" -o "$dir/$bin" ./cmd/kidoban
  cp "$dir/$bin" "$keep/$os-$arch" && bins+=("$keep/$os-$arch")
  cp LICENSE README.md "$dir/"
  find "$dir" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  if [ "$os" = windows ]; then
    (cd "$dir" && zip -q -X -D "$OLDPWD/$out/$name.zip" "$bin" LICENSE README.md)
  else
    tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode='u+rw,go=rX' --mtime="@$SOURCE_DATE_EPOCH" -C "$dir" -cf - "$bin" LICENSE README.md | gzip -9n >"$out/$name.tar.gz"
  fi
  rm -rf "$dir"
  echo "$out/$name"
done
# What is inside, read from the binaries.
GOFLAGS='' go run -C deploy/check ./sbom "$version" "${bins[@]}" >"$out/kidoban_${version}.sbom.cdx.json"
(cd "$out" && sha256sum -- kidoban_* >SHA256SUMS)
echo "$out/SHA256SUMS"
