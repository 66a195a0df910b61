# shellcheck shell=sh
# jetson-stats, a separate program under the AGPL with a service of its own. Nothing needs it.

JTOP_RELEASE=jetson-stats==4.3.2 # the last that runs on Python 3.6, and the first that knows L4T 32.7.6

jtop_wanted() { [ "$JTOP_WANTED" = yes ]; }

jtop_found() {
    version=$("$PYTHON" -c 'import jtop; print(jtop.__version__)' 2>/dev/null || true)
    say "jetson-stats: ${version:-not there}"
    [ -n "$version" ]
}

jtop_do() {
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        remember apt python3-pip
        run apt-get install -y python3-pip
    fi
    remember package made
    run "$PYTHON" -m pip install "$JTOP_RELEASE"
    say "log in anew: its socket belongs to the group jtop"
}

jtop_undo() {
    ! recall package >/dev/null || run "$PYTHON" -m pip uninstall -y jetson-stats
    say "left, if its installer made it: /etc/systemd/system/jtop.service"
    ! recall apt >/dev/null || say "left: $(recall apt) (sudo apt-get remove $(recall apt))"
}
