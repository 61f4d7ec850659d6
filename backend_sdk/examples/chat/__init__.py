"""A chat with rooms, names, history and who is there. Read `app.py` first; `make run` starts it behind an edge."""
