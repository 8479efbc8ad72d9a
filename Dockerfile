# rtden for files and folders. This file has not been built by its authors: tell us what fails.
#   docker build --tag rtden .
#   docker run --rm --volume "$PWD":/sound rtden file recordings/ -o cleaned/
FROM python:3.12-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libsndfile1 \
 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE /rtden/
COPY rtden /rtden/rtden
COPY models /rtden/models
RUN pip install --no-cache-dir '/rtden[plot]' && useradd --create-home rtden
USER rtden
WORKDIR /sound
ENTRYPOINT ["rtden"]
CMD ["--help"]
