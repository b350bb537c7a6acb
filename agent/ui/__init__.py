"""The local interface: pages for the people at this machine, on 127.0.0.1 alone."""
