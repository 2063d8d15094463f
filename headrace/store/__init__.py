"""The model store: folders of versions, the model list, and what lies in a version."""
