# shellcheck shell=sh
# The systemd units: the engine is built at the first start, the server runs at every one.
#
# The server has a user of its own, which may read bundles and not change them. It is not started here:
# it waits for a bundle (merino-edge bundle install, activate).

UNITS='merino-edge-build.service merino-edge.service'
UNIT_FOLDER=$ROOT/etc/systemd/system
OPTIONS_FILE=$ROOT/etc/merino-edge/serve.env
SERVICE_USER=merino-edge

service_wanted() { [ "$SERVICE" = yes ]; }

has_user() { grep -q "^$SERVICE_USER:" "$ROOT/etc/passwd"; }

service_found() {
    missing=''
    for unit in $UNITS; do
        cmp -s "$HERE/units/$unit" "$UNIT_FOLDER/$unit" || missing="$missing $unit"
        [ "$(systemctl is-enabled "$unit" 2>/dev/null || true)" = enabled ] || missing="$missing $unit"
    done
    has_user || missing="$missing user:$SERVICE_USER"
    [ -e "$OPTIONS_FILE" ] || missing="$missing serve.env"
    [ -d "$ROOT/var/lib/merino-edge" ] || missing="$missing store"
    say "to do:${missing:- nothing}"
    [ -z "$missing" ]
}

service_do() {
    if ! has_user; then
        remember user made
        run useradd --system --user-group --no-create-home --home-dir /var/lib/merino-edge \
            --shell /usr/sbin/nologin "$SERVICE_USER"
    fi
    make_folder "$ROOT/var/lib/merino-edge"
    for unit in $UNITS; do
        put_file "$HERE/units/$unit" "$UNIT_FOLDER/$unit" 644
    done
    [ -e "$OPTIONS_FILE" ] || put_file "$HERE/units/serve.env" "$OPTIONS_FILE" 644
    remember units enabled
    run systemctl daemon-reload
    # shellcheck disable=SC2086 # two names
    run systemctl enable $UNITS
    say "it starts with a bundle: sudo merino-edge bundle install FILE && sudo merino-edge bundle activate"
}

service_undo() {
    if recall units >/dev/null; then
        for unit in $UNITS; do
            run systemctl disable --now "$unit"
        done
    fi
    put_back_files
    run systemctl daemon-reload
    ! recall user >/dev/null || ! has_user || run userdel "$SERVICE_USER"
}
