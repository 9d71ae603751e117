# Shared by the scripts in this directory; sourced, never run.
# shellcheck shell=bash

# Stop with a message.  Exit code 2 is "used wrongly", 1 is everything else.
die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

usage_error() {
    echo "$(basename "$0"): $*" >&2
    echo "Try \"$(basename "$0") --help\"." >&2
    exit 2
}

# Print the comment block at the head of the calling script: that block is the help text.
show_help() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

# Run a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "need root or sudo for: $*"
    fi
}
