"""The HTTP API: routes that authenticate, call one service function and answer. `app.create_app` creates it."""
