# docker build --tag accelproxy .
# docker run --network host --cap-add NET_ADMIN --cap-add NET_RAW --volume ./proxy.yaml:/etc/accelproxy.yaml:ro accelproxy
# The digest is what counts; the tag says what it was.
FROM node:22-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM node:22-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c
# For checkpoints and moves: nftables keeps a connection's packets away meanwhile.
RUN apt-get update && apt-get install --yes --no-install-recommends libnftables1 \
  && rm --recursive --force /var/lib/apt/lists/*
WORKDIR /opt/accelproxy
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
# It starts as root and becomes this user (user: node), since capabilities added to a container are root's alone.
RUN mkdir /run/accelproxy && chown node:node /run/accelproxy
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["node", "dist/proxy/cli.js", "status", "--admin", "unix:/run/accelproxy/admin.sock", "--json"]
ENTRYPOINT ["node", "/opt/accelproxy/dist/proxy/cli.js"]
CMD ["--config", "/etc/accelproxy.yaml"]
