"""What this machine can do, found by trying: hardware virtualisation, the kernel's facilities, programs, room."""
