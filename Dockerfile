# fsar on a CPU: docker build -t fsar . && docker run --rm -v "$PWD:/data" fsar recognize --examples examples new.mp4
FROM python:3.12-slim
# The CPU build of torch comes first; otherwise pip brings the build for GPUs, which is several GB larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir '/src[lite0,fast,service]' && rm -r /src
RUN useradd --create-home fsar && mkdir /data && chown fsar /data
USER fsar
WORKDIR /data
ENV FSAR_CACHE=/home/fsar/cache
ENTRYPOINT ["fsar"]
CMD ["doctor"]
