# shellcheck shell=sh
# The power mode, which outlives a restart, and the clocks, which do not: power_mode.sh does both.

power_wanted() { [ -n "$POWER" ] || [ "$CLOCKS" = yes ]; }

power_mode() { # COMMAND...: followed by what was asked for
    [ -z "$POWER" ] || set -- "$@" "$POWER"
    [ "$CLOCKS" = no ] || set -- "$@" --clocks
    "$@"
}

power_found() {
    say "$("$HERE/power_mode.sh" status | paste -s -d ';')"
    power_mode "$HERE/power_mode.sh" is
}

power_do() {
    remember power set
    power_mode run "$HERE/power_mode.sh" set
}

power_undo() { run "$HERE/power_mode.sh" restore; }
