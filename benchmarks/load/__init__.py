"""The load generator: one process, blocking system calls on non-blocking sockets, one epoll, no parser where bytes
are known beforehand.

Its own cost is measured and stands in the results. About 3 µs of Python an event; the two system calls around it cost
more than that (a loopback `write` runs the receiver's half of TCP too), whatever language makes them.
"""
