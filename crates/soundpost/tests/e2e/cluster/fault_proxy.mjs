// A TCP proxy that does to the connections through it what bad networks do: it delays, stalls, throttles, breaks off in
// the middle of an answer, takes nobody in. Both directions can be treated differently.

import { once } from 'node:events'
import net from 'node:net'

/** Bytes that wait in one direction of one connection; the sender of more is held back, as by a full socket. */
const WAITING_BYTES_MAX = 1 << 20

/** One direction of one connection. What it is to do stands in `fault`, which all connections share. */
class Flow {
  #from
  #to
  #fault
  #waiting = []
  #bytes = 0
  #timer
  #free = 0
  /** Called after so many more bytes; `undefined`: never. */
  limit

  constructor(from, to, fault) {
    this.#from = from
    this.#to = to
    this.#fault = fault
    from.on('data', (chunk) => this.#take(chunk))
    // An end is told in its turn, and not at all over a line on which nothing passes.
    from.on('end', () => this.#take(null))
    from.on('error', () => {})
    to.on('drain', () => this.pass())
  }

  #take(chunk) {
    this.#waiting.push({ chunk, at: performance.now() + this.#fault.delay })
    this.#bytes += chunk?.length ?? 0
    if (this.#bytes > WAITING_BYTES_MAX) this.#from.pause()
    this.pass()
  }

  /** Passes on what is due. */
  pass() {
    clearTimeout(this.#timer)
    while (this.#waiting.length > 0 && !this.#fault.isStalled && !this.#to.writableNeedDrain) {
      const [{ chunk, at }] = this.#waiting
      const wait = Math.max(at, this.#free) - performance.now()
      if (wait > 0) {
        this.#timer = setTimeout(() => this.pass(), wait)
        return
      }
      this.#waiting.shift()
      if (chunk === null) {
        this.#to.end()
        return
      }
      this.#bytes -= chunk.length
      if (this.#fault.bytesPerSecond) this.#free = performance.now() + (chunk.length / this.#fault.bytesPerSecond) * 1000
      if (this.#bytes < WAITING_BYTES_MAX / 2) this.#from.resume()
      if (!this.#write(chunk)) return
    }
  }

  /** False: that was the last. */
  #write(chunk) {
    if (this.limit === undefined || chunk.length < this.limit.bytes) {
      if (this.limit !== undefined) this.limit.bytes -= chunk.length
      this.#to.write(chunk)
      return true
    }
    const { bytes, then } = this.limit
    this.#to.write(chunk.subarray(0, bytes), then)
    return false
  }

  stop() {
    clearTimeout(this.#timer)
  }
}

/** Ends a connection by a reset. One that is being ended cannot be reset any more: Node would keep it for ever. */
const breakOff = (socket) => (socket.writableEnded ? socket.destroy() : socket.resetAndDestroy())

const WELL = { delay: 0, isStalled: false, bytesPerSecond: 0 }

/** Starts a proxy in front of `port`. `up` is the direction to the server behind it, `down` the one to its clients. */
export async function startFaultProxy({ port }) {
  const faults = { up: { ...WELL }, down: { ...WELL } }
  const links = new Set()
  let isRefusing = false

  const link = (client) => {
    const server = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    const both = [client, server]
    const flows = { up: new Flow(client, server, faults.up), down: new Flow(server, client, faults.down) }
    const one = { flows, isBroken: false, cut: () => both.forEach(breakOff) }
    links.add(one)
    const ended = () => {
      // A break is not heard over a line on which nothing passes, but after it.
      one.isBroken = true
      if (isStalled()) return
      both.forEach((socket) => socket.destroy())
      Object.values(flows).forEach((flow) => flow.stop())
      links.delete(one)
    }
    one.end = ended
    both.forEach((socket) => socket.on('close', ended))
  }
  const isStalled = () => faults.up.isStalled || faults.down.isStalled
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    client.on('error', () => {})
    if (isRefusing) breakOff(client)
    else link(client)
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')

  const cut = () => {
    links.forEach((one) => one.cut())
    links.clear()
  }
  const set = (directions, change) => {
    for (const direction of directions) Object.assign(faults[direction], change)
    for (const { flows, isBroken, end } of [...links]) {
      Object.values(flows).forEach((flow) => flow.pass())
      if (isBroken) end()
    }
  }
  const BOTH = ['up', 'down']
  return {
    port: listener.address().port,
    /** Connections through it now. */
    connections: () => links.size,
    /** Everything arrives, so many milliseconds later. */
    delay: (milliseconds, directions = BOTH) => set(directions, { delay: milliseconds }),
    /** Nothing passes, nor do ends and breaks; nothing is lost either: it comes after `heal`. */
    stall: (directions = BOTH) => set(directions, { isStalled: true }),
    throttle: (bytesPerSecond, directions = BOTH) => set(directions, { bytesPerSecond }),
    /** New connections are broken off at once. */
    refuse: (yes = true) => {
      isRefusing = yes
    },
    /** Every connection breaks now. */
    cut,
    /** Every connection that is there breaks after so many more bytes of the server's. */
    cutAfter: (bytes) => links.forEach(({ flows, cut }) => {
      flows.down.limit = { bytes, then: cut }
    }),
    /** As if nothing had been. */
    heal: () => {
      isRefusing = false
      set(BOTH, WELL)
    },
    stop: () => {
      cut()
      return new Promise((resolve) => listener.close(resolve))
    },
  }
}
