# Shared by scripts/demo and scripts/bench; sourced from the top directory, never run.
# shellcheck shell=bash

BUILD=$(realpath -m "${WALTER_BUILD:-build}")

is_number() {
    [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]
}

# Run a step that is nobody's business unless it fails; say what it was and what it took.
quietly() {
    local what=$1 since=$SECONDS log

    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 60 "$log" >&2
        rm -f "$log"
        die "failed: $what"
    fi
    rm -f "$log"
    printf '  %-10s %s (%d s)\n' "$what" ok $((SECONDS - since))
}

build_walter() {
    [ -f "$BUILD/build.ninja" ] || meson setup "$BUILD" || return
    ninja -C "$BUILD" src/walter
}

# Run a module of scripts/rig in place of this shell.
run_rig() {
    export PYTHONPATH=scripts:tests/integration PYTHONDONTWRITEBYTECODE=1
    export WALTER_BIN=${WALTER_BIN:-$BUILD/src/walter}
    exec /usr/bin/python3 -m "$@"
}
