// What every end-to-end test shares: the release binary on a free port, clients that are closed when the file ends,
// an application that authorizes subscriptions, and waiting on conditions with a deadline.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import { createRequire } from 'node:module'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import Echo from 'laravel-echo'
import PusherServer from 'pusher'

const require = createRequire(import.meta.url)
const pusherJs = require('pusher-js')

/** The real client, as a Node program gets it. */
export const Pusher = pusherJs.default ?? pusherJs

/** The development app: what the server serves when nothing is configured. */
export const APP = { appId: 'soundpost', key: 'soundpost-key', secret: 'soundpost-secret' }

/** A value as TOML has it on one line. */
function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`
  if (typeof value !== 'object') return JSON.stringify(value)
  return `{ ${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)} = ${toml(inner)}`).join(', ')} }`
}

const lines = (table) => Object.entries(table).map(([name, value]) => `${name} = ${toml(value)}\n`).join('')

/** A configuration file with one app; `settings` are further keys of the app, `webhooks` its webhooks. */
export function configOf({ appId, key, secret }, settings = {}, webhooks = []) {
  const tables = webhooks.map((webhook) => `[[apps.webhooks]]\n${lines(webhook)}`)
  return `[[apps]]\n${lines({ id: appId, key, secret, ...settings })}${tables.join('')}`
}

/** Longest wait for anything, milliseconds. Far above what a loaded machine needs; a pass never waits for it. */
export const DEADLINE = 30_000

const here = path.dirname(fileURLToPath(import.meta.url))

/** The root of the repository. */
export const ROOT = path.resolve(here, '../../../..')

/** Where the build puts things; screenshots go there too. */
export const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target')

export const BINARY = process.env.SERVER_BINARY ?? path.join(TARGET, 'release/soundpost')

/** Programs that run, each with the signal that surely ends it. */
const children = new Map()
/** Folders of such programs, and of this process alone. */
const folders = new Set()
process.on('exit', () => {
  children.forEach((signal, child) => child.kill(signal))
  folders.forEach(removeFolder)
})
// The runner ends a file that takes too long by a signal. By itself that is no exit, and would leave the programs behind.
process.on('SIGTERM', () => process.exit(143))
process.on('SIGINT', () => process.exit(130))

/** Makes a folder for a program, which is gone with this process at the latest. */
export function makeFolder(prefix) {
  const folder = mkdtempSync(path.join(tmpdir(), prefix))
  folders.add(folder)
  return folder
}

export function removeFolder(folder) {
  folders.delete(folder)
  rmSync(folder, { recursive: true, force: true })
}

/** How often it is looked whether this process gets its turn, and how much longer others may be kept waiting than it was. */
const LOOK = 50
const OVER_OWN = 4

let lookedAt = performance.now()
let longestWait = 0
setInterval(() => {
  const now = performance.now()
  longestWait = Math.max(longestWait, now - lookedAt - LOOK)
  lookedAt = now
}, LOOK).unref()

/**
 * How late a thing may be that is due after a time: `milliseconds`, and more where this process itself was kept waiting,
 * since then those that it waits for were too.
 */
export const lateBy = (milliseconds) => milliseconds + OVER_OWN * longestWait

/** Rejects with `what` when `promise` takes longer than the deadline. */
export async function within(promise, what, milliseconds = DEADLINE) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

const anything = Object.assign(() => true, { what: 'item' })

/** A queue of what happened: `push` is called by whatever is listened to, `next` waits for the first match. */
export class Inbox {
  #items = []
  #waiting = []

  push = (item) => {
    const index = this.#waiting.findIndex(({ match }) => match(item))
    if (index < 0) this.#items.push(item)
    else this.#waiting.splice(index, 1)[0].resolve(item)
  }

  /** Takes the first item that matches, waiting for it if need be; items before it stay. */
  async next(match = anything, what = match.what ?? `item for which ${match}`, milliseconds = DEADLINE) {
    const index = this.#items.findIndex(match)
    if (index >= 0) return this.#items.splice(index, 1)[0]
    const waiting = { match }
    const found = new Promise((resolve) => {
      waiting.resolve = resolve
      this.#waiting.push(waiting)
    })
    try {
      return await within(found, what, milliseconds)
    } catch ({ message }) {
      // Who has given up takes nothing from who comes later.
      this.#waiting = this.#waiting.filter((one) => one !== waiting)
      throw new Error(`${message}; seen ${JSON.stringify(this.#items)}`)
    }
  }

  /** What came and was not taken. */
  get rest() {
    return [...this.#items]
  }
}

/** Environment without anything that would configure the server behind the test's back. */
function cleanEnvironment(extra) {
  const foreign = /^(SOUNDPOST|REVERB|REDIS|SOKETI|PUSHER)_/
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))), ...extra }
}

/**
 * Starts a program and waits for the first line of its output that `found` makes something of, or, for one that says
 * nothing when it is ready, until `answers` is true. The program is ended by `stop()`, and with this process at the
 * latest; `signal(name)` sends it another signal. `user`: the number of the user, and group, to run it as. `last`: the signal that ends it for certain.
 */
export async function startProgram(command, args, { env = {}, cwd, user, found = () => undefined, answers, last = 'SIGKILL' }) {
  const as = user === undefined ? {} : { uid: user, gid: user }
  const child = spawn(command, args, { cwd, ...as, env: cleanEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'] })
  children.set(child, last)
  // They end with this process, and do not keep it: a test that failed while it started them cannot stop them.
  ;[child, child.stdout, child.stderr].forEach((part) => part?.unref())
  const gone = once(child, 'exit').then(([code, signal]) => {
    children.delete(child)
    return signal ?? code
  })
  const silent = once(child, 'close')
  // Who cannot be started is told of below.
  silent.catch(() => {})
  const said = []
  const ready = new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      readline.createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        const value = stream === child.stdout ? found(line) : undefined
        if (value !== undefined) resolve(value)
      })
    }
    if (answers) eventually(answers, `answer of ${command}`).then(resolve, reject)
    child.on('error', reject)
    gone.then((code) => reject(new Error(`${command} ended (${code}) before it was ready:\n${said.join('\n')}`)), reject)
  })
  let isAsked = false
  const end = (signal) => {
    isAsked = true
    child.kill(signal)
    return within(gone, `end of ${command}`)
  }
  try {
    const value = await within(ready, `ready ${command}`).catch(({ message }) => {
      throw new Error(`${message}; it has said ${said.join('\n')}`)
    })
    // Else the tests that use it would only say that they have waited in vain.
    gone.then((code) => isAsked || console.error(`${command} ended by itself (${code}):\n${said.slice(-20).join('\n')}`))
    const signal = (name) => child.kill(name)
    const hangUp = () => signal('SIGHUP')
    // What it says last is read a little after its end.
    const drain = async () => {
      const how = await end('SIGTERM')
      await within(silent, `last words of ${command}`)
      return how
    }
    return { value, said, gone, pid: child.pid, signal, hangUp, drain, stop: () => end(last) }
  } catch (error) {
    child.kill(last)
    throw error
  }
}

/**
 * Starts the server on a free port of the loopback, or on `port`. `config`: text of a configuration file.
 * `files`: files of its working directory, by name. `drain()` asks it to end as a restart would and waits; `stop()` ends it
 * at once, `hangUp()` has it read its settings again.
 */
export async function startServer({ port = 0, env = {}, config, files = {} } = {}) {
  // A folder of its own, so that no `.env` of the checkout is read.
  const cwd = makeFolder('soundpost-e2e-')
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(cwd, name)), { recursive: true })
    writeFileSync(path.join(cwd, name), text)
  }
  const args = ['--host', '127.0.0.1', '--port', String(port)]
  if (config !== undefined) {
    writeFileSync(path.join(cwd, 'soundpost.toml'), config)
    args.push('--config', path.join(cwd, 'soundpost.toml'))
  }
  const found = (line) => line.match(/(?:http|ws)s?:\/\/127\.0\.0\.1:(\d+)/)?.[1]
  const program = await startProgram(BINARY, args, { cwd, env, found })
  program.gone.then(() => removeFolder(cwd))
  return Object.assign(program, { port: Number(program.value), cwd })
}

/**
 * A proxy as in front of most servers: it takes connections at any time and holds them until the server is there.
 * Without it, what a client sees of a restart is luck: pusher-js comes back at once from 4200, but only after 15
 * seconds (its strategy's timer) from a port on which nobody listens.
 */
export async function startFront({ port }) {
  const open = new Set()
  const front = net.createServer((client) => {
    open.add(client)
    client.on('close', () => open.delete(client)).on('error', () => client.destroy())
    const connect = () => {
      if (client.destroyed) return
      const backend = net.connect(port, '127.0.0.1')
      backend.once('connect', () => {
        client.pipe(backend).pipe(client)
        client.once('close', () => backend.destroy())
      })
      backend.once('error', ({ code }) => (code === 'ECONNREFUSED' ? setTimeout(connect, 50) : client.destroy()))
    }
    connect()
  })
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
  const stop = () => {
    open.forEach((client) => client.destroy())
    return new Promise((resolve) => front.close(resolve))
  }
  return { port: front.address().port, stop }
}

/** The npm `pusher` server SDK, pointed at the server. `Sdk`: another version of it. */
export function sdk({ port }, { Sdk = PusherServer, ...options } = {}) {
  return new Sdk({ ...APP, host: '127.0.0.1', port: String(port), useTLS: false, timeout: DEADLINE, ...options })
}

/**
 * Asks until `question` says something true, and gives it back. For what the server tells nobody by itself. `what`: what is
 * awaited, or a function that says so in the end, with what there is instead.
 */
export async function eventually(question, what, milliseconds = DEADLINE) {
  const until = Date.now() + milliseconds
  for (;;) {
    const answer = await question()
    if (answer) return answer
    if (Date.now() > until) throw new Error(`no ${typeof what === 'function' ? what() : what} within ${milliseconds} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Options that point pusher-js at the server, as Laravel's generated `echo.js` has them. */
export function clientOptions({ port }) {
  const common = { wsHost: '127.0.0.1', wsPort: port, wssPort: port, forceTLS: false }
  return { ...common, cluster: 'mt1', enabledTransports: ['ws', 'wss'], disableStats: true }
}

/** Where a client finds the application, and who it says it is; `watchlist`: whom it watches when it signs in. */
function authOptions({ authEndpoint, userEndpoint }, user, watchlist = []) {
  const headers = { 'X-User': user }
  const watching = { ...headers, 'X-Watchlist': watchlist.join(',') }
  return { authEndpoint, auth: { headers }, userAuthentication: { endpoint: userEndpoint, headers: watching } }
}

/** Opens clients and closes them all in `close()`; one per test file. */
export class Clients {
  #open = []
  // faye-websocket, which pusher-js brings for Node, leaves a timer of half a minute behind when it is closed once more
  // by a refused client. It would keep the process for as long.
  #sockets = new Set()

  /** A pusher-js client; `user` is who the application takes it for. `Client`: another version of it. */
  pusher(server, { application, user, watchlist, key = APP.key, Client = Pusher, ...options } = {}) {
    const auth = application && authOptions(application, user, watchlist)
    const client = new Client(key, { ...clientOptions(server), ...auth, ...options })
    return this.closing(client)
  }

  /** A Laravel Echo over pusher-js. */
  echo(server, { broadcaster, application, user, watchlist, ...options } = {}) {
    const auth = application && authOptions(application, user, watchlist)
    const echo = new Echo({ broadcaster, key: APP.key, Pusher, ...clientOptions(server), ...auth, ...options })
    return this.closing(echo)
  }

  /** Has a client that was made elsewhere closed with the others. */
  closing(client) {
    this.#open.push(client)
    const { connection } = client.connector?.pusher ?? client
    connection.bind('connected', () => this.#sockets.add(connection.connection?.transport?.socket ?? {}))
    return client
  }

  close() {
    this.#open.forEach((client) => client.disconnect())
    this.#sockets.forEach((socket) => clearTimeout(socket._closeTimer))
  }
}

/** Waits until a pusher-js client is in `state`. */
export function reached(client, state) {
  if (client.connection.state === state) return Promise.resolve()
  const arrived = new Promise((resolve) => {
    const look = ({ current }) => {
      if (current !== state) return
      client.connection.unbind('state_change', look)
      resolve()
    }
    client.connection.bind('state_change', look)
  })
  return within(arrived, `state ${state}`).catch(({ message }) => {
    throw new Error(`${message}; now it is ${client.connection.state}`)
  })
}

/** Matches what an inbox holds by its event's name. */
export const named = (event) => Object.assign((item) => item.event === event, { what: event })

/** Everything a channel, or `pusher.user`, emits, as `{event, data}`. */
export function inboxOf(channel) {
  const inbox = new Inbox()
  channel.bind_global((event, data) => inbox.push({ event, data }))
  return inbox
}

/** Subscribes with pusher-js and waits for the server's yes. */
export async function subscribed(client, name) {
  const channel = client.subscribe(name)
  const inbox = inboxOf(channel)
  const { data } = await inbox.next(({ event }) => event === 'pusher:subscription_succeeded', `subscription of ${name}`)
  return { channel, inbox, roster: data }
}

/** Waits until the Echo channel is subscribed. */
export function echoSubscribed(channel) {
  return within(new Promise((resolve) => channel.subscribed(resolve)), `subscription of ${channel.name}`)
}

const bodyOf = async (request) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/**
 * The user's web application: serves `files` (path to file of node_modules, or `{type, text}`), and, as Laravel does,
 * `/broadcasting/auth` and `/broadcasting/user-auth`, which sign with the SDK. Whoever says `X-User: ada` is ada. It
 * refuses channels named `*forbidden*` (403) and signs channels and users named `*forged*` with a wrong secret.
 */
export async function startApplication(server, files = {}, app = APP) {
  const signer = sdk(server, { ...app, encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64') })
  const forger = sdk(server, { ...app, secret: 'not-the-secret' })
  const seen = []
  const listener = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://app')
    if (request.method === 'POST' && pathname === '/broadcasting/auth') {
      const form = new URLSearchParams(await bodyOf(request))
      const [socketId, channel] = [form.get('socket_id'), form.get('channel_name')]
      const id = request.headers['x-user']
      seen.push({ socketId, channel, id })
      if (channel.includes('forbidden')) return response.writeHead(403).end('forbidden')
      const member = channel.startsWith('presence-') ? { user_id: id, user_info: { id, name: `${id}!` } } : undefined
      const by = channel.includes('forged') ? forger : signer
      return response.end(JSON.stringify(by.authorizeChannel(socketId, channel, member)))
    }
    if (request.method === 'POST' && pathname === '/broadcasting/user-auth') {
      const socketId = new URLSearchParams(await bodyOf(request)).get('socket_id')
      const id = request.headers['x-user']
      const watchlist = request.headers['x-watchlist']?.split(',').filter(Boolean)
      const by = id.includes('forged') ? forger : signer
      return response.end(JSON.stringify(by.authenticateUser(socketId, { id, user_info: { name: `${id}!` }, watchlist })))
    }
    const file = files[pathname]
    if (file === undefined) return response.writeHead(404).end()
    const isText = typeof file !== 'string'
    response.setHeader('Content-Type', `${isText ? file.type : 'text/javascript'}; charset=utf-8`)
    response.end(isText ? file.text : await readFile(path.join(here, 'node_modules', file)))
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const url = `http://127.0.0.1:${listener.address().port}`
  const stop = () => {
    listener.closeAllConnections()
    return new Promise((resolve) => listener.close(resolve))
  }
  const endpoints = { authEndpoint: `${url}/broadcasting/auth`, userEndpoint: `${url}/broadcasting/user-auth` }
  return { url, ...endpoints, sdk: signer, seen, stop }
}
