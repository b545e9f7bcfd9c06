#!/bin/sh
# tables.sh CREATE SERVER-OPTIONS PLACE [SECTION PROGRAM DATABASES COMMANDS]...
# Makes a dump of each schema in PLACE/DATABASE.sql, in an image that nothing else runs in. COMMANDS are separated by
# semicolons. A dump is kept only if a database that was filled from it is what the program's own commands want: they
# change nothing there.
set -eu
work=${LABCTL_TABLES:-/tmp/labctl-tables}
here=$0

settings() { # database section
    printf '[DEFAULT]\nlog_dir =\nstate_path = %s\n' "$work" >"$work/$1.conf"
    printf '[%s]\nconnection = mysql+pymysql://root@localhost/%s?unix_socket=%s\n' "$2" "$1" "$work/socket" >>"$work/$1.conf"
}

commands() { # database program commands
    echo "$3" | tr ';' '\n' | while read -r words; do
        # shellcheck disable=SC2086
        "$2" --config-file "$work/$1.conf" $words || exit 1
    done
}

dump() { # database
    mysqldump -S "$work/socket" --skip-comments --no-tablespaces --skip-triggers "$1"
}

one() { # create place section program databases commands
    first=${5%%,*}
    for database in "$first" "again_$first"; do
        mysql -S "$work/socket" -e "$(echo "$1" | sed "s/NAME/$database/")"
        settings "$database" "$3"
    done
    commands "$first" "$4" "$6"
    dump "$first" >"$work/$first.sql"
    mysql -S "$work/socket" "again_$first" <"$work/$first.sql"
    commands "again_$first" "$4" "$6"
    dump "again_$first" >"$work/again_$first.sql"
    # a counter that the commands took and gave back is no difference
    for dumped in "$first" "again_$first"; do
        sed 's/ AUTO_INCREMENT=[0-9]*//; /^INSERT INTO/s/),(/)\n(/g' "$work/$dumped.sql" >"$work/$dumped.plain"
    done
    cmp "$work/$first.plain" "$work/again_$first.plain"
    for database in $(echo "$5" | tr , ' '); do
        cp "$work/$first.sql" "$2/$database.sql"
    done
}

case $1 in
schema) # a shell of its own: where its status is looked at, a failure would not end it
    shift
    one "$@"
    exit
    ;;
one)
    shift
    log=$work/${5%%,*}.log
    sh "$here" schema "$@" >"$log" 2>&1 && exit
    echo "labctl: no tables for $5"
    tail -n 5 "$log"
    exit
    ;;
esac

create=$1 options=$2 place=$3
shift 3
mkdir -p "$work" "$place"
mariadb-install-db --no-defaults --user=root --auth-root-authentication-method=normal --datadir="$work/data" >/dev/null
# shellcheck disable=SC2086
mariadbd --no-defaults --user=root --datadir="$work/data" --socket="$work/socket" --skip-networking \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 $options >"$work/log" 2>&1 &
for _ in $(seq 600); do
    mysqladmin -S "$work/socket" ping >/dev/null 2>&1 && break
    sleep 0.1
done
while [ $# -gt 0 ]; do
    printf '%s\0' "$create" "$place" "$1" "$2" "$3" "$4"
    shift 4
done | xargs -0 -n 6 -P "$(nproc)" sh "$here" one
mysqladmin -S "$work/socket" shutdown
