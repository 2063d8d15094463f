"""How the stack is brought up; run from the tree, never installed."""
