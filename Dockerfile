# Two images: `api` (with the command line, without TensorFlow) and `worker` (without FastAPI). BuildKit is optional.
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONPATH=/srv/tunewell \
    HOME=/home/tunewell \
    TUNEWELL_HOME=/home/tunewell/.tunewell \
    TUNEWELL_DATA_DIR=/data
# Created here, so that new volumes mounted there belong to the user who writes to them.
RUN useradd --uid 10001 --create-home --home-dir /home/tunewell tunewell && install -d -o tunewell -g tunewell /data /storage
WORKDIR /srv/tunewell

# The charts of the page: the files it loads, and no node in the image.
FROM node:24-slim AS page
WORKDIR /page
COPY app/page/package.json app/page/package-lock.json app/page/.npmrc ./
RUN npm ci --ignore-scripts

FROM base AS api
COPY requirements/api.txt requirements/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --require-hashes -r requirements/api.txt
COPY app app
COPY client/tunewell tunewell
COPY --from=page /page/node_modules/echarts/dist/echarts.esm.min.mjs app/page/node_modules/echarts/dist/
COPY --from=page /page/node_modules/tabulator-tables/dist/js/tabulator_esm.min.mjs app/page/node_modules/tabulator-tables/dist/js/
COPY --from=page /page/node_modules/tabulator-tables/dist/css/tabulator_simple.min.css app/page/node_modules/tabulator-tables/dist/css/
RUN printf '#!/usr/bin/env python\nfrom app.cli.commands import cli\n\ncli()\n' >/usr/local/bin/tunewell && chmod 755 /usr/local/bin/tunewell
USER tunewell
# One malloc arena for all threads keeps the API small.
ENV MALLOC_ARENA_MAX=1
EXPOSE 8000
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--timeout-graceful-shutdown", "3"]

FROM base AS worker
COPY requirements/worker.txt requirements/
# TensorFlow's C++ headers are needed only to compile extensions.
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --require-hashes -r requirements/worker.txt \
    && rm -r "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/tensorflow/include"
COPY app/__init__.py app/
COPY app/tuning app/tuning
COPY worker worker
USER tunewell
# One training process per container; scale the service for more.
CMD ["celery", "-A", "worker.tasks", "worker", "--concurrency", "1", "--hostname", "worker@%h", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
