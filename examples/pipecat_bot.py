"""A Pipecat bot whose input is denoised before voice activity detection and recognition.

Replace the local audio transport with your own; the filter goes into the parameters of any.
"""

import asyncio

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.transports.base_transport import TransportParams

from rtden.integrations.pipecat import RtdenFilter


def denoised(params: type[TransportParams] = TransportParams) -> TransportParams:
    """Return parameters of a transport whose input rtden cleans."""
    return params(audio_in_enabled=True, audio_out_enabled=True, audio_in_filter=RtdenFilter())


async def main() -> None:
    """Play the microphone back without noise."""
    # The local transport needs the extra "local" of Pipecat.
    from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams

    transport = LocalAudioTransport(denoised(LocalAudioTransportParams))
    pipeline = Pipeline([transport.input(), transport.output()])
    await PipelineRunner().run(PipelineTask(pipeline))


if __name__ == "__main__":
    asyncio.run(main())
