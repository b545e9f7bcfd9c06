#!/bin/sh
# Become the node whose files Vagrant has just brought: names, addresses of the lab's cards, host key.
set -eu
hostname -F /etc/hostname
systemctl restart labctl-network.service
if [ -e /etc/ssh/ssh_host_ed25519_key ]; then chmod 600 /etc/ssh/ssh_host_*_key; fi
systemctl try-restart ssh.service
