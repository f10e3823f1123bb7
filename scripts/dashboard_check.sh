#!/usr/bin/env bash
# The dashboard in a headless Chromium, against servers of its own on drawn data: all of tests/dashboard/*.test.mjs, in
# about a minute. No error on the console, no request to elsewhere, nothing that the content security policy forbids.
#
#   scripts/dashboard_check.sh [BINARY]     CHROMIUM=/… names the browser, else it comes from $PATH
#
# Needs Node 20.19 or newer (Debian 12 has 18), npm and Chromium. Fetches playwright-core, pinned by
# tests/dashboard/package-lock.json, into target/ci/dashboard.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/debug/mixmatch}
modules=$PWD/target/ci/dashboard

die() {
  echo "scripts/dashboard_check.sh: $*" >&2
  exit 1
}

[ -x "$binary" ] || die "there is no binary $binary: \`cargo build\` makes target/debug/mixmatch, \`make build\` target/release/mixmatch"
newer='install Node 20.19 or newer (Debian 13: apt-get install nodejs; else from nodejs.org)'
command -v node >/dev/null || die "node is missing: $newer"
# 20 for playwright-core; 20.19 takes the dashboard's .js files for the ES modules that they are.
node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' ||
  die "this is node $(node --version): $newer"
command -v npm >/dev/null || die 'npm is missing: install it (Debian: apt-get install npm)'
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || die 'chromium is missing: install it (Debian: apt-get install chromium), or name another one in CHROMIUM'
[ -x "$chromium" ] || die "CHROMIUM names $chromium, which is no program"

mkdir -p "$modules"
cp tests/dashboard/package.json tests/dashboard/package-lock.json "$modules/"
(cd "$modules" && npm ci --silent --no-audit --no-fund) || die "npm ci failed in $modules: is the package registry within reach?"

MIXMATCH_BINARY=$(realpath "$binary") DASHBOARD_MODULES=$modules CHROMIUM=$chromium \
  node --test --test-reporter=spec tests/dashboard/*.test.mjs
