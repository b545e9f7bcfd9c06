# Print a node's journal and log files as sections: "##section NAME<TAB>seconds since the epoch", then the text.
# Set before it: since, units, bytes, lines. Runs on the node, or on a host that sees its files at $LABCTL_ROOT.
root=${LABCTL_ROOT-}
printf '##section zone\t%s\n' "$(TZ=":$root/etc/localtime" date +%z)"

printf '##section journal\t\n'
# shellcheck disable=SC2086,SC2154
journalctl ${root:+"--root=$root"} --quiet --no-pager -o short-unix -n "$lines" ${since:+"--since=@$since"} $units 2>/dev/null

find "$root/var/log" -type f -size +0 \( -name '*.log' -o -name '*_log' \) ${since:+-newermt "@$since"} 2>/dev/null |
    while IFS= read -r file; do
        printf '\n##section %s\t%s\n' "${file#"$root/var/log/"}" "$(stat -c %Y "$file")"
        # shellcheck disable=SC2154
        tail -c "$bytes" "$file"
    done
