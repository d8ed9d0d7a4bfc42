// A pusher-js client on one node that keeps everything it sees, with times, and says where that contradicts itself.

import { Inbox, eventually, reached } from '../harness.mjs'

/** Longest wait for a pong, also of a node that is paused meanwhile, milliseconds. */
const PONG = 30_000

const SUCCEEDED = 'pusher_internal:subscription_succeeded'

/** What one client saw of one channel, on the connection it has now; `problems` and `events` also on those before. */
class Log {
  /** User ids, on presence channels. */
  roster = new Set()
  isSubscribed = false
  isLeaving = false
  /** Frames that came after it had left. */
  late = 0
  /** Times it was told that it is subscribed, on this connection. */
  yeses = 0
  /** `{at, change: 'added' | 'removed', id}` */
  transitions = []
  /** `{at, event, data}`: what somebody published. */
  events = []
  /** The last number of subscribers that it was told, and all with their times: `{at, count}`. */
  count
  counts = []
  /** From when to when, by its own clock, it surely was on the channel. */
  since
  leftAt
  problems = []
  /** What the server said of it when it refused the last subscription. */
  refusal

  constructor(name, user) {
    this.name = name
    this.user = user
  }

  /** Another connection begins: what comes next is not a change but a new start. */
  restart() {
    Object.assign(this, { roster: new Set(), isSubscribed: false, yeses: 0, isLeaving: false })
  }

  /** It unsubscribes. What comes before the next yes was on its way already. */
  leave() {
    this.restart()
    Object.assign(this, { leftAt: performance.now(), isLeaving: true })
  }

  take(at, event, data) {
    if (event === SUCCEEDED) this.#begin(data.presence)
    else if (event === 'pusher:subscription_error') this.#refuse(data)
    else if (this.isLeaving) this.late += 1
    else if (event === 'pusher_internal:member_added') this.#change(at, 'added', data.user_id)
    else if (event === 'pusher_internal:member_removed') this.#change(at, 'removed', data.user_id)
    else if (event === 'pusher_internal:subscription_count') this.#number(at, data.subscription_count)
    else {
      if (!this.isSubscribed) this.problems.push(`${event} before the subscription`)
      this.events.push({ at, event, data })
    }
  }

  #begin(presence) {
    this.isSubscribed = true
    this.isLeaving = false
    this.yeses += 1
    if (this.yeses > 1) this.problems.push(`subscribed ${this.yeses} times`)
    if (!presence) return
    const ids = Object.keys(presence.hash)
    if (presence.count !== ids.length || presence.ids.length !== ids.length) this.problems.push('a roster that is at odds with itself')
    if (!ids.includes(this.user)) this.problems.push(`${this.user} is not in the first roster`)
    this.roster = new Set(ids)
  }

  #refuse(data) {
    this.refusal = JSON.stringify(data)
    this.problems.push(`subscription refused: ${this.refusal}`)
  }

  #number(at, count) {
    this.count = count
    this.counts.push({ at, count })
  }

  #change(at, change, id) {
    const isNew = change === 'added'
    if (!this.isSubscribed) this.problems.push(`${id} ${change} before the subscription`)
    if (this.roster.has(id) === isNew) this.problems.push(`${id} ${change} twice`)
    if (id === this.user) this.problems.push(`${change}, told of itself`)
    if (isNew) this.roster.add(id)
    else this.roster.delete(id)
    this.transitions.push({ at, change, id })
  }
}

/** A client. Made by `Cluster.seat`. */
export class Seat {
  #logs = new Map()
  #end
  #gone = new Promise((resolve) => {
    this.#end = resolve
  })
  /** Names of the channels it means to be on. */
  wants = new Set()
  /** Everything, as pusher-js decodes it, each once taken. */
  frames = new Inbox()
  /** Errors the server told it of. */
  errors = []
  /** Connections it has had. */
  connections = 0

  constructor(client, node, user) {
    this.client = client
    this.node = node
    this.user = user
    client.connection.bind('message', (frame) => this.#take(frame))
    client.connection.bind('error', (error) => this.errors.push(error))
    client.connection.bind('connected', () => {
      this.connections += 1
    })
    // Before the first frame of the next connection.
    client.connection.bind('connecting', () => this.#logs.forEach((log) => log.restart()))
    client.connection.bind('disconnected', () => this.#logs.forEach((log) => log.restart()))
    client.connection.bind('unavailable', () => this.#logs.forEach((log) => log.restart()))
  }

  #take(frame) {
    if (frame.channel !== undefined) this.log(frame.channel).take(performance.now(), frame.event, frame.data)
    this.frames.push(frame)
  }

  /** What it saw of the channel. */
  log(name) {
    if (!this.#logs.has(name)) this.#logs.set(name, new Log(name, this.user))
    return this.#logs.get(name)
  }

  get logs() {
    return [...this.#logs.values()]
  }

  /** Subscribes, and waits for the yes. */
  async join(...names) {
    for (const name of names) {
      this.wants.add(name)
      this.log(name).refusal = undefined
      this.client.subscribe(name)
    }
    for (const name of names) {
      const log = this.log(name)
      const answer = () => log.isSubscribed || log.refusal
      await eventually(answer, `subscription of ${this.user} to ${name} at ${this.node.name}`).catch((error) => {
        const state = `${this.client.connection.state}, ${this.connections} connections, ${log.yeses} times subscribed on this one`
        throw new Error(`${error.message}; ${[state, ...log.problems].join(', ')}`)
      })
      if (!log.isSubscribed) throw new Error(`subscription of ${this.user} to ${name} at ${this.node.name} refused: ${log.refusal}`)
      Object.assign(log, { since: performance.now(), leftAt: undefined })
    }
    return this.log(names[0])
  }

  /** Waits for an event of the channel that matches, and gives its data. */
  async heard(channel, match) {
    const found = () => this.log(channel).events.find(match)
    const { data } = await eventually(found, `event of ${channel} for ${this.user} at ${this.node.name}`)
    return data
  }

  /** Signs in, and waits until events to the user come here. */
  async signIn() {
    this.client.signin()
    const own = `#server-to-user-${this.user}`
    await eventually(() => this.log(own).isSubscribed, `sign-in of ${this.user} at ${this.node.name}`)
  }

  /** Unsubscribes. Nothing answers that. */
  leave(name) {
    this.wants.delete(name)
    this.client.unsubscribe(name)
    this.log(name).leave()
  }

  /** Closes its connection for good. */
  close() {
    this.isGone = true
    this.wants.clear()
    this.#logs.forEach((log) => {
      log.leftAt ??= performance.now()
    })
    this.client.disconnect()
    this.#end()
  }

  /** Milliseconds from a ping to its pong, as a page would send one; nothing if it left meanwhile. */
  async ping() {
    const began = performance.now()
    this.client.send_event('pusher:ping', {})
    const pong = this.frames.next(({ event }) => event === 'pusher:pong', 'pong', PONG)
    const came = await Promise.race([pong, this.#gone])
    pong.catch(() => {})
    return came && performance.now() - began
  }

  connected = () => reached(this.client, 'connected')
}
