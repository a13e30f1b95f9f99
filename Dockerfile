# syntax=docker/dockerfile:1
# In: the sources. Out: an image with the static binary, CA certificates and licences, and nothing else.
#
#   docker build --tag robotosecret:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/robotosecret:0.1.0 --push .
#
# Without a container engine, the RUN lines below can be typed at the repository's root (leave out the --mount flags);
# `file` must then call the binary "static-pie linked", and `chroot` into a folder that holds only it must start it.

# Exactly the toolchain of rust-toolchain.toml; that file isn't copied, so that rustup fetches nothing here.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# A workspace member: cargo wants its manifest and library to be there, though nothing of it is built.
COPY tests/testbed tests/testbed
COPY .ci/licenses .ci/licenses
# `arch` names the platform that this stage runs for (x86_64, aarch64); buildx emulates the one that isn't its own.
# An explicit --target keeps crt-static away from build scripts and procedural macros, which can't be static. As in the Makefile: on x86_64 LLVM's linker
# puts functions of the same code together and packs relocations.
# The cache mounts keep the registry and the compiled dependencies: a change of our code doesn't rebuild the AWS SDK.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    RUSTFLAGS="-C target-feature=+crt-static $([ "$(arch)" != x86_64 ] || echo -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs)" \
    cargo build --release --locked --bin robotosecret --target "$(arch)-unknown-linux-gnu" \
    && cp "target/$(arch)-unknown-linux-gnu/release/robotosecret" /robotosecret \
    && .ci/licenses /licenses

# `make e2e` builds this stage alone, over a folder in place of the one above.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="robotosecret" \
      org.opencontainers.image.description="Mirrors secrets from AWS Secrets Manager and SSM Parameter Store into native Kubernetes Secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# For TLS to AWS. The API server's own CA comes with the pod's ServiceAccount.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Ours, and those of what is linked into the binary.
COPY LICENSE /licenses/LICENSE
COPY --from=build /licenses /licenses/linked
COPY --from=build /robotosecret /robotosecret
# A number, because runAsNonRoot can't judge a name.
USER 65532:65532
ENTRYPOINT ["/robotosecret"]
