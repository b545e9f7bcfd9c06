#!/bin/sh
# Everything between the kernel and the login prompt.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p /run/sudo /run/lock
hostname -F /etc/hostname
# As in CirrOS, everyone may read the kernel log.
echo 0 >/proc/sys/kernel/dmesg_restrict

# The initramfs has let the partition fill the disk; the file system follows. Every time: a boot may have been
# cut off in between, and nova may have given the disk more room since.
root=$(awk '$2 == "/" && $3 == "ext4" { print $1; exit }' /proc/mounts)
resize2fs "$root" 2>&1 | grep 'is now'

# virtio_balloon: the hypervisor can ask how much memory is used (nova: mem_stats_period_seconds)
for module in virtio_rng virtio_net virtio_balloon button evdev; do
    modprobe -q "$module"
done
syslogd
acpid

for kind in ed25519 ecdsa; do
    key=/etc/dropbear/dropbear_${kind}_host_key
    [ -s "$key" ] && continue
    rm -f "$key"
    # Under another name first: half a key must not survive a power cut.
    dropbearkey -t "$kind" -f "$key.new" >/dev/null 2>&1 && sync && mv "$key.new" "$key"
done
ip link set lo up

/usr/lib/guest/network
/usr/lib/guest/datasource
# After the keys, as in CirrOS: who is let in later than answered takes a floating IP's former server for this one.
dropbear -P /run/dropbear.pid

echo "=== network info ==="
ip -o -4 addr show | awk '{ print "if-info: " $2 ",up," $4 }'
ip -4 route | sed 's/^/route-info: /'
echo "=== system information ==="
echo "Linux $(uname -r) $(uname -m), $(nproc) cpu, $(free -m | awk '/^Mem/ { print $2 }') MB memory"
read -r up _ </proc/uptime
echo "=== cirros: current=$(cat /etc/guest-version) uptime=$up ==="
sync
