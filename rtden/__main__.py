"""`python -m rtden`."""

from rtden.app.main import app

if __name__ == "__main__":
    app(prog_name="rtden")
