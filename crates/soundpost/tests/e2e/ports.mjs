// Ports for what listens, ends and comes back on the same port: below those that the system gives to outgoing connections
// and to whoever asks for any, so that none of these takes a port while nobody listens on it.

import { once } from 'node:events'
import net from 'node:net'

const PORTS_FROM = 20_000
/** Each process of the tests has so many ports to itself; test files that run beside each other are processes. */
const PORTS_PER_PROCESS = 100
const SLICES = 120

/** Listens on the port, if nobody does. */
async function listenOn(port) {
  const server = net.createServer()
  server.listen(port, '127.0.0.1')
  return once(server, 'listening').then(() => server, () => undefined)
}

/** The first port of a slice that is this process's until it ends: it listens there, which is the sign to all others. */
async function takeSlice() {
  for (let n = 0; n < SLICES; n += 1) {
    const first = PORTS_FROM + ((process.pid + n) % SLICES) * PORTS_PER_PROCESS
    const sign = await listenOn(first)
    if (sign) {
      sign.unref()
      return first
    }
  }
  throw new Error(`all ports from ${PORTS_FROM} are taken`)
}

let slice
let taken = 0

/** A port on which nobody listens, and which no test that runs beside this one takes, not even while nobody listens. */
export async function freePort() {
  slice ??= takeSlice()
  const first = await slice
  for (;;) {
    taken += 1
    const port = first + 1 + (taken % (PORTS_PER_PROCESS - 1))
    const server = await listenOn(port)
    if (!server) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
