"""What runs inside a user's own jupyter_server that has NotebookOS as its gateway."""
