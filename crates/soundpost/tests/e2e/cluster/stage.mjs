// A cluster as the tests see it: nodes over one Redis, each a process, perhaps behind a fault proxy of its own; clients
// and publishers; and the check at the end, which every test of a fault has to pass.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { APP, Clients, DEADLINE, configOf, eventually, lateBy, sdk, startServer } from '../harness.mjs'
import { startFaultProxy } from './fault_proxy.mjs'
import { account, Publisher } from './publisher.mjs'
import { remains } from './remains.mjs'
import { startRedis } from './redis.mjs'
import { Seat } from './seat.mjs'

/** A node keeps a topic for so long after its last subscriber has left, milliseconds. */
export const LINGER = 5000
/** A node that says nothing for so long is dead, milliseconds. */
export const LEASE = 6000

/** What a node may have grown by in a test, bytes; the allocator keeps some of what it had. */
const GROWTH_MAX = 24 << 20

/** `[redis]` of a configuration file; values as JSON, which is TOML for texts, numbers and lists. */
const redisLines = (settings) =>
  `[redis]\nenabled = true\n${Object.entries(settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join('')}`

/** A node: a process, its addresses, and what it says of itself. */
class Node {
  #program
  /** Times it was paused. */
  pauses = 0
  isPaused = false
  /** The others take it for gone: what it says, and what its clients see, is its own affair. */
  isAside = false

  constructor(name, program, proxy) {
    this.name = name
    this.#program = program
    this.proxy = proxy
    this.port = program.port
    this.gone = program.gone
    this.isAlive = true
  }

  get said() {
    return this.#program.said
  }

  /** Where its metrics and its health are. */
  get admin() {
    return this.said.join('\n').match(/admin +(http:\/\/[^/]+)/)[1]
  }

  /** Ended without a word, as by the kernel. */
  async kill() {
    this.isAlive = false
    await this.#program.stop()
  }

  /** Asked to end, as by a deployment; resolves when it has. */
  async drain() {
    this.isAlive = false
    await this.#program.drain()
  }

  /** It keeps its connections and does nothing. */
  pause() {
    this.#program.signal('SIGSTOP')
    this.pauses += 1
    this.isPaused = true
  }

  resume() {
    this.#program.signal('SIGCONT')
    this.isPaused = false
  }

  /** The metrics as `name{labels}` to number. */
  async metrics() {
    const text = await (await fetch(`${this.admin}/metrics`)).text()
    const lines = text.split('\n').filter((line) => line && !line.startsWith('#'))
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
  }

  /** The sum over all labels of one metric; 0 where there is none. */
  async metric(name) {
    const all = [...(await this.metrics())].filter(([key]) => key === name || key.startsWith(`${name}{`))
    return all.reduce((sum, [, value]) => sum + value, 0)
  }

  /** What `/up` or `/ready` of the admin listener says. */
  async health(path) {
    const response = await fetch(`${this.admin}${path}`)
    return { status: response.status, text: (await response.text()).trim() }
  }

  /** Resident memory, bytes. */
  memory = () => Number(readFileSync(`/proc/${this.#program.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) * 1024
}

export class Cluster {
  nodes = []
  seats = []
  publishers = []
  /** Nodes are asked for the list of all channels, too, which takes some round trips to Redis. */
  isListed = true
  #clients = new Clients()
  #ends = []
  #options
  #memory = new Map()

  constructor(options) {
    this.#options = options
    this.app = options.app ?? APP
  }

  /** Has `end` called when the test is over, the last one first. */
  onEnd(end) {
    this.#ends.unshift(end)
  }

  async end() {
    this.publishers.forEach((publisher) => publisher.stop())
    this.seats.forEach((seat) => seat.close())
    this.#clients.close()
    for (const end of this.#ends) await end()
  }

  /** Starts one more node. */
  async node(settings = {}) {
    const { redis = {}, app = {}, server = {}, webhooks = [], isBehindProxy } = { ...this.#options.settings, ...settings }
    const proxy = isBehindProxy ? await startFaultProxy(this.redis) : undefined
    if (proxy) this.onEnd(() => proxy.stop())
    const url = this.redis?.port && `redis://127.0.0.1:${proxy?.port ?? this.redis.port}`
    const lines = Object.entries({ drain_seconds: 2, ...server }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`)
    const scaling = this.redis === null ? '' : redisLines({ ...(url ? { url } : {}), ...redis })
    const config = `[server]\n${lines.join('\n')}\n[admin]\nport = 0\n${scaling}${configOf(this.app, app, webhooks)}`
    const program = await startServer({ config })
    const node = new Node(String.fromCharCode(65 + this.nodes.length), program, proxy)
    this.nodes.push(node)
    this.onEnd(() => {
      node.isAlive = false
      return program.stop()
    })
    await this.isReady(node)
    this.#memory.set(node, node.memory())
    return node
  }

  /** Waits until the node has its Redis. */
  isReady(node) {
    const well = async () => {
      const { status, text } = await node.health('/ready')
      return status === 200 && !/degraded/.test(text)
    }
    return eventually(well, `node ${node.name} with its Redis`)
  }

  /** Waits until every node hears the control topic of this server. */
  gathered(server) {
    const all = async () => (await server.hearing(`${this.names}:{nodes}:control`)) === this.alive.length
    return eventually(all, `nodes at ${server.port}`, 2 * DEADLINE)
  }

  get alive() {
    return this.nodes.filter(({ isAlive }) => isAlive)
  }

  /** A client at a node, connected. `through`: a proxy in front of the node. */
  async seat(node, user, { through, watchlist, ...options } = {}) {
    const signer = sdk(node, { ...this.app, encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64') })
    const member = (name) => (name.startsWith('presence-') ? { user_id: user, user_info: { name: `${user}!` } } : undefined)
    const channelAuthorization = {
      customHandler: ({ socketId, channelName }, done) => done(null, signer.authorizeChannel(socketId, channelName, member(channelName))),
    }
    const userAuthentication = {
      customHandler: ({ socketId }, done) => done(null, signer.authenticateUser(socketId, { id: user, watchlist })),
    }
    const client = this.#clients.pusher(through ?? node, { key: this.app.key, channelAuthorization, userAuthentication, ...options })
    const seat = new Seat(client, node, user)
    this.seats.push(seat)
    await seat.connected()
    return seat
  }

  /** A client that is on channels. */
  async seated(node, user, channels, options) {
    const seat = await this.seat(node, user, options)
    await seat.join(...channels)
    return seat
  }

  /** A client that nobody keeps a record of. */
  pusher = (node, options) => this.#clients.pusher(node, { key: this.app.key, ...options })

  /** A Laravel Echo at a node. */
  echo = (node, options) => this.#clients.echo(node, options)

  /** Its clients go with a node that has died. */
  abandon(node) {
    this.seats.filter((seat) => seat.node === node).forEach((seat) => seat.close())
  }

  publisher(name, node) {
    const publisher = new Publisher(name, node, this.app)
    this.publishers.push(publisher)
    return publisher
  }

  /** A signed GET of the HTTP API. */
  async get(node, path, params) {
    const response = await sdk(node, { ...this.app, timeout: 5000 }).get({ path, params })
    return response.json()
  }

  /** Clients that are still there, but for those at nodes that are cut off, whom the others take for gone. */
  get present() {
    return this.seats.filter(({ isGone, node }) => !isGone && !node.isAside)
  }

  /** Who is on the channel, as this test knows: distinct users of the clients that want to be on it. */
  truth(name) {
    return new Set(this.present.filter(({ wants }) => wants.has(name)).map(({ user }) => user))
  }

  /** Where anybody's view of the channels is not the truth. */
  async differences() {
    const names = new Set(this.seats.flatMap(({ logs }) => logs.map(({ name }) => name)))
    const nodes = this.alive.filter(({ isAside }) => !isAside)
    const differences = []
    const compare = (who, name, seen, expected) => {
      const [a, b] = [seen, expected].map((value) => JSON.stringify(value instanceof Set ? [...value].sort() : value))
      if (a !== b) differences.push(`${who} says of ${name}: ${a}, not ${b}`)
    }
    for (const name of names) {
      if (name.startsWith('#')) continue
      const [isPresence, truth] = [name.startsWith('presence-'), this.truth(name)]
      const seats = this.present.filter(({ wants }) => wants.has(name))
      for (const seat of seats) {
        const log = seat.log(name)
        if (!log.isSubscribed) differences.push(`${seat.user} is not subscribed to ${name}`)
        else if (isPresence) compare(`${seat.user} at ${seat.node.name}`, name, log.roster, truth)
      }
      const asked = seats.length === 0 ? [] : nodes.map(async (node) => {
        const info = isPresence ? 'user_count,subscription_count' : 'subscription_count'
        const channel = await this.get(node, `/channels/${name}`, { info })
        const expected = { occupied: true, ...(isPresence ? { user_count: truth.size } : {}), subscription_count: seats.length }
        compare(`node ${node.name}`, name, Object.fromEntries(Object.keys(expected).map((key) => [key, channel[key]])), expected)
        if (!isPresence) return
        const { users } = await this.get(node, `/channels/${name}/users`)
        compare(`node ${node.name} (users)`, name, new Set(users.map(({ id }) => id)), truth)
      })
      await Promise.all(asked)
    }
    if (!this.isListed) return differences
    const occupied = new Set(this.present.flatMap(({ wants }) => [...wants]))
    for (const node of nodes) {
      const { channels } = await this.get(node, '/channels')
      compare(`node ${node.name}`, 'all channels', new Set(Object.keys(channels)), occupied)
    }
    return differences
  }

  /** Waits until everybody sees the truth; gives the milliseconds from `since` until then. */
  async agreed(since, milliseconds = DEADLINE) {
    const until = since + lateBy(milliseconds)
    for (;;) {
      const differences = await this.differences().catch(({ message, url, body }) => [`${message} ${url?.split('?')[0] ?? ''} ${body ?? ''}`])
      const now = performance.now()
      if (differences.length === 0) return Math.round(now - since)
      if (now > until) throw new Error(`no agreement within ${milliseconds} ms:\n${differences.join('\n')}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Nobody has seen anything that contradicts what they had seen before. */
  assertConsistent() {
    const problems = this.seats.flatMap(({ user, node, logs }) =>
      logs.flatMap(({ name, problems }) => problems.map((problem) => `${user} at ${node.name}, ${name}: ${problem}`)))
    assert.deepEqual(problems, [])
  }

  /** Times that clients saw one user, or anybody, come or go since then. */
  transitions(since = 0, id) {
    return this.seats.flatMap((seat) => seat.logs.flatMap(({ name, transitions }) =>
      transitions.filter((one) => one.at >= since && (id === undefined || one.id === id)).map((one) => ({ ...one, name, seat }))))
  }

  /** The account of all events, asserted: nothing lost but what `excuses` allows, nothing twice, nothing out of order. */
  assertEvents(options) {
    const { which, ...sum } = account(this.publishers, this.seats, options)
    const wrong = { lost: sum.lost, duplicated: sum.duplicated, reversed: sum.reversed, strange: sum.strange }
    assert.deepEqual(wrong, { lost: 0, duplicated: 0, reversed: 0, strange: 0 }, `${JSON.stringify(sum)} ${which.slice(0, 20).join(', ')}`)
    return sum
  }

  /** Ends the publishers, and asserts that nobody saw a contradiction and that the events add up; gives their account. */
  async account(options) {
    await Promise.all(this.publishers.map((publisher) => publisher.stop()))
    // An event is delivered after its publisher was answered, by a little.
    await eventually(() => account(this.publishers, this.seats, options).lost === 0, 'last events').catch(() => {})
    this.assertConsistent()
    return this.assertEvents(options)
  }

  /**
   * The end of every test: nobody saw a contradiction, the events add up; then all leave, and nothing may be left, in
   * Redis or in the nodes. Gives the account of the events.
   */
  async finish(options = {}) {
    const events = await this.account(options)
    this.seats.forEach((seat) => seat.close())
    await eventually(async () => (await this.leftovers()).length === 0, 'clean cluster', DEADLINE + LINGER).catch(async ({ message }) => {
      throw new Error(`${message}:\n${(await this.leftovers()).join('\n')}`)
    })
    for (const node of this.alive) {
      const grown = node.memory() - this.#memory.get(node)
      for (const name of ['gaps', 'duplicates', 'reconnects']) {
        events[name] = (events[name] ?? 0) + (await node.metric(`soundpost_redis_${name}_total`))
      }
      assert.ok(grown < GROWTH_MAX, `node ${node.name} has grown by ${Math.round(grown / 1024)} kB`)
    }
    return events
  }

  /** What all its names in Redis begin with. */
  get names() {
    const { prefix = 'soundpost', database = 0, channel = 'reverb' } = this.#options.settings?.redis ?? {}
    return `${prefix}:${database}:${channel}`
  }

  /** What is left when all clients have gone. */
  async leftovers() {
    const found = []
    for (const node of this.alive) {
      for (const name of ['soundpost_connections', 'soundpost_channels', 'soundpost_subscriptions']) {
        const value = await node.metric(name)
        if (value !== 0) found.push(`node ${node.name}: ${name} ${value}`)
      }
    }
    const servers = this.redis?.masters ? await this.redis.masters() : [this.redis]
    if (this.redis) found.push(...(await remains(servers, this.names, this.alive.length, this.redis.masters ? undefined : (this.#options.settings?.redis?.database ?? 0))))
    return found
  }
}

/**
 * A cluster for a test. `nodes`: how many; `redis`: one that runs, and whose end is others' business, `null` for none, by
 * default one of its own;
 * `settings`: `{redis, app, server, webhooks}` for the configuration files, and `isBehindProxy`, if each node has a fault proxy
 * between itself and Redis; `server`: how its own Redis is started.
 */
export async function startCluster(t, { nodes = 2, redis, ...options } = {}) {
  const cluster = new Cluster(options)
  t.after(() => cluster.end())
  cluster.redis = redis === undefined ? await startRedis(options.server) : redis
  if (redis === undefined) cluster.onEnd(() => cluster.redis.stop())
  await Promise.all(Array.from({ length: nodes }, () => cluster.node()))
  return cluster
}

/** The line that says what a test of a fault has found. */
export function report(t, what, { agreed, ...figures }, events) {
  const more = Object.entries({ agreed: `${agreed} ms`, ...figures }).map(([name, value]) => `${name} ${value}`)
  const account = ['sent', 'accepted', 'lost', 'excused', 'duplicated', 'reversed'].map((name) => `${name} ${events[name]}`)
  const nodes = ['gaps', 'duplicates', 'reconnects'].map((name) => `${name} ${events[name] ?? 0}`)
  t.diagnostic(`fault: ${what} | ${more.join(', ')} | events: ${account.join(', ')} | nodes: ${nodes.join(', ')}`)
}
