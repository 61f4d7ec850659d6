"""The servers that are compared, one module each: how to tell whether one can run here, start it in a scratch folder,
find its processes, and stop it."""
