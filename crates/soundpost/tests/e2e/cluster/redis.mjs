// Redis as nodes meet it: one server, a master with a replica and a sentinel, or a cluster of three masters; each a
// process on the loopback that can be killed, paused, and started again on the same port, with its data or without.

import { rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createClient } from '@redis/client'
import { DEADLINE, eventually, makeFolder, removeFolder, startProgram, within } from '../harness.mjs'
import { freePort } from '../ports.mjs'

/** One redis-server, or redis-sentinel. */
export class RedisServer {
  #arguments
  #program
  #client

  constructor(port, words) {
    this.port = port
    this.folder = makeFolder('soundpost-redis-')
    this.#arguments = words
  }

  /** Starts it, or starts it again; `isEmpty`: without what it had. Resolves when it answers. */
  async start({ isEmpty = false } = {}) {
    if (isEmpty) ['appendonlydir', 'dump.rdb'].forEach((name) => rmSync(path.join(this.folder, name), { recursive: true, force: true }))
    const answers = () => this.ask('PING').then((said) => said === 'PONG', () => false)
    this.#program = await startProgram('redis-server', this.#arguments(this), { cwd: this.folder, answers })
  }

  /** One command and its answer, as RESP 2 has it. Rejects when the server is away or says no. */
  async ask(...words) {
    if (!this.#client?.isReady) {
      this.#client?.destroy()
      const socket = { host: '127.0.0.1', port: this.port, reconnectStrategy: false, connectTimeout: DEADLINE }
      const client = createClient({ socket, RESP: 2, disableClientInfo: true, disableOfflineQueue: true })
      // The command that meets it rejects as well.
      client.on('error', () => {})
      this.#client = undefined
      await client.connect()
      this.#client = client
    }
    return within(this.#client.sendCommand(words.map((word) => (Buffer.isBuffer(word) ? word : String(word)))), `answer to ${words[0]}`)
  }

  /** Writes what it has to its disk, so that it comes back with that, and not with what came later. */
  save = () => this.ask('SAVE')

  /** How many connections hear the topic. */
  hearing = async (topic) => (await this.ask('PUBSUB', 'NUMSUB', topic))[1]

  /** As a power cut; without `save` or `appendonly` its data is lost. */
  kill = () => this.#program.stop()

  /** It keeps its connections and does nothing. */
  pause = () => this.#program.signal('SIGSTOP')

  resume = () => this.#program.signal('SIGCONT')

  /** Ends it for good. */
  async stop() {
    this.#client?.destroy()
    this.#client = undefined
    await this.#program?.stop()
    removeFolder(this.folder)
  }
}

/**
 * By default what is appended waits for a slow disk, for seconds, although it was answered, and is lost with the process.
 * With `no` it is with the system before the answer.
 */
const common = ({ port, folder }) =>
  ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendfsync', 'no']

/** Starts on a free port; tries others while another program is quicker. */
async function startOn(words) {
  for (let tries = 3; ; tries -= 1) {
    const server = new RedisServer(await freePort(), words)
    try {
      await server.start()
      return server
    } catch (error) {
      await server.stop()
      if (tries === 0 || !/in use/i.test(error.message)) throw error
    }
  }
}

/** One server. `appendonly`: it comes back with what it had. `settings`: further words of its command line. */
export const startRedis = ({ appendonly = false, settings = [] } = {}) =>
  startOn((server) => [...common(server), '--appendonly', appendonly ? 'yes' : 'no', ...settings])

/** The name under which the sentinel knows the master. */
export const MASTER = 'soundpost-test'

/** Longest that the sentinel takes a silent master for well, milliseconds. */
const DOWN_AFTER = 1000

/** A master, a replica of it, and a sentinel that alone decides. */
export async function startSentinel() {
  // The replica is to be there at once, not when others may have come, too.
  const master = await startRedis({ settings: ['--repl-diskless-sync-delay', '0'] })
  const replica = await startRedis({ settings: ['--replicaof', '127.0.0.1', `${master.port}`] })
  const words = ({ folder }) => [path.join(folder, 'sentinel.conf'), '--sentinel']
  const sentinel = new RedisServer(await freePort(), words)
  const lines = [
    `port ${sentinel.port}`, 'bind 127.0.0.1', `dir ${sentinel.folder}`,
    `sentinel monitor ${MASTER} 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds ${MASTER} ${DOWN_AFTER}`,
    // An attempt that fails is followed by another after twice this.
    `sentinel failover-timeout ${MASTER} 1500`,
  ]
  writeFileSync(path.join(sentinel.folder, 'sentinel.conf'), `${lines.join('\n')}\n`)
  await sentinel.start()
  const servers = [master, replica]
  const byPort = (port) => servers.find((server) => server.port === Number(port))
  const current = async () => byPort((await sentinel.ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER))[1])
  const isSeen = async () => {
    const [seen] = await sentinel.ask('SENTINEL', 'REPLICAS', MASTER)
    return seen !== undefined && seen[seen.indexOf('master-link-status') + 1] === 'ok'
  }
  await eventually(isSeen, 'replica at the sentinel')
  const stop = () => Promise.all([...servers, sentinel].map((server) => server.stop()))
  return { sentinel, current, masters: async () => [await current()], stop }
}

const SLOTS = 16384

/** Three masters, each with a third of the slots. A master that is away takes only its third with it. */
export async function startRedisCluster() {
  const servers = []
  for (let n = 0; n < 3; n += 1) {
    const bus = await freePort()
    const words = [
      '--appendonly', 'yes', '--cluster-enabled', 'yes', '--cluster-port', `${bus}`, '--cluster-node-timeout', '1000',
      '--cluster-require-full-coverage', 'no',
    ]
    const server = await startOn((one) => [...common(one), ...words])
    servers.push(Object.assign(server, { bus }))
  }
  for (const [n, server] of servers.entries()) {
    await server.ask('CLUSTER', 'SET-CONFIG-EPOCH', n + 1)
    const [first, after] = [n, n + 1].map((third) => Math.ceil((third * SLOTS) / servers.length))
    await server.ask('CLUSTER', 'ADDSLOTSRANGE', first, after - 1)
    if (n > 0) await server.ask('CLUSTER', 'MEET', '127.0.0.1', servers[0].port, servers[0].bus)
  }
  const knowsAll = async (server) => {
    const slots = await server.ask('CLUSTER', 'SLOTS')
    return /cluster_state:ok/.test(await server.ask('CLUSTER', 'INFO')) && slots.length === servers.length
  }
  for (const server of servers) await eventually(() => knowsAll(server), 'cluster of three masters')
  const stop = () => Promise.all(servers.map((server) => server.stop()))
  return { servers, masters: () => servers, stop }
}
