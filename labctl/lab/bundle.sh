# Print the state of a running node as sections: "##section NAME<TAB>", then a command's output.
say() {
    printf '\n##section %s\t\n' "$1"
    shift
    command -v "$1" >/dev/null 2>&1 || return 0
    timeout 10 "$@" 2>&1 || echo "(status $?)"
}
export SYSTEMD_PAGER='' SYSTEMD_COLORS=0 LC_ALL=C
say units systemctl list-units --all --no-pager --plain --type=service,mount,timer
say failed systemctl --failed --no-pager --plain
say jobs systemctl list-jobs --no-pager
if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2016
    say packages dpkg-query -W -f '${Package} ${Version}\n'
else
    say packages rpm -qa
fi
say addresses ip -d address
say routes ip route show table all
say neighbours ip neighbour
say bridges bridge link
say fdb bridge fdb
say namespaces ip netns
say sockets ss -tulpn
say nft nft list ruleset
say iptables iptables-save
say openvswitch ovs-vsctl show
say domains virsh list --all
say rabbitmq rabbitmqctl list_queues name messages consumers
say processes ps -eo pid,ppid,stat,etime,time,rss,args --cols 300
say memory free -m
say disks df -hT
say mounts cat /proc/self/mounts
say time date --iso-8601=ns
say chrony chronyc tracking
for name in $(ip netns list 2>/dev/null | cut -d ' ' -f 1); do
    say "namespace-$name" ip netns exec "$name" ip address
done
