"""/docs and /openapi.json: what is served just now, as documents."""
