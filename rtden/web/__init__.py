"""The page: live sound and recordings in a browser, served from this machine (extra "web")."""
