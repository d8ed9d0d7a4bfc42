// The scene of every fault: users who stay, users who come and go all the time, a publisher who never rests, and idle
// clients whose pings show whether a worker waits for anything.

import assert from 'node:assert/strict'
import { DEADLINE, configOf, eventually, lateBy, startServer } from '../harness.mjs'
import { startCluster } from './stage.mjs'

export const ROOM = 'presence-room'
export const CHANNELS = [ROOM, 'orders']
/** Which events show that everything works again. */
const SERVICE = 'service'

/** The numbers, milliseconds. */
export const MEMBERS_GONE = 10_000
export const SERVICE_BACK = 3000
export const PRESENCE_EQUAL = 5000
export const ANSWERED = 1000
/** What a run of everything, where tests and builds share two cores, may take longer than what is promised. */
export const ON_A_LOADED_MACHINE = 1000
/**
 * Pings take longer than the 50 ms that are promised where tests and nodes share two cores, some much longer. Who waits for
 * Redis in a worker makes all its clients wait until Redis is there: that is a good part of a scene. For at most this share
 * of the time may a client be kept waiting for so many milliseconds, or longer; or for as many times the control's share.
 */
const PING = 250
const WAITING_MAX = 0.25
const WAITING_OVER_CONTROL = 2
/** Between two pings, milliseconds. */
const PING_PAUSE = 10
/** The clocks that measure an answer are in this process, which does more than that; or as often the control's longest wait. */
const LAG = 250
const LAG_OVER_CONTROL = 2

/** What `/ready` says of a node whose Redis is away. */
export const isDegraded = ({ status, text }) => status === 200 && text.includes('degraded: redis')

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const percentile = (values, share) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))]

const sum = (values) => values.reduce((all, one) => all + one, 0)

/** The share of its time that a client was kept waiting for a pong. */
const waiting = (times) => sum(times.filter((took) => took >= PING)) / Math.max(1, sum(times.map((took) => took + PING_PAUSE)))

/** Something done over and over until it is stopped. */
class Repeated {
  #isOn = true
  #running

  constructor(work) {
    this.#running = (async () => {
      while (this.#isOn) await work()
    })()
    // Whoever stops it hears of it.
    this.#running.catch(() => {})
  }

  stop() {
    this.#isOn = false
    return this.#running
  }
}

export class Scene {
  #churns = []
  #pings = []
  #times = []
  #control = []
  #marks = 0

  constructor(cluster) {
    this.cluster = cluster
    this.nodes = cluster.nodes
    // Should the test fail before it has stopped them: they would keep the process.
    cluster.onEnd(() => [...this.#churns, ...this.#pings].forEach((one) => one.stop().catch(() => {})))
  }

  /** Begins what never rests. `publishing`: the node that events are published through; `churning`: where users come and go. */
  begin({ publishing = this.nodes[0], churning = this.nodes } = {}) {
    this.publisher = this.cluster.publisher('p', publishing)
    this.publisher.start(CHANNELS)
    for (const seat of this.churners.filter(({ node }) => churning.includes(node))) {
      this.#churns.push(new Repeated(async () => {
        await seat.join(ROOM)
        await pause(Math.random() * 100)
        // In the end about half of them are there.
        if (Math.random() < 0.9) seat.leave(ROOM)
        await pause(Math.random() * 100)
        if (seat.wants.has(ROOM)) seat.leave(ROOM)
      }))
    }
    for (const seat of [...this.idle, this.control]) {
      const times = seat === this.control ? this.#control : this.#times
      this.#pings.push(new Repeated(async () => {
        const { pauses, isPaused } = seat.node
        const took = await seat.ping()
        if (took !== undefined && !isPaused && seat.node.pauses === pauses) times.push(took)
        await pause(PING_PAUSE)
      }))
    }
    this.beganAt = performance.now()
  }

  /** Nobody comes and goes any more. */
  async rest() {
    await Promise.all(this.#churns.splice(0).map((churn) => churn.stop()))
  }

  /** Publishes through every node, and waits until clients at every node have seen it; gives milliseconds since `since`. */
  async served(since, milliseconds = DEADLINE) {
    const watching = this.watchers
    const mark = `mark-${(this.#marks += 1)}`
    const isServed = async (node) => {
      const publisher = this.markers.get(node)
      const { n, status } = await publisher.publish(SERVICE)
      if (status !== 200) return false
      const isIt = ({ data }) => data.by === publisher.name && data.n === n
      return eventually(() => watching.every((seat) => seat.log(SERVICE).events.some(isIt)), mark, 500).catch(() => false)
    }
    await Promise.all(this.cluster.alive.map((node) =>
      eventually(() => isServed(node), `service of node ${node.name}`, lateBy(milliseconds) - (performance.now() - since))))
    return Math.round(performance.now() - since)
  }

  /** Waits until every node says that its Redis is away; they are well all the same. */
  async degraded() {
    for (const node of this.cluster.alive) {
      await eventually(async () => isDegraded(await node.health('/ready')), `degraded node ${node.name}`)
      assert.equal((await node.health('/up')).status, 200)
    }
  }

  /**
   * How long idle clients waited for a pong, in words; that they were not kept waiting is asserted. A node without Redis, pinged beside them, shows how long
   * this machine makes everybody wait.
   */
  async pings() {
    await Promise.all(this.#pings.splice(0).map((ping) => ping.stop()))
    const [p50, p99, max] = [0.5, 0.99, 1].map((share) => Math.round(percentile(this.#times, share)))
    const control = Math.round(percentile(this.#control, 0.99))
    const [share, ofControl] = [waiting(this.#times), waiting(this.#control)]
    assert.ok(
      share < Math.max(WAITING_MAX, WAITING_OVER_CONTROL * ofControl),
      `idle clients waited for ${Math.round(share * 100)} % of the time, at the control for ${Math.round(ofControl * 100)} %; p99 of ${this.#times.length} pings is ${p99} ms`,
    )
    return { 'ping p50': `${p50} ms`, 'ping p99': `${p99} ms`, 'ping max': `${max} ms`, 'p99 of a node without redis': `${control} ms` }
  }

  /** Every trigger since then was answered in a second; says how many of the one publisher were refused. */
  assertAnswered(since) {
    const answeredBy = ({ records }) => records.filter(({ began, took }) => began >= since && took !== undefined)
    const answers = answeredBy(this.publisher)
    const slowest = Math.max(0, ...this.cluster.publishers.flatMap(answeredBy).map(({ took }) => took))
    const lag = Math.max(LAG, LAG_OVER_CONTROL * Math.max(...this.#control))
    assert.ok(slowest < ANSWERED + lag, `a trigger was answered after ${Math.round(slowest)} ms`)
    const odd = answers.filter(({ status }) => ![200, 503].includes(status))
    assert.deepEqual(odd.map(({ status, text }) => `${status} ${text}`), [])
    for (const { text } of answers.filter(({ status }) => status === 503)) assert.match(text, /^[^\n]{10,200}$/)
    const refused = answers.filter(({ status }) => status === 503).length
    return { refused, 'slowest answer': `${Math.round(slowest)} ms` }
  }

  /**
   * None of the publisher's triggers was refused, as its node has its Redis. Asserted where the machine has not kept the
   * control waiting for a good part of the second that Redis has for an answer: then Redis was waiting too.
   */
  assertTaken({ refused }) {
    if (Math.max(...this.#control) < ANSWERED / 2) assert.equal(refused, 0, 'triggers were refused')
  }

  /** Users who stayed were never seen to come or go, and kept their connection. */
  assertQuiet(since) {
    const ids = new Set(this.stable.map(({ user }) => user))
    const seen = this.cluster.transitions(since).filter(({ id }) => ids.has(id))
    assert.deepEqual(seen.map(({ id, change, seat, at }) => `${seat.user} at ${seat.node.name}: ${id} ${change} after ${Math.round(at - since)} ms`), [])
    this.assertConnected()
  }

  /** Nobody who stays has lost the connection. */
  assertConnected(seats = [...this.stable, ...this.churners, ...this.idle]) {
    const lost = seats.filter(({ client, connections }) => connections !== 1 || client.connection.state !== 'connected')
    assert.deepEqual(lost.map(({ user, node, connections }) => `${user} at ${node.name}, ${connections} connections`), [])
  }
}

/** Sets the scene, with everybody there and of one mind; `begin` sets it going. */
export async function setScene(t, { nodes = 3, ...options } = {}) {
  const cluster = await startCluster(t, { nodes, ...options })
  const scene = new Scene(cluster)
  Object.assign(scene, { stable: [], churners: [], idle: [], watchers: [], markers: new Map() })
  for (const node of cluster.nodes) {
    for (const n of [1, 2]) scene.stable.push(await cluster.seated(node, `${node.name}${n}`, CHANNELS))
    scene.churners.push(await cluster.seat(node, `churn-${node.name}`))
    scene.idle.push(await cluster.seat(node, `idle-${node.name}`))
    scene.watchers.push(await cluster.seated(node, `watch-${node.name}`, [SERVICE]))
    scene.markers.set(node, cluster.publisher(`mark-${node.name}`, node))
  }
  const alone = await startServer({ config: `[admin]\nport = 0\n${configOf(cluster.app)}` })
  cluster.onEnd(() => alone.stop())
  scene.control = await cluster.seat({ name: 'control', port: alone.port }, 'control')
  for (const node of cluster.nodes.slice(-2)) scene.stable.push(await cluster.seated(node, 'both', CHANNELS))
  await cluster.agreed(performance.now())
  return scene
}

/** For the account: what clients of a node that died had not yet got, and what came before they were seen to be gone. */
export const around = (time, node) => between(time - 500, time + 1000, node)

/** For the account: events that were published, or not answered yet, between these two times may be lost. */
export const between = (from, until, node) => (record, seat) =>
  record.began + record.took >= from - 100 && record.began <= until && (node === undefined || seat.node === node)
