#!/bin/sh
# Installs, with apt-get, the Debian packages that `make e2e` needs and that are missing, and says which. It must never go on without them:
# where root or the packages can't be had it says so and fails.
set -eu

fail() {
  echo "e2e: $*" >&2
  exit 1
}

# The container runtime; the builder of images; the pods' network; the programs of the pods; namespaces, cgroups and processes.
packages='runc containerd buildah containernetworking-plugins iptables iproute2 busybox-static ca-certificates util-linux procps'

[ "$(uname -s)" = Linux ] || fail 'needs Linux: it makes a Kubernetes node out of namespaces'
[ "$(id -u)" = 0 ] || fail 'needs root: it makes namespaces, mounts and network interfaces (sudo make e2e)'
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || fail "needs Debian or one of its kind, to have these by apt-get: $packages"

missing=
for package in $packages; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "e2e: installing$missing"
# shellcheck disable=SC2086 # a list of names
{ apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends $missing; } ||
  fail "could not install$missing"
