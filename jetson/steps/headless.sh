# shellcheck shell=sh
# Without a desktop: JetPack's takes about 1 GB of the 4, and a screen limits how long a kernel runs.

headless_wanted() { true; }

headless_found() {
    target=$(systemctl get-default || true)
    say "starts into: $target"
    if [ "$HEADLESS" = no ]; then
        [ "$target" != graphical.target ] ||
            say "advice: --headless leaves about 1 GB more memory, and --undo brings the desktop back"
        return 0
    fi
    [ "$target" = multi-user.target ]
}

headless_do() {
    remember target "$(systemctl get-default)"
    run systemctl set-default multi-user.target
    say "from the next start on; now: sudo systemctl isolate multi-user.target"
}

headless_undo() {
    ! recall target >/dev/null || run systemctl set-default "$(recall target)"
}
