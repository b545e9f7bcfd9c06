#!/bin/sh
# Who am I? From a config drive, else from the ec2 metadata service: instance id, host name, keys, user data.
service=${METADATA_URL:-http://169.254.169.254/2009-04-04}
data=/run/cirros/datasource/data
state=/var/lib/cloud
drive=/run/cirros/config-drive
mkdir -p "$data" "$state" "$drive"

# Not wget -T: Debian's static busybox crashes on it.
get() { timeout 10 wget -q -O "$2" "$1" 2>/dev/null; }

# The first string member of that name in the JSON on standard input.
member() { grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | sed 's/.*"\([^"]*\)"$/\1/'; }

config_drive() {
    for module in ata_piix sr_mod isofs vfat nls_cp437 nls_iso8859_1 nls_ascii; do
        modprobe -q "$module"
    done
    device=$(findfs LABEL=config-2 2>/dev/null) || device=$(findfs LABEL=CONFIG-2 2>/dev/null) || return 1
    mount -t iso9660 -o ro "$device" "$drive" 2>/dev/null || mount -t vfat -o ro "$device" "$drive" || return 1
    json=$drive/openstack/latest/meta_data.json
    [ -r "$json" ] || { umount "$drive"; return 1; }
    tr '\n' ' ' <"$json" >"$data/meta_data.json"
    json=$data/meta_data.json
    member uuid <"$json" >"$data/instance-id"
    member hostname <"$json" >"$data/hostname"
    # {"name": "ssh-ed25519 AAAA… comment\n", …}
    sed -n 's/.*"public_keys": *{\([^}]*\)}.*/\1/p' "$json" |
        grep -o '"[^"]*"' | tr -d '"' | sed -n 's/\\n$//; /^\(ssh\|ecdsa\|sk\)-[^ ]* AAAA/p' >"$data/public-keys"
    [ -r "$drive/openstack/latest/user_data" ] && cp "$drive/openstack/latest/user_data" "$data/user-data"
    umount "$drive"
    echo "found datasource (configdrive, local)"
}

ec2() {
    [ -n "$(ip -4 -o addr show dev eth0 2>/dev/null)" ] || { echo "no address, so no ec2 metadata"; return 1; }
    echo "checking $service/instance-id"
    try=1
    began=$(cut -d. -f1 /proc/uptime)
    until get "$service/meta-data/instance-id" "$data/instance-id" && [ -s "$data/instance-id" ]; do
        read -r up _ </proc/uptime
        echo "failed $try/20: up $up. request failed"
        if [ "$try" -ge 20 ] || [ $((${up%.*} - began)) -ge 120 ]; then
            echo "failed to read iid from metadata. tried $try"
            return 1
        fi
        try=$((try + 1))
        sleep 1
    done
    read -r up _ </proc/uptime
    echo "successful after $try/20 tries: up $up. iid=$(cat "$data/instance-id")"
    get "$service/meta-data/hostname" "$data/hostname" || echo "warning: no ec2 metadata for hostname"
    : >"$data/public-keys"
    if get "$service/meta-data/public-keys/" "$data/key-names"; then
        sed 's/=.*//' "$data/key-names" >"$data/key-numbers"
        echo >>"$data/key-numbers"
        while read -r number; do
            [ -n "$number" ] && get "$service/meta-data/public-keys/$number/openssh-key" "$data/key" &&
                { cat "$data/key"; echo; } >>"$data/public-keys"
        done <"$data/key-numbers"
    else
        echo "warning: no ec2 metadata for public-keys"
    fi
    get "$service/user-data" "$data/user-data" || {
        rm -f "$data/user-data"
        echo "warning: no ec2 metadata for user-data"
    }
    echo "found datasource (ec2, net)"
}

apply_hostname() {
    read -r name <"$data/hostname" || [ -n "$name" ] || return
    name=${name%%.*}
    hostname "$name"
    echo "$name" >/etc/hostname
    echo "127.0.0.1 localhost $name" >/etc/hosts
}

apply_keys() {
    file=/home/cirros/.ssh/authorized_keys
    mkdir -p /home/cirros/.ssh
    touch "$file"
    while read -r key; do
        [ -n "$key" ] || continue
        grep -qxF "$key" "$file" || echo "$key" >>"$file"
    done <"$data/public-keys"
    chmod 700 /home/cirros/.ssh
    chmod 600 "$file"
    chown -R cirros:cirros /home/cirros/.ssh
}

# Once for an instance, as root, in the background: a script that serves for ever must not keep the login prompt back.
apply_user_data() {
    [ -s "$data/user-data" ] || return
    if [ "$(head -c 2 "$data/user-data")" != '#!' ]; then
        echo "user data not a script"
        return
    fi
    cp "$data/user-data" "$state/user-data"
    chmod 700 "$state/user-data"
    echo "running user data"
    setsid "$state/user-data" </dev/null 2>&1 | tee /var/log/user-data.log &
}

echo "=== datasource: configdrive local ==="
config_drive || {
    echo "=== datasource: ec2 net ==="
    ec2 || exit 0
}
echo "instance-id: $(cat "$data/instance-id")"
[ -s "$data/hostname" ] && apply_hostname
apply_keys
if [ "$(cat "$state/instance-id" 2>/dev/null)" != "$(cat "$data/instance-id")" ]; then
    cp "$data/instance-id" "$state/instance-id"
    apply_user_data
fi
