#!/bin/sh
# Makes the secrets that compose.yaml names, once. Nothing is overwritten.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
if [ ! -s secrets/postgres_password ]; then
  head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >secrets/postgres_password
fi
if [ ! -s secrets/database_url ]; then
  printf 'postgres://kidoban:%s@postgres:5432/kidoban?sslmode=disable\n' "$(cat secrets/postgres_password)" >secrets/database_url
fi
if [ ! -s secrets/vault.key ]; then
  if command -v kidoban >/dev/null; then
    kidoban vault key secrets/vault.key
  elif [ -x ../../bin/kidoban ]; then
    ../../bin/kidoban vault key secrets/vault.key
  else
    docker compose run --rm --no-deps --user "$(id -u):$(id -g)" -v "$PWD/secrets:/keys" gateway-1 vault key /keys/vault.key
  fi
fi
# The gateways run as 65532 and refuse a key that others can read.
if [ "$(id -u)" = 0 ]; then
  chown 65532:65532 secrets secrets/database_url secrets/vault.key
else
  echo "Give the secrets to the gateways' user: sudo chown 65532:65532 $PWD/secrets $PWD/secrets/database_url $PWD/secrets/vault.key"
fi
