"""What every HTTP server process of ours stands on."""
