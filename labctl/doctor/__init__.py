"""Host checks by testing: hardware virtualisation, kernel facilities, programs, disk space."""
