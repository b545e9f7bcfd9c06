#!/bin/sh
# compare_tables.sh SCRIPT ARGUMENTS...: SCRIPT is labctl/images/tables.sh, as base64. On a node, makes every schema from
# nothing with the node's own programs. Prints the name of each dump of the image, and what differs from it: the new
# dump, or the lab's own tables.
script=$1
shift
printf '%s' "$script" | base64 -d >/tmp/tables.sh
sh /tmp/tables.sh "$@"
# the programs make the keys of a table in any order
tables() {
    awk '/^CREATE TABLE/ { table = $3; within = 1 }
        within { sub(/ AUTO_INCREMENT=[0-9]*/, ""); sub(/,$/, ""); print table, $0 }
        /^\)/ { within = 0 }' "$1" | sort
}
cd /usr/share/labctl/tables || exit
for dump in *.sql; do
    echo "$dump"
    tables "$dump" >/tmp/made/image
    tables "/tmp/made/$dump" | cmp -s - /tmp/made/image || echo "$dump is not what the programs make"
    mysqldump --no-data --skip-triggers "${dump%.sql}" >/tmp/made/lab 2>/dev/null || continue
    tables /tmp/made/lab | cmp -s - /tmp/made/image || echo "$dump is not what the lab has"
done
rm -rf /tmp/made /tmp/tables.sh /tmp/labctl-tables
