# Sourced by ./nbos: installs system packages, makes the Python environment, builds the program.
# Everything a step prints goes to build/logs/STEP.log; the terminal sees one line a step, with a
# bar while it runs. A step that fails shows the end of its log and says what to do.
#
# shellcheck shell=bash

logs=$NBOS_HOME/build/logs

# ---- what the user sees ----

draw() { # draw PERCENT TEXT: one line, redrawn; only on a terminal
    [[ -t 2 ]] || return 0
    local filled=$(($1 * 24 / 100)) bar
    printf -v bar '%*s' "$filled" ''
    bar=${bar// /=}
    printf '\r\033[K[%-24s] %3d%%  %s' "$bar" "$1" "${2:0:60}" >&2
}

# step NAME TEXT FILTER COMMAND...: runs COMMAND with its output in a log; FILTER turns output lines
# into `PERCENT TEXT` lines for the bar.
step() {
    local name=$1 text=$2 filter=$3 began=$SECONDS log status=0
    shift 3
    log=$logs/$name.log
    mkdir -p "$logs"
    [[ -t 2 ]] && draw 0 "$text" || printf '%s ...\n' "$text" >&2
    { "$@" 2>&1 </dev/null && echo ok >"$log.status" || echo failed >"$log.status"; } |
        tee "$log" | "$filter" | while read -r percent what; do
        draw "$percent" "$text: $what"
    done || true
    [[ $(cat "$log.status") == ok ]] || status=1
    rm -f "$log.status"
    [[ -t 2 ]] && printf '\r\033[K' >&2
    if ((status)); then
        printf '%s: failed. The end of %s:\n' "$text" "$log" >&2
        tail -n 25 "$log" >&2
        return 1
    fi
    printf '%s: done in %d s\n' "$text" $((SECONDS - began)) >&2
}

fail() {
    printf 'nbos: %s\n' "$*" >&2
    exit 1
}

# Filters. Each reads a tool's output and prints `PERCENT TEXT`.
apt_progress() { awk -F: '/^(pmstatus|dlstatus):/ { printf "%d %s\n", $3, $4; fflush() }'; }
ninja_progress() {
    awk 'match($0, /^\[[0-9]+\/[0-9]+\]/) {
        split(substr($0, 2, RLENGTH - 2), n, "/")
        printf "%d %s of %s\n", n[1] * 100 / n[2], n[1], n[2]; fflush() }'
}
pip_progress() { # pip does not know its total; the lock file does, nearly
    awk -v total="$(grep -c == "$NBOS_HOME/deps/python.lock")" '/^(Collecting|Installing)/ {
        n++; p = n * 90 / total; if (p > 95) p = 95
        printf "%d %s\n", p, $2; fflush() }'
}
quiet_progress() { cat >/dev/null; }

# ---- the dependency list ----

listed() { # listed SECTION: its lines, without comments
    awk -v section="[$1]" '/^\[/ { on = ($1 == section); next }
        on { sub(/#.*/, ""); gsub(/[ \t]+$/, ""); if ($0 != "") print }' "$NBOS_HOME/deps/packages.txt"
}

installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true) == installed ]]
}

is_satisfied() { # is_satisfied 'a | b ?command'
    local words=${1//|/ } word
    for word in $words; do
        if [[ $word == \?* ]]; then
            command -v "${word#?}" >/dev/null && return 0
        elif installed "$word"; then
            return 0
        fi
    done
    return 1
}

available() { # the first of the names that this system's package lists know
    local words=${1//|/ } word first=
    for word in $words; do
        [[ $word == \?* ]] && continue
        first=${first:-$word}
        if apt-cache show "$word" >/dev/null 2>&1; then
            echo "$word"
            return
        fi
    done
    echo "$first"
}

# apt makes its status descriptor non-blocking. It gets a pipe of its own: shared with standard
# output, a package's scripts would fail to write whenever the pipe is full.
apt_get='exec "$0" "$@" -o APT::Status-Fd=3 3> >(exec cat)'

install_system() { # install_system SECTION...
    local section line missing=() names=() root=()
    command -v dpkg-query >/dev/null ||
        fail "this is no Debian or Ubuntu system. Install what deps/packages.txt lists by hand," \
            "then create build/.stamps/debian."
    for section in "$@"; do
        while read -r line; do
            is_satisfied "$line" || missing+=("$line")
        done < <(listed "$section")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        if sudo -n true 2>/dev/null; then
            root=(sudo -n)
        else
            for line in "${missing[@]}"; do names+=("$(available "$line")"); done
            fail "system packages are missing and this user cannot install them. An administrator" \
                "runs: apt-get update && apt-get install --no-remove ${names[*]}"
        fi
    fi
    step apt-update "Reading the package lists" apt_progress \
        "${root[@]}" bash -c "$apt_get" apt-get update -q ||
        fail "apt-get update failed: check the network and /etc/apt/sources.list"
    for line in "${missing[@]}"; do names+=("$(available "$line")"); done
    step apt-install "Installing ${#names[@]} system packages" apt_progress \
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive bash -c "$apt_get" apt-get install -y -q \
        --no-remove --no-install-recommends -o Dpkg::Use-Pty=0 "${names[@]}" ||
        fail "apt-get could not install: ${names[*]}. If it would have to remove packages" \
            "(Boost 1.74's -dev packages conflict with 1.81's), remove them yourself first."
}

# ---- Python ----

usable_python() {
    "$1" - 2>/dev/null <<'PY'
import sys, ensurepip, venv
sys.exit(0 if sys.version_info >= (3, 11) else 1)
PY
}

find_python() {
    local candidate
    if [[ -n ${NBOS_PYTHON:-} ]]; then
        usable_python "$NBOS_PYTHON" ||
            fail "NBOS_PYTHON=$NBOS_PYTHON is no Python 3.11 or newer with venv and ensurepip"
        echo "$NBOS_PYTHON"
        return
    fi
    # The system's own first: another python3 earlier in PATH may go away.
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && usable_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with venv was found (python3 is" \
        "$(python3 --version 2>/dev/null || echo missing)). Install python3.11 and python3.11-venv," \
        "or set NBOS_PYTHON to one."
}

make_environment() {
    local python
    if [[ ! -x $NBOS_HOME/.venv/bin/pip ]] || ! usable_python "$NBOS_HOME/.venv/bin/python"; then
        python=$(find_python)
        rm -rf "$NBOS_HOME/.venv"
        step venv "Making the Python environment" quiet_progress "$python" -m venv "$NBOS_HOME/.venv"
    fi
}

install_python() { # install_python STEP SECTION...
    local name=$1 section
    shift
    make_environment
    mkdir -p "$NBOS_HOME/build"
    for section in "$@"; do listed "$section"; done >"$NBOS_HOME/build/$name.requirements"
    step "$name" "Installing Python packages" pip_progress \
        "$NBOS_HOME/.venv/bin/pip" install --no-input --disable-pip-version-check --progress-bar off \
        -r "$NBOS_HOME/build/$name.requirements" -c "$NBOS_HOME/deps/python.lock" ||
        fail "pip could not install the packages: check the network and the free disk space"
}

install_own_package() {
    step extension "Building nbos_kernel" quiet_progress \
        "$NBOS_HOME/.venv/bin/pip" install --no-input --disable-pip-version-check \
        --no-build-isolation --no-deps -e "$NBOS_HOME/python" ||
        fail "nbos_kernel did not build"
}

# ---- the program ----

# Configures when needed and builds targets of a preset.
build() { # build PRESET TARGET...
    local preset=$1
    shift
    cmake --preset "$preset" -S "$NBOS_HOME" && cmake --build --preset "$preset" --target "$@"
}

build_binary() {
    local began
    mkdir -p "$stamps"
    began=$stamps/built.new
    touch "$began" # before the build: what changes meanwhile is newer
    cd_home step build "Building NotebookOS" ninja_progress build release nbos ||
        fail "the build failed; the whole log is $logs/build.log"
    mv "$began" "$stamps/built"
}

cd_home() {
    local before=$PWD status=0
    cd "$NBOS_HOME"
    "$@" || status=$?
    cd "$before"
    return $status
}

# ---- what ./nbos calls ----

lock_setup() { # two launchers at once: the second waits, then finds everything done
    mkdir -p "$stamps"
    exec 9>"$stamps/lock"
    if ! flock -n 9; then
        echo "Another ./nbos is installing or building here; waiting for it ..." >&2
        flock 9
    fi
}

setup_for_running() {
    lock_setup
    system_is_ready || { install_system debian && touch "$stamps/debian"; }
    python_is_ready || { install_python pip python && touch "$NBOS_HOME/.venv/.nbos-ready"; }
    extension_is_ready || { install_own_package && touch "$stamps/extension"; }
    binary_is_ready || build_binary
    exec 9>&-
}

setup_for_testing() {
    setup_for_running
    lock_setup
    if [[ ! -e $stamps/debian-test || $NBOS_HOME/deps/packages.txt -nt $stamps/debian-test ]]; then
        install_system debian-test
        touch "$stamps/debian-test"
    fi
    if [[ " $* " == *" --long "* || " $* " == *" fuzz "* ]] &&
        [[ ! -e $stamps/debian-long || $NBOS_HOME/deps/packages.txt -nt $stamps/debian-long ]]; then
        install_system debian-long
        touch "$stamps/debian-long"
    fi
    if [[ ! -e $NBOS_HOME/.venv/.nbos-test-ready ||
        $NBOS_HOME/.venv/.nbos-ready -nt $NBOS_HOME/.venv/.nbos-test-ready ]]; then
        install_python pip-test python python-test
        touch "$NBOS_HOME/.venv/.nbos-test-ready"
    fi
    install_node_packages
    exec 9>&-
}

install_node_packages() {
    local folder=$NBOS_HOME/tests
    [[ -e $folder/package-lock.json ]] || return 0
    [[ -e $folder/node_modules/.nbos-ready &&
        ! $folder/package-lock.json -nt $folder/node_modules/.nbos-ready ]] && return 0
    step npm "Installing the JavaScript clients" quiet_progress \
        npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund ||
        fail "npm could not install the test clients: check the network"
    touch "$folder/node_modules/.nbos-ready"
}
