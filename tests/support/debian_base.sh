#!/bin/sh
# A base for the image where no registry can be reached: Debian 12 with Python 3.11, as root, by
# debootstrap and buildah. First argument: its name.
set -eu
name=${1:-localhost/naics-base:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$folder/policy.json"
debootstrap --variant=minbase --include=ca-certificates,python3,python3.11-venv \
  bookworm "$folder/root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
cat >"$folder/root/etc/apt/apt.conf.d/no-caches" <<'CONF'
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
CONF
cd "$folder/root"
rm -rf var/cache/apt/*.bin var/cache/apt/archives/*.deb var/lib/apt/lists/* var/log/*
rm -rf usr/share/doc/* usr/share/info/* usr/share/locale/* usr/share/man/*
container=$(buildah from scratch)
buildah add --quiet "$container" "$folder/root" /
buildah commit --quiet --signature-policy "$folder/policy.json" "$container" "$name"
buildah rm "$container" >/dev/null
