"""The REST door: TensorFlow Serving's HTTP API as an ASGI app, and the connections it is served
on."""
