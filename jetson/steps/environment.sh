# shellcheck shell=sh
# One variable for every login, ssh command and service: without it numpy 1.19.5 ends in "Illegal
# instruction" on a Nano, because OpenBLAS reads a register that the kernel keeps to itself.
# /etc/environment, since a file in profile.d is not read by a command over ssh.

ENVIRONMENT_LINE='OPENBLAS_CORETYPE=ARMV8'

environment_wanted() { true; }

environment_found() {
    line=$(grep -E '^(export )?OPENBLAS_CORETYPE=' "$ROOT/etc/environment" 2>/dev/null | tail -n 1)
    say "/etc/environment: ${line:-no OPENBLAS_CORETYPE}"
    [ -n "$line" ] # another value is somebody's wish, and any value keeps OpenBLAS from guessing
}

environment_do() { add_line "$ROOT/etc/environment" "$ENVIRONMENT_LINE"; }

environment_undo() { remove_line "$ROOT/etc/environment" "$ENVIRONMENT_LINE"; }
