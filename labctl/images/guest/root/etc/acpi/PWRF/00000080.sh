#!/bin/sh
# The power button: nova stop and soft reboot press it.
exec /sbin/poweroff
