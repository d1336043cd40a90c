#!/usr/bin/env bash
# The whole story on loopback, unattended: a weak MCP server and how an attacker
# gets in; the gateway before it, with one command; the same audit again; the
# attacks replayed on both in a real browser. Both stay running: make demo-stop.
set -euo pipefail
cd "$(dirname "$0")/.."
k=$PWD/bin/kidoban
out=$PWD/demo-out
flaws=F1-a,F3-a,F4-1,F5-b,F7-2,E04-a,E09-a,E12-a,E32-a
scripts/demo-stop.sh >/dev/null
rm -rf "$out"
mkdir -p "$out/data" "$out/screenshots"
chmod 700 "$out/data"
export XDG_STATE_HOME="$out/state"

fail() { echo "demo: $1" >&2; [ -z "${2:-}" ] || tail -n 20 "$2" >&2; scripts/demo-stop.sh >/dev/null; exit 1; }
trap 'fail "interrupted"' INT TERM
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$2" | head -n 1; }
port() { for p in $(seq "$1" "$(($1 + 200))"); do (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; }; done; }
# A finding is a code of 1; anything beyond is a failure of the demo.
audit() { local rc=0; "$@" || rc=$?; [ "$rc" -le 1 ] || fail "'$*' ended with code $rc"; return "$rc"; }

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
  scripts/setup.sh chromium >"$out/setup.log" 2>&1 || fail "Chromium cannot be installed; install it yourself" "$out/setup.log"
fi

echo "1. A weak MCP server ($flaws)"
nohup "$k" lab serve --flaws "$flaws" --upstream --addr "127.0.0.1:$(port 8790)" --json >"$out/lab.json" 2>"$out/lab.log" &
echo $! >"$out/lab.pid"
for _ in $(seq 100); do grep -q mcp_url "$out/lab.json" 2>/dev/null && break; sleep 0.1; done
[ -s "$out/lab.json" ] || fail "the lab did not start" "$out/lab.log"
weak=$(field mcp_url "$out/lab.json")
echo "   kidoban audit $weak --lab --active --thorough"
echo
audit "$k" audit "$weak" --lab --active --thorough --html "$out/report-1-weak.html" --json "$out/report-1-weak.json" --sarif "$out/report-1-weak.sarif" && fail "the weak server passed"

echo
echo "2. The gateway before it, with one command"
gate=127.0.0.1:$(port 8787)
cat >"$out/kidoban.yaml" <<EOF
public_url: http://$gate
listen: $gate
data: $out/data
servers:
  notes:
    url: $weak
    address: loopback
    account: shared
  other:
    url: $weak
    address: loopback
    account: shared
limits: # one machine plays two people who do in seconds what people do in days, and in minutes what attackers try in hours
  registration_per_ip: {count: 20, per: 1m, burst: 10}
  registration_per_prefix: {count: 60, per: 1m, burst: 30}
$(for l in authorize_per_ip token_per_ip token_per_client revoke_per_ip login_per_ip login_per_prefix consent_per_user; do echo "  $l: {count: 6000, per: 1m, burst: 2000}"; done)
EOF
export PASSWORD_ALICE='a long demo passphrase' PASSWORD_BOB='another demo passphrase'
for s in notes other; do echo "service-token" | "$k" vault set "$s" -c "$out/kidoban.yaml" >/dev/null || fail "the vault took no secret"; done
nohup "$k" gateway -c "$out/kidoban.yaml" >"$out/gateway.out" 2>"$out/gateway.log" &
echo $! >"$out/gateway.pid"
for _ in $(seq 100); do curl -fs "http://$gate/readyz" >/dev/null 2>&1 && break; sleep 0.1; done
curl -fs "http://$gate/readyz" >/dev/null || fail "the gateway did not start" "$out/gateway.log"
echo "   kidoban gateway -c demo-out/kidoban.yaml"
"$k" gateway user add alice -c "$out/kidoban.yaml" --admin --password-env PASSWORD_ALICE 2>>"$out/gateway.log" | sed 's/^/   /' || fail "no account for alice" "$out/gateway.log"
"$k" gateway user add bob -c "$out/kidoban.yaml" --password-env PASSWORD_BOB 2>>"$out/gateway.log" | sed 's/^/   /' || fail "no account for bob" "$out/gateway.log"

echo
echo "3. The same audit again, with every tier: two people log in, in Chromium"
echo
audit "$k" doctor "http://$gate/s/notes/mcp" --login-as alice --password-env PASSWORD_ALICE --second-login-as bob --second-password-env PASSWORD_BOB \
  --second-url "http://$gate/s/other/mcp" --tool whoami --tool list_notes --tool add_note --html "$out/report-2-gateway.html" || fail "the gateway has findings: see demo-out/report-2-gateway.html"

echo
echo "4. Phishing and the confused deputy, replayed on both in a real browser"
for a in phishing confused-deputy; do
  "$k" lab attack "$a" --screenshots demo-out/screenshots | sed 's/^/   /' || fail "an attack did not end as it should"
done

cat <<EOF

Both are still running:
  weak server    $weak
  the gateway    http://$gate/s/notes/mcp   console: http://$gate/console
  accounts       alice (administrator) '$PASSWORD_ALICE', bob '$PASSWORD_BOB'
  reports        demo-out/report-1-weak.html  demo-out/report-2-gateway.html  demo-out/screenshots/

Audit them yourself. Wait a minute first: these audits tried how many registrations are taken,
and both servers take new ones only then:
  bin/kidoban audit $weak --lab --active --thorough
  bin/kidoban doctor http://$gate/s/notes/mcp

Use the gateway from an MCP client (Claude Code; others: http://$gate/console/start):
  claude mcp add --transport http notes http://$gate/s/notes/mcp

Whoever can still reach the weak server directly gets in: in earnest, let only the gateway reach it.
End it: make demo-stop
EOF
