"""The measurements, one module each: what is done to a server, and the numbers it yields."""
