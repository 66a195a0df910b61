# shellcheck shell=sh
# How steps say, change, remember and put back. Sourced by setup.sh; knows nothing of any one step.
#
# A step NAME is four functions: NAME_wanted (did the user ask for it), NAME_found (prints what it
# found; true if nothing lacks), NAME_do and NAME_undo. Whatever changes the system passes by one of
# `run`, `put_file`, `put_link`, `make_folder`, `add_line` and `remember`, so --dry-run is obeyed here.
#
# What was there before lies in /var/lib/merino-edge-setup/NAME/: values by name, copies of files, and
# lists. The first memory wins: a step that is run again after a failure must not take its own half
# work for what was there before.

STATE=$ROOT/var/lib/merino-edge-setup
STEP=''

say() { printf '   %s\n' "$1"; }

run() { # COMMAND...: say it, then do it
    if [ "$DRY_RUN" = yes ]; then
        say "would run: $*"
    else
        say "run: $*"
        "$@"
    fi
}

remember() { # KEY VALUE
    [ "$DRY_RUN" = no ] || return 0
    [ -e "$STATE/$STEP/$1" ] || replace "$STATE/$STEP/$1" "$2"
}

recall() { # KEY: what was remembered; false if nothing was
    [ -e "$STATE/$STEP/$1" ] && cat "$STATE/$STEP/$1"
}

replace() { # FILE TEXT: in one step, so that a power cut leaves the old text or the new
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "$2" >"$1.new"
    mv -f "$1.new" "$1"
}

# --- files that are only ours -------------------------------------------------------------------

put_file() { # SOURCE FILE MODE
    if [ "$DRY_RUN" = yes ]; then
        say "would write: $2"
        return
    fi
    say "write: $2"
    make_folder "$(dirname "$2")"
    keep "$2"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

put_link() { # LINK TARGET
    if [ "$DRY_RUN" = yes ]; then
        say "would link: $1 -> $2"
        return
    fi
    say "link: $1 -> $2"
    make_folder "$(dirname "$1")"
    keep "$1"
    ln -sfn "$2" "$1.new"
    mv -fT "$1.new" "$1"
}

keep() { # FILE: remember that it was there, with a copy, or that it was not
    list=$STATE/$STEP/files
    if ! grep -qxF "$1" "$list" 2>/dev/null; then
        if [ -e "$1" ] || [ -L "$1" ]; then
            mkdir -p "$STATE/$STEP/copies$(dirname "$1")"
            cp -dp "$1" "$STATE/$STEP/copies$1"
        fi
        printf '%s\n' "$1" >>"$list"
    fi
}

put_back_files() { # all that this step wrote, whole
    [ -e "$STATE/$STEP/files" ] || return 0
    while read -r file; do
        copy=$STATE/$STEP/copies$file
        if [ -e "$copy" ] || [ -L "$copy" ]; then
            run cp -dpT --remove-destination "$copy" "$file"
        else
            run rm -f "$file"
        fi
    done <"$STATE/$STEP/files"
}

make_folder() { # FOLDER, with those above it that are missing
    [ ! -d "$1" ] || return 0
    make_folder "$(dirname "$1")"
    [ "$DRY_RUN" = yes ] || printf '%s\n' "$1" >>"$STATE/$STEP/folders"
    run mkdir "$1"
}

remove_folders() { # those that this step made and nobody has filled since, last one first
    [ -e "$STATE/$STEP/folders" ] || return 0
    sed '1!G;h;$!d' "$STATE/$STEP/folders" | while read -r folder; do
        if [ -d "$folder" ] && ! rmdir "$folder" 2>/dev/null; then
            say "left: $folder, which is not empty"
        fi
    done
}

# --- lines in files that others write as well ---------------------------------------------------

has_line() { # FILE LINE
    [ -e "$1" ] && grep -qxF "$2" "$1"
}

add_line() { # FILE LINE
    ! has_line "$1" "$2" || return 0
    if [ "$DRY_RUN" = yes ]; then
        say "would add to $1: $2"
        return
    fi
    say "add to $1: $2"
    make_folder "$(dirname "$1")"
    keep "$1"
    if [ -e "$1" ]; then
        cp -dp "$1" "$1.new"
        # a last line without its end would swallow ours
        [ -z "$(tail -c 1 "$1")" ] || printf '\n' >>"$1.new"
    else
        : >"$1.new"
    fi
    printf '%s\n' "$2" >>"$1.new"
    cp -p "$1.new" "$STATE/$STEP/written"
    mv -f "$1.new" "$1"
}

remove_line() { # FILE LINE: to the byte if nobody wrote since, else this line alone
    [ -e "$1" ] || return 0
    if [ -e "$STATE/$STEP/written" ] && cmp -s "$STATE/$STEP/written" "$1"; then
        put_back_files
    elif has_line "$1" "$2"; then
        say "take out of $1: $2"
        [ "$DRY_RUN" = no ] || return 0
        cp -dp "$1" "$1.new"
        grep -vxF "$2" "$1" >"$1.new" || true # false only says that no line is left
        mv -f "$1.new" "$1"
    fi
}

# --- the walk -----------------------------------------------------------------------------------

stopped() {
    status=$?
    [ "$status" = 0 ] || [ -z "$STEP" ] || {
        printf 'setup.sh: stopped in step "%s"; no later step was begun.\n' "$STEP" >&2
        printf 'Hint: the same command goes on from there; --undo puts back what was found.\n' >&2
    }
    exit "$status"
}

do_all() {
    trap stopped EXIT
    for STEP in $STEPS; do
        "${STEP}_wanted" || continue
        printf '%s\n' "== $STEP"
        if "${STEP}_found"; then
            say "nothing to do"
            continue
        fi
        [ "$DRY_RUN" = yes ] || { mkdir -p "$STATE/$STEP" && chmod 755 "$STATE" "$STATE/$STEP"; }
        "${STEP}_do"
    done
    STEP=''
    after_all
}

undo_all() {
    trap stopped EXIT
    found=no
    for STEP in $(printf '%s\n' "$STEPS" | tr ' ' '\n' | sed '1!G;h;$!d'); do
        [ -d "$STATE/$STEP" ] || continue
        found=yes
        printf '%s\n' "== $STEP, undone"
        "${STEP}_undo"
        [ "$DRY_RUN" = yes ] || {
            remove_folders
            rm -rf "${STATE:?}/$STEP"
        }
    done
    STEP=''
    [ "$found" = yes ] || say "there is nothing to undo"
    [ "$DRY_RUN" = yes ] || [ ! -d "$STATE" ] || rmdir "$STATE"
}
