# Functions of a labctl stage program. POSIX sh; a node needs nothing else (CentOS 7 has no Python 3).
# An operation's status: 0 nothing to do, 10 changed, anything else failed.
set -u
# enabling a unit that also has a SysV script costs a second of update-rc.d unless told not to
export LC_ALL=C DEBIAN_FRONTEND=noninteractive SYSTEMCTL_SKIP_SYSV=1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
here=$(cd "$(dirname "$0")" && pwd)
stamps=/var/lib/labctl/stamps
tables=/usr/share/labctl/tables
# what only the node itself could find out, as a sed script over the files that depend on it
facts=${LABCTL_FACTS:-/var/lib/labctl/facts.sed}
# every deadline is so many times longer, on machines that are so many times slower
patience=${LABCTL_PATIENCE:-1}
export SYSTEMD_BUS_TIMEOUT=$((25 * patience))

put_file() { # payload path owner group mode
    [ ! -e "$facts" ] || sed -i -f "$facts" "$here/$1" || return 1
    if [ -f "$2" ] && cmp -s "$here/$1" "$2" &&
        [ "$(stat -c '%U:%G %a' "$2")" = "$3:$4 $(printf %o "$5")" ]; then
        return 0
    fi
    mkdir -p "$(dirname "$2")" || return 1
    install -o "$3" -g "$4" -m "$5" "$here/$1" "$2.labctl-new" || return 1
    mv -f "$2.labctl-new" "$2" || return 1
    return 10
}

put_directory() { # path owner group mode
    if [ -d "$1" ] && [ "$(stat -c '%U:%G %a' "$1")" = "$2:$3 $(printf %o "$4")" ]; then return 0; fi
    install -d -o "$2" -g "$3" -m "$4" "$1" || return 1
    return 10
}

put_link() { # path target
    [ "$(readlink "$1")" = "$2" ] && return 0
    ln -sfn "$2" "$1" || return 1
    return 10
}

assign() { # file key separator value
    [ -e "$1" ] || : >"$1" || return 1
    rm -f "$1.labctl-new" && (umask 077 && : >"$1.labctl-new") || return 1 # a value may be a secret
    # the first active line is replaced and later ones go; only without one, a commented-out line is
    key="$2" line="$2$3$4" awk '
        BEGIN { key = ENVIRON["key"]; line = ENVIRON["line"]; tail = "[ \t]*" key "[ \t]*=" }
        NR == FNR { if (match($0, "^" tail)) active = 1; next }
        match($0, "^" tail) || (!active && !done && match($0, "^[#;]" tail)) {
            if (!done) print line
            done = 1
            next
        }
        { print }
        END { if (!done) print line }
    ' "$1" "$1" >"$1.labctl-new" || return 1
    if cmp -s "$1" "$1.labctl-new"; then
        rm -f "$1.labctl-new"
        return 0
    fi
    cat "$1.labctl-new" >"$1" && rm -f "$1.labctl-new" || return 1
    return 10
}

missing_packages() {
    if command -v dpkg-query >/dev/null; then
        for p in "$@"; do
            [ -e "/var/lib/dpkg/info/$p.list" ] || [ -e "/var/lib/dpkg/info/$p:amd64.list" ] || echo "$p"
        done
    else
        for p in "$@"; do rpm -q --whatprovides "$p" >/dev/null 2>&1 || echo "$p"; done
    fi
}

install_packages() {
    wanted=$(missing_packages "$@")
    [ -z "$wanted" ] && return 0
    if command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086
        apt-get install -y --no-install-recommends $wanted || return 1
    else
        # shellcheck disable=SC2086
        yum install -y $wanted || return 1
    fi
    return 10
}

check_distributions() { # environment name-version...
    environment=$1 absent=
    shift
    for wanted in "$@"; do
        set -- "$environment"/lib/python3*/site-packages/"$wanted".dist-info
        [ ! -d "$1" ] || continue
        set -- "$environment"/lib/python3*/site-packages/"${wanted%-*}"-*.dist-info
        found=${1##*/}
        [ -d "$1" ] || found=
        echo "$wanted is not in $environment${found:+, ${found%.dist-info} is}"
        absent=1
    done
    [ -z "$absent" ]
}

unit_failed() { # unit; true also while systemd keeps restarting it
    [ "$(systemctl is-active "$1")" = failed ] ||
        [ "$(systemctl show -p NRestarts "$1" 2>/dev/null | cut -d= -f2)" -ge 3 ] 2>/dev/null
}

unit_logs() { # unit; by its name, in its command line, in the uWSGI file that names
    echo /var/log/*/"$1".log
    text=$(systemctl cat "$1" 2>/dev/null)
    for ini in $(echo "$text" | sed -n 's/^ExecStart=.*--ini \([^ ]*\).*/\1/p'); do
        text="$text
$(cat "$ini" 2>/dev/null)"
    done
    echo "$text" | grep -o '/var/log/[^ ;]*\.log' | grep -v "/$1\.log$"
}

show_unit() {
    echo "unit $1 is $(systemctl is-active "$1"); its last log lines:"
    journalctl -u "$1" -n 15 --no-pager -o cat 2>/dev/null
    for log in $(unit_logs "$1"); do
        [ -f "$log" ] && echo "== $log" && tail -n 15 "$log"
    done
    echo "look further: systemctl status $1; journalctl -u $1"
}

enable_unit() { # unit; for a link systemd need not read all units again, which takes an emulated machine seconds
    state=$(systemctl is-enabled "$1") && return 0
    [ "$state" != masked ] || systemctl unmask "$1"
    systemctl --no-reload enable "$1"
} 2>/dev/null

started_unit() { # unit seconds; MariaDB never ends if it is told to while it starts (docs/platform.md)
    until_then=$(($(date +%s) + $2))
    while [ "$(systemctl show -p SubState "$1" 2>/dev/null)" = SubState=start ] && [ "$(date +%s)" -lt "$until_then" ]; do
        sleep 0.2
    done
}

start_unit() { # unit stamp seconds secrets [part]; a changed secret is a changed input too
    mkdir -p "$stamps"
    kept="$stamps/$1${5:+.$5}"
    stamp=$(printf '%s %s' "$2" "${4:-}" | sha256sum | cut -c 1-16)
    if systemctl is-active -q "$1" && [ "$(cat "$kept" 2>/dev/null)" = "$stamp" ]; then return 0; fi
    enable_unit "$1"
    systemctl reset-failed "$1" 2>/dev/null
    started_unit "$1" $((20 * patience))
    if ! timeout $(($3 * patience)) systemctl restart "$1"; then
        show_unit "$1"
        return 1
    fi
    echo "$stamp" >"$kept"
    return 10
}

wait_for() { # seconds units test
    waited=$(($1 * patience))
    waited_until=$(($(date +%s) + waited))
    seen=
    until seen=$(timeout "$waited" sh -c "$3" 2>&1); do
        for unit in $2; do
            if unit_failed "$unit"; then
                show_unit "$unit"
                return 1
            fi
        done
        if [ "$(date +%s)" -ge "$waited_until" ]; then
            echo "not so after $waited s: $3"
            echo "last seen: $seen"
            for unit in $2; do show_unit "$unit"; done
            return 1
        fi
        sleep 0.3
    done
    return 0
}

keep_record() { # file stamp command
    [ "$(tail -n 1 "$1" 2>/dev/null)" = "# verified: $2" ] && return 0
    mkdir -p "${1%/*}"
    if ! sh -c "$3" >"$1.new" 2>&1; then
        cat "$1.new"
        return 1
    fi
    echo "# verified: $2" >>"$1.new"
    mv "$1.new" "$1"
}

fill_tables() { # user password host database...; loads what the image has ready. 1: it has nothing for these databases
    account=$1 server=$3 MYSQL_PWD=$2
    export MYSQL_PWD
    shift 3
    command -v mysql >/dev/null || return 1
    for database in "$@"; do
        [ -f "$tables/$database.sql" ] || return 1
        # what a killed program had begun to load is loaded again
        [ ! -e "$stamps/filling-$database" ] || continue
        count="select count(*) from information_schema.tables where table_schema = '$database'"
        [ "$(mysql -u "$account" -h "$server" -N -e "$count")" = 0 ] || return 1
    done
    for database in "$@"; do
        : >"$stamps/filling-$database"
        mysql -u "$account" -h "$server" "$database" <"$tables/$database.sql" || return 2
        rm -f "$stamps/filling-$database"
    done
}

now() { date +%s%N; }

run_operation() { # number; prints the marker line
    began=$(now)
    ( "op_$1" ) >"$here/$1.out" 2>&1 </dev/null
    case $? in
    0) state=ok ;;
    10) state=changed ;;
    *) state=failed ;;
    esac
    [ "$state" != failed ] || tail -n 60 "$here/$1.out" | sed "s/^/##out $1 /"
    printf '##labctl %s %s %s\n' "$1" "$state" "$(($(now) - began))"
    [ "$state" != failed ]
}

in_parallel() { # jobs number...
    jobs=$1
    [ "$jobs" -gt 0 ] || jobs=$(nproc)
    shift
    printf '%s\n' "$@" | xargs -n 1 -P "$jobs" sh "$0" operation
}
