"""The driver ``libvirt``: virtual machines with kernels of their own, under KVM or software emulation."""
