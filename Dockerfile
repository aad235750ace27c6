# What a job needs; its upload replaces the code: docker build -t pbr:0.1.0-ray2.60.0 .
FROM rayproject/ray:2.60.0-py311-gpu

# pip compiles; without bytecode every process of Ray recompiles torch. The pinned set brings its own CUDA wheels.
COPY --chown=ray:users pyproject.toml constraints.txt README.md LICENSE /home/ray/pbr/
COPY --chown=ray:users pbrlib /home/ray/pbr/pbrlib
COPY --chown=ray:users ray_jobs /home/ray/pbr/ray_jobs
COPY --chown=ray:users configs /home/ray/pbr/configs
RUN pip install --no-cache-dir --compile --require-hashes -r /home/ray/pbr/constraints.txt \
 && pip install --no-cache-dir --compile --no-deps /home/ray/pbr \
 && python -c "import ray, torch; assert ray.__version__ == '2.60.0'"

# The build fails rather than a node at boot.
RUN pbr --version && ray --version
