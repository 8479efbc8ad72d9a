"""A page that cleans an uploaded sound file, by Gradio: python examples/gradio_file.py."""

import gradio
import numpy as np

from rtden import Settings, denoise


def clean(sound: tuple[int, np.ndarray], limit_db: float) -> tuple[int, np.ndarray]:
    """Return a file's samples without noise, reduced by at most `limit_db`."""
    rate_hz, samples = sound
    return rate_hz, denoise(samples, rate_hz=rate_hz, settings=Settings(limit_db=limit_db))


page = gradio.Interface(
    clean,
    [gradio.Audio(label="noisy"), gradio.Slider(6, 60, 60, label="reduce noise by at most, dB")],
    gradio.Audio(label="clean"),
    title="rtden",
)

if __name__ == "__main__":
    page.launch()
