# Functions of a labctl diagnosis: each compares one thing with the plan, changes nothing, prints what differs and
# returns 1 then. They follow the functions of prelude.sh.
# shellcheck disable=SC2154

in_parallel() { # jobs number...; each test has a deadline, and one that passes it gives no result
    shift
    printf '%s\n' "$@" | xargs -n 1 -P "$(nproc)" timeout -k 5 $((${LABCTL_DEADLINE:-75} * patience)) sh "$0" operation
}

settings() { # file; its lines without comments, each behind its section
    awk '
        /^[ \t]*([#;]|$)/ { next }
        /^\[.*\][ \t]*$/ { sub(/[ \t]+$/, ""); section = $0 " "; next }
        { sub(/[ \t]+$/, ""); sub(/[ \t]*=[ \t]*/, " = "); print section $0 }
    ' "$1" | sort
}

look_file() { # payload path owner group mode
    [ ! -e "$facts" ] || sed -i -f "$facts" "$here/$1"
    [ -f "$2" ] || { echo "is missing"; return 1; }
    state=0
    seen=$(stat -c '%U:%G %a' "$2")
    [ "$seen" = "$3:$4 $(printf %o "$5")" ] || { echo "owner and mode $seen, not $3:$4 $(printf %o "$5")"; state=1; }
    cmp -s "$here/$1" "$2" && return $state
    settings "$here/$1" >"$here/$1.wanted"
    settings "$2" >"$here/$1.found"
    diff "$here/$1.wanted" "$here/$1.found" | grep '^[<>]' && state=1
    return $state
}

look_directory() { # path owner group mode; systemd's CacheDirectory= may give it to the account of the group
    [ -d "$1" ] || { echo "is missing"; return 1; }
    case $(stat -c '%U:%G' "$1") in
    "$2":* | *:"$3") return 0 ;;
    esac
    echo "owner $(stat -c '%U:%G' "$1"), not $2:$3"
    return 1
}

look_link() { # path target
    [ "$(readlink "$1")" = "$2" ] || { echo "leads to '$(readlink "$1")', not to $2"; return 1; }
}

look_assign() { # file key separator value
    [ -e "$1" ] || { echo "is missing"; return 1; }
    seen=$(sed -n "s/^[ \t]*$2[ \t]*=[ \t]*//p" "$1")
    [ "$seen" = "$4" ] || { echo "$2 is '$seen', not '$4'"; return 1; }
}

look_packages() {
    wanted=$(missing_packages "$@")
    [ -z "$wanted" ] || { echo "not installed: $wanted" | tr '\n' ' '; return 1; }
}

look_added() { # unit, files of the plan; what was added to its unit file by hand (images have labctl.conf)
    unit=$1
    shift
    for added in $(systemctl show -p DropInPaths --value "$unit"); do
        case " $* " in *" $added "*) continue ;; esac
        case $added in /etc/*/labctl.conf) ;; /etc/*) echo "changed by $added; "; return ;; esac
    done
}

look_unit() { # unit, files of the plan beside unit files
    enabled=$(systemctl is-enabled "$1" 2>/dev/null)
    active=$(systemctl is-active "$1" 2>/dev/null)
    restarts=$(systemctl show -p NRestarts "$1" 2>/dev/null | cut -d = -f 2)
    case $enabled in masked*) echo "is masked"; return 1 ;; esac
    if [ "$active" = inactive ]; then # idle, and started by the next one who connects to its socket
        sockets=$(systemctl show -p TriggeredBy "$1" | cut -d = -f 2)
        # shellcheck disable=SC2086
        [ -n "$sockets" ] && systemctl is-active -q $sockets && return 0
    fi
    if [ "$active" = activating ] && [ "${restarts:-0}" -gt 0 ]; then
        echo "$(look_added "$@")keeps restarting, $restarts times by now"
    elif [ "$active" != active ]; then
        echo "$(look_added "$@")is $active"
    elif [ "$enabled" = disabled ]; then
        echo "runs, but is disabled: it does not start with the machine"
    else
        return 0
    fi
    for log in $(unit_logs "$1"); do
        [ -f "$log" ] && tail -n 50 "$log" | grep -hE ' (ERROR|CRITICAL) |^[A-Za-z.]*(Error|Exception): ' | tail -n 1
    done
    journalctl -u "$1" -n 20 --no-pager -o cat 2>/dev/null |
        grep -vE 'Consumed .* CPU time|Deactivated|Stopp|Start|Scheduled restart' | tail -n 1
    return 1
}

look_ready() { # test; one that is busy gets three tries, one that refuses a single one
    for _ in 1 2 3; do
        began=$(date +%s)
        said=$(timeout $((20 * patience)) sh -c "$1" 2>&1) && return 0
        [ $(($(date +%s) - began)) -ge 4 ] || break
    done
    echo "${said:-no answer}" | tail -n 3
    return 1
}

# --- what no operation of the plan sets

look_name() { # name address
    seen=$(timeout 5 getent ahostsv4 "$1" | cut -d ' ' -f 1 | head -n 1)
    [ "$seen" = "$2" ] || { echo "$1 is ${seen:-unknown}, not $2"; return 1; }
}

look_card() { # card bytes; VXLAN puts 50 of them around what a guest sends
    mtu=$(cat "/sys/class/net/$1/mtu" 2>/dev/null) || { echo "there is no card $1"; return 1; }
    [ "$mtu" -ge "$2" ] || { echo "$1 has an MTU of $mtu, not $2"; return 1; }
}

look_card_up() { # card
    [ "$(($(cat "/sys/class/net/$1/flags" 2>/dev/null || echo 0) & 1))" = 1 ] || { echo "$1 is down"; return 1; }
}

look_address() { # address
    ip -4 -o addr show | grep -q " $1/" || { echo "no card has the address $1"; return 1; }
}

look_clock() { # seconds of offset from its source, at most one
    off=$(chronyc -c tracking 2>/dev/null | cut -d , -f 5)
    [ -n "$off" ] || { echo "chrony does not answer"; return 1; }
    awk -v off="$off" 'BEGIN { exit !(off < 1 && off > -1) }' || { echo "the clock is $off s off"; return 1; }
}

look_room() { # percent
    full=$(df -P / /var /var/log /var/lib /var/lib/mysql /var/lib/glance/images /var/lib/nova/instances /var/lib/gnocchi /srv/node/* 2>/dev/null |
        awk -v most="$1" 'NR > 1 && $5 + 0 >= most && !seen[$6]++ { print $6 " is " $5 " full" }')
    [ -z "$full" ] || { echo "$full"; return 1; }
}

look_descriptors() { # in use to 80 percent; three programs for all processes, as a node has hundreds
    near=$({
        grep -H '^Max open files' /proc/[0-9]*/limits
        find /proc/[0-9]*/fd -mindepth 1
    } 2>/dev/null | awk -F '[/ ]+' '
        $4 ~ /^limits/ { limit[$3] = $7 }
        $4 == "fd" { used[$3]++ }
        END { for (p in used) if (limit[p] + 0 && used[p] * 10 >= limit[p] * 8) print p, used[p], limit[p] }')
    [ -n "$near" ] || return 0
    echo "$near" | while read -r process used limit; do
        unit=$(sed -n 's#.*/\([^/]*\.service\)$#\1#p' "/proc/$process/cgroup" 2>/dev/null | head -n 1)
        echo "${unit:-$(cat "/proc/$process/comm" 2>/dev/null)} has $used of at most $limit open files"
    done
    return 1
}

look_permissions() { # RabbitMQ's user
    seen=$(timeout $((60 * patience)) rabbitmqctl -q list_user_permissions "$1" 2>&1 | awk '$1 == "/" { print $2, $3, $4 }')
    [ "$seen" = '.* .* .*' ] || { echo "$1 may: ${seen:-nothing}"; return 1; }
}

look_alarms() {
    seen=$(timeout $((60 * patience)) rabbitmqctl -q eval 'rabbit_alarm:get_alarms().' 2>&1)
    [ "$seen" = '[]' ] || { echo "publishers are blocked: $seen"; return 1; }
}

look_mapped() { # host
    count=$(mysql -u root -N -e "select count(*) from nova_api.host_mappings where host = '$1'" 2>&1)
    [ "$count" = 1 ] || { echo "$1 is not mapped to any cell"; return 1; }
}

look_keys() { # directory account stamp; a rotation never writes key 1 again, and the stamp is younger than labctl's
    said=$(runuser -u "$2" -- cat "$1/0" "$1"/* 2>&1 >/dev/null) || { echo "$said" | head -n 1; return 1; }
    [ -e "$3" ] && [ -n "$(find "$1/1" -newer "$3" 2>/dev/null)" ] || return 0
    echo "$1 has keys that are newer than the installation"
    return 1
}

look_writable() { # directory account
    runuser -u "$2" -- test -w "$1" || { echo "$2 cannot write $1: $(stat -c '%U:%G %a' "$1")"; return 1; }
}

look_log() { # since, seconds of calm after the start, bytes of a log, of a line, directories, --unit=..., expressions...
    since=$1 calm=$2 bytes=$3 width=$4 directories=$5 units=$6
    shift 6
    if [ "$calm" -gt 0 ]; then
        began=$(date -d "$(systemctl show -p UserspaceTimestamp | cut -d = -f 2)" +%s) || began=0
        [ "$since" -ge $((began + calm)) ] || since=$((began + calm))
    fi
    [ "$since" -le "$(date +%s)" ] || return 0
    any=$(printf '|%s' "$@")
    any=${any#|}
    {
        # shellcheck disable=SC2086
        [ -z "$units" ] || journalctl -q --no-pager -o short-unix --since "@$since" -n 20000 $units |
            newest_of journal "$@"
        for directory in $directories; do
            find "/var/log/$directory" -maxdepth 1 -type f \( -name '*.log' -o -name '*_log' \) -newermt "@$since"
        done | while IFS= read -r log; do
            tail -c "$bytes" "$log" | newest_of "${log#/var/log/}" "$@"
        done
    } 2>/dev/null >"$here/log.$$"
    [ ! -s "$here/log.$$" ] || { cat "$here/log.$$"; return 1; }
}

newest_of() { # file, expressions...; of each the last line, with its number; Erlang's time is in a line of its own
    log=$1
    shift
    grep -aE "$any|^=[A-Z ]+ REPORT====" | cut -c "1-$width" |
        awk -v head="$since	$(date +%z)	$log" '
            BEGIN { count = ARGC; for (i = 1; i < count; i++) { words[i] = ARGV[i]; ARGV[i] = "" } }
            /^=[A-Z ]+ REPORT====/ { report = $0 " "; next }
            { for (i = 1; i < count; i++) if ($0 ~ words[i]) { last[i] = report $0; break } }
            END { for (i in last) print i - 1 "\t" head "\t" last[i] }
        ' "$@"
}

look_resolver() { # a name that nobody has: a server that answers says so at once
    begun=$(date +%s)
    timeout $((30 * patience)) getent ahostsv4 labctl-test.invalid >/dev/null 2>&1
    took=$(($(date +%s) - begun))
    [ "$took" -le $((3 * patience)) ] || { echo "an unknown name takes $took s: $(grep ^nameserver /etc/resolv.conf | xargs)"; return 1; }
}

look_bridges() { # a Linux bridge of neutron with a port of a guest, router or DHCP server, and no card or tunnel
    for try in 1 2 3; do
        alone=
        for bridge in /sys/class/net/brq*; do
            [ -d "$bridge/brif" ] || continue
            taps=0 others=0
            for port in "$bridge"/brif/*; do
                case $port in */tap*) taps=1 ;; */\*) ;; *) others=1 ;; esac
            done
            [ $taps = 1 ] && [ $others = 0 ] && alone="$alone ${bridge##*/}"
        done
        [ -n "$alone" ] || return 0
        [ $try = 3 ] || sleep 1
    done
    echo "no card is in the bridge$alone"
    return 1
}

look_tables() { # database project; the project's own migrations say which revision is the last
    count=$(mysql -u root -N -e "select count(*) from information_schema.tables where table_schema = '$1'" 2>&1)
    [ "$count" -gt 2 ] 2>/dev/null || { echo "$1 has ${count:-no} tables"; return 1; }
    rows=$(mysql -u root -N -e "select version_num from $1.alembic_version" 2>/dev/null)
    program=$(command -v "$2-manage" || command -v "$2-db-manage") || return 0
    python=$(sed -n '1s/^#! *//p' "$program")
    place=$($python -c "import importlib.util as u; print(u.find_spec('$2').submodule_search_locations[0])") || return 0
    state=0
    for row in $rows; do
        next=$(find "$place" -path '*versions*' -name '*.py' -exec grep -lE "^down_revision.*['\"]${row}['\"]" {} + | head -n 1)
        [ -z "$next" ] || { echo "$1 is at $row, and $(basename "$next" .py) was not applied"; state=1; }
    done
    [ -z "$rows" ] || return $state
    # sqlalchemy-migrate's: numbers, each of a repository whose name is in a file beside its versions
    mysql -u root -N -e "select version, repository_id from $1.migrate_version" 2>/dev/null | {
        lost='' kept=''
        while read -r version id; do
            file=$(grep -rlE --include=migrate.cfg "^repository_id *= *$id *\$" "$place" | head -n 1)
            [ -n "$file" ] || { lost=${lost:-"$1 is at $version of $id, migrations that $2 no longer has"}; continue; }
            kept=1
            newest=$(find "${file%/*}/versions" -name '[0-9]*_*.py' | sed 's#.*/0*\([0-9]*\)_.*#\1#' | sort -n | tail -n 1)
            [ "${newest:-0}" -le "$version" ] || echo "$1 is at $version of $id, and $newest was not applied"
        done
        # a project may drop one of its repositories when the others have all of it, as keystone did in Yoga
        [ -n "$kept" ] || [ -z "$lost" ] || echo "$lost"
    } | grep . && return 1
    return 0
}

look_images() { # directory; a qcow2 image says so in its first bytes, and a raw one must not
    mysql -u root -N -e "select id, disk_format, name from glance.images where status = 'active'" 2>/dev/null |
        while read -r id format name; do
            [ -r "$1/$id" ] || continue
            case $format,$(head -c 3 "$1/$id" | tr -d '\0') in
            qcow2,QFI | raw,[!Q]* | raw, | [!qr]*) ;;
            *) echo "the image $name ($id) is not $format" ;;
            esac
        done | grep . && return 1
    return 0
}

look_volume_group() { # name
    free=$(vgs --noheadings --nosuffix --units m -o vg_free "$1" 2>/dev/null) || return 0
    # a thin pool takes nearly all of the group, and has itself room for volumes
    pools=$(lvs --noheadings --nosuffix --units m -o lv_size,data_percent -S segtype=thin-pool "$1" 2>/dev/null)
    free=$(printf '%s\n%s\n' "$free" "$pools" | awk 'NF == 1 { n += $1 } NF == 2 { n += $1 * (100 - $2) / 100 }
        END { printf "%d", n }')
    [ "$free" -ge 1024 ] || { echo "$1 has $free MiB left"; return 1; }
}
