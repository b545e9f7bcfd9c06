# Functions of a program that puts a project's own tree before the modules of its release, or takes it away.

source_path() { # project python; the file by which an interpreter finds the project's tree first
    site=$("$2" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || return 1
    mkdir -p "$site" && echo "$site/labctl-source-$1.pth"
}

source_files() { # tree; what an installation has besides modules: the lab's own configuration is not among it
    (cd "$1/etc" 2>/dev/null && find . -type f ! -name '*.sample' ! -path './*/*.conf' -o -type f -name rootwrap.conf)
}

use_source() { # project layer python
    place=/opt/openstack/source/$1
    tree=$place/$2
    [ -e "$tree/whole" ] || { echo "$tree is not on this node" && return 1; }
    hook=$(source_path "$1" "$3") || return 1
    line="import sys; sys.path.insert(0, '$tree/site')"
    [ "$(cat "$hook" 2>/dev/null)" != "$line" ] || return 0
    for file in $(source_files "$tree"); do
        [ -e "$place/before/etc/$file" ] || [ ! -e "/etc/$file" ] || {
            mkdir -p "$place/before/etc/${file%/*}" && cp -a "/etc/$file" "$place/before/etc/$file" || return 1
        }
        mkdir -p "/etc/${file%/*}" && cat "$tree/etc/$file" >"/etc/$file" || return 1
        [ ! -e "/etc/$1" ] || chgrp --reference="/etc/$1" "/etc/$file" || return 1
    done
    for command in "$tree"/bin/*; do # those that the release has import the tree's modules as they are
        name=${command##*/}
        [ ! -x "$command" ] || [ -e "/usr/bin/$name" ] || ln -sfn "$command" "/usr/local/bin/$name" || return 1
    done
    echo "$line" >"$hook.labctl-new" && mv -f "$hook.labctl-new" "$hook" || return 1
    for other in "$place"/source-*; do
        [ "$other" = "$tree" ] || rm -rf "$other"
    done
    return 10
}

drop_source() { # project python
    place=/opt/openstack/source/$1
    hook=$(source_path "$1" "$2") || return 1
    [ -e "$hook" ] || [ -e "$place" ] || return 0
    rm -f "$hook" || return 1
    for command in /usr/local/bin/*; do
        case $(readlink "$command") in "$place"/*) rm -f "$command" ;; esac
    done
    [ ! -d "$place/before/etc" ] || cp -a "$place/before/etc/." /etc/ || return 1
    rm -rf "$place" || return 1
    return 10
}

