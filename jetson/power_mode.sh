#!/bin/sh
# power_mode.sh: sets a Jetson's power mode and clocks for a measurement, and puts them back.
#
# The mode (nvpmodel) outlives a restart: boards have been measured for months in a mode that somebody
# set once. The clocks (jetson_clocks) are pinned to the highest of the mode, until the next start. What
# was there before the first "set" is kept in /var/lib/merino-edge-power; "restore" puts it back and
# forgets it. Mode numbers are those of a Nano: 0 is MAXN (10 W, which a 2 A supply does not hold), 1 is 5W.
set -eu

STATE=${MERINO_SETUP_ROOT:-}/var/lib/merino-edge-power
MODE='' CLOCKS=no

usage() {
    cat <<'END'
power_mode.sh status                        the mode, and whether clocks are pinned by this script
sudo power_mode.sh set [MODE] [--clocks]    MODE: maxn, 5w, or a number of nvpmodel's
sudo power_mode.sh restore                  what was there before the first "set"
power_mode.sh is [MODE] [--clocks]          exit code 0 if it is so
END
}

refuse() {
    printf 'power_mode.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

need() { command -v "$1" >/dev/null || refuse "there is no $1 here: is this a Jetson?"; }

mode_number() { # of a word; nothing for nothing
    case $1 in
        maxn) echo 0 ;;
        5w) echo 1 ;;
        *) echo "$1" ;;
    esac
}

# nvpmodel -q prints "NV Power Mode: MAXN", then "0" on a line of its own.
mode_now() { nvpmodel -q 2>/dev/null | grep -x '[0-9][0-9]*' | tail -n 1; }
mode_name() { nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: *//p'; }

# No one number tells that all clocks are pinned, so a file does. A pin does not outlive a restart, so
# the file holds the number that the kernel drew at this start.
boot_id() { cat "${MERINO_SETUP_ROOT:-}/proc/sys/kernel/random/boot_id"; }
this_start() { [ -e "$STATE/$1" ] && [ "$(cat "$STATE/$1")" = "$(boot_id)" ]; }
clocks_pinned() { this_start pinned; }

keep() { # NAME TEXT: the first one wins
    mkdir -p "$STATE"
    [ -e "$STATE/$1" ] || { printf '%s\n' "$2" >"$STATE/$1.new" && mv "$STATE/$1.new" "$STATE/$1"; }
}

status() {
    printf 'mode: %s %s\n' "$(mode_now)" "$(mode_name)"
    clocks_pinned && echo 'clocks: pinned by power_mode.sh' || echo 'clocks: not pinned by power_mode.sh'
    [ ! -e "$STATE/mode" ] || printf 'restore goes back to: mode %s\n' "$(cat "$STATE/mode")"
}

set_mode() {
    [ -n "$MODE" ] && [ "$(mode_now)" != "$MODE" ] || return 0
    unpin # or the old pins would be taken for the new mode's
    keep mode "$(mode_now)"
    # a mode that needs a restart asks, and waits for an answer
    nvpmodel -m "$MODE" </dev/null
    [ "$(mode_now)" = "$MODE" ] || refuse "nvpmodel -m $MODE was not taken: mode $(mode_now)"
}

pin() {
    [ "$CLOCKS" = yes ] && ! clocks_pinned || return 0
    if ! this_start stored; then
        rm -f "$STATE/clocks" "$STATE/stored" "$STATE/pinned" # --store asks before it overwrites
        mkdir -p "$STATE"
        jetson_clocks --store "$STATE/clocks" </dev/null
        keep stored "$(boot_id)"
    fi
    jetson_clocks
    keep pinned "$(boot_id)"
}

unpin() {
    if this_start stored; then jetson_clocks --restore "$STATE/clocks"; fi
    rm -f "$STATE/clocks" "$STATE/stored" "$STATE/pinned"
}

restore() {
    unpin
    if [ -e "$STATE/mode" ]; then
        mode=$(cat "$STATE/mode")
        [ "$(mode_now)" = "$mode" ] || nvpmodel -m "$mode" </dev/null
        rm -f "$STATE/mode"
    fi
    [ ! -d "$STATE" ] || rmdir "$STATE"
}

VERB=${1:-}
[ $# = 0 ] || shift
for word in "$@"; do
    case $word in
        --clocks) CLOCKS=yes ;;
        maxn | 5w | [0-9]) MODE=$(mode_number "$word") ;;
        *) usage >&2; refuse "'$word' is no mode" 2 ;;
    esac
done
case $VERB in
    status) need nvpmodel; status ;;
    set) need nvpmodel; need jetson_clocks; set_mode; pin; status ;;
    restore) need nvpmodel; need jetson_clocks; restore; status ;;
    is)
        need nvpmodel
        { [ -z "$MODE" ] || [ "$(mode_now)" = "$MODE" ]; } &&
            { [ "$CLOCKS" = no ] || clocks_pinned; }
        ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
