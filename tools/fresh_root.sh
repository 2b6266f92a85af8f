#!/usr/bin/env bash
# Runs a command of a clone of this repository in a bare Debian 12 root: what a new machine sees.
#
#   tools/fresh_root.sh FOLDER [COMMAND...]      default command: ./nbos test
#
# FOLDER is made with debootstrap from this machine's own mirror, and is used again when it is there
# already (remove it for a truly fresh one). This machine's apt, pip and npm configuration is copied
# in where there is any. Needs root, and the packages debootstrap and git.
set -euo pipefail

root=$(realpath -m "${1:?usage: tools/fresh_root.sh FOLDER [COMMAND...]}")
shift
command=("${@:-./nbos}")
(($#)) || command+=(test)
source=$(cd "$(dirname "$0")/.." && pwd)

mirror() { # the first mirror that this machine's own apt uses
    local found
    found=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
    [[ -n $found ]] || found=$(sed -n 's/^deb  *\(\[[^]]*\] *\)\?\([^ ]*\).*/\2/p' \
        /etc/apt/sources.list 2>/dev/null | head -n 1)
    echo "$found"
}

copy_in() { # copy_in PATH: the same place inside
    [[ -e $1 ]] || return 0
    mkdir -p "$root/$(dirname "$1")"
    cp -aT "$1" "$root/$1"
}

make_root() {
    [[ -e $root/etc/debian_version ]] && return
    debootstrap --variant=minbase bookworm "$root" "$(mirror)"
}

copy_configuration() {
    local path
    for path in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/auth.conf.d \
        /etc/ssl/certs /usr/local/share/ca-certificates /usr/share/ca-certificates \
        /etc/pip.conf /etc/npmrc /usr/etc/npmrc /etc/resolv.conf /etc/hosts \
        ~/.config/pip/pip.conf ~/.npmrc; do
        copy_in "$path"
    done
    for path in /etc/apt/apt.conf.d/*; do # not the hooks of programs that are not inside
        grep -qiE 'invoke|docker' "$path" || copy_in "$path"
    done
    # Package folders that pip's configuration names.
    for path in $(cat /etc/pip.conf ~/.config/pip/pip.conf 2>/dev/null |
        sed -n 's/.*= *\(file:\/\/\)\?\(\/[^ ]*\).*/\2/p; s/.* file:\/\/\([^ ]*\).*/\1/p' | sort -u); do
        [[ $path == /etc/* ]] || copy_in "${path%/simple}" # an index's files stand beside it
    done
}

mount_kernel_things() {
    local what
    for what in proc sys dev; do
        mountpoint -q "$root/$what" || mount --rbind --make-rslave "/$what" "$root/$what"
    done
}

unmount() { umount -R -l "$root/proc" "$root/sys" "$root/dev" 2>/dev/null || true; }

make_root
copy_configuration
rm -rf "$root/srv/notebookos"
git clone -q "$source" "$root/srv/notebookos"
trap unmount EXIT
mount_kernel_things

# Only what a login would set, and what this machine's clients need to reach their registries.
keep=()
for name in $(compgen -e | grep -E '^(PIP_|NODE_EXTRA_CA_CERTS$|https?_proxy$|no_proxy$)'); do
    keep+=("$name=${!name}")
done
chroot "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" CI=true LANG=C.UTF-8 "${keep[@]}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/bash -c 'cd /srv/notebookos && exec "$@"' bash "${command[@]}" </dev/null
