"""The driver ``libvirt``: virtual machines with their own kernels, under KVM or software emulation."""
