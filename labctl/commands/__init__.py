"""Verbs: parsing and printing only; the work is done elsewhere.

A verb's module says what the verb takes, and the shell asks that at every TAB. So it imports at its top what its
parameters and its messages need, a lab's record at most; what does the work is imported by the function that has it
done: whatever makes plans, speaks to nodes, APIs or the network, reads topologies or builds images.
"""
