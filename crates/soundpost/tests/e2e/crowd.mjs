// Many members of presence channels: each a WebSocket of its own that joins and does not listen. With real clients the
// test would decode a quarter of a million frames for 500 that come and go, and be busy with nothing else.

import { createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import { eventually, within } from './harness.mjs'

/** As many handshakes at once, so that nobody's place in a queue of the kernel's is taken. */
const AT_ONCE = 50
const RELOAD_AT_ONCE = 40

const GREETING = /"socket_id\\":\\"(\d+\.\d+)/
const JOINED = 'pusher_internal:subscription_succeeded'

/** A text frame of a client, with a mask of zeros. */
function frame(text) {
  const payload = Buffer.from(text)
  const head = Buffer.alloc(8)
  head.writeUInt8(0x81)
  head.writeUInt8(0x80 | 126, 1)
  head.writeUInt16BE(payload.length, 2)
  return Buffer.concat([head, payload])
}

class Member {
  #socket

  constructor({ key, secret }, channel, user) {
    Object.assign(this, { key, secret, channel, user })
  }

  /** Connects to the node and joins. */
  async join({ port }) {
    const socket = net.connect(port, '127.0.0.1')
    this.#socket = socket
    socket.on('error', () => {})
    const heard = (what, match) => within(new Promise((resolve, reject) => {
      let text = ''
      const look = (chunk) => {
        text += chunk.toString('latin1')
        const found = text.match(match)
        if (!found) return
        socket.off('data', look)
        resolve(found)
      }
      socket.on('data', look).once('close', () => reject(new Error(`${this.user} was closed before ${what}: ${text.slice(-200)}`)))
    }), `${what} of ${this.user}`, 30_000)
    const greeting = heard('greeting', GREETING)
    const nonce = randomBytes(16).toString('base64')
    socket.write(`GET /app/${this.key}?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${nonce}\r\n\r\n`)
    const [, socketId] = await greeting
    const member = JSON.stringify({ user_id: this.user })
    const signature = createHmac('sha256', this.secret).update(`${socketId}:${this.channel}:${member}`).digest('hex')
    const data = { channel: this.channel, auth: `${this.key}:${signature}`, channel_data: member }
    const joined = heard('subscription', JOINED)
    socket.write(frame(JSON.stringify({ event: 'pusher:subscribe', data })))
    await joined
    // What comes from here on is read and let go.
    socket.resume()
  }

  /** Breaks off, as a page that is loaded anew; if it is there. */
  async leave() {
    if (this.#socket === undefined || this.#socket.closed) return
    this.#socket.destroy()
    await once(this.#socket, 'close')
  }
}

export class Crowd {
  #members

  constructor(app, channel, count) {
    this.#members = Array.from({ length: count }, (_, n) => new Member(app, channel, `user-${n}`))
  }

  /** All join; `nodes`: in turn. */
  async join(...nodes) {
    for (let from = 0; from < this.#members.length; from += AT_ONCE) {
      const some = this.#members.slice(from, from + AT_ONCE)
      await Promise.all(some.map((member, n) => member.join(nodes[(from + n) % nodes.length])))
    }
  }

  /** All leave at once. */
  leave() {
    return Promise.all(this.#members.map((member) => member.leave()))
  }

  /**
   * All leave and come back, to the nodes in another turn than before: so many at once that none of them is away for long,
   * however slow the machine. `connections`: asks how many there are. The longest that one was away, milliseconds.
   */
  async reload(connections, ...nodes) {
    let longest = 0
    const all = await connections()
    for (let from = 0; from < this.#members.length; from += RELOAD_AT_ONCE) {
      const some = this.#members.slice(from, from + RELOAD_AT_ONCE)
      const began = performance.now()
      await Promise.all(some.map((member) => member.leave()))
      // Who is back before the node has seen the end was never away.
      await eventually(async () => (await connections()) === all - some.length, 'end of the connections')
      await Promise.all(some.map((member, n) => member.join(nodes[(from + n + 1) % nodes.length])))
      longest = Math.max(longest, performance.now() - began)
    }
    return longest
  }
}
